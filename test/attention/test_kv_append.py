"""Appending to a paged KV cache on the simulator, with all its checks, against NumPy."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright import attention
from tilewright.attention.compiled_kernels import kernel
from tilewright.attention.kv_format import KVFormat
from tilewright.attention.part import Part
from tilewright.nest import gpu
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.simulator_device import SimulatorDevice

from .kv_case import (
    DTYPES,
    FLOAT8,
    LARGEST,
    Batch,
    batch_of,
    gathered,
    quantized,
    rotated,
    scattered,
    unpacked,
)

Array = npt.NDArray[Any]
HEADS, DIM = 2, 64
REQUESTS = [(0, 5), (17, 1), (3, 0), (0, 0), (30, 4)]
# Half a unit in the last place.
ROUNDING = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-22}


@pytest.fixture(scope="module")
def device() -> SimulatorDevice:
    """Returns the simulator with all checks."""
    return SimulatorDevice(checks="all")


def rows(count: int, dtype: str, seed: int = 0, dim: int = DIM) -> Array:
    """Returns random rows [count, heads, dim]."""
    return np.random.default_rng(seed).normal(size=(count, HEADS, dim)).astype(DTYPES[dtype])


def page_shape(batch: Batch, layout: str, width: int = DIM) -> tuple[int, ...]:
    inner = (batch.table.page_size, HEADS)
    return (batch.pages, *(inner if layout == "NHD" else inner[::-1]), width)


def plan_of(batch: Batch) -> attention.AppendPlan:
    return attention.plan_append(batch.table, batch.append_indptr)


def frequencies(dim: int = DIM, theta: float = 10000.0) -> Array:
    """Returns the frequencies of RoPE, float64."""
    return theta ** (-np.arange(0, dim, 2) / dim)


@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("page_size", [1, 5, 16])
def test_rows_go_to_their_places(page_size: int, layout: str, device: SimulatorDevice) -> None:
    batch = batch_of(REQUESTS, page_size)
    k, v = rows(batch.tokens, "f16", 1), rows(batch.tokens, "f16", 2)
    pages = [np.full(page_shape(batch, layout), 7, np.float16) for _ in range(2)]
    expected = [scattered(p, x, batch, layout) for p, x in zip(pages, (k, v), strict=True)]
    cache = attention.KVCache(tuple(pages), KVFormat("f16"), layout)
    attention.append_kv(cache, plan_of(batch), k, v, device=device)
    np.testing.assert_array_equal(pages[0], expected[0])
    np.testing.assert_array_equal(pages[1], expected[1])


@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_keys_and_values_in_one_array(dtype: str, layout: str, device: SimulatorDevice) -> None:
    batch = batch_of(REQUESTS, 4)
    k, v = rows(batch.tokens, dtype, 1), rows(batch.tokens, dtype, 2)
    single = page_shape(batch, layout)
    pages = np.full((single[0], 2, *single[1:]), 7, DTYPES[dtype])
    expected = np.stack([scattered(pages[:, j], x, batch, layout) for j, x in enumerate((k, v))], 1)
    cache = attention.KVCache(pages, KVFormat(dtype), layout)
    attention.append_kv(cache, plan_of(batch), k, v, device=device)
    np.testing.assert_array_equal(pages, expected)


def test_strided_pages_and_rows(device: SimulatorDevice) -> None:
    batch = batch_of(REQUESTS, 4)
    fused = np.random.default_rng(0).normal(size=(batch.tokens, 4 * HEADS, DIM))
    fused = fused.astype(np.float16)
    k, v = fused[:, :HEADS], fused[:, HEADS : 2 * HEADS]
    memory = np.full((batch.pages, 2, 4, HEADS, DIM + 8), 7, np.float16)
    pages = (memory[:, 0, :, :, :DIM], memory[:, 1, :, :, :DIM])
    expected = [scattered(p, x, batch, "NHD") for p, x in zip(pages, (k, v), strict=True)]
    cache = attention.KVCache(pages, KVFormat("f16"))
    attention.append_kv(cache, plan_of(batch), k, v, device=device)
    np.testing.assert_array_equal(pages[0], expected[0])
    np.testing.assert_array_equal(pages[1], expected[1])
    assert (memory[..., DIM:] == 7).all()


def test_strides_that_break_alignment(device: SimulatorDevice) -> None:
    batch = batch_of(REQUESTS, 4)
    k, v = (rows(batch.tokens, "f16", seed, DIM + 1)[..., :DIM] for seed in (1, 2))
    memory = [np.full((batch.pages, 4, HEADS, DIM + 3), 7, np.float16) for _ in range(2)]
    pages = tuple(part[..., :DIM] for part in memory)
    expected = scattered(pages[0], k, batch, "NHD")
    cache = attention.KVCache(pages, KVFormat("f16"))
    attention.append_kv(cache, plan_of(batch), k, v, device=device)
    np.testing.assert_array_equal(pages[0], expected)


@pytest.mark.parametrize("interleaved", [False, True], ids=["half", "interleaved"])
@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32"])
def test_keys_are_rotated(dtype: str, interleaved: bool, device: SimulatorDevice) -> None:
    batch = batch_of(REQUESTS, 4)
    k, v = rows(batch.tokens, dtype, 1), rows(batch.tokens, dtype, 2)
    pages = tuple(np.zeros(page_shape(batch, "NHD"), DTYPES[dtype]) for _ in range(2))
    rotation = attention.Rotation(frequencies(), interleaved=interleaved)
    cache = attention.KVCache(pages, KVFormat(dtype))
    attention.append_kv(cache, plan_of(batch), k, v, rotation=rotation, device=device)
    positions = np.array([position for _, _, position in batch.places()])
    expected = rotated(k, positions, frequencies(), interleaved)
    found = gathered(pages[0], batch, "NHD").astype(np.float64)
    bound = ROUNDING[dtype]
    np.testing.assert_allclose(found, expected, rtol=bound, atol=2e-6)
    np.testing.assert_array_equal(gathered(pages[1], batch, "NHD"), v)


def test_angles_are_exact_at_a_million_tokens(device: SimulatorDevice) -> None:
    k, start = rows(2, "f32", 3), 2**20 - 2
    positions = np.array([start, start + 1], np.int32)
    plan = attention.AppendPlan(
        np.zeros(2, np.int32), np.array([0, 1], np.int32), positions, page_size=4
    )
    pages = tuple(np.zeros((1, 4, HEADS, DIM), np.float32) for _ in range(2))
    rotation = attention.Rotation(frequencies())
    cache = attention.KVCache(pages, KVFormat("f32"))
    attention.append_kv(cache, plan, k, k, rotation=rotation, device=device)
    expected = rotated(k, positions, frequencies(), False)
    np.testing.assert_allclose(pages[0][0, :2], expected, rtol=1e-6, atol=2e-6)


FORMATS = [
    KVFormat(dtype, block, scale_dtype)
    for dtype in ("e4m3", "e5m2", "i8", "i4")
    for block, scale_dtype in ((0, "f32"), (16, "f16"), (32, "f32"))
]


@pytest.mark.parametrize("form", FORMATS, ids=lambda f: f"{f.dtype}-{f.block}-{f.scale_dtype}")
def test_codes_and_scales_are_those_of_the_format(form: KVFormat, device: SimulatorDevice) -> None:
    batch = batch_of(REQUESTS, 4)
    k, v = rows(batch.tokens, "f16", 1), rows(batch.tokens, "f16", 2)
    k[1, 0] = 0.0
    block = form.block or DIM
    held = np.int8 if form.dtype == "i8" else np.uint8
    pages = tuple(np.zeros(page_shape(batch, "HND", form.width(DIM)), held) for _ in range(2))
    scales = tuple(
        np.zeros(page_shape(batch, "HND", DIM // block), DTYPES[form.scale_dtype]) for _ in "kv"
    )
    cache = attention.KVCache(pages, form, "HND", scales)
    attention.append_kv(cache, plan_of(batch), k, v, device=device)
    for stored, scale, given_rows in zip(pages, scales, (k, v), strict=True):
        codes, expected = quantized(given_rows, form.dtype, block, form.scale_dtype)
        np.testing.assert_array_equal(gathered(scale, batch, "HND"), expected)
        found = unpacked(gathered(stored, batch, "HND"), form.dtype)
        np.testing.assert_array_equal(found, codes)


@pytest.mark.parametrize("target", ["sm_80", "sm_89"])
@pytest.mark.parametrize("dtype", ["e4m3", "e5m2"])
def test_one_scale_for_all_on_each_target(dtype: str, target: str, device: SimulatorDevice) -> None:
    batch = batch_of(REQUESTS, 4)
    k, v = rows(batch.tokens, "bf16", 1), rows(batch.tokens, "bf16", 2)
    k[0, 0, :4] = [1e6, -1e6, 0.0, 1e-9]
    shape = page_shape(batch, "NHD")
    pages = np.zeros((shape[0], 2, *shape[1:]), np.uint8)
    cache = attention.KVCache(pages, KVFormat(dtype), k_scale=0.5, v_scale=0.25)
    attention.append_kv(cache, plan_of(batch), k, v, device=device, target=target)
    for j, (x, scale) in enumerate(((k, 0.5), (v, 0.25))):
        scaled = np.clip(x.astype(np.float32) / scale, -LARGEST[dtype], LARGEST[dtype])
        found = gathered(pages[:, j], batch, "NHD")
        np.testing.assert_array_equal(found, scaled.astype(FLOAT8[dtype]).view(np.uint8))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=6),
    st.sampled_from([1, 3, 16]),
    st.sampled_from(["half", "interleaved"]),
    st.integers(0, 2**32 - 1),
)
def test_rotated_and_quantised_keys_are_near(
    requests: list[tuple[int, int]], page_size: int, pairs: str, seed: int
) -> None:
    batch = batch_of(requests, page_size, seed)
    k, v = rows(batch.tokens, "bf16", seed % 1000), rows(batch.tokens, "bf16", 2)
    form = KVFormat("i8", 16, "f16")
    pages = tuple(np.zeros(page_shape(batch, "NHD"), np.int8) for _ in range(2))
    scales = tuple(np.zeros(page_shape(batch, "NHD", DIM // 16), np.float16) for _ in range(2))
    rotation = attention.Rotation(frequencies(), interleaved=pairs == "interleaved")
    attention.append_kv(
        attention.KVCache(pages, form, scales=scales),
        plan_of(batch),
        k,
        v,
        rotation=rotation,
        device=SimulatorDevice(checks="all"),
    )
    if not batch.tokens:
        return
    positions = np.array([position for _, _, position in batch.places()])
    expected = rotated(k, positions, frequencies(), pairs == "interleaved")
    steps = np.repeat(gathered(scales[0], batch, "NHD").astype(np.float64), 16, axis=-1)
    found = gathered(pages[0], batch, "NHD") * steps
    # Half a step of rounding, and what the rounded scale cuts off at 127 steps.
    assert (np.abs(found - expected) <= steps * (0.5 + 127 * 2.0**-11 + 1e-3)).all()


@pytest.mark.parametrize("has_rope", [False, True])
def test_latent_rows(has_rope: bool, device: SimulatorDevice) -> None:
    batch = batch_of(REQUESTS, 16)
    generator = np.random.default_rng(0)
    ckv = generator.normal(size=(batch.tokens, 512)).astype(np.float16)
    kpe = generator.normal(size=(batch.tokens, 64)).astype(np.float16)
    ckv_pages = np.full((batch.pages, 16, 512), 7, np.float16)
    kpe_pages = np.full((batch.pages, 16, 64), 7, np.float16)
    rotation = attention.Rotation(frequencies(), interleaved=True) if has_rope else None
    expected = scattered(ckv_pages, ckv, batch, "NHD")
    attention.append_mla(
        ckv_pages, kpe_pages, plan_of(batch), ckv, kpe, rotation=rotation, device=device
    )
    np.testing.assert_array_equal(ckv_pages, expected)
    found = gathered(kpe_pages, batch, "NHD").astype(np.float64)
    wanted: Array = kpe.astype(np.float64)
    if has_rope:
        positions = np.array([position for _, _, position in batch.places()])
        wanted = rotated(kpe[:, None], positions, frequencies(), True)[:, 0]
    np.testing.assert_allclose(found, wanted, rtol=2.0**-11, atol=1e-6)


def test_a_token_of_no_page_goes_nowhere(device: SimulatorDevice) -> None:
    k = rows(3, "f16", 1)
    plan = attention.AppendPlan(
        np.array([1, -1, 0], np.int32), np.array([2, 0, 3], np.int32), np.zeros(3, np.int32), 4
    )
    pages = tuple(np.zeros((2, 4, HEADS, DIM), np.float16) for _ in range(2))
    attention.append_kv(attention.KVCache(pages, KVFormat("f16")), plan, k, k, device=device)
    expected = np.zeros((2, 4, HEADS, DIM), np.float16)
    expected[1, 2], expected[0, 3] = k[0], k[2]
    np.testing.assert_array_equal(pages[0], expected)


def test_an_infinity_spoils_its_block_alone(device: SimulatorDevice) -> None:
    batch = batch_of([(0, 2)], 4)
    k = rows(2, "f16", 1)
    k[0, 1, 20] = np.inf
    form = KVFormat("i4", 16)
    pages = tuple(np.zeros(page_shape(batch, "NHD", DIM // 2), np.uint8) for _ in range(2))
    scales = tuple(np.zeros(page_shape(batch, "NHD", DIM // 16), np.float32) for _ in range(2))
    cache = attention.KVCache(pages, form, scales=scales)
    attention.append_kv(cache, plan_of(batch), k, k, device=device)
    steps = np.repeat(gathered(scales[0], batch, "NHD").astype(np.float64), 16, axis=-1)
    with np.errstate(invalid="ignore"):
        found = unpacked(gathered(pages[0], batch, "NHD"), "i4") * steps
    assert not np.isfinite(found[0, 1, 16:32]).any()
    found[0, 1, 16:32] = 0.0
    assert np.isfinite(found).all()


def test_places_that_the_device_finds(device: SimulatorDevice) -> None:
    batch = batch_of(REQUESTS, 4)
    table, padded = batch.table, batch.tokens + 7
    tables = (batch.append_indptr, table.lengths, table.kv_indptr, table.kv_indices)
    plan = attention.plan_append_on_device(
        *tables, page_size=4, num_pages=batch.pages, tokens=padded, device=device
    )
    k = rows(padded, "f16", 1)
    pages = tuple(np.zeros(page_shape(batch, "NHD"), np.float16) for _ in range(2))
    cache = attention.KVCache(pages, KVFormat("f16"))
    attention.append_kv(cache, plan, k, k, device=device)
    expected = scattered(np.zeros_like(pages[0]), k[: batch.tokens], batch, "NHD")
    np.testing.assert_array_equal(pages[0], expected)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=6),
    st.sampled_from([1, 3, 16]),
)
def test_host_and_device_find_the_same_places(
    requests: list[tuple[int, int]], page_size: int
) -> None:
    batch = batch_of(requests, page_size)
    table = batch.table
    plan = attention.plan_append_on_device(
        batch.append_indptr,
        table.lengths,
        table.kv_indptr,
        table.kv_indices,
        page_size=page_size,
        num_pages=batch.pages,
        tokens=batch.tokens,
        device=SimulatorDevice(checks="all"),
    )
    found = zip(*(plan.arrays[name] for name in ("page", "slot", "position")), strict=True)
    assert [tuple(map(int, place)) for place in found] == batch.places()


def test_a_plan_on_the_device_is_written_again(device: SimulatorDevice) -> None:
    first, second = batch_of([(3, 1), (9, 1)], 4), batch_of([(7, 1), (2, 1)], 4)
    plan: attention.DeviceAppendPlan | None = None
    for batch in (first, second):
        table = batch.table
        tables = (batch.append_indptr, table.lengths, table.kv_indptr, table.kv_indices)
        made = attention.plan_append_on_device(
            *tables, page_size=4, num_pages=50, tokens=2, plan=plan, device=device
        )
        assert plan is None or made is plan
        plan = made
        found: Any = plan.arrays["page"]
        assert found.tolist() == [page for page, _, _ in batch.places()]


def test_tables_on_the_device_cannot_make_a_write_leave_the_cache(device: SimulatorDevice) -> None:
    def i32(*values: int) -> npt.NDArray[np.int32]:
        return np.array(values, np.int32)

    plan = attention.plan_append_on_device(
        i32(0, 2, 4, 5),
        i32(1, 9, 3),
        i32(0, 1, 2, 3),
        i32(0, 1, 99),
        page_size=4,
        num_pages=3,
        tokens=5,
        device=device,
    )
    # A length below the new tokens, one beyond the pages, and a page that the cache lacks.
    np.testing.assert_array_equal(plan.arrays["page"], [-1, 0, -1, -1, -1])


def test_lengths_recompile_nothing(
    device: SimulatorDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(requests: list[tuple[int, int]]) -> None:
        batch = batch_of(requests, 16)
        k = rows(batch.tokens, "f16", 1)
        pages = tuple(np.zeros(page_shape(batch, "NHD"), np.float16) for _ in range(2))
        cache = attention.KVCache(pages, KVFormat("f16"))
        attention.append_kv(cache, plan_of(batch), k, k, device=device)

    run([(0, 1)])
    monkeypatch.setattr(gpu, "gpu_kernels", None)
    run(REQUESTS)
    run([(100, 30)])


@pytest.mark.parametrize(("rope", "block"), [("", None), ("half", None), ("half", 32)])
def test_rows_are_moved_16_bytes_at_once(rope: str, block: int | None) -> None:
    form = KVFormat("f16") if block is None else KVFormat("i4", block)
    parts = (Part("k", 128, rope, "k_pages"), Part("v", 128, "", "v_pages"))
    shape = {"heads": 8, "page_size": 16, "layout": "NHD"}
    text = kernel("append", "sm_80", parts=parts, dtype="f16", format=form, **shape).ptx
    assert "ld.global.v4.b32" in text
    assert "global.b16" not in text
    assert "global.b8" not in text


def refused(message: str, cache: attention.KVCache, k: Array, v: Array, **options: Any) -> None:
    batch = batch_of(REQUESTS, 4)
    plan = options.pop("plan", plan_of(batch))
    with pytest.raises(ArgumentError, match=message):
        attention.append_kv(cache, plan, k, v, **options)


def test_bad_input_is_refused() -> None:
    batch = batch_of(REQUESTS, 4)
    k, v = rows(batch.tokens, "f16", 1), rows(batch.tokens, "f16", 2)
    shape = page_shape(batch, "NHD")
    one, two = (np.zeros(shape, np.float16) for _ in range(2))
    form = KVFormat("f16")
    cache = attention.KVCache((one, two), form)
    refused("'k': expected shape", cache, k[:-1], v)
    refused("'v': expected dtype f16", cache, k, v.astype(np.float32))
    few = attention.KVCache((one[:2].copy(), two[:2].copy()), form)
    refused("'kv_indices': expected page numbers below 2", few, k, v)
    zeros = np.zeros(2, np.int32)
    with pytest.raises(ArgumentError, match=r"'slot': .* got 4 at \[1\]"):
        attention.AppendPlan(zeros, np.array([3, 4], np.int32), zeros, 4)
    refused("'v_pages': expected memory of its own", attention.KVCache((one, one), form), k, v)
    other = attention.KVCache((one, two.astype(np.float32)), form)
    refused("'v_pages': expected dtype f16", other, k, v)
    turned = attention.KVCache((one, two), form, "HND")
    refused("'k_pages': expected shape", turned, k, v)
    rotation = attention.Rotation(frequencies(32))
    refused("'rotation': expected 32 frequencies", cache, k, v, rotation=rotation)
    spread = attention.KVCache((np.zeros((*shape, 2), np.float16)[..., 0], two), form)
    refused("'k_pages': expected strides", spread, k, v)
    one.flags.writeable = False
    refused("'k_pages': expected a writable", cache, k, v)


def test_packed_halves_of_odd_width_are_refused() -> None:
    batch = batch_of(REQUESTS, 4)
    k = rows(batch.tokens, "f16", 1, 66)
    pages = tuple(np.zeros(page_shape(batch, "NHD", 33), np.uint8) for _ in range(2))
    scales = tuple(np.zeros(page_shape(batch, "NHD", 1), np.float32) for _ in range(2))
    cache = attention.KVCache(pages, KVFormat("i4", 0), scales=scales)
    rotation = attention.Rotation(frequencies(66))
    refused("'k': expected a head_dim that 4 divides", cache, k, k, rotation=rotation)


@pytest.mark.parametrize("dim", [6, 80, 96])
@pytest.mark.parametrize("dtype", ["f16", "i8", "i4"])
def test_widths_that_are_no_powers_of_two(dtype: str, dim: int, device: SimulatorDevice) -> None:
    batch = batch_of(REQUESTS, 4)
    k = rows(batch.tokens, "f16", 1, dim)
    form = KVFormat(dtype) if dtype == "f16" else KVFormat(dtype, 0)
    held = {"f16": np.float16, "i8": np.int8, "i4": np.uint8}[dtype]
    pages = tuple(np.zeros(page_shape(batch, "NHD", form.width(dim)), held) for _ in range(2))
    scales = tuple(np.zeros(page_shape(batch, "NHD", 1), np.float32) for _ in range(2))
    cache = attention.KVCache(pages, form, scales=None if dtype == "f16" else scales)
    attention.append_kv(cache, plan_of(batch), k, k, device=device)
    stored = gathered(pages[0], batch, "NHD")
    if dtype == "f16":
        np.testing.assert_array_equal(stored, k)
    else:
        codes, steps = quantized(k, dtype, dim, "f32")
        np.testing.assert_array_equal(unpacked(stored, dtype), codes)
        np.testing.assert_array_equal(gathered(scales[0], batch, "NHD"), steps)


def test_caches_that_do_not_fit_their_format_are_refused() -> None:
    pages = (np.zeros((1, 4, 2, 64), np.int8),) * 2
    with pytest.raises(ArgumentError, match="'scales': expected arrays, got nothing"):
        attention.KVCache(pages, KVFormat("i8", 16))
    with pytest.raises(ArgumentError, match="'scales': expected nothing"):
        attention.KVCache(pages, KVFormat("i8"), scales=pages)
    with pytest.raises(ArgumentError, match="'block': expected None"):
        KVFormat("f16", 16)
    with pytest.raises(ArgumentError, match="'dtype': expected one of"):
        KVFormat("fp8")
    with pytest.raises(ArgumentError, match="'k_scale': expected a positive"):
        attention.KVCache(pages, KVFormat("i8"), k_scale=0.0)


def test_writes_that_would_race_are_refused() -> None:
    def i32(*values: int) -> npt.NDArray[np.int32]:
        return np.array(values, np.int32)

    table = attention.PageTable(i32(0, 1, 2), i32(3, 3), i32(2, 2), 4)
    with pytest.raises(ArgumentError, match="page 3 of requests 0 and 1"):
        attention.plan_append(table, i32(0, 1, 1))
