"""
Random schedules: steps that look legal, drawn one after the other.

Each primitive contributes a proposer, which draws a step for a program, or None where nothing of
the program suits it. `random_schedule` applies what is accepted and counts what is refused.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from tilewright.dialects.nest.dependences import feeds_only_reduce
from tilewright.dialects.nest.program import Block, Body, Loop, LoopKind, Program, Statement
from tilewright.dialects.nest.rewriting import substitute_loops
from tilewright.dialects.nest.structure import blocks_in
from tilewright.transforms.schedule.add_unit_loop import AddUnitLoop
from tilewright.transforms.schedule.annotate import Annotate, Unannotate
from tilewright.transforms.schedule.bind import Bind
from tilewright.transforms.schedule.decompose_reduction import DecomposeReduction
from tilewright.transforms.schedule.fuse import Fuse
from tilewright.transforms.schedule.kinds import Parallel, Unroll, Vectorize
from tilewright.transforms.schedule.loop_partition import LoopPartition
from tilewright.transforms.schedule.merge import Merge
from tilewright.transforms.schedule.primitive import Primitive, ScheduleError
from tilewright.transforms.schedule.reorder import Reorder, ReorderBlockAxes
from tilewright.transforms.schedule.rfactor import RFactor
from tilewright.transforms.schedule.split import Split

Proposer = Callable[[Program, Random], Primitive | None]
PROPOSERS: dict[str, Proposer] = {}


def proposes(name: str) -> Callable[[Proposer], Proposer]:
    """Registers a function that draws steps of a primitive."""

    def register(propose: Proposer) -> Proposer:
        PROPOSERS[name] = propose
        return propose

    return register


@dataclass
class RandomSchedule:
    """The steps that were accepted, the program after them, and the conditions that refused."""

    program: Program
    steps: list[Primitive] = field(default_factory=list[Primitive])
    refused: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])


def random_schedule(
    program: Program,
    source: Random,
    count: int,
    primitives: Sequence[str] = (),
    check: Callable[[Program], None] = lambda _: None,
) -> RandomSchedule:
    """
    Returns a schedule of up to `count` steps of the named primitives, or of all.

    `check` is called with the program after each step that is accepted.
    """
    schedule = RandomSchedule(program)
    names = list(primitives) or list(PROPOSERS)
    for _ in range(2 * count):
        step = PROPOSERS[source.choice(names)](schedule.program, source)
        if step is None:
            continue
        try:
            named = step.named(schedule.program)
            schedule.program = named.apply(schedule.program)
        except ScheduleError as error:
            schedule.refused[error.primitive, error.condition] += 1
            continue
        schedule.steps.append(named)
        check(schedule.program)
        if len(schedule.steps) == count:
            break
    return schedule


def loops_of(program: Program) -> list[Loop]:
    """Returns all loops of a program."""
    return [path[-1] for path in program.places.values() if isinstance(path[-1], Loop)]


def blocks_of(program: Program) -> list[Block]:
    """Returns all blocks of a program."""
    return [path[-1] for path in program.places.values() if isinstance(path[-1], Block)]


def a_loop(program: Program, source: Random) -> Loop | None:
    """Draws a loop."""
    loops = loops_of(program)
    return source.choice(loops) if loops else None


def a_nest(program: Program, source: Random) -> list[Loop]:
    """Draws loops that are around one block, outermost first."""
    blocks = blocks_of(program)
    return list(program.loops_around(source.choice(blocks).name)) if blocks else []


@proposes("split")
def split(program: Program, source: Random) -> Primitive | None:
    loop = a_loop(program, source)
    if loop is None:
        return None
    shapes = [(None, 2), (None, 3), (2, None), (None, 4, 2), (None, 2, 2), (3, None)]
    return Split(loop.name, source.choice(shapes))


@proposes("fuse")
def fuse(program: Program, source: Random) -> Primitive | None:
    nest = a_nest(program, source)
    if len(nest) < 2:
        return None
    start = source.randrange(len(nest) - 1)
    count = source.choice((2, 2, 3))
    return Fuse(tuple(loop.name for loop in nest[start : start + count]))


@proposes("reorder")
def reorder(program: Program, source: Random) -> Primitive | None:
    nest = a_nest(program, source)
    if len(nest) < 2:
        return None
    count = source.randint(2, len(nest))
    return Reorder(tuple(loop.name for loop in source.sample(nest, count)))


@proposes("reorder_block_axes")
def reorder_block_axes(program: Program, source: Random) -> Primitive | None:
    block = source.choice(blocks_of(program))
    names = [axis.name for axis in block.axes]
    return ReorderBlockAxes(block.name, tuple(source.sample(names, len(names))))


@proposes("merge")
def merge(program: Program, source: Random) -> Primitive | None:
    bodies = [program.body, *(loop.body for loop in loops_of(program))]
    pairs = [
        (one.name, two.name)
        for body in bodies
        for one, two in zip(body, body[1:], strict=False)
        if isinstance(one, Loop) and isinstance(two, Loop)
    ]
    return Merge(source.choice(pairs)) if pairs else None


@proposes("loop_partition")
def loop_partition(program: Program, source: Random) -> Primitive | None:
    loop = a_loop(program, source)
    # Copies of blocks make programs grow; a few say all that many do.
    if loop is None or len(blocks_of(program)) > 5:
        return None
    return LoopPartition(loop.name, source.choice(((1, None), (None, 2), (2, None, 1))))


@proposes("add_unit_loop")
def add_unit_loop(program: Program, source: Random) -> Primitive | None:
    return AddUnitLoop(source.choice(list(program.places)))


@proposes("parallel")
def parallel(program: Program, source: Random) -> Primitive | None:
    loop = a_loop(program, source)
    return None if loop is None else Parallel(loop.name)


@proposes("vectorize")
def vectorize(program: Program, source: Random) -> Primitive | None:
    nest = a_nest(program, source)
    return Vectorize(nest[-1].name) if nest else None


@proposes("unroll")
def unroll(program: Program, source: Random) -> Primitive | None:
    loop = a_loop(program, source)
    return None if loop is None else Unroll(loop.name)


@proposes("bind")
def bind(program: Program, source: Random) -> Primitive | None:
    loop = a_loop(program, source)
    kinds = [kind.value for kind in LoopKind if kind.is_bound]
    return None if loop is None else Bind(loop.name, source.choice(kinds))


@proposes("annotate")
def annotate(program: Program, source: Random) -> Primitive | None:
    return Annotate(source.choice(list(program.places)), "note", source.randrange(2))


@proposes("unannotate")
def unannotate(program: Program, source: Random) -> Primitive | None:
    parts = (path[-1] for path in program.places.values())
    noted = [p.name for p in parts if isinstance(p, Loop | Block) and p.annotations]
    return Unannotate(source.choice(noted), "note") if noted else None


@proposes("decompose_reduction")
def decompose_reduction(program: Program, source: Random) -> Primitive | None:
    begun = [block for block in blocks_of(program) if block.init]
    if not begun:
        return None
    block = source.choice(begun)
    around = program.loops_around(block.name)
    return DecomposeReduction(block.name, source.choice(around).name) if around else None


@proposes("rfactor")
def rfactor(program: Program, source: Random) -> Primitive | None:
    choices = [
        loop.name
        for block in blocks_in(program.body)
        for loop in program.loops_around(block.name)
        if feeds_only_reduce(block, loop.name)
    ]
    if not choices:
        return None
    return RFactor(source.choice(choices), source.randint(-1, 1), is_whole=source.random() < 0.5)


def reversed_concurrent(program: Program) -> Program:
    """Returns a program whose concurrent loops run backwards: their order must not matter."""
    return replace(program, body=_reversed(program.body))


def _reversed(body: Body) -> Body:
    statements: list[Statement] = []
    for statement in body:
        if isinstance(statement, Loop):
            inner = _reversed(statement.body)
            if statement.kind.is_concurrent:
                last = statement.extent - 1
                inner = substitute_loops(inner, {statement.name: last - statement.variable})
            statement = replace(statement, body=inner)
        statements.append(statement)
    return tuple(statements)
