"""`tilewright doctor`: what is installed, which devices there are, which ways lead to PTX."""

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from ..runtime.cache import cache_directory
from ..runtime.default_device import default_device, get_device
from ..runtime.errors import TilewrightError
from ..runtime.ptxas import find_ptxas
from .report import Report

NAME = "doctor"
SUMMARY = "Say what is installed, which devices there are, and which ways lead to PTX."

PACKAGES = (
    ("xdsl", "the compiler"),
    ("numpy", "buffers and the simulator"),
    ("rich", "progress on a terminal, extra cli"),
    ("torch-mlir", "the upstream way to PTX, extra mlir"),
    ("llvmlite", "the upstream way to PTX, extra mlir"),
    ("cuda-bindings", "GPUs, extra cuda"),
    ("nvidia-cuda-nvcc", "ptxas, extra cuda"),
)
DEVICES = ("simulator", "cuda:0")


class Finding(NamedTuple):
    """Whether something can be used, and what there is to say about it."""

    usable: bool
    detail: str

    def __str__(self) -> str:
        state = "available" if self.usable else "not available"
        return f"{state}: {self.detail}" if self.detail else state


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes no arguments."""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device(name: str) -> Finding:
    try:
        device = get_device(name)
    except TilewrightError as error:
        return Finding(False, str(error))
    model = getattr(device, "model", None)
    if model is None:
        return Finding(True, "NumPy, with bounds checks")
    major, minor = getattr(device, "capability", (0, 0))
    return Finding(True, f"{model}, compute capability {major}.{minor}")


def _default() -> str:
    try:
        return default_device().name
    except TilewrightError as error:
        return f"none: {error}"


def _ptxas() -> Finding:
    if (ptxas := find_ptxas()) is None:
        return Finding(False, "pip install 'tilewright[cuda]'")
    try:
        return Finding(True, ptxas.version)
    except TilewrightError as error:
        return Finding(False, str(error))


def _ways(versions: dict[str, str | None]) -> dict[str, Finding]:
    upstream = versions["torch-mlir"] is not None and versions["llvmlite"] is not None
    needs = "" if upstream else "pip install 'tilewright[mlir]'"
    return {"direct": Finding(True, ""), "upstream": Finding(upstream, needs)}


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Prints the findings; returns 0, for nothing optional is required."""
    versions = {name: _version(name) for name, _ in PACKAGES}
    python, machine = platform.python_version(), platform.machine()
    own = _version("tilewright") or "(not installed)"
    report.line(f"tilewright {own} on Python {python}, {machine}")
    report.line()
    rows = [(name, versions[name] or "not installed", use) for name, use in PACKAGES]
    report.table(("package", "version", "for"), rows)
    tables = {
        "devices": ("device", {name: _device(name) for name in DEVICES}),
        "ways": ("way to PTX", _ways(versions)),
        "assemblers": ("assembler", {"ptxas": _ptxas()}),
    }
    for heading, findings in tables.values():
        report.line()
        report.table((heading, "state"), [(name, str(state)) for name, state in findings.items()])
    default, cache = _default(), str(cache_directory())
    report.line()
    report.line(f"  default device: {default}")
    report.line(f"  cache: {cache}")
    report.record({"version": own, "python": python, "machine": machine, "packages": versions})
    report.record({key: _plain(findings) for key, (_, findings) in tables.items()})
    report.record({"default_device": default, "cache": cache})
    return 0


def _plain(findings: dict[str, Finding]) -> dict[str, Any]:
    return {
        name: {"available": state.usable, "detail": state.detail}
        for name, state in findings.items()
    }
