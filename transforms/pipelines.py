"""
What a software pipeline of a loop needs: which statements run how many iterations late, which
buffers need a copy for each iteration that is under way, and whether all that is legal.

Statement `p` of stage `s` runs for iteration `k - s` when the others of stage 0 run for `k`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ..dialects.nest.program import (
    Block,
    Body,
    Call,
    Guard,
    Loop,
    Program,
    Region,
    Scope,
    Statement,
    Store,
    walk,
)
from ..dialects.nest.regions import contains, ranges_inside, touched
from ..dialects.nest.scalars import Apply, Constant, Index, Load, Scalar, loads_of, walk_scalar
from ..dialects.sym import Expression

STAGES = "software_pipeline_stage"
ORDER = "software_pipeline_order"
ASYNCHRONOUS = "software_pipeline_async"
MAX_STAGES = 8


@dataclass(eq=False)
class PipelineError(Exception):
    """A pipeline is not legal: the condition that failed, what was expected and got, the cure."""

    condition: str
    message: str
    cure: str = ""

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Pipeline:
    """
    A loop whose statements run in stages.

    `versions` says how many iterations of a buffer are under way at once; those of 2 and more get
    an axis for it. `asynchronous` is the stage whose statements copy in the background, if there
    is one.
    """

    loop: Loop
    stages: tuple[int, ...]
    order: tuple[int, ...]
    asynchronous: int | None
    versions: Mapping[str, int]

    @property
    def depth(self) -> int:
        """How many iterations the last stage is behind the first."""
        return max(self.stages)

    @cached_property
    def sequence(self) -> tuple[int, ...]:
        """The positions of the statements in the order in which they run."""
        return tuple(sorted(range(len(self.order)), key=lambda position: self.order[position]))


@dataclass(frozen=True)
class _Touched:
    """What a statement reads, writes, and writes whatever the conditions are, by buffer."""

    reads: Mapping[str, Region]
    writes: Mapping[str, Region]
    certain: Mapping[str, Region]

    @property
    def all(self) -> frozenset[str]:
        """The buffers that are read or written."""
        return frozenset(self.reads) | frozenset(self.writes)


def pipeline_of(
    program: Program,
    loop: Loop,
    stages: tuple[int, ...],
    order: tuple[int, ...],
    asynchronous: tuple[int, ...],
) -> Pipeline:
    """Returns the pipeline of a loop; raises PipelineError where it is not legal."""
    _check_form(loop, stages, order, asynchronous)
    ranges = ranges_inside(program, loop.name).also(loop.name, 0, loop.extent - 1)
    parts: list[_Touched] = []
    for statement in loop.body:
        reads, writes = touched((statement,), ranges, program.buffers)
        _, certain = touched(_certain((statement,), loop.name), ranges, program.buffers)
        parts.append(_Touched(*({r.buffer: r for r in rs} for rs in (reads, writes, certain))))
    versions: dict[str, int] = {}
    for name in dict.fromkeys(name for part in parts for name in part.all):
        users = [p for p, part in enumerate(parts) if name in part.all]
        writers = [p for p in users if name in parts[p].writes]
        apart = {stages[p] for p in users}
        if not writers:
            continue
        if len(apart) == 1:
            _check_order(name, users, writers, order)
            continue
        _check_private(program, loop, name)
        for reader in users:
            _check_flow(name, reader, writers, stages, order)
            if name in parts[reader].reads:
                region = parts[reader].reads[name]
                earlier = [parts[w].certain.get(name) for w in writers if w < reader]
                if not any(w is not None and contains(w, region, ranges) for w in earlier):
                    raise PipelineError(
                        "covers",
                        f"expected an iteration to write all of '{name}' that it reads, "
                        f"before it does",
                        "pad the copy, so that no bound depends on the loop",
                    )
        versions[name] = max(apart) - min(apart) + 1
    return Pipeline(loop, stages, order, next(iter(asynchronous), None), versions)


def _check_form(
    loop: Loop, stages: tuple[int, ...], order: tuple[int, ...], asynchronous: tuple[int, ...]
) -> None:
    count = len(loop.body)
    if len(stages) != count or len(order) != count:
        raise PipelineError(
            "statements",
            f"expected a stage and a place for each of the {count} statements of '{loop.name}', "
            f"got {len(stages)} and {len(order)}",
        )
    if sorted(order) != list(range(count)):
        raise PipelineError("order", f"expected an order of 0 .. {count - 1}, got {order}")
    if min(stages, default=0) != 0 or not 0 < max(stages, default=0) < MAX_STAGES:
        raise PipelineError(
            "stages",
            f"expected stages from 0 to at most {MAX_STAGES - 1}, two or more, got {stages}",
        )
    if len(asynchronous) > 1 or not set(asynchronous) <= set(stages):
        raise PipelineError(
            "stages", f"expected at most one asynchronous stage, of {stages}, got {asynchronous}"
        )


def _check_order(name: str, users: list[int], writers: list[int], order: tuple[int, ...]) -> None:
    """Statements of one stage stay in their order where one writes what another touches."""
    for writer in writers:
        for user in users:
            if (writer < user) != (order[writer] < order[user]) and writer != user:
                first, second = sorted((writer, user))
                raise PipelineError(
                    "dependence",
                    f"expected statement {first} before statement {second}, which depend on one "
                    f"another through '{name}'",
                    "change the order",
                )


def _check_private(program: Program, loop: Loop, name: str) -> None:
    buffer = program.buffers[name]
    if buffer not in program.allocations or buffer.scope is Scope.GLOBAL:
        raise PipelineError(
            "private",
            f"expected statements of different stages to share buffers of the program's own in "
            f"shared memory or registers, got '{name}' of scope {buffer.scope}",
            "put the statements into one stage, or cache the buffer",
        )
    if _outside(program, loop, name):
        raise PipelineError(
            "private",
            f"expected '{name}' to be used in '{loop.name}' alone",
            "put the statements that use it into one stage",
        )


def _outside(program: Program, loop: Loop, name: str) -> bool:
    count = sum(_uses(statement, name) for statement in walk(program.body))
    return count != sum(_uses(statement, name) for statement in walk(loop.body))


def _uses(statement: Statement, name: str) -> int:
    match statement:
        case Store(buffer, indices, value):
            scalars = [value, *(i for i in indices if not isinstance(i, Expression))]
            return (buffer == name) + sum(
                load.buffer == name for scalar in scalars for load in loads_of(scalar)
            )
        case Call(_, operands):
            return sum(operand.region.buffer == name for operand in operands)
        case Guard(condition, _):
            return sum(load.buffer == name for load in loads_of(condition))
        case _:
            return 0


def _check_flow(
    name: str, user: int, writers: list[int], stages: tuple[int, ...], order: tuple[int, ...]
) -> None:
    for writer in writers:
        if writer == user:
            continue
        first, second = sorted((writer, user))
        late = stages[first] > stages[second]
        if late or (stages[first] == stages[second] and order[first] > order[second]):
            raise PipelineError(
                "dependence",
                f"expected statement {second}, which depends on statement {first} through "
                f"'{name}', not to run before it, got stages {stages[first]} and "
                f"{stages[second]}, places {order[first]} and {order[second]}",
                "give it a later stage",
            )


def _certain(body: Body, loop: str) -> Body:
    """Returns the statements that run in every iteration if they run in any."""
    kept: list[Statement] = []
    position = 0
    while position < len(body):
        statement = body[position]
        position += 1
        match statement:
            case Loop() if loop not in statement.extent.symbols():
                kept.append(replace(statement, body=_certain(statement.body, loop)))
            case Block() if not any(
                loop in bound.left.symbols() | bound.right.symbols()
                for bound in statement.predicate
            ):
                kept.append(statement)
            case Guard(condition, inner):
                following = body[position] if position < len(body) else None
                if _is_otherwise(statement, following) or not _varies(condition, loop):
                    kept.extend(_certain(inner, loop))
            case Store() | Call():
                kept.append(statement)
            case _:
                pass
    return tuple(kept)


def _is_otherwise(guard: Guard, other: Statement | None) -> bool:
    """Whether another guard writes the same elements where the condition does not hold."""
    if not isinstance(other, Guard) or not isinstance(other.condition, Apply):
        return False
    negated = (guard.condition, Constant(1, "i1"))
    is_negated = other.condition.op == "arith.xori" and other.condition.operands == negated
    return is_negated and _written(guard.body) == _written(other.body) != []


def _written(body: Body) -> list[object]:
    """Returns the elements and regions that stores and calls write; empty for other statements."""
    written: list[object] = []
    for statement in body:
        match statement:
            case Store(buffer, indices, _):
                written.append((buffer, indices))
            case Call(_, operands):
                written.extend(operand.region for operand in operands if operand.is_written)
            case _:
                return []
    return written


def _varies(condition: Scalar, loop: str) -> bool:
    return any(
        isinstance(node, Load) or (isinstance(node, Index) and loop in node.expression.symbols())
        for node in walk_scalar(condition)
    )
