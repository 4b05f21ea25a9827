"""
Finds the MLIR Python bindings and llvmlite, which the upstream way needs at run time.

The package `mlir` is used if it is installed, else the complete upstream MLIR inside the wheel
`torch-mlir`. Both come without types, so everything behind this module is `Any`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, NamedTuple


class UpstreamError(Exception):
    """The upstream way refuses a module, or is not installed; the message says which."""


class Bindings(NamedTuple):
    """The modules of the MLIR bindings that are used here."""

    ir: Any
    passmanager: Any
    interpreter: Any
    translation: Any


_MISSING = "the upstream way needs {}: pip install tilewright[mlir]"


@cache
def mlir() -> Bindings:
    """Returns the MLIR bindings; raises UpstreamError where none are installed."""
    for package in ("mlir", "torch_mlir"):
        try:
            return Bindings(
                import_module(f"{package}.ir"),
                import_module(f"{package}.passmanager"),
                import_module(f"{package}.dialects.transform.interpreter"),
                import_module(f"{package}._mlir_libs._mlirDialectsLLVM"),
            )
        except ImportError:
            continue
    raise UpstreamError(_MISSING.format("the MLIR Python bindings"))


@cache
def llvmlite() -> Any:
    """Returns `llvmlite.binding` with every target initialised."""
    try:
        binding: Any = import_module("llvmlite.binding")
    except ImportError as err:
        raise UpstreamError(_MISSING.format("llvmlite")) from err
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding
