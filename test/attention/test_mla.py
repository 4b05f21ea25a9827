"""The interface of multi-head latent attention: what it refuses, its tiles, its resources."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright import attention
from tilewright.attention import KVFormat, LatentKV, PagedKV, causal
from tilewright.attention.mla import choose_latent_tiles, latent_shared_bytes
from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.ptxas import find_ptxas
from tilewright.test.attention.latent_case import Geometry, latent_batch
from tilewright.test.spread import spread

PTXAS = find_ptxas()
SMALL = Geometry(ckv=256, kpe=16, dtype="f16")
# Bytes of shared memory that a CTA can have (CUDA programming guide, compute capabilities).
SHARED = {"sm_80": 163, "sm_86": 99, "sm_89": 99, "sm_90": 227}


def compile_small(**changed: Any) -> Any:
    """Compiles with some arguments in place of those of a small kernel."""
    given: dict[str, Any] = {"num_heads": 16, "kv": SMALL.kv, "softmax_scale": 0.1, "dtype": "f16"}
    return attention.compile_mla(**given | changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kv": PagedKV(16)}, "'kv': expected a LatentKV, got PagedKV"),
        ({"num_heads": 0}, "'num_heads': expected an integer from 1 to 65535, got 0"),
        ({"query_len": 0}, "'query_len': expected an integer from 1, got 0"),
        ({"softmax_scale": 0.0}, "'softmax_scale': expected a positive number of type f32"),
        ({"dtype": "f32"}, "'dtype': expected 'bf16' or 'f16'"),
        (
            {"dtype": "bf16", "kv": LatentKV(16, format=KVFormat("f16"))},
            "'format': expected .* f16",
        ),
        ({"target": "sm_70"}, "'target': expected one of sm_80"),
    ],
)
def test_arguments_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        compile_small(**changed)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"page_size": 0}, "'page_size': expected an integer from 1 to 2\\^20, got 0"),
        ({"head_dim_ckv": 384}, "'head_dim_ckv': expected 256 or 512, got 384"),
        ({"head_dim_kpe": 0}, "'head_dim_kpe': expected a multiple of 16 from 16 to 64, got 0"),
        ({"head_dim_kpe": 24}, "'head_dim_kpe': expected a multiple of 16 from 16 to 64, got 24"),
        ({"format": "e4m3"}, "'format': expected a KVFormat, or None, got str"),
        ({"format": KVFormat("i4")}, "'format': expected e4m3 or e5m2 or i8, .* got i4"),
        ({"format": KVFormat("i8", 32)}, "'format': expected .* of blocks, got i8 in blocks"),
    ],
)
def test_caches_are_refused(numbers: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"page_size": 16}
    with pytest.raises(ArgumentError, match=message):
        LatentKV(**given | numbers)


def test_an_output_transform_is_refused() -> None:
    variant = attention.Variant(output_transform=lambda x, b, h, q_idx, d: x * 2.0)
    with pytest.raises(DiagnosticError, match="score, mask and state .* got one of output"):
        compile_small(variant=variant)


def test_a_latent_cache_is_no_storage_of_keys_and_values() -> None:
    numbers = {"num_qo_heads": 16, "num_kv_heads": 1, "head_dim": 256}
    with pytest.raises(ArgumentError, match="'kv': expected a PagedKV"):
        attention.compile(kv=SMALL.kv, **numbers)  # pyright: ignore[reportArgumentType]


def test_calls_are_refused() -> None:
    case = latent_batch(SMALL, [(1, 20)], np.random.default_rng(0))
    plan = case.plan(SMALL.compile())
    q_nope, q_pe, ckv, kpe = case.arrays
    given: dict[str, Any] = {"q_nope": q_nope, "q_pe": q_pe, "ckv_pages": ckv, "kpe_pages": kpe}
    calls: dict[str, dict[str, Any]] = {
        "'kpe_pages': expected an array, the cache is two": {"kpe_pages": None},
        "'kpe_pages': expected shape": {"kpe_pages": ckv},
        "'q_pe': expected shape": {"q_pe": q_nope},
        "'q_nope': expected 1 rows": {
            "q_nope": np.repeat(q_nope, 2, 0),
            "q_pe": np.repeat(q_pe, 2, 0),
        },
        "'programmatic': expected False for a kernel": {"programmatic": True},
        "'ckv_scale': expected nothing, the kernel has no such scale": {"ckv_scale": 0.5},
        "'kv_indices': expected page numbers below 1": {"ckv_pages": ckv[:1], "kpe_pages": kpe[:1]},
    }
    for message, changed in calls.items():
        with pytest.raises(ArgumentError, match=message):
            plan.run_mla(**given | changed)
    with pytest.raises(ArgumentError, match="'k_pages': expected a call of `run_mla`"):
        plan.run(q_nope, ckv, kpe)


def test_scales_of_parts_that_are_too_far_apart_are_refused() -> None:
    case = latent_batch(replace(SMALL, codes="i8"), [(1, 20)], np.random.default_rng(0))
    plan = case.plan(case.geometry.compile())
    with pytest.raises(ArgumentError, match="'kpe_scale': expected .* 2\\^64 of ckv_scale, 1e-15"):
        plan.run_mla(*case.arrays, ckv_scale=1e-15, kpe_scale=1e10)
    with pytest.raises(ArgumentError, match="'kpe_scale': expected a positive number"):
        plan.run_mla(*case.arrays, kpe_scale=-1.0)
    with pytest.raises(ArgumentError, match="'ckv_scale': expected a positive number"):
        plan.run_mla(*case.arrays, ckv_scale=np.ones(4, np.float32))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ckv_scale": "x", "format": KVFormat("i8")}, "'ckv_scale': expected a positive number"),
        ({"kpe_scale": 2.0}, "'kpe_scale': expected 1 for rows that are no codes, got 2.0"),
    ],
)
def test_scales_of_what_is_appended_are_refused(given: dict[str, Any], message: str) -> None:
    begin, page = np.array([0, 1], np.int32), np.zeros(1, np.int32)
    table = attention.PageTable(begin, page, np.ones(1, np.int32), page_size=4)
    dtype = np.int8 if "format" in given else np.float16
    ckv_pages, kpe_pages = (np.zeros((1, 4, width), dtype) for width in (256, 16))
    ckv, kpe = (np.zeros((1, width), np.float16) for width in (256, 16))
    plan = attention.plan_append(table, begin)
    with pytest.raises(ArgumentError, match=message):
        attention.append_mla(ckv_pages, kpe_pages, plan, ckv, kpe, **given)


def test_a_combined_cache_is_one_array() -> None:
    geometry = replace(SMALL, combined=True)
    case = latent_batch(geometry, [(1, 20)], np.random.default_rng(0))
    plan = case.plan(geometry.compile())
    q_nope, q_pe, pages = case.arrays
    with pytest.raises(ArgumentError, match="'kpe_pages': expected nothing"):
        plan.run_mla(q_nope, q_pe, pages, pages)


def test_a_bundle_runs_as_the_kernel_that_was_saved(tmp_path: Path) -> None:
    case = latent_batch(SMALL, [(1, 20)], np.random.default_rng(0))
    op = SMALL.compile(causal())
    op.save(tmp_path / "mla")
    loaded = attention.load(tmp_path / "mla")
    expected = case.run(case.plan(op), checks="none")
    for got, same in zip(case.run(case.plan(loaded), checks="none"), expected, strict=True):
        np.testing.assert_array_equal(got, same)


@pytest.mark.parametrize("target", SHARED)
@pytest.mark.parametrize("ckv", [256, 512])
@pytest.mark.parametrize("form", [None, KVFormat("i8")])
def test_tiles_fit_a_cta(target: str, ckv: int, form: KVFormat | None) -> None:
    for rows in (1, 16, 17, 32, 48, 64, 128):
        kv = LatentKV(16, ckv, format=form)
        tiles = choose_latent_tiles(kv, rows, target)
        assert latent_shared_bytes(kv, tiles) <= SHARED[target] * 1024
        teams = 16 * tiles.warps // tiles.rows
        assert tiles.kv_tile % (16 * teams) == 0


@pytest.mark.parametrize(("heads", "rows"), [(16, 16), (32, 32), (64, 64), (128, 64)])
def test_tiles_hold_the_heads_of_a_token(heads: int, rows: int) -> None:
    assert choose_latent_tiles(LatentKV(16), heads, "sm_90").rows == rows


# target, heads, dimensions of a row, codes
KERNELS = [
    (target, heads, *dims, codes)
    for dims in ((512, 64), (256, 16))
    for target in ("sm_80", "sm_90", "sm_86", "sm_89")
    for heads in (16, 32, 64, 128)
    for codes in (None, "e4m3", "e5m2", "i8")
]


@pytest.mark.skipif(PTXAS is None, reason="ptxas is not installed: extra cuda")
@pytest.mark.parametrize(("target", "heads", "ckv", "kpe", "codes"), spread(KERNELS, 1))
def test_ptxas_spills_nothing(
    target: str, heads: int, ckv: int, kpe: int, codes: str | None
) -> None:
    kv = LatentKV(16, ckv, kpe, format=KVFormat(codes) if codes else None)
    op = compile_small(num_heads=heads, kv=kv, variant=causal(), target=target)
    assert PTXAS is not None
    resources = PTXAS.assemble(op.ptx, target).resources[op.contract.name]
    assert resources.spilled_bytes == 0
    assert op.contract.dynamic_shared_bytes == latent_shared_bytes(kv, tiles_of(op.contract))


def tiles_of(contract: Any) -> attention.Tiles:
    """Returns the tiles that a kernel was specialised on."""
    key = contract.compile_key
    return attention.Tiles(key["tile_rows"], key["warps"], key["kv_tile"], key["stages"])
