"""
Which device runs where none is named, and devices by name.

`simulator` runs on any machine; `cuda:<ordinal>` is a GPU through the CUDA driver; `host` is the
CPU, for kernels that were compiled for it.
"""

import os
import re
from functools import lru_cache

from .device import Device
from .errors import DeviceError, DeviceUnavailable

VARIABLE = "TILEWRIGHT_DEVICE"
_NAME = re.compile(r"simulator|host|cuda(?::([0-9]{1,3}))?", re.ASCII)


def default_device() -> Device:
    """
    Returns the device that runs where none is named.

    That is the one in TILEWRIGHT_DEVICE (`simulator`, `cuda` or `cuda:<ordinal>`), else the first
    GPU where a driver and a GPU are there, else the simulator. Raises DeviceError.
    """
    return get_device(os.environ.get(VARIABLE) or best_device())


def get_device(name: str) -> Device:
    """Returns the device `name`, the same object each time; raises DeviceError."""
    match = _NAME.fullmatch(name)
    if match is None:
        expected = "expected 'simulator', 'host', 'cuda' or 'cuda:<ordinal>'"
        raise DeviceError(f"unknown device '{name}': {expected}")
    if name == "host":
        return host_device()
    return simulator_device() if name == "simulator" else cuda_device(int(match[1] or 0))


@lru_cache(maxsize=1)
def best_device() -> str:
    """Returns the name of the first GPU, or `simulator` where there is none."""
    try:
        return cuda_device(0).name
    except DeviceUnavailable:
        return "simulator"


# Each device is imported where it is opened, so that one works without what the other needs.
@lru_cache(maxsize=1)
def simulator_device() -> Device:
    """Returns the simulator with its default checks."""
    from .simulator_device import SimulatorDevice

    return SimulatorDevice()


@lru_cache(maxsize=1)
def host_device() -> Device:
    """Returns the CPU with all its threads."""
    from .host_device import HostDevice

    return HostDevice()


@lru_cache(maxsize=16)
def cuda_device(ordinal: int) -> Device:
    """Returns a GPU; raises DeviceUnavailable."""
    from .cuda.device import CudaDevice

    return CudaDevice(ordinal)
