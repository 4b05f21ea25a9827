"""The convolution on tensor cores by hand: a product of pixels and filters that is found."""

import pytest

from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.dialects.nest.program import Call, Loop, walk
from tilewright.nest.check import check_schedule
from tilewright.nest.gpu import compile_for_gpu, lower_to_threads
from tilewright.nest.schedules.conv2d_mma import conv2d_mma
from tilewright.nest.schedules.tensor_tile import TensorTile
from tilewright.nest.values import NestError
from tilewright.nest.workloads import Workload, conv2d, gemm

from .simulated import simulated


def made(*shape: int, dtype: str = "f16", most: int = 64) -> Workload:
    """A convolution of any number of images of (height, width, channels, filters, ...)."""
    return conv2d("n", *shape, dtype=dtype, ranges=f"n in [1, {most}]")


def test_the_schedule_computes_the_convolution() -> None:
    of = made(4, 4, 8, 8, 3, 1, 1, most=4)
    scheduled = conv2d_mma(of.program).program
    check_schedule(of.program, scheduled, trials=1, descriptions=DESCRIPTIONS).require()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        pytest.param((8, 8, 16, 32, 3, 1, 1), "f16", id="whole tiles of pixels"),
        pytest.param((7, 5, 5, 9, 3, 2, 1), "bf16", id="stride and remainders"),
        pytest.param((6, 6, 32, 64, 1, 1, 0), "f16", id="one tap, no padding"),
        pytest.param((5, 6, 64, 64, 3, 1, 1), "f16", id="copied in the background"),
    ],
)
def test_any_number_of_images_on_the_simulator(shape: tuple[int, ...], dtype: str) -> None:
    of = made(*shape, dtype=dtype)
    # Products of 16 bits are exact in f32, in which they are summed.
    simulated(of, conv2d_mma(of.program).program, [{"n": 1}, {"n": 3}, {"n": 6}])


def test_tiles_of_eight_warps() -> None:
    of = made(6, 6, 64, 128, 1, 1, 0)
    wide = conv2d_mma(of.program, TensorTile(warps=(2, 4), products=(4, 4)))
    simulated(of, wide.program, [{"n": 4}])


def test_the_image_is_gathered_in_shared_memory_and_nowhere_else() -> None:
    program = conv2d_mma(made(8, 8, 16, 32, 3, 1, 1).program).program
    assert not [b.name for b in program.allocations if b.scope == "global"]
    calls = [part.intrinsic for part in walk(program.body) if isinstance(part, Call)]
    assert "mma.m16n8k16.f16.f32.row.row" in calls


def test_images_and_filters_are_copied_in_the_background() -> None:
    scheduled = conv2d_mma(made(14, 14, 64, 128, 3, 1, 1).program).program
    program = lower_to_threads(scheduled)
    shapes = {b.name: list(map(str, b.shape)) for b in program.allocations if b.scope == "shared"}
    assert (shapes["P_m"], shapes["W_m"]) == (["3", "64", "32"], ["3", "32", "64"])
    main = program.loop("k_0")
    assert isinstance(main, Loop)
    calls = [part.intrinsic for part in walk(main.body) if isinstance(part, Call)]
    assert calls.count("cp.async.16.f16") == 2
    assert calls.count("cta.barrier") == 1
    # What is outside of the image is filled with zero by the same instruction.
    ptx = compile_for_gpu(scheduled, "sm_80").artifact.ptx
    assert not any("st.shared" in line and "v4" in line for line in ptx.splitlines())


def test_images_that_tensor_cores_do_not_take_are_refused() -> None:
    with pytest.raises(NestError, match="expected images and filters of f16 or bf16, got f32"):
        conv2d_mma(made(8, 8, 16, 32, 3, 1, 1, dtype="f32").program)


def test_another_program_is_refused() -> None:
    with pytest.raises(NestError, match="expected a convolution 'Y' of images, got 'gemm'"):
        conv2d_mma(gemm(8, 8, 8, dtype="f16").program)
