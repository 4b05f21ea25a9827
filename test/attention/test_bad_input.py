"""Bad input to compiled kernels: a defined result, or one clear error before a launch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.attention import AttentionOp
from tilewright.runtime.attention import load_bundle
from tilewright.runtime.errors import (
    ArgumentError,
    BundleError,
    TargetError,
    TilewrightError,
)
from tilewright.runtime.simulator_device import SimulatorKernel
from tilewright.test.attention.reference import Batch, Geometry, exact, random_batch
from tilewright.test.runtime.attention_case import attend_tiles
from tilewright.test.runtime.fake_device import FakeDevice
from tilewright.test.runtime.foreign_array import CudaArray

GEOMETRY = Geometry(head_dim=32, page_size=4)  # 4 query heads, 2 KV heads, NHD, f16
TABLES = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_len")
ARRAYS = ("q", "k_pages", "v_pages")
Change = Callable[[Any], Any]


@pytest.fixture
def op() -> AttentionOp:
    """Returns causal attention."""
    return GEOMETRY.compile(tw.attention.causal())


@pytest.fixture
def batch() -> Batch:
    """Returns requests of (3, 9), (1, 6) and (2, 0) queries and keys, on 5 of 8 pages."""
    return random_batch(GEOMETRY, [(3, 9), (1, 6), (2, 0)], np.random.default_rng())


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


def run(op: AttentionOp, batch: Batch, name: str = "", change: Change | None = None) -> Any:
    """Plans and runs a batch one of whose arguments is changed."""
    given: dict[str, Any] = {key: getattr(batch, key) for key in (*TABLES, *ARRAYS)}
    if change is not None:
        given[name] = change(given[name].copy())
    plan = op.plan(*(given[key] for key in TABLES))
    # Where no device is named it is that of the arrays, which may be one that is not here.
    return plan.run(*(given[key] for key in ARRAYS), device="simulator")


def test_launches_are_noticed(op: AttentionOp, batch: Batch, launches: list[str]) -> None:
    run(op, batch)
    assert launches == ["launch"]


def _entry(index: int, value: int) -> Change:
    def change(table: Any) -> Any:
        table[index] = value
        return table

    return change


def _gpu_array(array: Any) -> CudaArray:
    return CudaArray(4096, array.shape, "<f2")


# The argument that is changed, how, and the beginning of what is said of it.
BAD: list[tuple[str, Change, str]] = [
    ("qo_indptr", _entry(2, 2), "expected entries that never decrease, got 2 after 3 at [2]"),
    ("qo_indptr", _entry(0, 1), "expected 0 as the first entry, got 1"),
    ("qo_indptr", lambda table: table[:0], "expected at least one entry, got none"),
    ("qo_indptr", lambda table: table.astype(np.int64), "expected a one-dimensional int32"),
    ("qo_indptr", lambda table: table.tolist(), "expected an array"),
    ("kv_indptr", _entry(1, 6), "expected entries that never decrease, got 5 after 6 at [2]"),
    ("kv_indptr", _entry(3, 6), "expected 5 as the last entry, the size of kv_indices, got 6"),
    ("kv_indptr", _entry(3, 5000), "expected 5 as the last entry, the size of kv_indices"),
    ("kv_indptr", lambda table: table[:-1], "expected 4 entries, as in qo_indptr, got 3"),
    ("kv_indices", _entry(1, -1), "expected page numbers of at least 0, got -1 at [1]"),
    ("kv_indices", _entry(1, 8), "expected page numbers below 8, the pages of k_pages, got 8"),
    ("kv_indices", _entry(4, 2**31 - 1), "expected page numbers below 8, the pages of k_pages"),
    ("kv_indices", lambda table: table.astype(np.float32), "expected a one-dimensional int32"),
    (
        "kv_last_page_len",
        _entry(0, 0),
        "expected 1 to 4 tokens, 0 only without pages, got 0 at [0]",
    ),
    (
        "kv_last_page_len",
        _entry(1, 5),
        "expected 1 to 4 tokens, 0 only without pages, got 5 at [1]",
    ),
    ("kv_last_page_len", lambda table: table[:-1], "expected 3 entries, one a request, got 2"),
    ("q", lambda q: q.astype(np.float32), "expected dtype f16, got f32"),
    ("q", lambda q: q.view(np.uint16), "expected dtype f16, got"),
    ("q", lambda q: q[:-1], "expected 6 rows, the last entry of qo_indptr, got 5"),
    ("q", lambda q: q[:, :3].copy(), "expected shape"),
    ("q", lambda q: q[..., :16].copy(), "expected shape"),
    ("q", lambda q: q.reshape(6, -1), "expected 3 dimensions (n, 4, 32), got 2 (6, 128)"),
    ("q", lambda q: np.asfortranarray(q), "expected a C-contiguous array, got other strides"),
    ("q", lambda q: q.tolist(), "expected an array"),
    ("k_pages", lambda pages: pages.swapaxes(1, 2).copy(), "expected shape"),
    ("k_pages", lambda pages: pages.swapaxes(1, 2), "expected"),
    ("k_pages", lambda pages: pages.astype(np.float64), "expected dtype f16, got float64"),
    ("k_pages", _gpu_array, "expected host memory, for device 'simulator', got cuda:0"),
    ("v_pages", lambda pages: pages[:-1], "expected shape"),
    ("v_pages", _gpu_array, "expected host memory, for device 'simulator', got cuda:0"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_a_bad_argument_is_refused_before_a_launch(
    op: AttentionOp, batch: Batch, launches: list[str], name: str, change: Change, message: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        run(op, batch, name, change)
    assert str(caught.value).startswith(f"argument '{name}': {message}")
    assert "\n" not in str(caught.value)
    assert launches == []


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1e39, "big"])
def test_a_bad_scale_is_refused_before_a_launch(
    op: AttentionOp, batch: Batch, launches: list[str], scale: Any
) -> None:
    plan = op.plan(*batch.tables)
    with pytest.raises(ArgumentError, match="^argument 'softmax_scale': expected a"):
        plan.run(*batch.arrays, softmax_scale=scale)
    assert launches == []


@pytest.mark.parametrize(
    ("name", "result", "message"),
    [
        ("out", np.zeros((6, 4, 32), np.float32), "expected dtype f16, got f32"),
        ("out", np.zeros((5, 4, 32), np.float16), "expected shape"),
        ("lse", np.zeros((6, 4), np.float16), "expected dtype f32, got f16"),
        ("lse", np.zeros((6, 8), np.float32)[:, ::2], "expected a C-contiguous array"),
    ],
)
def test_a_bad_place_for_results_is_refused_before_a_launch(
    op: AttentionOp, batch: Batch, launches: list[str], name: str, result: Any, message: str
) -> None:
    plan = op.plan(*batch.tables)
    results: dict[str, Any] = {name: result}
    with pytest.raises(ArgumentError) as caught:
        plan.run(*batch.arrays, **results)
    assert str(caught.value).startswith(f"argument '{name}': {message}")
    assert launches == []
    assert not result.any()


def test_a_buffer_of_another_device_is_refused_before_a_launch(
    op: AttentionOp, batch: Batch, launches: list[str]
) -> None:
    other = FakeDevice(attend_tiles)
    plan = op.plan(*batch.tables)
    with pytest.raises(TilewrightError, match="'q'"):
        plan.run(other.array(batch.q, "q"), batch.k_pages, batch.v_pages, device="simulator")
    assert launches == []
    assert other.launches == []


def test_nan_in_q_reaches_its_own_row_and_head_alone(op: AttentionOp, batch: Batch) -> None:
    clean, clean_lse = run(op, batch)
    batch.q[1, 2, 9] = np.nan
    out, lse = run(op, batch)
    others = np.ones((6, 4), np.bool_)
    others[1, 2] = False
    assert np.isnan(exact(out)[1, 2]).all()
    assert np.isnan(lse[1, 2])
    np.testing.assert_array_equal(out[others], clean[others])
    np.testing.assert_array_equal(lse[others], clean_lse[others])


def test_requests_without_keys_give_zero_and_minus_infinity(op: AttentionOp, batch: Batch) -> None:
    out, lse = run(op, batch)
    assert not exact(out[4:]).any()
    assert (lse[4:] == -np.inf).all()
    assert np.isfinite(lse[:4]).all()


def test_a_batch_without_any_keys_needs_no_pages(op: AttentionOp) -> None:
    batch = random_batch(GEOMETRY, [(3, 0), (1, 0)], np.random.default_rng())
    no_pages = batch.k_pages[:0]
    out, lse = op.plan(*batch.tables).run(batch.q, no_pages, no_pages)
    assert not exact(out).any()
    assert (lse == -np.inf).all()


@pytest.mark.parametrize("lengths", [[], [(0, 9)], [(0, 0), (0, 5)]])
def test_a_batch_without_queries_has_empty_results_and_no_launch(
    op: AttentionOp, launches: list[str], lengths: list[tuple[int, int]]
) -> None:
    out, lse = run(op, random_batch(GEOMETRY, lengths, np.random.default_rng()))
    assert (out.shape, lse.shape) == ((0, 4, 32), (0, 4))
    assert launches == []


@pytest.mark.parametrize("file", ["manifest.json", "attend.json", "attend.ptx"])
def test_a_bundle_cut_anywhere_is_refused(op: AttentionOp, tmp_path: Path, file: str) -> None:
    op.save(tmp_path / "bundle")
    path = tmp_path / "bundle" / file
    whole = path.read_bytes()
    # White space behind the last brace of a manifest says nothing.
    kept = len(whole.rstrip())
    for length in {0, 1, kept - 1, *np.random.default_rng().integers(0, kept, 5).tolist()}:
        path.write_bytes(whole[:length])
        with pytest.raises(BundleError, match=f"{file}: (truncated or|it is no|damaged)"):
            load_bundle(tmp_path / "bundle")


def test_a_bundle_of_another_target_is_refused_before_a_launch(
    batch: Batch, tmp_path: Path
) -> None:
    GEOMETRY.compile(tw.attention.causal(), target="sm_90a").save(tmp_path / "bundle")
    plan = tw.attention.load(tmp_path / "bundle").plan(*batch.tables)
    device = FakeDevice(attend_tiles, capability=(8, 0))
    with pytest.raises(TargetError, match=r"capability 8\.0; the kernel is made for sm_90a"):
        plan.run(*batch.arrays, device=device)
    assert device.launches == []
