"""`tilewright doctor`: what is installed, which devices there are, which ways lead to PTX."""

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version

from ..runtime.cache import cache_directory
from ..runtime.default_device import get_device
from ..runtime.errors import TilewrightError
from ..runtime.ptxas import find_ptxas
from .report import Report

_NEEDS_CUDA = "needs: pip install 'tilewright[cuda]'"

NAME = "doctor"
SUMMARY = "Say what is installed, which devices there are, and which ways lead to PTX."

PACKAGES = (
    ("xdsl", "the compiler"),
    ("numpy", "buffers and the simulator"),
    ("rich", "progress"),
    ("torch-mlir", "the upstream way to PTX, extra mlir"),
    ("llvmlite", "the upstream way to PTX, extra mlir"),
    ("cuda-bindings", "GPUs, extra cuda"),
    ("nvidia-cuda-nvcc", "ptxas, extra cuda"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes no arguments."""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device(name: str) -> str:
    try:
        return f"available: {get_device(name).name}"
    except TilewrightError as error:
        return f"not available: {error}"


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Prints the findings; returns 0, for nothing optional is required."""
    versions = {name: _version(name) for name, _ in PACKAGES}
    report.line(f"tilewright on Python {platform.python_version()}, {platform.machine()}")
    report.line()
    rows = [(name, versions[name] or "not installed", use) for name, use in PACKAGES]
    report.table(("package", "version", "for"), rows)
    devices = {name: _device(name) for name in ("simulator", "cuda:0")}
    report.line()
    report.table(("device", "state"), list(devices.items()))
    upstream = versions["torch-mlir"] is not None and versions["llvmlite"] is not None
    ptxas = find_ptxas()
    ways = {
        "direct": "available",
        "upstream": "available" if upstream else "needs: pip install 'tilewright[mlir]'",
        "ptxas": f"available: {ptxas.version}" if ptxas else _NEEDS_CUDA,
    }
    report.line()
    report.table(("way", "state"), list(ways.items()))
    report.line()
    report.line(f"cache: {cache_directory()}")
    report.record({"packages": versions, "devices": devices, "ways": ways})
    report.record({"cache": str(cache_directory())})
    return 0
