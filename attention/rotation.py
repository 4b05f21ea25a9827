"""RoPE of keys, as kernels that append take it."""

from math import pi
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np

from ..runtime.buffer import Buffer
from ..runtime.device import Device
from ..runtime.errors import ArgumentError


class Rotation:
    """
    RoPE of keys (Su et al., RoFormer, section 3.2): frequencies, and which elements are pairs.

    `frequencies` are the radians that one position adds, one for each pair, as
    `rope_frequencies` and `llama31_frequencies` give them: [head_dim / 2], in host memory. Pairs
    are (d, d + head_dim / 2) as in LLaMA, or neighbours where `interleaved`. Angles are exact for
    positions of any size: they are kept as 64-bit fractions of a turn.
    """

    def __init__(self, frequencies: object, *, interleaved: bool = False) -> None:
        given = np.asarray(frequencies, np.float64)
        if given.ndim != 1 or not given.size:
            raise ArgumentError("frequencies", "one axis, of head_dim / 2", str(given.shape))
        if not np.isfinite(given).all():
            raise ArgumentError("frequencies", "finite numbers", "others")
        self.interleaved = interleaved
        self.turns = np.array([_turns(float(value)) for value in given], np.int64)
        self._buffers: WeakKeyDictionary[Device, Buffer] = WeakKeyDictionary()
        self._lock = Lock()

    @property
    def kind(self) -> str:
        """The word that kernels have for the pairs."""
        return "interleaved" if self.interleaved else "half"

    def on(self, device: Device) -> Buffer:
        """Returns the turns on a device, where they are put once."""
        with self._lock:
            buffer = self._buffers.get(device)
            if buffer is None:
                buffer = self._buffers[device] = device.array(self.turns, "rotation")
        return buffer


def _turns(frequency: float) -> int:
    """Returns radians as a signed 64-bit fraction of a turn."""
    numerator, denominator = (frequency / (2.0 * pi)).as_integer_ratio()
    return (((numerator << 64) // denominator) + 2**63) % 2**64 - 2**63
