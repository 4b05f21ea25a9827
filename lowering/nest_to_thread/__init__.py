"""
Lowers nests whose loops are bound to the grid and to threads to what one thread does.

Local buffers become vectors in registers, shared ones places in one allocation. Each outermost
nest of a program is a kernel.
"""

from .convert import ConvertNestToThreadPass, LoweredKernel, thread_module
from .intrinsics import INTRINSIC_RULES, OperandView
from .kernels import Kernel, kernels_of
from .scalars import PASSED_AS

__all__ = [
    "INTRINSIC_RULES",
    "PASSED_AS",
    "ConvertNestToThreadPass",
    "Kernel",
    "LoweredKernel",
    "OperandView",
    "kernels_of",
    "thread_module",
]
