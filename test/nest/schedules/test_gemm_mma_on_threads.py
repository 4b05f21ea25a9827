"""The product on tensor cores as PTX: what the simulator computes, with all its checks."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.dialects.nest.program import Program
from tilewright.nest.builder import Builder
from tilewright.nest.gpu import compile_for_gpu
from tilewright.nest.schedules.gemm_mma import gemm_mma
from tilewright.runtime import simulator
from tilewright.runtime.ptxas import find_ptxas
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.transforms.schedule.primitive import ScheduleError
from tilewright.transforms.schedule.swizzle import SetSwizzle

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


def shared_accesses(program: Program, shape: tuple[int, int, int]) -> dict[str, float]:
    """Returns passes over the banks for each 128 bytes, by kind of instruction."""
    m, n, depth = shape
    artifact = compile_for_gpu(program, "sm_80").artifact
    device = simulator.Device()
    kernel = device.load(artifact.ptx)["gemm"]
    rng = np.random.default_rng(4)
    sizes = ((m, depth), (depth, n), (m, n))
    arrays = [
        device.array(rng.standard_normal(s).astype(t))
        for s, t in zip(sizes, (np.float16, np.float16, np.float32), strict=True)
    ]
    block = artifact.contract.block
    shared = artifact.contract.dynamic_shared_bytes
    grid = (n // 128, m // 128)
    launch = kernel.launch(grid, block, arrays, shared_bytes=shared, profile=True)
    found: dict[str, list[int]] = {}
    for line in launch.profile.lines:
        if line.phases:
            counts = found.setdefault(line.opcode.split(".")[0], [0, 0])
            counts[0] += line.phases
            counts[1] += line.wavefronts
    return {name: wavefronts / phases for name, (phases, wavefronts) in found.items()}


def test_swizzled_tiles_meet_no_bank_conflicts() -> None:
    shape = (128, 128, 64)
    assert shared_accesses(scheduled("f16", shape), shape) == {"cp": 1, "ldmatrix": 1}


def test_tiles_that_are_not_swizzled_do() -> None:
    shape = (128, 128, 64)
    program = gemm("f16", shape)
    for step in gemm_mma("f16"):
        if not isinstance(step, SetSwizzle):
            program = step.apply(program)
    assert shared_accesses(program, shape)["ldmatrix"] >= 4


def test_it_needs_no_more_registers_than_two_ctas_have() -> None:
    ptxas = find_ptxas()
    if ptxas is None:
        pytest.skip("no ptxas here; it comes with nvidia-cuda-nvcc")
    for shape in ((4096, 4096, 4096), None):
        ptx = compile_for_gpu(scheduled("bf16", shape), "sm_80").artifact.ptx
        resources = ptxas.assemble(ptx, "sm_80").resources["gemm"]
        assert resources.spilled_bytes == 0
        assert resources.registers <= 65536 // (2 * 256)
