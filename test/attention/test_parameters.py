"""Run-time parameters of variants: what they read, what a call must pass, what compiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from xdsl.dialects.builtin import IntegerType

import tilewright.attention as attention
from tilewright.attention import (
    AttentionOp,
    AttentionSpec,
    BlockSparseKV,
    LatentKV,
    PagedKV,
    RaggedKV,
    Variant,
    VariantError,
    compiler,
    scalar,
    tensor,
)
from tilewright.attention.compiler import compile_attention
from tilewright.dialects.attn import PageLayout, ScalesAttr, ScaleUnit
from tilewright.lowering.attn_to_tile.geometry import Storage, Work
from tilewright.lowering.attn_to_tile.params import kernel_params
from tilewright.runtime.attention import load_bundle
from tilewright.runtime.attention_params import KERNEL_NAMES, KERNEL_SYMBOLS
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.simulator_device import SimulatorKernel
from tilewright.test.attention.reference import Batch, Geometry, attend, check, random_batch
from tilewright.test.attention.test_on_simulator import generator

GEOMETRY = Geometry(head_dim=32, page_size=4)  # 4 query heads, 2 KV heads, NHD, f16
LENGTHS = [(3, 9), (1, 30), (2, 2)]


def biased(bias: attention.Tensor) -> Variant:
    """Returns a variant that adds a number for each request and key."""
    return Variant(score_mod=lambda score, b, h, q_idx, kv_idx: score + bias[b, kv_idx])


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the list of the kernels that are compiled."""
    made: list[str] = []
    compile_attention = compiler.compile_attention

    def noted(spec: Any, variant: Any) -> Any:
        made.append(variant.key)
        return compile_attention(spec, variant)

    monkeypatch.setattr(compiler, "compile_attention", noted)
    return made


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the list of the launches on the simulator."""
    made: list[str] = []
    launch = SimulatorKernel.launch

    def noted(self: SimulatorKernel, *arguments: Any) -> None:
        made.append("launch")
        launch(self, *arguments)

    monkeypatch.setattr(SimulatorKernel, "launch", noted)
    return made


def run(op: AttentionOp, batch: Batch, params: Mapping[str, object]) -> Any:
    return op.plan(*batch.tables).run(*batch.arrays, params=params)


def test_new_values_and_extents_compile_nothing(compiled: list[str]) -> None:
    rng = generator("no compiles")
    for turn in range(4):
        variant = biased(tensor("no_compiles", ("batch", "length"))) & attention.soft_cap(
            scalar("cap")
        )
        batch = random_batch(GEOMETRY, LENGTHS[: turn % 3 + 1], rng)
        bias = rng.standard_normal((turn % 3 + 1, 30 + turn)).astype(np.float32)
        cap = 1.0 + turn
        got = run(GEOMETRY.compile(variant), batch, {"no_compiles": bias, "cap": cap})
        expected = attend(
            GEOMETRY,
            batch,
            score_mod=lambda s, b, h, q, k: cap * np.tanh((s + bias[b][k]) / cap),  # noqa: B023
        )
        check(GEOMETRY, got, expected)
    assert len(compiled) == 1


def test_another_structure_is_another_kernel(compiled: list[str]) -> None:
    shapes: list[tuple[int | str, ...]] = [("batch", "structure"), ("structure", "length")]
    for shape in shapes:
        GEOMETRY.compile(biased(tensor("structure", shape)))
    GEOMETRY.compile(biased(tensor("structure", shapes[0], "i32")))
    assert len(compiled) == 3


def test_a_bundle_keeps_its_parameters(tmp_path: Any) -> None:
    batch = random_batch(GEOMETRY, LENGTHS, generator("bundle"))
    bias = generator("bundle").standard_normal((3, 40)).astype(np.float32)
    op = GEOMETRY.compile(biased(tensor("bias", ("batch", "length"))))
    op.save(tmp_path / "bundle")
    out, _ = run(load_bundle(tmp_path / "bundle"), batch, {"bias": bias})
    np.testing.assert_array_equal(out, run(op, batch, {"bias": bias})[0])


def test_an_index_outside_of_a_tensor_reads_the_nearest_element() -> None:
    rng = generator("nearest")
    batch = random_batch(GEOMETRY, LENGTHS, rng)
    table = rng.standard_normal(7).astype(np.float32)
    numbers = tensor("table", ("size",))
    variant = Variant(score_mod=lambda s, b, h, q, k: s + numbers[3 * (q - k) - 10])
    expected = attend(
        GEOMETRY,
        batch,
        score_mod=lambda s, b, h, q, k: s + table[np.clip(3 * (q - k) - 10, 0, 6)],
    )
    check(GEOMETRY, run(GEOMETRY.compile(variant), batch, {"table": table}), expected)


def test_scores_know_the_page_of_a_key() -> None:
    rng = generator("page")
    batch = random_batch(GEOMETRY, LENGTHS, rng)
    per_slot = rng.standard_normal((len(batch.k_pages), 4)).astype(np.float32)
    slots = tensor("slots", ("pages", 4))
    variant = Variant(
        score_mod=lambda s, b, h, q, k: s + slots[attention.page_of(k), k & 3],
    )
    expected = attend(
        GEOMETRY,
        batch,
        score_mod=lambda s, b, h, q, k: s + per_slot[batch.pages(b)][k // 4, k % 4],
    )
    check(GEOMETRY, run(GEOMETRY.compile(variant), batch, {"slots": per_slot}), expected)


def test_scores_know_the_row_of_a_query() -> None:
    rng = generator("row")
    batch = random_batch(GEOMETRY, LENGTHS, rng)
    per_row = rng.uniform(0.5, 2, len(batch.q)).astype(np.float32)
    rows = tensor("rows", ("n",))
    variant = Variant(score_mod=lambda s, b, h, q, k: s * rows[attention.row_of(q)])
    expected = attend(
        GEOMETRY, batch, score_mod=lambda s, b, h, q, k: s * per_row[batch.rows(b)][:, None]
    )
    check(GEOMETRY, run(GEOMETRY.compile(variant), batch, {"rows": per_row}), expected)


def test_scalars_of_both_types() -> None:
    rng = generator("scalars")
    batch = random_batch(GEOMETRY, LENGTHS, rng)
    factor, shift = scalar("factor"), scalar("shift", "i32")
    variant = Variant(
        score_mod=lambda s, b, h, q, k: s * factor, mask_mod=lambda b, h, q, k: k <= q + shift
    )
    got = run(GEOMETRY.compile(variant), batch, {"factor": 0.25, "shift": -2})
    expected = attend(
        GEOMETRY,
        batch,
        score_mod=lambda s, b, h, q, k: s * 0.25,
        mask_mod=lambda b, h, q, k: k <= q - 2,
    )
    check(GEOMETRY, got, expected)


@dataclass(frozen=True)
class Wrong:
    """Parameters that a call refuses, and what it says."""

    shape: tuple[int | str, ...]
    value: Any
    message: str


def zeros(*shape: int) -> npt.NDArray[np.float32]:
    return np.zeros(shape, np.float32)


WRONG = {
    "requests": Wrong(("batch", "m"), zeros(2, 40), "'bias': expected shape (3, 40)"),
    "positions": Wrong(
        ("batch", "m"),
        zeros(3, 29),
        "'bias': expected at least 30 entries along axis 1, the positions of the longest request, "
        "got 29",
    ),
    "requests by another symbol": Wrong(
        ("r", "m"), zeros(2, 40), "at least 3 entries along axis 0, the requests, got 2"
    ),
    "constant extent": Wrong((3, 30), zeros(3, 31), "'bias': expected shape (3, 30)"),
    "dtype": Wrong(("r", "m"), zeros(3, 40).astype(np.float64), "expected dtype f32, got float64"),
    "dimensions": Wrong(("r", "m"), zeros(120), "expected 2 dimensions (r, m), got 1 (120,)"),
    "nothing in it": Wrong(("r", "m"), zeros(0, 40), "'bias': expected at least one element"),
    "a list": Wrong(("r", "m"), [[0.0]], "expected an array"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_tensor_that_does_not_fit_is_refused_before_a_launch(
    wrong: Wrong, launches: list[str]
) -> None:
    batch = random_batch(GEOMETRY, LENGTHS, generator("wrong"))
    op = GEOMETRY.compile(biased(tensor("bias", wrong.shape)))
    with pytest.raises(ArgumentError) as caught:
        run(op, batch, {"bias": wrong.value})
    assert wrong.message in str(caught.value)
    assert launches == []


def test_heads_that_are_too_few_are_refused(launches: list[str]) -> None:
    batch = random_batch(GEOMETRY, LENGTHS, generator("heads"))
    op = GEOMETRY.compile(attention.alibi(tensor("slopes", ("heads",))))
    with pytest.raises(ArgumentError, match="at least 4 entries along axis 0, the query heads"):
        run(op, batch, {"slopes": zeros(3)})
    assert launches == []


def test_a_parameter_that_is_missing_is_named() -> None:
    batch = random_batch(GEOMETRY, LENGTHS, generator("missing"))
    op = GEOMETRY.compile(attention.soft_cap(scalar("cap")))
    with pytest.raises(ArgumentError, match="'cap': expected a value for this parameter"):
        run(op, batch, {})


def test_a_parameter_of_another_name_is_refused() -> None:
    batch = random_batch(GEOMETRY, LENGTHS, generator("unknown"))
    op = GEOMETRY.compile(attention.soft_cap(scalar("cap")))
    with pytest.raises(ArgumentError, match="'cup': expected one of cap of the variant"):
        run(op, batch, {"cap": 1.0, "cup": 2.0})


def test_the_names_of_the_kernel_are_those_that_are_refused() -> None:
    code, layout = IntegerType(8), PageLayout.NHD
    names: set[str] = set()
    for pages, columns, combined in (
        (0, False, False),
        (4, True, False),
        (4, False, True),
        (4, False, False),
    ):
        for scales in (ScalesAttr(ScaleUnit.TENSOR), ScalesAttr(ScaleUnit.BLOCK, 16)):
            storage = Storage(code, pages, layout, scales, combined, True, False, columns)
            names |= {name for work in Work for name, _ in kernel_params(storage, work)}
    latent = attention.compile_mla(kv=LatentKV(4, 256, 16), num_heads=4, softmax_scale=1.0)
    names |= {param.name for param in latent.contract.pointers}
    assert names == set(KERNEL_NAMES)


@pytest.mark.parametrize("name", ["q", "items", "softmax_scale", "extent_n"])
def test_a_parameter_with_a_name_of_the_kernel_is_refused(name: str) -> None:
    with pytest.raises(VariantError, match=f"the kernel has an argument '{name}'"):
        scalar(name)


def test_the_symbols_of_the_kernel_are_those_that_are_refused() -> None:
    symbols: set[str] = set()
    paged = (PagedKV(4, strided=True, table_of_heads=True), PagedKV(4, strided=True, combined=True))
    for kv in (*paged, RaggedKV(), BlockSparseKV(4, strided=True)):
        spec = AttentionSpec(4, 2, 32, kv, "f16", "sm_80", 1.0)
        symbols |= set(compile_attention(spec, attention.causal().traced).contract.symbols)
    for work in ("tile_lists", "cascade"):
        spec = AttentionSpec(4, 2, 32, PagedKV(4), "f16", "sm_80", 1.0, work=work)
        symbols |= set(compile_attention(spec, attention.causal().traced).contract.symbols)
    assert symbols - {"n", "pages", "batch", "nnz"} == set(KERNEL_SYMBOLS)


@pytest.mark.parametrize("symbol", KERNEL_SYMBOLS)
def test_an_extent_with_a_symbol_of_the_kernel_is_refused(symbol: str) -> None:
    with pytest.raises(VariantError, match=f"'{symbol}' is the kernel's own"):
        tensor("x", (symbol,))
