"""A schedule for any program on a GPU: each point of a result is computed by one thread."""

from ..dialects.nest.program import AxisKind, Block, Loop, LoopKind, Program, walk
from ..dialects.sym import prove_lt
from ..transforms.schedule.bind import Bind
from ..transforms.schedule.fuse import Fuse
from ..transforms.schedule.primitive import Primitive
from ..transforms.schedule.split import Split

THREADS = 128


def default_gpu_schedule(program: Program, threads: int = THREADS) -> tuple[Primitive, ...]:
    """
    Returns the steps that bind each outermost nest to the grid and to CTAs of `threads` threads.

    The outermost loops over spatial axes become one, which is divided. A nest without any is left
    to one thread. Raises ScheduleError where a step is not legal.
    """
    steps: list[Primitive] = []
    for statement in program.body:
        if not isinstance(statement, Loop):
            continue
        names = list(_spatial_loops(program, statement))
        if not names:
            continue
        if len(names) > 1:
            fuse = Fuse(tuple(names))
            name = fuse.result_names(program)[0]
            program = _then(program, fuse, steps)
        else:
            name = names[0]
        split = Split(name, (None, threads))
        grid, cta = split.result_names(program)
        program = _then(program, split, steps)
        program = _then(program, Bind(grid, "block.x"), steps)
        program = _then(program, Bind(cta, "thread.x"), steps)
    return tuple(steps)


def _then(program: Program, step: Primitive, steps: list[Primitive]) -> Program:
    steps.append(step)
    return step.apply(program)


def _spatial_loops(program: Program, outermost: Loop) -> tuple[str, ...]:
    """Returns the nested loops from the outermost on that only spatial axes are bound to."""
    names: list[str] = []
    loop: Loop | None = outermost
    while loop is not None and loop.kind is LoopKind.SERIAL and _is_spatial(loop):
        if names and not prove_lt(0, loop.extent, program.ranges):
            break
        if not loop.extent.symbols().isdisjoint(names):
            break
        names.append(loop.name)
        match loop.body:
            case (Loop() as inner,):
                loop = inner
            case _:
                loop = None
    return tuple(names)


def _is_spatial(loop: Loop) -> bool:
    blocks = [s for s in walk(loop.body) if isinstance(s, Block)]
    outermost = [b for b in blocks if not any(b in walk(o.body) for o in blocks if o is not b)]
    return all(
        any(loop.name in a.binding.symbols() for a in block.axes_of(AxisKind.SPATIAL))
        and not any(
            loop.name in axis.binding.symbols()
            for axis in block.axes
            if axis.kind is not AxisKind.SPATIAL
        )
        for block in outermost
    )
