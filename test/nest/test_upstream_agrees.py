"""Both ways to PTX, the direct one and upstream's, compute the same of a nest."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.dialects.nest.program import Buffer, Program
from tilewright.lowering.upstream import UpstreamError, print_ptx_upstream, verify_upstream
from tilewright.nest.arguments import random_array
from tilewright.nest.builder import Builder
from tilewright.nest.gpu import CompiledForGPU, compile_for_gpu, thread_level
from tilewright.nest.schedules.gemm_mma import gemm_mma
from tilewright.nest.schedules.softmax import softmax
from tilewright.nest.values import cast, exp
from tilewright.nest.workloads import softmax as softmax_workload
from tilewright.runtime.simulator_device import SimulatorDevice

from .gpu_programs import gemm
from .test_gpu import scaled
from .test_gpu_dtypes import apart
from .test_gpu_strides import STRIDED

pytest.importorskip("llvmlite", reason="the upstream way needs the extra mlir")

Array = npt.NDArray[Any]


def both_ways(program: Program, target: str = "sm_80") -> tuple[CompiledForGPU, CompiledForGPU]:
    """Returns a program compiled by the direct way and by the upstream way."""
    direct = compile_for_gpu(program, target, device=SimulatorDevice(checks="all"))
    module = thread_level(program, target)
    verify_upstream(module)
    text = print_ptx_upstream(module, target)
    kernels = tuple(
        replace(kernel, artifact=replace(kernel.artifact, ptx=text)) for kernel in direct.kernels
    )
    return direct, CompiledForGPU(direct.program, kernels, direct.device)


def compare(
    program: Program, symbols: dict[str, int], ulps: int = 0, target: str = "sm_80"
) -> dict[str, Array]:
    """Runs both on the same random arrays; returns those of the direct way."""
    results: list[dict[str, Array]] = []
    for run in both_ways(program, target):
        rng = np.random.default_rng(17)
        arrays = {
            p.name: random_array(rng, tuple(e.evaluate(symbols) for e in p.shape), p.dtype)
            for p in program.parameters
            if isinstance(p, Buffer)
        }
        run(*arrays.values())
        results.append(arrays)
    one, two = results
    for name in program.outputs:
        np.testing.assert_array_max_ulp(one[name], two[name], ulps)
    return one


def tensor_core_gemm() -> Program:
    b = Builder("gemm")
    left, right = b.buffer("A", [128, 64], "f16"), b.buffer("B", [64, 128], "f16")
    out = b.buffer("C", [128, 128], "f32", output=True)
    i, j, k = b.axes(i=128, j=128, k=64)
    out[i, j] += left[i, k] * right[k, j]
    program = b.build()
    for step in gemm_mma("f16"):
        program = step.apply(program)
    return program


@pytest.mark.parametrize("count", [1, 130])
def test_elementwise_with_wide_accesses_and_a_tail(count: int) -> None:
    arrays = compare(scaled(), {"n": count})
    np.testing.assert_allclose(arrays["Y"], 2 * arrays["X"] + 1, rtol=1e-6)


def test_softmax_with_reductions_across_a_warp() -> None:
    # Upstream leaves the order of operations that may be contracted open.
    workload = softmax_workload("n", 260, ranges="n in [1, 64]")
    arrays = compare(softmax(workload.program).program, {"n": 3}, ulps=4)
    exact = np.exp(arrays["X"].astype(np.float64))
    np.testing.assert_allclose(arrays["Y"], exact / exact.sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("rows", [31, 40])
def test_a_product_of_threads(rows: int) -> None:
    arrays = compare(gemm("f16"), {"n": rows})
    exact = arrays["A"].astype(np.float64) @ arrays["B"].astype(np.float64)
    np.testing.assert_allclose(arrays["C"], exact, rtol=1e-5, atol=1e-5)


def test_a_product_on_tensor_cores() -> None:
    arrays = compare(tensor_core_gemm(), {})
    exact = arrays["A"].astype(np.float64) @ arrays["B"].astype(np.float64)
    np.testing.assert_allclose(arrays["C"], exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", ["sm_80", "sm_89"])
def test_8_bit_floats(target: str) -> None:
    program = apart(
        64, ["f8E4M3FN", "f8E5M2"], "f8E4M3FN", lambda a, b: a + cast(cast(b, "f32"), "f8E4M3FN")
    )
    arrays = compare(program, {}, target=target)
    assert len(set(arrays["Y"])) > 20


def test_8_bit_floats_need_sm_89_upstream_too() -> None:
    module = thread_level(apart(32, ["f8E5M2"], "f32", lambda a: cast(a, "f32")), "sm_89")
    with pytest.raises(UpstreamError, match="8-bit floats need sm_89, got sm_80"):
        print_ptx_upstream(module, "sm_80")


def test_f64() -> None:
    arrays = compare(apart(64, ["f64"], "f64", lambda a: exp(a) * a), {}, ulps=1)
    np.testing.assert_allclose(arrays["Y"], np.exp(arrays["A"]) * arrays["A"], rtol=1e-15)


def test_buffers_with_strides() -> None:
    x = np.random.default_rng(2).random((5, 33), np.float32)
    for run in both_ways(STRIDED):
        y = np.zeros((5, 20), np.float32)
        run(x[:, 3:19], y[:, :16])
        np.testing.assert_array_equal(y[:, :16], 2 * x[:, 3:19])
