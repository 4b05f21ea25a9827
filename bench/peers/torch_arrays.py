"""Torch on the benchmark's arrays and stream, without copies."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ...runtime.buffer import Buffer
from .peer import Missing, NotApplicable, OnDevice, Runnable, imported


class _Bits:
    """A buffer by the CUDA array interface, its floats as integers of as many bits."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": buffer.shape,
            "typestr": "|u1" if buffer.dtype == "u8" else "<i2",
            "data": (buffer.address, False),
            "strides": None,
        }


def torch_with_cuda() -> Any:
    """Returns torch; raises Missing where it is not there, or sees no GPU."""
    torch = imported("torch")
    if not torch.cuda.is_available():
        raise Missing("torch sees no GPU")
    return torch


def tensor_of(torch: Any, buffer: Buffer, ordinal: int) -> Any:
    """Returns a tensor on the memory of a buffer."""
    names = {"bf16": torch.bfloat16, "f16": torch.float16, "u8": torch.float8_e4m3fn}
    bits = torch.as_tensor(_Bits(buffer), device=f"cuda:{ordinal}")
    return bits.view(names[buffer.dtype])


def dense(torch: Any, inputs: OnDevice) -> tuple[Any, Any, Any]:
    """
    Returns q [B, Hq, L, D], k and v [B, Hkv, S, D] of a case whose requests are equally long.

    Keys and values lie side by side as [B, S, Hkv, D]; gathering them is not timed. Raises
    NotApplicable.
    """
    case = inputs.case
    if case.uniform is None:
        raise NotApplicable("lengths differ")
    if case.kernel.kv_format != "same":
        raise NotApplicable(f"no {case.kernel.kv_format} keys beside {case.kernel.dtype} queries")
    queries, *pages_of = inputs.attended
    rows, keys = case.uniform
    batch, kernel = len(case.requests), case.kernel
    q = tensor_of(torch, queries, inputs.ordinal)
    q = q.view(batch, rows, kernel.num_qo_heads, kernel.head_dim).transpose(1, 2)
    indices = torch.as_tensor(inputs.data.tables[2], device=q.device)
    cache: list[Any] = []
    for buffer in pages_of:
        pages = tensor_of(torch, buffer, inputs.ordinal)
        tokens = pages.index_select(0, indices)
        tokens = tokens.view(batch, -1, kernel.num_kv_heads, kernel.head_dim)[:, :keys]
        cache.append(tokens.contiguous().transpose(1, 2))
    return q, cache[0], cache[1]


def runnable(
    torch: Any,
    inputs: OnDevice,
    call: Callable[[], Any],
    to_rows: Callable[[Any], Any],
    plan_us: float | None = None,
) -> Runnable:
    """
    Returns a call of torch as work on the stream of the benchmark.

    `to_rows` makes [n, Hq, D] of what the call returns.
    """
    stream = torch.cuda.ExternalStream(inputs.stream, device=inputs.ordinal)
    # What was made of the arrays was made on torch's own stream.
    torch.cuda.synchronize(inputs.ordinal)
    last: dict[str, Any] = {}

    def launch() -> None:
        with torch.cuda.stream(stream):
            last["out"] = call()

    def captured() -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            last["out"] = call()

        def replay() -> None:
            with torch.cuda.stream(stream):
                graph.replay()

        return replay

    def result() -> tuple[Any, None]:
        torch.cuda.synchronize(inputs.ordinal)
        return np.asarray(to_rows(last["out"]).float().cpu().numpy()), None

    return Runnable(launch, captured, result, plan_us)


def rows_of_dense(inputs: OnDevice) -> Callable[[Any], Any]:
    """Returns what makes [n, Hq, D] of [B, Hq, L, D]."""
    kernel = inputs.case.kernel
    shape = (inputs.case.query_rows, kernel.num_qo_heads, kernel.head_dim)
    return lambda out: out.transpose(1, 2).reshape(shape)


def release_memory() -> None:
    """Gives memory back that torch keeps for later tensors, where torch is used at all."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
