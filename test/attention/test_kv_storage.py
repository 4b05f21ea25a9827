"""Formats of keys and values, and where they lie, on the simulator beside float64."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.attention as attention
from tilewright.attention import AttentionOp, BlockSparseKV, KVFormat, KVStorage, PagedKV, RaggedKV
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.attention.kv_case import unpacked
from tilewright.test.attention.library_cases import CASES, Case
from tilewright.test.attention.reference import Array, Geometry, exact, rounded
from tilewright.test.attention.stored import Stored, Storing, expected
from tilewright.test.attention.test_on_simulator import generator

LENGTHS = [(5, 21), (1, 9), (20, 70), (2, 0), (3, 3)]
OUT = {"f16": 2e-3, "bf16": 1e-2}
# Keys whose scales are multiplied in are rounded to 16 bits.
LSE = {"f16": 2e-3, "bf16": 2e-2}


def compiled(kv: KVStorage, geometry: Geometry, case: Case, **options: Any) -> AttentionOp:
    return attention.compile(
        variant=case.variant(geometry),
        kv=kv,
        num_qo_heads=geometry.num_qo_heads,
        num_kv_heads=geometry.num_kv_heads,
        head_dim=geometry.head_dim,
        dtype=geometry.dtype,
        **options,
    )


def queries(stored: Stored, geometry: Geometry, rng: np.random.Generator) -> Array:
    shape = (int(stored.qo_indptr[-1]), geometry.num_qo_heads, geometry.head_dim)
    return rounded(rng.standard_normal(shape), geometry.dtype)


def check(kv: KVStorage, geometry: Geometry, name: str = "causal", **options: Any) -> None:
    case, rng = CASES[name], generator(repr(kv), repr(geometry))
    stored = Storing(geometry, kv, LENGTHS, rng).store()
    q = queries(stored, geometry, rng)
    op = compiled(kv, geometry, case, **options)
    params = case.params(rng, geometry, None)  # pyright: ignore[reportArgumentType]
    out, lse = op.plan(*stored.tables).run(
        q, *stored.arrays, params=params, device=SimulatorDevice("all"), **stored.scales
    )
    wanted_out, wanted_lse = expected(case, geometry, q, stored, params)
    error = np.linalg.norm(exact(out) - wanted_out)
    assert error <= OUT[geometry.dtype] * np.linalg.norm(wanted_out)
    np.testing.assert_allclose(lse, wanted_lse, rtol=0, atol=LSE[geometry.dtype])


def geometry(head_dim: int = 64, dtype: str = "f16") -> Geometry:
    return Geometry(2, 2, head_dim, 4, dtype=dtype)


def some(choices: Sequence[Any], *numbers: int) -> list[Any]:
    """Returns choices of which all but a few are marked as those that show more of the same."""
    full = [pytest.param(choice, marks=pytest.mark.full) for choice in choices]
    return [c if number in numbers else full[number] for number, c in enumerate(choices)]


FORMATS = [
    KVFormat("e4m3"),
    KVFormat("e5m2"),
    KVFormat("i8"),
    KVFormat("e4m3", 32),
    KVFormat("e5m2", 16, "f16"),
    KVFormat("i8", 0),
    KVFormat("i4", 16, "f16"),
    KVFormat("i4", 32),
    KVFormat("i4"),
]


@pytest.mark.parametrize("form", some(FORMATS, 0, 5, 6), ids=repr)
def test_a_format_in_bf16(form: KVFormat) -> None:
    check(PagedKV(4, format=form), geometry(dtype="bf16"))


@pytest.mark.full
@pytest.mark.parametrize("form", FORMATS, ids=repr)
def test_a_format_in_f16(form: KVFormat) -> None:
    check(PagedKV(4, format=form), geometry())


STORAGES: list[KVStorage] = [
    RaggedKV(strided=True),
    RaggedKV(KVFormat("i4", 32, "f16")),
    PagedKV(16, "HND", strided=True),
    PagedKV(4, combined=True),
    PagedKV(4, "HND", KVFormat("i8", 16), combined=True),
    PagedKV(4, format=KVFormat("i4"), combined=True, strided=True),
    PagedKV(1, format=KVFormat("e4m3"), table_of_heads=True, scale_per_head=True),
    BlockSparseKV(16, strided=True, per_head=True),
    BlockSparseKV(1, KVFormat("e4m3"), per_head=True),
]


@pytest.mark.parametrize("kv", some(STORAGES, 0, 4, 7), ids=repr)
def test_a_storage(kv: KVStorage) -> None:
    check(kv, geometry(32))


SHAPES: list[tuple[int, KVFormat, dict[str, Any]]] = [
    (16, KVFormat("e4m3"), {}),
    (48, KVFormat("e5m2"), {}),
    (96, KVFormat("i4", 16, "f16"), {}),
    (128, KVFormat("e4m3", 32), {"query_len": 1}),
    (256, KVFormat("i8"), {}),
]


@pytest.mark.full
@pytest.mark.parametrize(("head_dim", "form", "options"), SHAPES)
def test_a_format_with_a_head_dim(head_dim: int, form: KVFormat, options: dict[str, Any]) -> None:
    check(PagedKV(4, format=form), geometry(head_dim), **options)


@pytest.mark.full
@pytest.mark.parametrize("form", [KVFormat("e4m3"), KVFormat("i8", 0)], ids=repr)
def test_transformed_keys_are_multiplied_by_their_scale_before(form: KVFormat) -> None:
    check(PagedKV(4, format=form), geometry(32), "QK-norm")


@pytest.mark.parametrize(
    ("dtype", "computed", "target"),
    [
        ("e4m3", "bf16", "sm_80"),
        ("e4m3", "f16", "sm_90"),
        ("e5m2", "f16", "sm_80"),
        pytest.param("e4m3", "f16", "sm_80", marks=pytest.mark.full),
        pytest.param("e4m3", "bf16", "sm_90", marks=pytest.mark.full),
        pytest.param("e5m2", "bf16", "sm_80", marks=pytest.mark.full),
    ],
)
def test_each_code_of_an_8_bit_float_is_what_it_stands_for(
    dtype: str, computed: str, target: str
) -> None:
    """The value of the only key of a request is its result; NaN and infinities stay themselves."""
    g = Geometry(1, 1, 32, 1, dtype=computed)
    codes = np.arange(256, dtype=np.uint8).reshape(8, 1, 32)
    indptr = np.arange(9, dtype=np.int32)
    kv = RaggedKV(KVFormat(dtype))
    op = compiled(kv, g, CASES["full"], target=target)
    assert ("cvt.rn.f16x2.e4m3x2" in op.ptx) == (target == "sm_90")
    plan = op.plan(indptr, indptr)
    q, keys = rounded(np.zeros(codes.shape), computed), np.zeros_like(codes)
    out, _ = plan.run(q, keys, codes)
    np.testing.assert_array_equal(exact(out).ravel(), unpacked(codes, dtype).ravel())


@given(st.data())
@settings(max_examples=4, deadline=None)
def test_ragged_rows_of_any_lengths(data: st.DataObject) -> None:
    row = st.integers(0, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(n, 40)))
    lengths = data.draw(st.lists(row, min_size=1, max_size=4))
    g, rng = geometry(32), np.random.default_rng(data.draw(st.integers(0, 2**16)))
    kv = RaggedKV(KVFormat("e5m2"))
    stored = Storing(g, kv, lengths, rng).store()
    q = queries(stored, g, rng)
    out, _ = (
        compiled(kv, g, CASES["causal"])
        .plan(*stored.tables)
        .run(q, *stored.arrays, **stored.scales)
    )
    wanted, _ = expected(CASES["causal"], g, q, stored, {})
    assert np.linalg.norm(exact(out) - wanted) <= 2e-3 * np.linalg.norm(wanted)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kv": PagedKV(4, format=KVFormat("bf16"))}, "'format': expected a quantised format, or that"),
    ({"kv": PagedKV(4, format=KVFormat("i4")), "head_dim": 16}, "'head_dim': expected rows of mul"),
    ({"kv": PagedKV(4, format=KVFormat("i8", 32)), "head_dim": 48}, "'block': expected a divisor"),
]


@pytest.mark.parametrize(("options", "reason"), REFUSED)
def test_a_format_that_no_kernel_has_is_refused(options: dict[str, Any], reason: str) -> None:
    numbers: dict[str, Any] = {"num_qo_heads": 2, "num_kv_heads": 2, "head_dim": 64}
    with pytest.raises(ArgumentError, match=reason):
        attention.compile(dtype="f16", **(numbers | options))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: PagedKV(4, format=KVFormat("f32")), "'format': expected a format of at most 16"),
        (lambda: PagedKV(4, scale_per_head=True), "'scale_per_head': expected False without"),
        (lambda: RaggedKV(KVFormat("i8", 0), scale_per_head=True), "no single scale"),
        (lambda: RaggedKV(cast(Any, "e4m3")), "'format': expected a KVFormat, or None, got str"),
        (lambda: BlockSparseKV(0), "'block_columns': expected an integer from 1"),
    ],
)
def test_a_storage_that_is_none_is_refused(make: Any, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        make()


def test_arguments_of_a_call_that_do_not_fit_are_refused() -> None:
    g, rng = geometry(), generator("refused kv")
    kv = RaggedKV(KVFormat("e4m3"), strided=True)
    stored = Storing(g, kv, LENGTHS, rng).store()
    plan = compiled(kv, g, CASES["causal"]).plan(*stored.tables)
    q, (k, v) = queries(stored, g, rng), stored.arrays
    bad: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((q, k), {}, "argument 'v': expected an array"),
        ((q, k, v), {"k_scale": 0.0}, "'k_scale': expected a positive number"),
        ((q, k, v), {"k_scales": k}, "'k_scales': expected nothing, the kernel has no such scale"),
        ((q, k[:-1], v[:-1]), {}, "'k': expected at least 103 rows"),
        ((q, k, v[:, :1]), {}, r"'v': expected shape \(103, 2, 64\), got"),
        ((q, np.zeros((103, 2, 65), np.uint8)[..., :64], v), {}, "strides of multiples of 16"),
    ]
    for arrays, options, reason in bad:
        with pytest.raises(ArgumentError, match=reason):
            plan.run(*arrays, **options)
    with pytest.raises(ArgumentError, match="'kv_indices': expected nothing, ragged keys"):
        plan.op.plan(stored.tables[0], stored.tables[1], np.zeros(0, np.int32))
