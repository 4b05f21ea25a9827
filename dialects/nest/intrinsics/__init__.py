"""
Tensor intrinsics: what hardware does in one instruction or a few, on regions of buffers.

A `Call` names one. Its description, a program over small buffers, is its meaning: the interpreter
runs it, `tensorize` matches it, and a lowering's rule gives the instructions.
"""

from .copies import BARRIER, COMMIT, register_copy_intrinsics, wait_for
from .host import register_host_intrinsics
from .matrix import register_matrix_intrinsics
from .model import (
    ExecutionScope,
    FragmentTile,
    Intrinsic,
    MatrixRole,
    Requirement,
    kept_axes,
)
from .reductions import register_reduction_intrinsics
from .registry import (
    DESCRIPTIONS,
    UnknownIntrinsicError,
    intrinsic_named,
    intrinsic_names,
    register,
    register_maker,
    unregister,
    variants_of,
)

register_matrix_intrinsics()
register_copy_intrinsics()
register_reduction_intrinsics()
register_host_intrinsics()

__all__ = [
    "BARRIER",
    "COMMIT",
    "DESCRIPTIONS",
    "ExecutionScope",
    "FragmentTile",
    "Intrinsic",
    "MatrixRole",
    "Requirement",
    "UnknownIntrinsicError",
    "intrinsic_named",
    "intrinsic_names",
    "kept_axes",
    "register",
    "register_maker",
    "unregister",
    "variants_of",
    "wait_for",
]
