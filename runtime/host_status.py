"""
What the code for the host tells its caller: an i32 that is 0 where nothing went wrong.

1 says that there was no memory, 2 + 64 * b + a that an index is out of bounds of axis a of the
buffer b, the parameters first.
"""

from collections.abc import Sequence

from .contract import KernelContract, PointerParam
from .errors import ArgumentError, DeviceError

NO_MEMORY = 1
_OUTSIDE = 2
_AXES = 64


def check_status(status: int, contract: KernelContract) -> None:
    """
    Raises the error that a status tells.

    It is DeviceError where memory for the kernel's own buffers is missing, and ArgumentError where
    an index that was read from an array is out of bounds.
    """
    if status == 0:
        return
    if status == NO_MEMORY:
        raise DeviceError(f"host: {contract.name}: no memory for its buffers")
    position, axis = divmod(status - _OUTSIDE, _AXES)
    buffers: Sequence[str] = [p.name for p in contract.params if isinstance(p, PointerParam)]
    name = buffers[position] if position < len(buffers) else f"a buffer of '{contract.name}'"
    raise ArgumentError(
        name, f"indices within axis {axis}", "one out of bounds, read from an array"
    )
