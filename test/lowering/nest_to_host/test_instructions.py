"""Sums of products of bytes: instructions where the CPU has them, their description elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from tilewright.dialects.nest.intrinsics import DESCRIPTIONS
from tilewright.dialects.nest.program import (
    AccessMode,
    Call,
    Loop,
    Operand,
    Program,
    Range,
    Region,
)
from tilewright.dialects.sym import Expression, constant, symbol
from tilewright.lowering.nest_to_host import Options, host_module, llvm_ir_of
from tilewright.nest.builder import Builder
from tilewright.nest.compiler import compile
from tilewright.nest.interpreter import interpret
from tilewright.runtime.errors import TargetError
from tilewright.runtime.host_code import Machine, assembly, host_machine
from tilewright.runtime.host_device import HostDevice

pytest.importorskip("torch_mlir", reason="the MLIR bindings are not installed (extra mlir)")
pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra mlir)")

CPUS = {
    "avx512vnni": ("cascadelake", "+avx512f,+avx512vl,+avx512vnni"),
    "avxvnni": ("alderlake", "+avx2,+avxvnni"),
}
COLUMNS = {"avx512vnni": 16, "avxvnni": 8}
TERMS = 12


def product(feature: str, row: int = 4) -> Program:
    """Returns C[j] += A[k] * B[k // 4, j, k % 4], rows of `row` bytes in B."""
    columns = COLUMNS[feature]
    b = Builder("dot")
    b.buffer("A", [TERMS], "i8")
    b.buffer("B", [TERMS // 4, columns, row], "i8")
    b.buffer("C", [columns], "i32", output=True)
    step = symbol("k")
    operands = (
        Operand(_region("C", (constant(0), columns)), AccessMode.UPDATE),
        Operand(_region("A", (4 * step, 4)), AccessMode.READ),
        Operand(_region("B", (step, 1), (constant(0), columns), (constant(0), 4)), AccessMode.READ),
    )
    call = Call(f"{feature}.dot.u8i8.{columns}x4", operands)
    return replace(b.build(), body=(Loop("k", constant(TERMS // 4), (call,)),))


def _region(buffer: str, *ranges: tuple[Expression, int]) -> Region:
    return Region(buffer, tuple(Range(start, constant(extent)) for start, extent in ranges))


def inputs(feature: str) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    columns = COLUMNS[feature]
    return {
        "A": generator.integers(-128, 128, TERMS).astype(np.int8),
        "B": generator.integers(-128, 128, (TERMS // 4, columns, 4)).astype(np.int8),
        "C": generator.integers(1, 1000, columns).astype(np.int32),
    }


def expected(arrays: dict[str, np.ndarray]) -> np.ndarray:
    left = arrays["A"].view(np.uint8).astype(np.int64).reshape(-1, 4)
    return arrays["C"] + np.einsum("sk,sjk->j", left, arrays["B"].astype(np.int64))


def code(program: Program, feature: str, features: frozenset[str]) -> str:
    cpu, flags = CPUS[feature]
    ir = llvm_ir_of(host_module(program, Options(features=features)))
    return assembly(ir, Machine(host_machine().triple, cpu, flags))


@pytest.mark.parametrize("feature", CPUS)
def test_bytes_are_summed_by_one_instruction(feature: str) -> None:
    lines = code(product(feature), feature, frozenset((feature,))).splitlines()
    dots = [line for line in lines if "vpdpbusd" in line]
    assert dots
    assert all(("zmm" if COLUMNS[feature] == 16 else "ymm") in line for line in dots)


@pytest.mark.parametrize("feature", CPUS)
def test_a_cpu_without_the_feature_has_the_description(feature: str) -> None:
    ir = llvm_ir_of(host_module(product(feature), Options(features=frozenset(("avx2",)))))
    assert "vpdpbusd" not in ir


def test_rows_that_are_apart_are_summed_by_the_description() -> None:
    feature = "avx512vnni"
    text = host_module(product(feature, row=8), Options(features=frozenset((feature,))))
    assert "vpdpbusd" not in text


@pytest.mark.parametrize("feature", CPUS)
def test_this_cpu_computes_the_sums(feature: str) -> None:
    arrays = inputs(feature)
    wanted = expected(arrays)
    compile(product(feature))(*arrays.values())
    np.testing.assert_array_equal(arrays["C"], wanted)


@pytest.mark.parametrize("feature", CPUS)
def test_the_description_computes_the_sums(feature: str) -> None:
    arrays = inputs(feature)
    wanted = expected(arrays)
    got = interpret(product(feature), arrays, descriptions=DESCRIPTIONS)["C"]
    np.testing.assert_array_equal(got, wanted)


def test_code_for_features_that_the_cpu_lacks_is_not_loaded() -> None:
    artifact = compile(product("avxvnni")).artifact
    key = {**artifact.contract.compile_key, "features": "avx2 vector-of-dreams"}
    other = replace(artifact, contract=replace(artifact.contract, compile_key=key))
    with pytest.raises(TargetError, match="expected a CPU with vector-of-dreams for 'dot'"):
        HostDevice().load(other)
