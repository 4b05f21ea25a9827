"""
Tests kernels on the simulator under pytest: what a check finds fails the test.

The plug-in is installed with tilewright: the fixture `simulator_device` is a RecordingDevice.
The simulator is imported when a name of this module is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .device import Launched, RecordingDevice

__all__ = ["Launched", "RecordingDevice"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import device

        return getattr(device, name)
    raise AttributeError(f"module 'tilewright.testing' has no attribute '{name}'")
