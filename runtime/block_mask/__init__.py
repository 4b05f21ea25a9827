"""Which tiles of keys each tile of queries needs, derived from a mask without evaluating it."""

from .block_mask import DEFAULT_BUDGET, EMPTY, FULL, PARTIAL, BlockMask, Position, Witness, derive
from .evaluation import bind, evaluate
from .geometry import Grid
from .program import Instruction, MaskProgram
from .runs import TileRuns

__all__ = [
    "DEFAULT_BUDGET",
    "EMPTY",
    "FULL",
    "PARTIAL",
    "BlockMask",
    "Grid",
    "Instruction",
    "MaskProgram",
    "Position",
    "TileRuns",
    "Witness",
    "bind",
    "derive",
    "evaluate",
]
