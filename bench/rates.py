"""What the GPU reaches at most, measured: the copy bandwidth, and matrix products by cuBLAS."""

from dataclasses import dataclass
from typing import Any

from ..runtime.buffer import Buffer
from ..runtime.cuda.device import CudaDevice
from .clock import Clock, Timing

COPIED_BYTES = 1 << 30
MATRIX = 8192


@dataclass(frozen=True)
class Peaks:
    """
    Measured peaks: GB/s of a copy, bytes read and written; Tflop/s of a product of f16 matrices.

    None is what could not be measured. `floor_us` is the time of two events with nothing between.
    """

    copy_gb_s: float | None = None
    matmul_tflop_s: float | None = None
    floor_us: float | None = None


def copy_rate(device: CudaDevice, clock: Clock) -> float:
    """Returns the GB/s of a copy within the GPU's memory, both directions counted."""
    size = min(COPIED_BYTES, device.free_bytes // 4)
    buffers: list[Buffer] = [device.empty((size,), "i8", name) for name in ("from", "to")]
    device.fill(buffers[0], 1, clock.stream)
    source, target = buffers
    timing = clock.time(lambda: device.copy(target, source, clock.stream))
    return 2 * size / timing.median_us / 1e3


def matmul_rate(torch: Any, clock: Clock) -> float:
    """Returns the Tflop/s of cuBLAS through torch for f16, sums in f32."""
    made = {"dtype": torch.float16, "device": "cuda"}
    a, b = (torch.randn(MATRIX, MATRIX, **made) for _ in range(2))
    out = torch.empty(MATRIX, MATRIX, **made)
    timing: Timing = clock.time(lambda: torch.matmul(a, b, out=out))
    return 2.0 * MATRIX**3 / timing.median_us / 1e6
