"""
From nests to the CPU: `scf`, `arith`, `math`, `vector` and `llvm` ops, then LLVM IR.

It needs the extra `mlir`: MLIR's own conversions make the LLVM IR.
"""

from .llvm_ir import llvm_ir_of
from .module import host_module
from .options import Options

__all__ = ["Options", "host_module", "llvm_ir_of"]
