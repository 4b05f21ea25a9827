"""The command `tilewright`, run in this process, as a person would."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.attention.interpreter import Batch, attend
from tilewright.attention.variants import TracedVariant
from tilewright.cli import main

MODULE = """\
attn.variant @causal mask {
^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %seen = arith.cmpi sge, %q_idx, %kv_idx : i32
  attn.yield %seen : i1
}
func.func @attend(%q: !attn.ragged<[n, 4, HEAD_DIM], f16>,
    %k: !attn.paged<[pages, 4, 2, HEAD_DIM], f16, NHD>,
    %v: !attn.paged<[pages, 4, 2, HEAD_DIM], f16, NHD>,
    %batch: !attn.batch<[b, nnz]>, %scale: f32)
    -> (!attn.ragged<[n, 4, HEAD_DIM], f16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @causal
    : !attn.ragged<[n, 4, HEAD_DIM], f16>, !attn.paged<[pages, 4, 2, HEAD_DIM], f16, NHD>,
      !attn.paged<[pages, 4, 2, HEAD_DIM], f16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, HEAD_DIM], f16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, HEAD_DIM], f16>, !attn.ragged<[n, 4], f32>
}
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(  # pyright: ignore[reportUnusedFunction]
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TILEWRIGHT_DEVICE", "simulator")


def write_module(head_dim: int = 32) -> str:
    Path("attend.mlir").write_text(MODULE.replace("HEAD_DIM", str(head_dim)))
    return "attend.mlir"


def write_arrays() -> dict[str, npt.NDArray[Any]]:
    generator = np.random.default_rng()
    arrays: dict[str, npt.NDArray[Any]] = {
        "qo_indptr": np.array([0, 5, 6], np.int32),
        "kv_indptr": np.array([0, 2, 7], np.int32),
        "kv_indices": generator.permutation(7).astype(np.int32),
        "kv_last_page_len": np.array([3, 4], np.int32),
        "q": generator.standard_normal((6, 4, 32)).astype(np.float16),
        "k_pages": generator.standard_normal((7, 4, 2, 32)).astype(np.float16),
        "v_pages": generator.standard_normal((7, 4, 2, 32)).astype(np.float16),
    }
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    return arrays


def arguments_of(names: Iterable[str]) -> list[str]:
    return [word for name in names for word in ("--arg", f"{name}={name}.npy")]


def test_demo_passes_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--heads", "4", "--kv-heads", "2", "--head-dim", "32"]) == 0
    out = capsys.readouterr().out
    assert "error against float64" in out
    assert out.splitlines()[-1].strip() == "passed"
    assert Path("build/demo/attend.ptx").exists()


def test_demo_as_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--heads", "2", "--kv-heads", "1", "--head-dim", "16", "--layout", "HND"]
    assert main(["demo", *options, "--dtype", "f16", "--variant", "window:9", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["passed"] is True
    assert results["error"] <= 2e-3
    assert set(results["compile_ms"]) == {"attn", "tile", "thread", "ptx"}


def test_a_compiled_file_runs_and_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", write_module(), "-o", "bundle"]) == 0
    arrays = write_arrays()
    outs = ["--out", "out=out.npy", "--out", "lse=lse.npy"]
    assert main(["run", "bundle", *arguments_of(arrays), *outs]) == 0
    assert re.search(r"out +f16 +\[6, 4, 32\] +out.npy", capsys.readouterr().out)
    tables = [arrays[n] for n in ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_len")]
    causal = TracedVariant(None, None)
    q, k, v = (arrays[name] for name in ("q", "k_pages", "v_pages"))
    # The last rows of both requests see all keys, with the mask as without it.
    expected, expected_lse = attend(causal, Batch(*tables), q, k, v, scale=32**-0.5)
    for row in (4, 5):
        np.testing.assert_allclose(np.load("out.npy")[row], expected[row], atol=4e-3)
        np.testing.assert_allclose(np.load("lse.npy")[row], expected_lse[row], atol=1e-3)


def test_explain_shows_the_levels_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--lines", "5", "--width", "120"]) == 0
    printed = capsys.readouterr().out.splitlines()
    lines = [line for line in printed if " | " in line]
    assert [part.split()[0] for part in lines[0].split("|")] == ["attn", "tile", "thread", "ptx"]
    assert len(lines) == 7
    assert max(map(len, lines)) <= 120


def test_explain_prints_a_level_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--level", "ptx", "--head-dim", "16"]) == 0
    assert capsys.readouterr().out.startswith(".version")


def test_doctor_names_devices_and_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["devices"]["simulator"]["available"] is True
    assert results["ways"]["direct"]["available"] is True


REFUSED: dict[str, tuple[list[str], str]] = {
    "variant": (["explain", "--variant", "round"], "--variant"),
    "window": (["explain", "--variant", "window:x"], "--variant"),
    "head_dim 72": (["explain", "--head-dim", "72"], "--head-dim"),
    "head_dim 512": (["explain", "--head-dim", "512"], "--head-dim"),
    "page size 0": (["explain", "--page-size", "0"], "--page-size"),
    "heads": (["explain", "--heads", "9"], "--heads"),
    "dtype": (["explain", "--dtype", "f64"], "dtype"),
    "layout": (["explain", "--layout", "DHN"], "layout"),
    "target": (["explain", "--target", "sm_20"], "target"),
    "file": (["compile", "missing.mlir", "-o", "bundle"], "missing.mlir"),
    "bundle": (["run", "nowhere"], "nowhere"),
    "device": (["demo", "--device", "toaster"], "toaster"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, word = REFUSED[name]
    assert main(command) == 1
    captured = capsys.readouterr()
    assert word in captured.err
    assert len(captured.err.splitlines()) == 1


def test_a_file_that_does_not_parse_is_answered_at_its_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("broken.mlir").write_text("func.func @f() {\n  %0 = attn.attend %q over\n}\n")
    assert main(["compile", "broken.mlir", "-o", "bundle"]) == 1
    assert capsys.readouterr().err.startswith("broken.mlir:2:")


def test_a_head_dim_that_the_target_lacks_is_refused_at_the_op(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["compile", write_module(72), "-o", "bundle"]) == 1
    assert "head_dim" in capsys.readouterr().err
    assert not Path("bundle").exists()


def test_a_missing_array_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    main(["compile", write_module(), "-o", "bundle"])
    arrays = write_arrays()
    del arrays["q"]
    assert main(["run", "bundle", *arguments_of(arrays)]) == 1
    assert "none for q" in capsys.readouterr().err


def test_an_array_of_another_dtype_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    main(["compile", write_module(), "-o", "bundle"])
    arrays = write_arrays()
    np.save("q.npy", arrays["q"].astype(np.float32))
    assert main(["run", "bundle", *arguments_of(arrays)]) == 1
    assert "argument 'q'" in capsys.readouterr().err
