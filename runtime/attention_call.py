"""What a call of attention says beside its queries, keys and values."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from .contract import AttentionContract
from .device import Device
from .errors import ArgumentError


class AttentionCall(NamedTuple):
    """The results to write, the variant's parameters, and where a call runs; see `Plan.run`."""

    out: object
    lse: object
    params: Mapping[str, object]
    softmax_scale: float | None
    device: Device | str | None
    stream: object
    programmatic: bool = False
    kv_indices: object = None

    def checked_scale(self, section: AttentionContract) -> object:
        """Returns the scale; raises ArgumentError for one that turns the order of scores around."""
        scale = section.softmax_scale if self.softmax_scale is None else self.softmax_scale
        convert = getattr(scale, "__float__", None)
        # Numbers below 2^-126 are zero on the GPU; what is no number is refused with the arguments.
        if convert is not None and not 2.0**-126 <= convert() < math.inf:
            raise ArgumentError("softmax_scale", "a positive number of type f32", repr(scale))
        return scale
