"""
Calls of tensor intrinsics: a rule for each, which sees its operands as a thread does.

`INTRINSIC_RULES` is keyed by the `rule` of the intrinsics, so that forms share one function.
"""

from .copies import filled_copy
from .operands import IntrinsicRule, OperandView
from .reductions import SCRATCH_BYTES
from .rules import INTRINSIC_RULES, lower_call, lower_filled_copy

__all__ = [
    "INTRINSIC_RULES",
    "SCRATCH_BYTES",
    "IntrinsicRule",
    "OperandView",
    "filled_copy",
    "lower_call",
    "lower_filled_copy",
]
