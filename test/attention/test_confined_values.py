"""Values that are no numbers, in storages that are confined: they reach the rows that see them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tilewright.attention as attention
from tilewright.attention import BlockSparseKV, LatentKV, PagedKV, RaggedKV, Variant
from tilewright.attention.interpreter import Batch as InterpreterBatch
from tilewright.attention.interpreter import attend
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.attention.latent_case import Geometry as LatentGeometry
from tilewright.test.attention.latent_case import attend_latent, latent_batch
from tilewright.test.attention.library_cases import CASES
from tilewright.test.attention.reference import (
    Array,
    Batch,
    Float64,
    Geometry,
    exact,
    random_batch,
    rounded,
)
from tilewright.test.attention.stored import Storing, expected
from tilewright.test.attention.test_configurations import (
    ALL,
    CHOSEN,
    PHASES,
    TOLERANCES,
    Configuration,
    kv_of,
)
from tilewright.test.attention.test_on_simulator import generator

MASKED = [name for name, case in CASES.items() if case.mask is not None]
SOME, OTHERS = (
    [c for c in ALL if c[0] in MASKED and (c in CHOSEN) is chosen] for chosen in (True, False)
)
# Requests whose query tiles and tiles of keys are cut by a causal mask.
LENGTHS = [(90, 90), (4, 30), (1, 70), (20, 100)]


def reached(values: Array, average: Callable[[Array], Float64]) -> Float64:
    """Returns an average of values with NaN and infinities where rows see some: see `average`."""
    with np.errstate(invalid="ignore"):
        finite = average(np.where(np.isfinite(values), values, 0.0))
        plus = average((np.isnan(values) | np.isposinf(values)) * 1.0) > 0
        minus = average((np.isnan(values) | np.isneginf(values)) * 1.0) > 0
        return finite + np.where(plus, np.inf, 0.0) - np.where(minus, np.inf, 0.0)


def check(got: Array, wanted: Float64, tolerance: float) -> None:
    """Compares what is no number element by element, the rest by its norm."""
    out, numbers = exact(got), np.isfinite(wanted)
    assert numbers.any()
    np.testing.assert_array_equal(out[~numbers], wanted[~numbers])
    error = np.linalg.norm(out[numbers] - wanted[numbers])
    assert error <= tolerance * np.linalg.norm(wanted[numbers])


def check_configuration(configuration: Configuration, device: SimulatorDevice | None) -> None:
    variant, storage, phase, dtype = configuration
    case, rng = CASES[variant], generator("confined", *configuration)
    geometry = Geometry(2, 2, 32, 4, dtype="bf16" if dtype == "bf16" else "f16")
    kv = replace(kv_of(storage, dtype), confined=True)
    op = attention.compile(
        variant=case.variant(geometry),
        kv=kv,
        num_qo_heads=4,
        num_kv_heads=2,
        head_dim=32,
        dtype=geometry.dtype,
    )
    stored = Storing(geometry, kv, PHASES[phase], rng, unclean=0.01).store()
    q = rounded(rng.standard_normal((int(stored.qo_indptr[-1]), 4, 32)), geometry.dtype)
    none = np.zeros(1 if storage == "block-sparse" else len(stored.keys), np.int32)
    params = case.params(rng, geometry, Batch(none, none, none, none, q, q, q))
    plan = op.plan(*stored.tables)
    out, _ = plan.run(q, *stored.arrays, params=params, device=device, **stored.scales)

    ends = np.cumsum([len(values) for values in stored.values])[:-1]

    def average(values: Array) -> Float64:
        given = replace(stored, values=np.split(values, ends))
        return expected(case, geometry, q, given, params)[0]

    wanted = reached(np.concatenate(stored.values), average)
    check(out, wanted, TOLERANCES[geometry.dtype][0])


@pytest.mark.parametrize("configuration", SOME, ids=" ".join)
def test_values_of_a_configuration_are_confined(configuration: Configuration) -> None:
    number = SOME.index(configuration)
    check_configuration(configuration, SimulatorDevice("all") if number % 4 == 0 else None)


@pytest.mark.full
@pytest.mark.parametrize("configuration", OTHERS, ids=" ".join)
def test_values_of_another_configuration_are_confined(configuration: Configuration) -> None:
    check_configuration(configuration, None)


def interpreted(geometry: Geometry, batch: Batch, variant: Variant) -> Float64:
    """Returns the output of a variant as the interpreter has it."""
    return attend(
        variant.traced,
        InterpreterBatch(*batch.tables),
        *(exact(array) for array in batch.arrays),
        scale=geometry.head_dim**-0.5,
        layout=geometry.layout,
    )[0]


def run_confined(geometry: Geometry, batch: Batch, variant: Variant, work: str = "ranges") -> Array:
    """Runs a variant over confined pages."""
    op = attention.compile(
        variant=variant,
        kv=PagedKV(geometry.page_size, geometry.layout, confined=True),
        num_qo_heads=geometry.num_qo_heads,
        num_kv_heads=geometry.num_kv_heads,
        head_dim=geometry.head_dim,
        dtype=geometry.dtype,
        work=work,
    )
    return op.plan(*batch.tables).run(*batch.arrays, device=SimulatorDevice("all"))[0]


def spoil(batch: Batch, share: float, rng: np.random.Generator) -> None:
    """Makes some elements of values NaN or infinite, a few rows of them whole."""
    v = batch.v_pages
    others = rounded(np.array([np.nan, np.inf, -np.inf]), "bf16" if v.dtype == np.uint16 else "f16")
    chosen = (rng.random(v.shape) < share) | (rng.random((*v.shape[:-1], 1)) < share)
    v[chosen] = rng.choice(others, int(chosen.sum()))


@pytest.mark.parametrize(("head_dim", "dtype"), [(128, "bf16"), (256, "f16"), (80, "bf16")])
def test_wide_values_are_confined(head_dim: int, dtype: str) -> None:
    geometry, rng = Geometry(2, 1, head_dim, 16, dtype=dtype), generator("wide", head_dim)
    batch = random_batch(geometry, LENGTHS, rng)
    spoil(batch, 0.002, rng)
    wanted = interpreted(geometry, batch, attention.causal())
    check(run_confined(geometry, batch, attention.causal()), wanted, TOLERANCES[dtype][0])


def sharing(geometry: Geometry, rng: np.random.Generator) -> Batch:
    """Returns a batch of which all requests begin with 208 keys of the first."""
    batch = random_batch(geometry, [(90, 290), (4, 230), (1, 270), (20, 300)], rng)
    for request in range(4):
        batch.pages(request)[:13] = batch.pages(0)[:13]
    return batch


@pytest.mark.parametrize("work", ["tile_lists", "cascade"])
def test_values_are_confined_whatever_the_work_items_are(work: str) -> None:
    geometry, rng = Geometry(2, 1, 64, 16), generator("work", work)
    batch = sharing(geometry, rng)
    spoil(batch, 0.0005, rng)
    wanted = interpreted(geometry, batch, attention.causal())
    got = run_confined(geometry, batch, attention.causal(), work)
    check(got, wanted, TOLERANCES["f16"][0])


def test_a_cascade_of_these_requests_shares_keys() -> None:
    geometry = Geometry(2, 1, 64, 16)
    batch = sharing(geometry, generator("shared"))
    op = geometry.compile(attention.causal(), work="cascade")
    items = op.plan(*batch.tables, num_ctas=4).arrays.tables["items"]
    # 25 rows of 2 heads, of the requests all of whose rows see the 208 keys.
    assert (items[:, 2:5] == [0, 0, 208]).all(axis=1).any()


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_every_pattern_of_bits_is_told_apart(dtype: str) -> None:
    geometry, rng = Geometry(2, 1, 64, 16, dtype=dtype), generator("bits", dtype)
    batch = random_batch(geometry, LENGTHS, rng)
    bits = rng.integers(0, 2**16, batch.v_pages.shape, dtype=np.uint16)
    if dtype == "bf16":
        # Sums of the largest numbers are beyond f32.
        large = (bits & 0x7F80 > 0x6000) & (bits & 0x7F80 < 0x7F80)
        bits = np.where(large, 0x8000, bits).astype(np.uint16)
        bits |= np.where(rng.random(bits.shape) < 0.03, 0x7F80, 0).astype(np.uint16)
    batch.v_pages[...] = bits if dtype == "bf16" else bits.view(np.float16)
    near = attention.sliding_window(5)
    wanted = interpreted(geometry, batch, near)
    assert 0.05 < np.isfinite(wanted).mean() < 0.95
    check(run_confined(geometry, batch, near), wanted, TOLERANCES[dtype][0])


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_weights_below_zero_turn_infinities_around(dtype: str) -> None:
    def tiny_or_not(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        score = attention.where(score < 0, score - 0.25, score + 0.25)
        # In 16 bits some are rounded to 0, from both sides.
        return attention.where(kv_idx % 3 == 0, score * 1e-30 * 1e-11, score)

    weights = Variant(tiny_or_not, attention.causal().mask_mod, softmax=False)
    geometry, rng = Geometry(2, 1, 32, 4, dtype=dtype), generator("signed", dtype)
    batch = random_batch(geometry, LENGTHS, rng)
    spoil(batch, 0.004, rng)
    wanted = interpreted(geometry, batch, weights)
    assert np.isposinf(wanted).any()
    assert np.isneginf(wanted).any()
    check(run_confined(geometry, batch, weights), wanted, TOLERANCES[dtype][0])


def test_values_of_a_latent_cache_are_confined() -> None:
    geometry = LatentGeometry(heads=16, ckv=256, kpe=16, dtype="f16", confined=True)
    case = latent_batch(geometry, [(3, 40), (2, 70)], generator("latent"))
    clean = case.run(case.plan(geometry.compile(attention.causal())))[0]
    wanted = attend_latent(case)[0]
    # The last key of each request is seen by the last of its rows alone.
    last_rows = np.array([2, 4])
    for request, key in ((0, 39), (1, 69)):
        page = int(case.batch.pages(request)[key // geometry.page_size])
        case.rows[page, key % geometry.page_size, 7] = np.nan
    out = case.run(case.plan(geometry.compile(attention.causal())))[0]
    others = np.setdiff1d(np.arange(5), last_rows)
    np.testing.assert_array_equal(out[others], clean[others])
    assert np.isnan(exact(out)[last_rows]).all()
    error = np.linalg.norm(exact(clean) - wanted)
    assert error <= TOLERANCES["f16"][0] * np.linalg.norm(wanted)


FLAGGED: list[Callable[[Any], object]] = [
    lambda wrong: PagedKV(16, confined=wrong),
    lambda wrong: RaggedKV(confined=wrong),
    lambda wrong: BlockSparseKV(16, confined=wrong),
    lambda wrong: LatentKV(16, confined=wrong),
]


@pytest.mark.parametrize("storage", FLAGGED)
def test_a_flag_of_a_storage_is_true_or_false(storage: Callable[[Any], object]) -> None:
    with pytest.raises(ArgumentError, match="'confined': expected True or False, got 'yes'"):
        storage("yes")
