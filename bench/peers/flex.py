"""FlexAttention, compiled by torch.compile."""

from collections.abc import Callable
from typing import Any

from ..variants import VARIANTS, TimedVariant
from .peer import NotApplicable, OnDevice, Runnable, imported
from .torch_arrays import dense, rows_of_dense, runnable, torch_with_cuda


class FlexAttention:
    """torch.nn.attention.flex_attention, with a block mask; compiling and masks are not timed."""

    name = "flex"

    def __init__(self) -> None:
        self._torch: Any = None
        self._flex: Any = None

    def open(self) -> str:
        """Returns the version of torch; raises Missing."""
        self._torch = torch_with_cuda()
        self._flex = imported("torch.nn.attention.flex_attention")
        return str(self._torch.__version__)

    def prepare(self, inputs: OnDevice) -> Runnable:
        """Returns the case; raises NotApplicable."""
        torch, case = self._torch, inputs.case
        variant = VARIANTS[case.kernel.variant]
        if not variant.plain:
            raise NotApplicable(f"no {case.kernel.variant} fused")
        q, k, v = dense(torch, inputs)
        rows, keys = q.shape[2], k.shape[2]
        mask = mask_mod(variant, keys - rows)
        blocks = None
        if mask is not None:
            made: Any = self._flex.create_block_mask
            blocks = made(mask, None, None, rows, keys, device=q.device)
        score = score_mod(torch, variant, keys - rows, case.kernel.num_qo_heads)
        grouped = case.kernel.group > 1
        # A shape is compiled for itself, and torch stops compiling anew after some shapes.
        torch.compiler.reset()
        attend: Any = torch.compile(self._flex.flex_attention, dynamic=False)

        def call() -> Any:
            with torch.no_grad():
                return attend(q, k, v, score_mod=score, block_mask=blocks, enable_gqa=grouped)

        return runnable(torch, inputs, call, rows_of_dense(inputs))


def mask_mod(variant: TimedVariant, offset: int) -> Callable[..., Any] | None:
    """Returns the mask of a variant; query 0 stands at position `offset`."""
    if not variant.causal:
        return None
    window = variant.window

    def mask(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        seen = q_idx + offset >= kv_idx
        return seen if window is None else seen & (q_idx + offset - kv_idx <= window)

    return mask


def score_mod(
    torch: Any, variant: TimedVariant, offset: int, heads: int
) -> Callable[..., Any] | None:
    """Returns the change of scores of a variant."""
    if variant.alibi:

        def penalised(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
            slope = torch.exp2(-8.0 * (h + 1) / heads)
            return score - slope * (q_idx + offset - kv_idx)

        return penalised
    cap = variant.soft_cap
    if cap is None:
        return None

    def capped(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return cap * torch.tanh(score / cap)

    return capped
