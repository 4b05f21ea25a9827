"""`tilewright run`: a bundle on arrays from files."""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..runtime.attention import load_bundle
from ..runtime.default_device import default_device, get_device
from ..runtime.errors import ArgumentError
from .report import Report

NAME = "run"
SUMMARY = "Run the kernel of a bundle on arrays from .npy files."

TABLES = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_len")
ARRAYS = ("q", "k_pages", "v_pages")
RESULTS = ("out", "lse")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the bundle, the arrays, where results go, and the device."""
    parser.add_argument("bundle", help="a directory that `tilewright compile` wrote")
    names = ", ".join((*TABLES, *ARRAYS))
    parser.add_argument(
        "--arg", action="append", default=[], metavar="NAME=FILE.npy", help=f"each of {names}"
    )
    parser.add_argument(
        "--out", action="append", default=[], metavar="NAME=FILE.npy", help="out or lse"
    )
    parser.add_argument("--softmax-scale", type=float, help="instead of the bundle's own")
    parser.add_argument("--device", help="simulator or cuda:N; by default the best there is")


def _pairs(texts: Sequence[str], option: str, names: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, file = text.partition("=")
        if name not in names or not file:
            raise ArgumentError(option, f"NAME=FILE.npy with a name of {', '.join(names)}", text)
        pairs[name] = file
    return pairs


def _load(file: str, name: str) -> npt.NDArray[Any]:
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ArgumentError(name, "a .npy file", f"'{file}': {error}") from None


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Runs the kernel and writes the results that are asked for."""
    op = load_bundle(arguments.bundle)
    names = (*TABLES, *ARRAYS)
    files = _pairs(arguments.arg, "--arg", names)
    outputs = _pairs(arguments.out, "--out", RESULTS)
    if missing := [name for name in names if name not in files]:
        raise ArgumentError("--arg", "every array of the kernel", f"none for {', '.join(missing)}")
    arrays = {name: _load(files[name], name) for name in names}
    device = get_device(arguments.device) if arguments.device else default_device()
    plan = op.plan(*(arrays[name] for name in TABLES))
    with report.progress(f"running on {device.name}"):
        results = plan.run(
            *(arrays[name] for name in ARRAYS),
            softmax_scale=arguments.softmax_scale,
            device=device,
        )
    for name, array in zip(RESULTS, results, strict=True):
        report.line(f"{name}: {array.dtype} {list(array.shape)}")
        if name in outputs:
            np.save(outputs[name], array)
            report.line(f"  written to {outputs[name]}")
    report.record({"device": device.name, "shape": list(results[0].shape)})
    return 0
