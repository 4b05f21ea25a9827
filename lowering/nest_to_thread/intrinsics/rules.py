"""The rule for each family of intrinsics, by the `rule` of their descriptions."""

from xdsl.ir import SSAValue

from ....dialects.diagnostic import DiagnosticError
from ....dialects.nest.intrinsics import Intrinsic, intrinsic_named
from ....dialects.nest.program import Call
from ..thread import Thread
from . import copies, ldmatrix, matrix, reductions
from .operands import IntrinsicRule, OperandView, view_of

INTRINSIC_RULES: dict[str, IntrinsicRule] = {
    "copy": copies.copy,
    "cp.async": copies.copy_async,
    "cp.async.commit": copies.commit,
    "cp.async.wait": copies.wait,
    "cta.barrier": copies.barrier,
    "cta.reduce": reductions.reduce_cta,
    "ldmatrix": ldmatrix.load_matrices,
    "mma": matrix.multiply,
    "mma.fill": matrix.fill,
    "mma.store": matrix.store,
    "warp.reduce": reductions.reduce_warp,
    "zero": copies.fill_zero,
}


def lower_call(thread: Thread, call: Call) -> None:
    """Appends what a thread does for a call; raises DiagnosticError where there is no rule."""
    intrinsic = intrinsic_named(call.intrinsic)
    rule = INTRINSIC_RULES.get(intrinsic.rule)
    if not intrinsic.is_on(thread.target):
        raise DiagnosticError(
            f"expected an intrinsic of {thread.target}, got '{call.intrinsic}', which needs "
            f"{intrinsic.target}"
        )
    if rule is None:
        known = ", ".join(INTRINSIC_RULES)
        raise DiagnosticError(
            f"expected an intrinsic with a rule among {known}, got '{call.intrinsic}'"
        )
    rule(thread, intrinsic, _views(thread, call, intrinsic))


def lower_filled_copy(thread: Thread, call: Call, chosen: SSAValue) -> None:
    """Appends an asynchronous copy that fills with zero where it is not chosen."""
    intrinsic = intrinsic_named(call.intrinsic)
    copies.copy_or_fill(thread, intrinsic, _views(thread, call, intrinsic), chosen)


def _views(thread: Thread, call: Call, intrinsic: Intrinsic) -> tuple[OperandView, ...]:
    return tuple(
        view_of(thread, operand, requirement)
        for operand, requirement in zip(call.operands, intrinsic.operands, strict=True)
    )
