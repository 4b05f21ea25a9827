"""`tilewright compile` makes a bundle, which `tilewright run` runs on arrays from files."""

import io
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tilewright.attention import PagedKV, causal
from tilewright.attention.interpreter import Batch, attend
from tilewright.cli.batch import numbers, random_inputs
from tilewright.runtime.attention import load_bundle
from tilewright.test.cli.conftest import Command
from tilewright.test.cli.small import (
    REQUESTS,
    SPEC,
    TABLES,
    arrays_of,
    random_arrays,
    write_arrays,
    write_mlir,
)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_a_bundle_computes_what_the_text_says(
    command: Command, tmp_path: Path, dtype: str, layout: str
) -> None:
    spec = replace(SPEC, dtype=dtype, kv=PagedKV(4, layout))
    assert command("compile", write_mlir(tmp_path / "a.mlir", spec), "-o", "bundle").code == 0
    inputs = random_inputs(spec, REQUESTS, np.random.default_rng())
    options = write_arrays(tmp_path, arrays_of(inputs))
    outcome = command("run", "bundle", *options, "--out", "out=o.npy", "--out", "lse=l.npy")
    assert (outcome.code, outcome.err) == (0, "")
    pages = (numbers(array) for array in (inputs.q, inputs.k_pages, inputs.v_pages))
    expected, expected_lse = attend(
        causal().traced, inputs.batch, *pages, scale=spec.softmax_scale, layout=layout
    )
    out, lse = numbers(np.load("o.npy")), np.load("l.npy")
    bound = 1e-2 if dtype == "bf16" else 2e-3
    assert np.linalg.norm(out - expected) <= bound * np.linalg.norm(expected)
    np.testing.assert_allclose(lse, expected_lse, rtol=0, atol=1e-3)


def test_a_scale_replaces_that_of_the_bundle(command: Command, tmp_path: Path) -> None:
    command("compile", write_mlir(tmp_path / "a.mlir"), "-o", "bundle")
    arrays = random_arrays()
    options = write_arrays(tmp_path, arrays)
    command("run", "bundle", *options, "--softmax-scale", "0.5", "--out", "lse=l.npy")
    batch = Batch(*(arrays[name] for name in TABLES))
    pages = (arrays[name] for name in ("q", "k_pages", "v_pages"))
    _, expected = attend(causal().traced, batch, *pages, scale=0.5)
    np.testing.assert_allclose(np.load("l.npy"), expected, rtol=0, atol=1e-3)


def test_results_are_described(command: Command, tmp_path: Path) -> None:
    command("compile", write_mlir(tmp_path / "a.mlir"), "-o", "bundle")
    options = write_arrays(tmp_path, random_arrays())
    results = command("run", "bundle", *options, "--out", "out=o.npy", "--json").results
    rows = sum(request.rows for request in REQUESTS)
    assert results["results"] == {
        "out": {"dtype": "f16", "shape": [rows, 4, 32], "file": "o.npy"},
        "lse": {"dtype": "f32", "shape": [rows, 4], "file": None},
    }
    assert results["device"] == "simulator"


def test_a_result_is_written_under_the_very_name(command: Command, tmp_path: Path) -> None:
    command("compile", write_mlir(tmp_path / "a.mlir"), "-o", "bundle")
    command("run", "bundle", *write_arrays(tmp_path, random_arrays()), "--out", "out=result")
    assert np.load("result").shape == (8, 4, 32)


def test_the_kernel_that_was_compiled_is_described(command: Command, tmp_path: Path) -> None:
    text = write_mlir(tmp_path / "a.mlir")
    results = command("compile", text, "-o", "b", "--target", "sm_90", "--json").results
    contract = load_bundle("b").contract
    assert (contract.target, results["kernel"]["target"]) == ("sm_90", "sm_90")
    assert (results["name"], results["threads"]) == (contract.name, contract.block[0])
    assert results["shared_bytes"] == contract.dynamic_shared_bytes


def test_a_text_comes_from_stdin(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_mlir(tmp_path / "a.mlir").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert command("compile", "-", "-o", "piped").code == 0
    command("compile", "a.mlir", "-o", "named")
    piped, named = (
        load_bundle(name).ptx.replace("<stdin>", "a.mlir") for name in ("piped", "named")
    )
    assert piped == named
