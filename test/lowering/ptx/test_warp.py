"""Exchanges in a warp, barriers and tensor cores, printed directly and run on the simulator."""

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.lowering.ptx import print_ptx
from tilewright.test.lowering.ptx.execute import apply, bf16_bits, launch
from tilewright.test.lowering.ptx.kernels import THREAD, elementwise, module

Array = NDArray[Any]

MASK = """
%all = arith.constant -1 : i32
%clamp = arith.constant 31 : i32
%none = arith.constant 0 : i32
%three = arith.constant 3 : i32
"""


def _words() -> Array:
    return np.random.default_rng().integers(-(1 << 31), 1 << 31, 32).astype(np.int32)


LANES = np.arange(32)


@pytest.mark.parametrize(
    ("kind", "clamp", "source"),
    [
        ("bfly", "clamp", LANES ^ 3),
        ("idx", "clamp", np.full(32, 3)),
        ("up", "none", np.maximum(LANES - 3, LANES * (LANES < 3))),
        ("down", "clamp", np.where(LANES + 3 < 32, LANES + 3, LANES)),
    ],
)
def test_shuffle(kind: str, clamp: str, source: Array) -> None:
    code = f"{MASK}\n%r = nvvm.shfl.sync {kind} %all, %a, %three, %{clamp} : i32 -> i32"
    a = _words()
    result = apply(elementwise(code, ["i32"], "i32"), [a], np.int32)
    assert result.tolist() == a[source].tolist()


def test_shuffle_says_whether_the_source_lane_exists() -> None:
    code = f"""{MASK}
    %s = nvvm.shfl.sync up %all, %a, %three, %none {{return_value_and_is_valid}}
      : i32 -> !llvm.struct<(i32, i1)>
    %p = "llvm.extractvalue"(%s) <{{position = array<i64: 1>}}>
      : (!llvm.struct<(i32, i1)>) -> i1
    %r = arith.extui %p : i1 to i32
    """
    result = apply(elementwise(code, ["i32"], "i32"), [_words()], np.int32)
    assert result.tolist() == (LANES >= 3).astype(int).tolist()


def test_ballot_collects_the_predicates() -> None:
    code = f"""{MASK}
    %p = arith.cmpi slt, %a, %none : i32
    %r = nvvm.vote.sync ballot %all, %p -> i32
    """
    a = _words()
    expected = np.int64(((a < 0) * (1 << LANES)).sum()).astype(np.int32)
    result = apply(elementwise(code, ["i32"], "i32"), [a], np.int32)
    assert (result == expected).all()


@pytest.mark.parametrize(("kind", "expected"), [("any", 1), ("all", 0), ("uni", 0)])
def test_vote_of_one_lane(kind: str, expected: int) -> None:
    code = f"""{MASK}
    %p = arith.cmpi eq, %tid, %three : i32
    %v = nvvm.vote.sync {kind} %all, %p -> i1
    %q = arith.extui %v : i1 to i32
    %r = arith.addi %q, %a : i32
    """
    result = apply(elementwise(code, ["i32"], "i32"), [np.zeros(32, np.int32)], np.int32)
    assert (result == expected).all()


@pytest.mark.parametrize(
    ("kind", "function"),
    [("add", np.add), ("max", np.maximum), ("min", np.minimum), ("xor", np.bitwise_xor)],
)
def test_reduction_over_a_warp(kind: str, function: np.ufunc) -> None:
    code = f"{MASK}\n%r = nvvm.redux.sync {kind} %a, %all : i32 -> i32"
    a = _words()
    result = apply(elementwise(code, ["i32"], "i32"), [a], np.int32)
    assert (result == function.reduce(a, dtype=np.int32)).all()


def test_unsigned_reduction_over_a_warp() -> None:
    code = f"{MASK}\n%r = nvvm.redux.sync umax %a, %all : i32 -> i32"
    a = _words()
    result = apply(elementwise(code, ["i32"], "i32"), [a], np.int32)
    assert (result.view(np.uint32) == a.view(np.uint32).max()).all()


