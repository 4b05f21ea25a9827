"""The rule for each family of intrinsics, by the `rule` of their descriptions."""

from ....dialects.diagnostic import DiagnosticError
from ....dialects.nest.intrinsics import intrinsic_named
from ....dialects.nest.program import Call
from ..thread import Thread
from . import copies, ldmatrix, matrix, reductions
from .operands import IntrinsicRule, view_of

INTRINSIC_RULES: dict[str, IntrinsicRule] = {
    "copy": copies.copy,
    "cp.async": copies.copy_async,
    "cp.async.commit": copies.commit,
    "cp.async.wait": copies.wait,
    "cta.barrier": copies.barrier,
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
    if rule is None or not intrinsic.is_on(thread.target):
        known = ", ".join(INTRINSIC_RULES)
        raise DiagnosticError(
            f"expected an intrinsic of {thread.target} with a rule among {known}, got "
            f"'{call.intrinsic}'"
        )
    views = tuple(
        view_of(thread, operand, requirement)
        for operand, requirement in zip(call.operands, intrinsic.operands, strict=True)
    )
    rule(thread, intrinsic, views)
