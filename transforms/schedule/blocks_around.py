"""What a step inside of blocks, or on loops around them, means for blocks that hold others."""

from ...dialects.nest.defects import ProgramError
from ...dialects.nest.program import Block, Program
from ...dialects.nest.verifier import verify_program
from .primitive import Primitive
from .stages import refreshed


def with_blocks_around(
    primitive: Primitive, before: Program, after: Program, *, moves: bool = True
) -> Program:
    """
    Returns the program after a step, with the regions of blocks around others as they are now.

    Refuses the step if a block is no right one any more (`blocks-around`). Of a step that moves
    nothing, what is read stays written before, provably or not.
    """
    outer = {
        part.name: None
        for path in after.places.values()
        if isinstance(path[-1], Block)
        for part in path[:-1]
        if isinstance(part, Block)
    }
    if not outer or _defect(after) is None:
        return after
    for name in outer:
        after = refreshed(after, name)
    found = _defect(after)
    if found is None or (not moves and found.condition == "producers"):
        return after
    if _defect(before) is not None:
        return after
    raise primitive.refused(
        "blocks-around",
        f"expected a step after which blocks that hold others are right, but {found}",
        f"@{found.place}" if found.place else "",
        "take the step before blockize",
    )


def _defect(program: Program) -> ProgramError | None:
    try:
        verify_program(program)
    except ProgramError as error:
        return error
    return None
