"""Loops of one matrix instruction print what their steps print one by one."""

from typing import Any

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block

from tilewright.attention import AttentionSpec, KVFormat, PagedKV, Variant, causal, rope, tensor
from tilewright.attention.compiler import compile_attention
from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.lowering.ptx import control, print_ptx
from tilewright.lowering.ptx.kernel import KernelPrinter
from tilewright.lowering.ptx.matrix_loops import Products, products_of
from tilewright.test.lowering.ptx.kernels import module

TURNED = rope(tensor("frequencies", (32,)), 64) & causal()


def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes no loop for one of matrix instructions."""

    def no_loops(*_: object) -> None: ...

    monkeypatch.setattr(control, "products_of", no_loops)
    monkeypatch.setattr(control, "loads_of", no_loops)


def ptx_of(dtype: str, variant: Variant, rows: int, form: KVFormat | None) -> str:
    spec = AttentionSpec(
        num_qo_heads=4,
        num_kv_heads=2,
        head_dim=64,
        kv=PagedKV(16, format=form),
        dtype=dtype,
        target="sm_90",
        softmax_scale=0.125,
        warps=4,
        tile_rows=rows,
        kv_tile=64,
        stages=2,
    )
    return compile_attention(spec, variant.traced).ptx


@pytest.mark.parametrize(
    ("dtype", "variant", "rows", "form"),
    [
        ("f16", causal(), 128, None),
        ("bf16", causal(), 64, None),
        ("f16", causal(), 16, KVFormat("e4m3")),
        ("bf16", TURNED, 64, None),
    ],
)
def test_a_kernel_is_that_of_all_steps(
    dtype: str,
    variant: Variant,
    rows: int,
    form: KVFormat | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_once = ptx_of(dtype, variant, rows, form)
    step_by_step(monkeypatch)
    assert ptx_of(dtype, variant, rows, form) == at_once


def _fields(name: str, kind: str) -> str:
    return "".join(
        f"""
        %{name}{index} = "llvm.extractvalue"(%{name}) <{{position = array<i64: {index}>}}>
          : (!llvm.struct<({", ".join([kind] * 4)})>) -> {kind}"""
        for index in range(4)
    )


def products(
    trips: int = 4, at: str = "%n", results: tuple[int, ...] = (0, 1, 2, 3), more: str = ""
) -> ModuleOp:
    """A kernel with a product for each 8 of 32 columns; its sum goes to memory."""
    inserts = "".join(
        f"\n%q{i + 1} = vector.insert %d{result}, %q{i} [{i}] : f32 into vector<4xf32>"
        for i, result in enumerate(results)
    )
    reads = "".join(f"\n%c{i} = vector.extract %q0[{i}] : f32 from vector<4xf32>" for i in range(4))
    text = f"""
    %i0 = arith.constant 0 : index
    %i1 = arith.constant 1 : index
    %trips = arith.constant {trips} : index
    %zeros = arith.constant dense<0.0> : vector<4x4xf32>
    %words = vector.broadcast %a : i32 to vector<4x2xi32>
    %sums = scf.for %n = %i0 to %trips step %i1 iter_args(%acc = %zeros) -> (vector<4x4xf32>) {{
      %pair = vector.extract %words[{at}] : vector<2xi32> from vector<4x2xi32>
      %b0 = vector.extract %pair[0] : i32 from vector<2xi32>
      %b1 = vector.extract %pair[1] : i32 from vector<2xi32>
      %q0 = vector.extract %acc[%n] : vector<4xf32> from vector<4x4xf32>
      {reads}
      %d = nvvm.mma.sync A[%a, %a, %a, %a] B[%b0, %b1] C[%c0, %c1, %c2, %c3]
        {{layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>,
         multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>,
         shape = #nvvm.shape<m = 16, n = 8, k = 16>}}
        : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
      {_fields("d", "f32")}
      {inserts}
      {more}
      %next = vector.insert %q4, %acc [{at}] : vector<4xf32> into vector<4x4xf32>
      scf.yield %next : vector<4x4xf32>
    }} {{tilewright.unroll}}
    %row = vector.extract %sums[3] : vector<4xf32> from vector<4x4xf32>
    %sum = vector.reduction <add>, %row : vector<4xf32> into f32
    "llvm.store"(%sum, %out) <{{ordering = 0 : i64}}> : (f32, !llvm.ptr<1>) -> ()
    """
    return module("%a: i32, %out: !llvm.ptr<1>", text)


@pytest.mark.parametrize(
    ("body", "is_row"),
    [
        ({}, True),
        ({"results": (3, 2, 1, 0)}, False),
        ({"results": (0, 1, 2, 2)}, False),
        ({"at": "2"}, False),
        ({"more": "%q9 = arith.addf %d0, %d1 : f32"}, False),
    ],
    ids=["products", "swapped", "one twice", "one place", "a sum beside"],
)
def test_a_row_of_products_alone_is_printed_at_once(
    body: dict[str, Any], is_row: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Products | None] = []

    def noted(p: KernelPrinter, block: Block) -> Products | None:
        products = products_of(p, block)
        found.append(products)
        return products

    with monkeypatch.context() as patch:
        patch.setattr(control, "products_of", noted)
        at_once = print_ptx(products(**body))
    assert [each is not None for each in found] == [is_row]
    step_by_step(monkeypatch)
    assert print_ptx(products(**body)) == at_once
    assert at_once.count("mma.sync") == 4


def test_a_product_behind_the_last_column_is_refused() -> None:
    with pytest.raises(DiagnosticError, match="expects a position below 4 on axis 0, got 4"):
        print_ptx(products(trips=5))
