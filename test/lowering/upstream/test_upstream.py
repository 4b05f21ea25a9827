"""The upstream way against the direct way, and upstream MLIR's opinion of our modules."""

import builtins
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import Func

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.dialects.parsing import parse_module
from tilewright.lowering import upstream
from tilewright.lowering.ptx import print_ptx
from tilewright.lowering.upstream import bindings
from tilewright.test.lowering.ptx.execute import apply, bf16_bits, bf16_values, launch
from tilewright.test.lowering.ptx.kernels import (
    context,
    elementwise,
    gemm,
    module,
    softmax_rows,
    vector_add,
)
from tilewright.transforms.expand_math import ExpandMathPass

pytest.importorskip("torch_mlir", reason="the MLIR bindings are not installed (extra mlir)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra mlir)")

Array = NDArray[Any]
DIALECT_TESTS = Path(__file__).parents[2] / "dialects"


def _floats(*shape: int) -> Array:
    return np.random.default_rng().standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("kernel", [vector_add, softmax_rows, gemm])
def test_kernel_verifies_upstream(kernel: Callable[[], ModuleOp]) -> None:
    upstream.verify_upstream(kernel())


def test_both_ways_add_alike() -> None:
    x, y, z = _floats(700), _floats(700), np.zeros(700, np.float32)
    results = [
        launch(vector_add(), [x, y, z, 700], (2,), 128, printer=printer)[-1]
        for printer in (print_ptx, upstream.print_ptx_upstream)
    ]
    np.testing.assert_array_equal(results[0], results[1])


def test_both_ways_give_the_same_softmax() -> None:
    x = _floats(5, 128)
    results = [
        launch(softmax_rows(), [x, np.zeros_like(x)], (5,), printer=printer)[-1]
        for printer in (print_ptx, upstream.print_ptx_upstream)
    ]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)


def test_both_ways_multiply_alike() -> None:
    a, b = bf16_bits(_floats(64, 128)), bf16_bits(_floats(128, 64))
    results = [
        bf16_values(
            launch(
                gemm(), [a, b, np.zeros((64, 64), np.uint16), 64, 128], (1, 1), 128, 32768, printer
            )[-1]
        )
        for printer in (print_ptx, upstream.print_ptx_upstream)
    ]
    np.testing.assert_allclose(results[0], results[1], rtol=2.0**-7)


@pytest.mark.parametrize(
    "code",
    [
        "%r = math.exp %a fastmath<afn> : f32",
        "%r = math.exp2 %a fastmath<afn> : f32",
        "%r = math.log2 %a fastmath<afn> : f32",
        "%r = math.log %a fastmath<afn> : f32",
        "%r = math.sin %a fastmath<afn> : f32",
        "%r = math.cos %a fastmath<afn> : f32",
        "%r = math.tanh %a fastmath<afn> : f32",
        "%r = math.powf %a, %a fastmath<afn> : f32",
        "%r = math.sqrt %a : f32",
        "%r = math.floor %a : f32",
        "%r = math.roundeven %a : f32",
        "%r = math.absf %a : f32",
        "%r = math.copysign %a, %a : f32",
        "%r = math.fma %a, %a, %a : f32",
        "%r = arith.maxnumf %a, %a : f32",
        "%r = arith.minimumf %a, %a : f32",
    ],
)
def test_both_ways_compute_the_same_function(code: str) -> None:
    x = np.random.default_rng().uniform(0.5, 4.0, 64).astype(np.float32)
    kernel = elementwise(code, ["f32"], "f32")
    results = [
        apply(kernel, [x], np.float32, printer)
        for printer in (print_ptx, upstream.print_ptx_upstream)
    ]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "erf", "sin"])
def test_both_ways_expand_the_same_function(name: str) -> None:
    x = np.random.default_rng().uniform(0.1, 3.0, 64).astype(np.float32)
    kernel = elementwise(f"%r = math.{name} %a : f32", ["f32"], "f32")
    ExpandMathPass().apply(context(), kernel)
    results = [
        apply(kernel, [x], np.float32, printer)
        for printer in (print_ptx, upstream.print_ptx_upstream)
    ]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-7)


# Values that LLVM 24 writes as LLVM 22 does not read them.
@pytest.mark.parametrize("bits", [0x3DCCCCCD, 0x7F800000, 0xFF800000, 0x7FC00000, 0x00000001])
def test_float_constants_cross_the_versions_of_llvm(bits: int) -> None:
    code = f"""
    %k = arith.constant 0x{bits:08X} : f32
    %i = arith.bitcast %k : f32 to i32
    %r = arith.xori %i, %a : i32
    """
    kernel = elementwise(code, ["i32"], "i32")
    assert not re.search(r"float [-+]?(\d+\.|0x|f0x|inf|qnan)", upstream.to_llvm_ir(kernel))
    result = apply(kernel, [np.zeros(32, np.int32)], np.int32, upstream.print_ptx_upstream)
    assert set(result.view(np.uint32).tolist()) == {bits}