@pytest.mark.parametrize(
    "barrier",
    [
        '"gpu.barrier"() : () -> ()',
        "nvvm.barrier",
        "nvvm.barrier id = %three number_of_threads = %c64",
        "nvvm.barrier id = %three number_of_threads = %c64 {aligned = false}",
    ],
)
def test_other_warp_is_seen_after_a_barrier(barrier: str) -> None:
    body = f"""
    {THREAD}
    {MASK}
    %c4 = arith.constant 4 : i32
    %c63 = arith.constant 63 : i32
    %c64 = arith.constant 64 : i32
    %smem = "llvm.mlir.addressof"() <{{global_name = @smem}}> : () -> !llvm.ptr<3>
    %mine = arith.muli %tid, %c4 : i32
    %other_index = arith.subi %c63, %tid : i32
    %to = "llvm.getelementptr"(%smem, %tid) <{{elem_type = i32, noWrapFlags = 0 : i32,
      rawConstantIndices = array<i32: -2147483648>}}> : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>
    %from = "llvm.getelementptr"(%smem, %other_index) <{{elem_type = i32, noWrapFlags = 0 : i32,
      rawConstantIndices = array<i32: -2147483648>}}> : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>
    %out = "llvm.getelementptr"(%p, %mine) <{{elem_type = i8, noWrapFlags = 0 : i32,
      rawConstantIndices = array<i32: -2147483648>}}> : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>
    "llvm.store"(%tid, %to) <{{ordering = 0 : i64}}> : (i32, !llvm.ptr<3>) -> ()
    {barrier}
    %v = "llvm.load"(%from) <{{ordering = 0 : i64}}> : (!llvm.ptr<3>) -> i32
    "llvm.store"(%v, %out) <{{ordering = 0 : i64}}> : (i32, !llvm.ptr<1>) -> ()
    """
    kernel = module("%p: !llvm.ptr<1>", body, threads=64, shared="!llvm.array<64 x i32>")
    out = launch(kernel, [np.zeros(64, np.int32)], threads=64)[0]
    assert out.tolist() == list(range(63, -1, -1))


# Fragments of m16n8k16 and m16n8k8 (PTX ISA, "Matrix Fragments for mma"), from rows of packed
# 32-bit words: A [16, k / 2], B transposed [8, k / 2], C [16, 8]. Lane 4 * group + pair.
LANE = """
%three = arith.constant 3 : i32
%two = arith.constant 2 : i32
%group = arith.shrui %tid, %two : i32
%pair = arith.andi %tid, %three : i32
%pair2 = arith.muli %pair, %two : i32
"""


def _load(
    name: str, pointer: str, pitch: int, place: tuple[int, int], column: str, type_: str
) -> str:
    """Text that loads the word at (group + row, column + offset) of a matrix."""
    return f"""
    %{name}_r = arith.constant {place[0]} : i32
    %{name}_row = arith.addi %group, %{name}_r : i32
    %{name}_pitch = arith.constant {pitch} : i32
    %{name}_line = arith.muli %{name}_row, %{name}_pitch : i32
    %{name}_c = arith.constant {place[1]} : i32
    %{name}_column = arith.addi %{column}, %{name}_c : i32
    %{name}_index = arith.addi %{name}_line, %{name}_column : i32
    %{name}_at = "llvm.getelementptr"(%{pointer}, %{name}_index) <{{elem_type = i32,
      noWrapFlags = 0 : i32, rawConstantIndices = array<i32: -2147483648>}}>
      : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>
    %{name} = "llvm.load"(%{name}_at) <{{ordering = 0 : i64}}> : (!llvm.ptr<1>) -> {type_}
    """


