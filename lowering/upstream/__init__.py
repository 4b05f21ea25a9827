"""
The upstream way from the thread level to PTX: MLIR's own passes, then LLVM's NVPTX target.

It needs the extra `mlir` and checks the direct way: both print the same kernels.
"""

from .bindings import UpstreamError
from .llvm_ir import PIPELINE, to_llvm_ir, verify_upstream
from .nvptx import print_ptx_upstream

__all__ = ["PIPELINE", "UpstreamError", "print_ptx_upstream", "to_llvm_ir", "verify_upstream"]
