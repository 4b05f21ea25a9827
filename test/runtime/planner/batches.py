"""Random limits and batches within them."""

from collections.abc import Iterator

import numpy as np

from tilewright.runtime.planner import KvBounds, LinearBound, PlanLimits
from tilewright.test.runtime.planner.coverage import Batch

_HEIGHTS = ((16,), (64,), (16, 64), (16, 32, 128))


def random_limits(rng: np.random.Generator, batch_invariant: bool) -> PlanLimits:
    """Returns limits with the numbers of some kernel."""
    heads = int(rng.choice([1, 2, 3]))
    tile = int(rng.choice([8, 16, 64]))
    return PlanLimits(
        num_ctas=int(rng.choice([1, 2, 3, 7, 16, 40, 132])),
        num_qo_heads=heads * int(rng.choice([1, 2, 3, 4, 8, 24])),
        num_kv_heads=heads,
        requests=int(rng.integers(1, 11)),
        query_rows=int(rng.choice([11, 60, 150])),
        kv_len=int(rng.choice([1, 50, 200, 500])),
        tile_rows=_HEIGHTS[int(rng.integers(len(_HEIGHTS)))],
        kv_tile=tile,
        granule=tile // int(rng.choice([1, 2, 4])),
        batch_invariant=batch_invariant,
        chunk=tile * int(rng.choice([1, 2, 5])),
    )


def batches(rng: np.random.Generator, limits: PlanLimits, count: int) -> Iterator[Batch]:
    """Yields batches that need all that the limits give, and smaller ones."""
    for _ in range(count):
        requests = int(rng.integers(0, limits.requests + 1))
        if rng.random() < 0.1:
            requests = limits.requests
        yield Batch(
            _query_lengths(rng, limits, requests),
            _kv_lengths(rng, limits, requests),
            random_bounds(rng),
        )


def _query_lengths(rng: np.random.Generator, limits: PlanLimits, requests: int) -> list[int]:
    left, lengths = limits.query_rows, list[int]()
    # Decode rows, some prefill, and requests that have no query row.
    drawn = rng.choice([0, 1, 1, 1, 1, 2, 5, 17, 60, 300], requests).tolist()
    for request, wanted in enumerate(drawn):
        last = request == requests - 1 and rng.random() < 0.2
        lengths.append(left if last else min(wanted, left))
        left -= lengths[-1]
    return lengths


def _kv_lengths(rng: np.random.Generator, limits: PlanLimits, requests: int) -> list[int]:
    kind = rng.integers(4)
    if kind == 0:
        return [int(rng.integers(0, limits.kv_len + 1))] * requests
    if kind == 1:
        skewed = limits.kv_len / rng.integers(1, 40, requests) ** 1.5
        return [int(length) for length in skewed]
    if kind == 2:
        return [limits.kv_len] * requests
    return rng.integers(0, limits.kv_len + 1, requests).tolist()


def random_bounds(rng: np.random.Generator) -> KvBounds:
    """Returns no bounds, those of causal attention, of a window, or any."""
    window = int(rng.integers(0, 200))
    offset = int(rng.integers(-100, 100))
    kinds = (
        KvBounds(),
        KvBounds.causal(),
        KvBounds.causal(window),
        KvBounds((LinearBound(1, -window),), (LinearBound(1, window),)),
        KvBounds((LinearBound(0, abs(offset)),), (LinearBound(-1, 5 * window),)),
        KvBounds((LinearBound(-1, offset),), (LinearBound(0, window), LinearBound(1, offset))),
    )
    return kinds[int(rng.integers(len(kinds)))]
