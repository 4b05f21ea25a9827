"""The product on tensor cores as PTX: what the simulator computes, with all its checks."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.dialects.nest.program import Program
from tilewright.nest.builder import Builder
from tilewright.nest.gpu import compile_for_gpu
from tilewright.nest.schedules.gemm_mma import gemm_mma
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.transforms.schedule.primitive import ScheduleError

Array = npt.NDArray[Any]
SYMBOLS = ", ".join(
    f"{name} in [{step}, 8192], {name} mod {step} == 0"
    for name, step in (("m", 128), ("n", 128), ("depth", 32))
)


def gemm(dtype: str, shape: tuple[int, int, int] | None) -> Program:
    """`C = A B`, of symbolic extents where no shape is given."""
    b = Builder("gemm", SYMBOLS) if shape is None else Builder("gemm")
    m, n, depth = shape or map(b.symbol, ("m", "n", "depth"))
    left, right = b.buffer("A", [m, depth], dtype), b.buffer("B", [depth, n], dtype)
    out = b.buffer("C", [m, n], "f32", output=True)
    i, j, k = b.axes(i=m, j=n, k=depth)
    out[i, j] += left[i, k] * right[k, j]
    return b.build()


def scheduled(dtype: str, shape: tuple[int, int, int] | None) -> Program:
    program = gemm(dtype, shape)
    for step in gemm_mma(dtype):
        program = step.apply(program)
    return program


def random(dtype: str, *shape: int) -> tuple[Array, Array]:
    """Returns an array as it is stored, and its values."""
    values = np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)
    if dtype == "f16":
        return values.astype(np.float16), values.astype(np.float16).astype(np.float64)
    bits = values.view(np.uint32) >> 16
    return bits.astype(np.uint16), (bits << 16).view(np.float32).astype(np.float64)


def check(program: Program, dtype: str, shape: tuple[int, int, int]) -> None:
    m, n, depth = shape
    (left, a), (right, b) = random(dtype, m, depth), random(dtype, depth, n)
    out = np.full((m, n), np.nan, np.float32)
    compile_for_gpu(program, "sm_80", device=SimulatorDevice(checks="all"))(left, right, out)
    # Products are exact in f32; each of `depth` additions rounds by 2**-24 of what it adds up to.
    bound = depth * 2.0**-23 * (np.abs(a) @ np.abs(b))
    assert (np.abs(out - a @ b) <= bound).all()


@pytest.mark.parametrize("shape", [(128, 128, 64), (256, 128, 96), (128, 256, 192)], ids=str)
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_it_computes_the_product(dtype: str, shape: tuple[int, int, int]) -> None:
    check(scheduled(dtype, shape), dtype, shape)


@pytest.mark.parametrize("shape", [(128, 256, 32), (256, 128, 160)], ids=str)
def test_extents_known_at_run_time_are_multiples_of_the_tile(shape: tuple[int, int, int]) -> None:
    check(scheduled("bf16", None), "bf16", shape)


@pytest.mark.parametrize(
    ("shape", "axis"), [((130, 128, 64), "i"), ((128, 100, 64), "j"), ((128, 128, 40), "k")]
)
def test_parts_of_a_tile_are_refused(shape: tuple[int, int, int], axis: str) -> None:
    with pytest.raises(ScheduleError, match=f"'split' at .*{axis}: expected factors whose"):
        scheduled("f16", shape)