@pytest.mark.parametrize("kind", ["f16", "bf16", "f64"])
def test_vectors_of_float_constants_cross_too(kind: str) -> None:
    code = f"""
    %k = arith.constant dense<[0.1, -3.5, 1024.0]> : vector<3x{kind}>
    %x = vector.extract %k[0] : {kind} from vector<3x{kind}>
    %y = vector.extract %k[1] : {kind} from vector<3x{kind}>
    %p = arith.mulf %x, %a : {kind}
    %r = arith.addf %p, %y : {kind}
    """
    kernel = elementwise(code, [kind], kind)
    dtype = np.float64 if kind == "f64" else np.uint16
    one = {"f16": 0x3C00, "bf16": 0x3F80}.get(kind, 1.0)
    results = [
        apply(kernel, [np.full(32, one, dtype)], dtype, printer)
        for printer in (print_ptx, upstream.print_ptx_upstream)
    ]
    np.testing.assert_array_equal(results[0], results[1])


def test_loops_are_unrolled_upstream() -> None:
    text = upstream.print_ptx_upstream(gemm())
    assert text.count("mma.sync") == 32


def test_block_size_is_required_upstream() -> None:
    assert ".reqntid 128" in upstream.print_ptx_upstream(gemm())


def test_module_is_left_as_it_is() -> None:
    kernel = gemm()
    before = str(kernel)
    upstream.print_ptx_upstream(kernel)
    assert str(kernel) == before


def test_every_nvvm_op_verifies_upstream() -> None:
    path = DIALECT_TESTS / "nvvm_ops.mlir"
    ctx = context()
    ctx.load_dialect(Func)
    upstream.verify_upstream(parse_module(path.read_text(), path.name, ctx))


def test_what_nvvm_refuses_upstream_refuses() -> None:
    ctx = context()
    ctx.load_dialect(Func)
    chunks = (DIALECT_TESTS / "nvvm_invalid.mlir").read_text().split("// -----")
    accepted: list[str] = []
    for chunk in chunks:
        try:
            parsed = parse_module(chunk, "invalid.mlir", ctx, verify=False)
            upstream.verify_upstream(parsed)
        except (DiagnosticError, upstream.UpstreamError):
            continue
        accepted += re.findall(r"@(\w+)", chunk)[:1]
    assert accepted == []


def test_error_of_upstream_is_passed_on() -> None:
    kernel = module("%p: !llvm.ptr<1>", "")
    for op in kernel.walk():
        if op.name == "gpu.return":
            op.detach()
            op.erase()
            break
    with pytest.raises(upstream.UpstreamError, match="upstream MLIR refuses the module"):
        upstream.verify_upstream(kernel)


def test_function_without_an_instruction_is_refused() -> None:
    kernel = elementwise("%r = math.exp %a : f32", ["f32"], "f32")
    with pytest.raises(upstream.UpstreamError, match="__nv_expf, which has no instruction"):
        upstream.print_ptx_upstream(kernel)


def test_run_time_bounds_cannot_be_unrolled() -> None:
    code = """
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    scf.for %i = %c0 to %a step %c1 : i32 {} {tilewright.unroll}
    %r = arith.addi %a, %c1 : i32
    """
    with pytest.raises(DiagnosticError, match="expects a constant upper bound to unroll upstream"):
        upstream.print_ptx_upstream(elementwise(code, ["i32"], "i32"))


def test_unknown_target_is_refused() -> None:
    with pytest.raises(upstream.UpstreamError, match="expected a target among sm_80"):
        upstream.print_ptx_upstream(vector_add(), "sm_20")


@pytest.mark.parametrize("missing", ["torch_mlir", "llvmlite"])
def test_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = builtins.__import__

    def refuse(name: str) -> Any:
        if name.split(".")[0] in (missing, "mlir"):
            raise ImportError(name)
        return real(name, fromlist=["*"])

    monkeypatch.setattr(bindings, "import_module", refuse)
    for finder in (bindings.mlir, bindings.llvmlite):
        finder.cache_clear()
    try:
        with pytest.raises(upstream.UpstreamError, match=r"pip install tilewright\[mlir\]"):
            upstream.print_ptx_upstream(vector_add())
    finally:
        for finder in (bindings.mlir, bindings.llvmlite):
            finder.cache_clear()