def _product(name: str, kind: str, k: int) -> str:
    """Text that computes `%<name>0` to `%<name>3` of D = A B + C."""
    packed = PACKED[kind]
    a = ", ".join(f"%a{i}" for i in range(k // 4))
    b = ", ".join(f"%b{i}" for i in range(k // 8))
    text = f"""
    %{name} = nvvm.mma.sync A[{a}] B[{b}] C[%c0, %c1, %c2, %c3]
      {{layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>,
       multiplicandAPtxType = #nvvm.mma_type<{kind}>,
       multiplicandBPtxType = #nvvm.mma_type<{kind}>,
       shape = #nvvm.shape<m = 16, n = 8, k = {k}>}}
      : ({packed}, {packed}, f32) -> !llvm.struct<(f32, f32, f32, f32)>
    """
    for index in range(4):
        text += f"""
        %{name}{index} = "llvm.extractvalue"(%{name}) <{{position = array<i64: {index}>}}>
          : (!llvm.struct<(f32, f32, f32, f32)>) -> f32
        """
    return text


PACKED = {"f16": "vector<2xf16>", "bf16": "i32"}


def _mma_kernel(kind: str, k: int, twice: bool = False) -> Any:
    """Computes A B + C in place of C, or the sum of two such products."""
    text = THREAD + LANE
    for index, place in enumerate([(0, 0), (8, 0), (0, 4), (8, 4)][: k // 4]):
        text += _load(f"a{index}", "pa", k // 2, place, "pair", PACKED[kind])
    for index in range(k // 8):
        text += _load(f"b{index}", "pb", k // 2, (0, 4 * index), "pair", PACKED[kind])
    for index in range(4):
        text += _load(f"c{index}", "pc", 8, (8 * (index // 2), index % 2), "pair2", "f32")
    text += _product("d", kind, k)
    if twice:
        text += _product("e", kind, k)
    for index in range(4):
        if twice:
            text += f"%s{index} = arith.addf %d{index}, %e{index} : f32"
        text += f"""
        "llvm.store"(%{"s" if twice else "d"}{index}, %c{index}_at) <{{ordering = 0 : i64}}>
          : (f32, !llvm.ptr<1>) -> ()
        """
    return module("%pa: !llvm.ptr<1>, %pb: !llvm.ptr<1>, %pc: !llvm.ptr<1>", text)


def _words_of(a: Array, kind: str) -> Array:
    """Small whole numbers as packed 16-bit floats."""
    if kind == "f16":
        return a.astype(np.float16).view(np.int32)
    return bf16_bits(a).view(np.int32)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("k", [8, 16])
@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_matrix_product(kind: str, k: int, twice: bool) -> None:
    # Small whole numbers: every sum is exact. Twice: C is read again after the first product.
    rng = np.random.default_rng()
    a, b, c = (rng.integers(-8, 8, shape) for shape in ((16, k), (8, k), (16, 8)))
    arguments = [_words_of(a, kind), _words_of(b, kind), c.astype(np.float32)]
    result = launch(_mma_kernel(kind, k, twice), arguments)[-1]
    expected = (a @ b.T + c) * (2 if twice else 1)
    np.testing.assert_array_equal(result.reshape(16, 8), expected)


def test_accumulator_is_overwritten_only_where_it_is_dead() -> None:
    once = re.findall(r"mma\S+ (\{.*?\}).*(\{.*?\});", print_ptx(_mma_kernel("bf16", 16)))
    twice = re.findall(r"mma\S+ (\{.*?\}).*(\{.*?\});", print_ptx(_mma_kernel("bf16", 16, True)))
    assert [d == c for d, c in once] == [True]
    assert [d == c for d, c in twice] == [False, True]


def test_inline_assembly_gets_its_operands() -> None:
    code = """
    %k = arith.constant 5 : i32
    %r = "llvm.inline_asm"(%a, %k, %b) <{asm_string = "mad.lo.s32 $0, $1, $2, $3;",
      constraints = "=r,r,n,r"}> : (i32, i32, i32) -> i32
    """
    a, b = (np.random.default_rng().integers(-1000, 1000, 32).astype(np.int32) for _ in range(2))
    result = apply(elementwise(code, ["i32", "i32"], "i32"), [a, b], np.int32)
    assert result.tolist() == (5 * a + b).tolist()


def test_inline_assembly_with_several_results() -> None:
    code = """
    %s = "llvm.inline_asm"(%a, %b) <{asm_string = "{ add.s32 $0, $2, $3; sub.s32 $1, $2, $3; }",
      constraints = "=&r,=&r,r,r"}> : (i32, i32) -> !llvm.struct<(i32, i32)>
    %x = "llvm.extractvalue"(%s) <{position = array<i64: 0>}> : (!llvm.struct<(i32, i32)>) -> i32
    %y = "llvm.extractvalue"(%s) <{position = array<i64: 1>}> : (!llvm.struct<(i32, i32)>) -> i32
    %r = arith.xori %x, %y : i32
    """
    a, b = (np.random.default_rng().integers(-1000, 1000, 32).astype(np.int32) for _ in range(2))
    result = apply(elementwise(code, ["i32", "i32"], "i32"), [a, b], np.int32)
    assert result.tolist() == ((a + b) ^ (a - b)).tolist()


def test_special_registers() -> None:
    code = """
    %lane = nvvm.read.ptx.sreg.laneid : i32
    %below = nvvm.read.ptx.sreg.lanemask.lt : i32
    %size = nvvm.read.ptx.sreg.warpsize : i32
    %x = arith.muli %lane, %size : i32
    %y = arith.addi %x, %a : i32
    %r = arith.xori %y, %below : i32
    """
    result = apply(elementwise(code, ["i32"], "i32"), [np.zeros(32, np.int32)], np.int32)
    expected = (LANES * 32) ^ ((1 << LANES) - 1)
    assert result.tolist() == expected.astype(np.int32).tolist()


def test_storing_matrices_needs_sm_90() -> None:
    body = f"""
    {THREAD}
    %smem = "llvm.mlir.addressof"() <{{global_name = @smem}}> : () -> !llvm.ptr<3>
    nvvm.stmatrix %smem, %tid {{layout = #nvvm.mma_layout<row>,
      shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>}}
      : !llvm.ptr<3>, i32
    """
    kernel = module("", body, shared="!llvm.array<128 x i8>")
    with pytest.raises(DiagnosticError, match="needs sm_90, got sm_80"):
        print_ptx(kernel, "sm_80")
    assert "stmatrix.sync.aligned.m8n8.x1.shared.b16 [smem], {%r0};" in print_ptx(kernel, "sm_90a")
