"""
Runs PTX on the CPU with NumPy, instruction for instruction, and checks what it does.

    device = Device()
    kernel = device.load(ptx_text)["saxpy"]
    report = kernel.launch(grid=(8,), block=(128,), args=[1024, 2.0, x, y])

Parses what nvcc, LLVM and Triton print (PTX ISA 7.0 to 9.x); refuses at load what it doesn't
cover. Needs NumPy alone.
"""

from typing import TYPE_CHECKING, Any

from .device import Buffer, Device, Kernel, Module
from .errors import Finding, LaunchError, PTXError, SimulationError
from .launch import Report

if TYPE_CHECKING:
    from .profile.counts import LineProfile, Profile

__all__ = [
    "Buffer",
    "Device",
    "Finding",
    "Kernel",
    "LaunchError",
    "LineProfile",
    "Module",
    "PTXError",
    "Profile",
    "Report",
    "SimulationError",
]


def __getattr__(name: str) -> Any:
    # Imported when first used, so that a program which profiles nothing does not pay for it.
    if name in ("LineProfile", "Profile"):
        from .profile import counts

        return getattr(counts, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
