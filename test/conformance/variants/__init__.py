"""What is recorded: one kernel an instruction variant, by family."""

from collections.abc import Iterator

from . import (
    arithmetic,
    barriers,
    conversions,
    copies,
    matrices,
    memory,
    tensors,
    warpgroups,
    warps,
)
from .variant import Variant, differences, module

__all__ = ["Variant", "differences", "module", "variants"]


def variants() -> Iterator[Variant]:
    """Yields every variant."""
    for part in (arithmetic, conversions, warps, matrices, warpgroups):
        yield from part.variants()
    for part in (memory, copies, tensors, barriers):
        yield from part.variants()
