"""torch.nn.functional.scaled_dot_product_attention, by one backend."""

from typing import Any

from ..variants import VARIANTS
from .peer import NotApplicable, OnDevice, Runnable, imported
from .torch_arrays import dense, rows_of_dense, runnable, torch_with_cuda

_BACKENDS = {"cudnn": "CUDNN_ATTENTION", "flash": "FLASH_ATTENTION"}


class Sdpa:
    """SDPA with the backend `cudnn` or `flash`."""

    def __init__(self, backend: str) -> None:
        self.name = f"sdpa-{backend}"
        self._backend = backend
        self._torch: Any = None

    def open(self) -> str:
        """Returns the version of torch; raises Missing."""
        self._torch = torch_with_cuda()
        return str(self._torch.__version__)

    def prepare(self, inputs: OnDevice) -> Runnable:
        """Returns the case; raises NotApplicable."""
        torch, case = self._torch, inputs.case
        variant = VARIANTS[case.kernel.variant]
        if not variant.plain or variant.alibi or variant.window or variant.soft_cap:
            raise NotApplicable(f"no {case.kernel.variant}")
        q, k, v = dense(torch, inputs)
        options = self._mask(variant.causal, q.shape[2], k.shape[2])
        attention: Any = imported("torch.nn.attention")
        backend = getattr(attention.SDPBackend, _BACKENDS[self._backend])
        attend: Any = torch.nn.functional.scaled_dot_product_attention

        def call() -> Any:
            with attention.sdpa_kernel([backend]), torch.no_grad():
                return attend(q, k, v, enable_gqa=case.kernel.group > 1, **options)

        return runnable(torch, inputs, call, rows_of_dense(inputs))

    def _mask(self, causal: bool, rows: int, keys: int) -> dict[str, Any]:
        """Returns the arguments of the mask; `is_causal` counts from the first key."""
        if not causal or rows == 1:
            return {}
        if rows == keys:
            return {"is_causal": True}
        if self._backend == "cudnn":
            raise NotApplicable("no causal mask from the last key")
        return {"attn_mask": imported("torch.nn.attention.bias").causal_lower_right(rows, keys)}
