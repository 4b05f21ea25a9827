"""`tilewright run`: a bundle on arrays from files."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..runtime.attention import AttentionOp, load_bundle
from ..runtime.errors import ArgumentError
from .device_option import add_device_option, chosen_device
from .report import Report

NAME = "run"
SUMMARY = "Run the kernel of a bundle on arrays from .npy files."

TABLES = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_len")
ARRAYS = ("q", "k_pages", "v_pages")
RESULTS = ("out", "lse")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the bundle, the arrays, where results go, and the device."""
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="a directory that `tilewright compile` wrote"
    )
    names = ", ".join((*TABLES, *ARRAYS))
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="NAME=FILE.npy",
        help=f"an input, once for each of {names}; bf16 is stored as uint16 bits",
    )
    parser.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="NAME=FILE.npy",
        help="where a result is written, out or lse",
    )
    parser.add_argument(
        "--softmax-scale", type=float, metavar="X", help="instead of the bundle's own"
    )
    add_device_option(parser)


def _pairs(texts: Sequence[str], option: str, names: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, file = text.partition("=")
        if name not in names or not file:
            expected = f"NAME=FILE.npy with a name of {', '.join(names)}"
            raise ArgumentError(option, expected, repr(text))
        if name in pairs:
            raise ArgumentError(option, f"'{name}' once", "it twice")
        pairs[name] = file
    return pairs


def _load(file: str, name: str) -> npt.NDArray[Any]:
    try:
        array: object = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise ArgumentError(name, "a .npy file", f"'{file}': {reason}") from None
    if not isinstance(array, np.ndarray):
        raise ArgumentError(name, "a .npy file", f"'{file}', which holds several arrays")
    return cast("npt.NDArray[Any]", array)


def _check_writable(files: dict[str, str]) -> None:
    """Finds out before the run what could not be written after it."""
    for name, file in files.items():
        path = Path(file)
        if path.is_dir():
            raise ArgumentError("--out", f"a file for '{name}'", f"the directory '{file}'")
        if not path.parent.is_dir():
            expected = f"a file for '{name}' in a directory that exists"
            raise ArgumentError("--out", expected, f"'{file}'")


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Runs the kernel and writes the results that are asked for."""
    op = load_bundle(arguments.bundle)
    device = chosen_device(arguments)
    device.check_target(op.contract.target)
    names = (*TABLES, *ARRAYS)
    files = _pairs(arguments.arg, "--arg", names)
    outputs = _pairs(arguments.out, "--out", RESULTS)
    _check_writable(outputs)
    if missing := [name for name in names if name not in files]:
        raise ArgumentError("--arg", "every array of the kernel", f"none for {', '.join(missing)}")
    arrays = {name: _load(files[name], name) for name in names}
    plan = op.plan(*(arrays[name] for name in TABLES))
    with report.progress(f"running on {device.name}"):
        start = time.perf_counter()
        results = plan.run(
            *(arrays[name] for name in ARRAYS),
            softmax_scale=arguments.softmax_scale,
            device=device,
        )
        seconds = time.perf_counter() - start
    ctas = plan.ctas
    report.line(f"'{op.contract.name}' ran on {device.name} in {seconds:.2f} s")
    _write(op, dict(zip(RESULTS, results, strict=True)), outputs, report)
    report.record(
        {"bundle": arguments.bundle, "device": device.name, "ctas": ctas, "run_s": seconds}
    )
    return 0


def _write(op: AttentionOp, results: dict[str, Any], files: dict[str, str], report: Report) -> None:
    described: dict[str, dict[str, Any]] = {}
    rows: list[tuple[str, str, str, str]] = []
    for name, array in results.items():
        if array is None:
            continue
        if name in files:
            # np.save would append a suffix to a name.
            with open(files[name], "wb") as file:
                np.save(file, array)
        dtype = op.signature.pointers[name][0].dtype
        stored = " as uint16" if dtype == "bf16" else ""
        shape = list(array.shape)
        described[name] = {"dtype": dtype, "shape": shape, "file": files.get(name)}
        rows.append((name, dtype + stored, str(shape), files.get(name, "not written")))
    report.table(("result", "dtype", "shape", "file"), rows)
    report.record({"results": described})
