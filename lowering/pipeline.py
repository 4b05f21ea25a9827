"""The ways from a level to the thread level, as flat lists of passes."""

from xdsl.passes import ModulePass

from ..transforms.compact_buffers import CompactBuffersPass
from ..transforms.expand_math import ExpandMathPass
from ..transforms.expand_pipelines import ExpandPipelinesPass
from ..transforms.lower_blocks import LowerBlocksPass
from ..transforms.place_barriers import PlaceBarriersPass
from .attn_to_tile import ConvertAttnToTilePass
from .nest_to_thread import ConvertNestToThreadPass
from .tile_to_thread import ConvertTileToThreadPass

LEVELS = ("attn", "tile", "thread")


def attention_to_thread(
    target: str, warps: int = 4, kv_tile: int = 0, stages: int = 2
) -> tuple[ModulePass, ...]:
    """Returns the passes from attention to one thread, one for each of `LEVELS`."""
    return (
        # attn: what is computed, on which keys
        ExpandMathPass(),
        # tile: what one CTA does
        ConvertAttnToTilePass(target=target, warps=warps, kv_tile=kv_tile, stages=stages),
        # thread: what one thread does; from here PTX is printed
        ConvertTileToThreadPass(),
    )


def nest_to_thread(target: str) -> tuple[ModulePass, ...]:
    """Returns the passes from a nest that is bound to threads to one thread."""
    return (
        # nest: loops, guards and stores, with buffers as small as their loops need
        LowerBlocksPass(),
        CompactBuffersPass(),
        ExpandPipelinesPass(),
        PlaceBarriersPass(),
        # thread: what one thread does
        ConvertNestToThreadPass(target=target),
        ExpandMathPass(),
    )
