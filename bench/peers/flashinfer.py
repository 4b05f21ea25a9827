"""FlashInfer's wrappers of batches over a paged cache, and over one of latent rows."""

import time
from collections.abc import Callable
from typing import Any

from ..variants import VARIANTS, TimedVariant
from .peer import Missing, NotApplicable, OnDevice, Runnable, imported
from .torch_arrays import runnable, tensor_of, torch_with_cuda

# Tensor cores pay from so many query heads a KV head on, as its documentation tells.
TENSOR_CORES_FROM = 4
WORKSPACE_BYTES = 256 << 20  # more than its planners ask for


class FlashInfer:
    """The paged wrappers of FlashInfer with the backend `fa2` or `fa3`; compiling is not timed."""

    def __init__(self, backend: str) -> None:
        self.name = f"flashinfer-{backend}"
        self._backend = backend
        self._torch: Any = None
        self._flashinfer: Any = None

    def open(self) -> str:
        """Returns the version of FlashInfer; raises Missing."""
        self._torch = torch_with_cuda()
        self._flashinfer = imported("flashinfer")
        if self._backend == "fa3" and self._torch.cuda.get_device_capability()[0] != 9:
            raise Missing("fa3 needs compute capability 9.0")
        return str(self._flashinfer.__version__)

    def prepare(self, inputs: OnDevice) -> Runnable:
        """Returns the case; raises NotApplicable."""
        torch, kernel = self._torch, inputs.case.kernel
        variant = VARIANTS[kernel.variant]
        if not variant.plain or (variant.alibi and self._backend == "fa3"):
            raise NotApplicable(f"no {kernel.variant}")
        if kernel.kv_format != "same" and self._backend == "fa3":
            raise NotApplicable(f"no {kernel.kv_format} keys beside {kernel.dtype} queries")
        if kernel.decode and not kernel.latent and self._backend == "fa3":
            raise NotApplicable("no decoding")
        device = f"cuda:{inputs.ordinal}"
        workspace = torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=device)
        made = self._latent if kernel.latent else self._paged
        start = time.perf_counter()
        call = made(workspace, inputs, variant)
        plan_us = (time.perf_counter() - start) * 1e6
        return runnable(torch, inputs, call, lambda out: out, plan_us)

    def _paged(self, workspace: Any, inputs: OnDevice, variant: TimedVariant) -> Callable[[], Any]:
        kernel = inputs.case.kernel
        wrapper = self._wrapper(workspace, kernel.decode, kernel.group)
        self._plan(wrapper, inputs, variant)
        q, k, v = (tensor_of(self._torch, b, inputs.ordinal) for b in inputs.attended)
        return lambda: wrapper.run(q, (k, v))

    def _latent(self, workspace: Any, inputs: OnDevice, variant: TimedVariant) -> Callable[[], Any]:
        torch, case, kernel = self._torch, inputs.case, inputs.case.kernel
        made = imported("flashinfer.mla").BatchMLAPagedAttentionWrapper
        wrapper = made(workspace, backend=self._backend)
        qo, kv, indices, _ = (torch.as_tensor(table) for table in inputs.data.tables)
        lengths = torch.tensor([keys for _, keys in case.requests], dtype=torch.int32)
        dtype = torch.bfloat16 if kernel.dtype == "bf16" else torch.float16
        widths = (kernel.head_dim, kernel.row_elements - kernel.head_dim)
        numbers = (kernel.num_qo_heads, *widths, kernel.page_size, variant.causal, kernel.scale)
        on_gpu = indices.to(f"cuda:{inputs.ordinal}")
        wrapper.plan(qo, kv, on_gpu, lengths, *numbers, dtype, dtype)
        arrays = [tensor_of(torch, b, inputs.ordinal) for b in inputs.arrays.values()]
        return lambda: wrapper.run(*arrays)

    def _wrapper(self, workspace: Any, decode: bool, group: int) -> Any:
        if not decode:
            made = self._flashinfer.BatchPrefillWithPagedKVCacheWrapper
            return made(workspace, "NHD", backend=self._backend)
        made = self._flashinfer.BatchDecodeWithPagedKVCacheWrapper
        return made(workspace, "NHD", use_tensor_cores=group >= TENSOR_CORES_FROM)

    def _plan(self, wrapper: Any, inputs: OnDevice, variant: TimedVariant) -> None:
        torch, kernel = self._torch, inputs.case.kernel
        qo, kv, indices, last = (torch.as_tensor(table) for table in inputs.data.tables)
        on_gpu = indices.to(f"cuda:{inputs.ordinal}")
        dtype = torch.bfloat16 if kernel.dtype == "bf16" else torch.float16
        numbers = (kernel.num_qo_heads, kernel.num_kv_heads, kernel.head_dim, kernel.page_size)
        options: dict[str, Any] = {
            "q_data_type": dtype,
            "kv_data_type": dtype if kernel.kv_format == "same" else torch.float8_e4m3fn,
            "window_left": -1 if variant.window is None else variant.window,
            "pos_encoding_mode": "ALIBI" if variant.alibi else "NONE",
        }
        if variant.soft_cap is not None:
            options["logits_soft_cap"] = variant.soft_cap
        if kernel.decode:
            wrapper.plan(kv, on_gpu, last, *numbers, **options)
        else:
            wrapper.plan(qo, kv, on_gpu, last, *numbers, causal=variant.causal, **options)
