"""Softmax and norms by hand: any number of rows, each in the registers of one warp or several."""

from collections.abc import Callable

import pytest

from tilewright.dialects.nest.program import Call, Program, walk
from tilewright.nest.gpu import compile_for_gpu
from tilewright.nest.schedule import Schedule
from tilewright.nest.schedules.layer_norm import layer_norm, rms_norm
from tilewright.nest.schedules.softmax import softmax
from tilewright.nest.values import NestError
from tilewright.nest.workloads import Workload
from tilewright.nest.workloads import layer_norm as layer_norm_workload
from tilewright.nest.workloads import rms_norm as rms_norm_workload
from tilewright.nest.workloads import softmax as softmax_workload

from .simulated import check

Made = Callable[..., Workload]
Scheduled = Callable[[Program], Schedule]
ROWS = ({"n": 1}, {"n": 6}, {"n": 9})
CASES = [
    pytest.param(softmax_workload, softmax, id="softmax"),
    pytest.param(layer_norm_workload, layer_norm, id="layer_norm"),
    pytest.param(rms_norm_workload, rms_norm, id="rms_norm"),
]


def made(workload: Made, columns: int, dtype: str = "f32") -> Workload:
    return workload("n", columns, dtype=dtype, ranges="n in [1, 4096]")


@pytest.mark.parametrize(("workload", "schedule"), CASES)
@pytest.mark.parametrize("columns", [7, 100, 256])
def test_a_row_in_one_warp(workload: Made, schedule: Scheduled, columns: int) -> None:
    of = made(workload, columns)
    check(of, schedule(of.program).program, ROWS)


@pytest.mark.parametrize(("workload", "schedule"), CASES)
def test_a_row_in_several_warps(workload: Made, schedule: Scheduled) -> None:
    of = made(workload, 2050)
    check(of, schedule(of.program).program, ({"n": 1}, {"n": 3}))


@pytest.mark.parametrize(("workload", "schedule"), CASES)
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_a_row_of_16_bits(workload: Made, schedule: Scheduled, dtype: str) -> None:
    of = made(workload, 264, dtype)
    check(of, schedule(of.program).program, ROWS)


@pytest.mark.parametrize(("workload", "schedule"), CASES)
def test_a_row_is_loaded_once_four_elements_at_once(workload: Made, schedule: Scheduled) -> None:
    program = schedule(made(workload, 256).program).program
    lines = compile_for_gpu(program, "sm_80").artifact.ptx.splitlines()
    # 256 elements are 2 vectors a lane; what norms load besides is gamma, and beta.
    vectors = sum("ld.global.v4.b32" in line for line in lines)
    assert vectors == {"softmax": 2, "rms_norm": 4, "layer_norm": 6}[program.name]
    assert not any("ld.global.b32" in line for line in lines)
    assert sum("st.global.v4.b32" in line for line in lines) == 2
    assert not any("bar.sync" in line for line in lines)


def test_each_reduction_is_one_exchange_of_a_warp() -> None:
    program = softmax(made(softmax_workload, 256).program).program
    calls = [part.intrinsic for part in walk(program.body) if isinstance(part, Call)]
    assert calls == ["warp.reduce.max.f32", "warp.reduce.sum.f32"]


def test_a_reduction_of_several_warps_is_one_of_the_cta() -> None:
    program = softmax(made(softmax_workload, 2050).program).program
    calls = [part.intrinsic for part in walk(program.body) if isinstance(part, Call)]
    assert calls == ["cta.reduce.max.f32.128", "cta.reduce.sum.f32.128"]
    assert compile_for_gpu(program, "sm_80").artifact.ptx.count("bar.sync") == 2


def test_an_unknown_number_of_columns_is_refused() -> None:
    of = softmax_workload(64, "c", ranges="c in [1, 4096]")
    with pytest.raises(NestError, match="expected the same constant number of columns"):
        softmax(of.program)


def test_a_row_that_registers_do_not_hold_is_refused() -> None:
    with pytest.raises(NestError, match="expected at most 32768 columns"):
        layer_norm(made(layer_norm_workload, 32769).program)


def test_another_program_is_refused() -> None:
    with pytest.raises(NestError, match="expected a block 'M' over rows and columns"):
        softmax(made(rms_norm_workload, 64).program)
