"""MLIR text of upstream dialects to LLVM IR, by the bindings."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

from ..upstream.bindings import UpstreamError, mlir

PIPELINE = "builtin.module(convert-scf-to-cf,convert-vector-to-llvm,convert-to-llvm)"
_LOCK = Lock()


@cache
def _context() -> Any:
    # One context for all modules, because making one takes longer than lowering a module.
    context: Any = mlir().ir.Context()
    context.enable_multithreading(False)
    return context


def llvm_ir_of(text: str) -> str:
    """Returns LLVM IR text of a module of upstream dialects; raises UpstreamError."""
    bindings = mlir()
    with _LOCK, _context(), bindings.ir.Location.unknown():
        try:
            module = bindings.ir.Module.parse(text)
            bindings.passmanager.PassManager.parse(PIPELINE).run(module.operation)
            return str(bindings.translation.translate_module_to_llvmir(module.operation))
        except Exception as err:
            lines = [line.strip() for line in str(err).splitlines() if "error:" in line]
            reason = lines[0] if lines else str(err)
            raise UpstreamError(f"upstream MLIR refuses the module: {reason}") from err
