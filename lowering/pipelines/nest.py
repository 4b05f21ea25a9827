"""The way from a nest to the thread level, as a flat list of passes."""

from xdsl.passes import ModulePass

from ...transforms.compact_buffers import CompactBuffersPass
from ...transforms.expand_math import ExpandMathPass
from ...transforms.expand_pipelines import ExpandPipelinesPass
from ...transforms.lower_blocks import LowerBlocksPass
from ...transforms.place_barriers import PlaceBarriersPass
from ..nest_to_thread import ConvertNestToThreadPass


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
