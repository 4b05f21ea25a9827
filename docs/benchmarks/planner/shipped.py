"""
How two planners that ship share out decode batches, derived from their sources.

FlashInfer at commit fb28d724 (0.6.18), `include/flashinfer/attention/scheduler.cuh`: the planner of
its persistent kernel, and the split of its paged kernels by binary search, whose blocks the GPU
deals out in the order of the launch. Written anew from what they do, for the KV rows of each CTA.
"""

import heapq
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_QUERY_TILE = 16


def persistent(kv_len: list[int], kv_heads: int, ctas: int) -> Array:
    """Returns the KV rows of each CTA in the plan of the persistent kernel."""
    even = -(-sum(kv_len) * kv_heads // ctas)
    limit = 128 if even <= 128 else -(-even // 256) * 256
    chunks = (
        min(limit, length - begin)
        for length in kv_len
        for begin in range(0, max(length, 1), limit)
        for _ in range(kv_heads)
    )
    return _dealt(chunks, ctas, 2 * _QUERY_TILE)


def paged(kv_len: list[int], kv_heads: int, ctas: int, page: int = 16) -> Array:
    """Returns the KV rows of each place for a block of the paged kernels' grid."""
    pages = [-(-length // page) for length in kv_len]
    budget = ctas // kv_heads
    low, high = max(128 // page, 1), max(pages)
    while low < high:
        middle = (low + high) // 2
        if sum(-(-max(count, 1) // middle) for count in pages) > budget:
            low = middle + 1
        else:
            high = middle
    chunk = low * page
    chunks = (
        min(chunk, length - begin)
        for _ in range(kv_heads)
        for length in kv_len
        for begin in range(0, max(length, 1), chunk)
    )
    return _dealt(chunks, ctas, 0)


def _dealt(chunks: Iterable[int], ctas: int, constant: int) -> Array:
    """Gives chunks in their order to the CTA of the least cost; returns the rows of each."""
    heap = [(0, cta) for cta in range(ctas)]
    rows = np.zeros(ctas)
    for length in chunks:
        cost, cta = heapq.heappop(heap)
        rows[cta] += length
        heapq.heappush(heap, (cost + constant + length, cta))
    return rows
