"""The way from attention to the thread level, as a flat list of passes."""

from xdsl.passes import ModulePass

from ...transforms.expand_math import ExpandMathPass
from ..attn_to_tile import ConvertAttnToTilePass
from ..tile_to_thread import ConvertTileToThreadPass

LEVELS = ("attn", "tile", "thread")


def attention_to_thread(
    target: str,
    warps: int = 4,
    rows: int = 0,
    kv_tile: int = 0,
    stages: int = 2,
    work: str = "ranges",
) -> tuple[ModulePass, ...]:
    """Returns the passes from attention to one thread, one for each of `LEVELS`."""
    return (
        # attn: what is computed, on which keys
        ExpandMathPass(),
        # tile: what one CTA does
        ConvertAttnToTilePass(
            target=target, warps=warps, rows=rows, kv_tile=kv_tile, stages=stages, work=work
        ),
        # thread: what one thread does; from here PTX is printed
        ConvertTileToThreadPass(programmatic=target.startswith("sm_9")),
    )
