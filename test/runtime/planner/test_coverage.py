"""Random batches: every query row meets every KV row that it sees once, within the limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.runtime.planner import Planner
from tilewright.test.runtime.planner.batches import batches, random_limits
from tilewright.test.runtime.planner.coverage import Batch, check_plan, tiles_of

# 10,000 batches in all.
EXAMPLES, BATCHES = 100, 25
SEEDS = st.integers(0, 2**32 - 1)


def indptr_of(q_len: list[int]) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(q_len, dtype=np.int64)))


def lengths_of(kv_len: list[int]) -> np.ndarray:
    return np.array(kv_len, np.int64)


@pytest.mark.parametrize("batch_invariant", [False, True])
@settings(deadline=None, max_examples=EXAMPLES)
@given(SEEDS)
def test_plans_cover_batches_once(batch_invariant: bool, seed: int) -> None:
    # One planner, so that what a plan leaves in the buffer meets the next one, as in a graph.
    rng = np.random.default_rng(seed)
    limits = random_limits(rng, batch_invariant)
    planner = Planner(limits)
    for batch in batches(rng, limits, BATCHES):
        plan = planner.plan(indptr_of(batch.q_len), lengths_of(batch.kv_len), batch.bounds)
        check_plan(limits, plan, batch)


@pytest.mark.parametrize("batch_invariant", [False, True])
@settings(deadline=None, max_examples=EXAMPLES // 2)
@given(SEEDS)
def test_decode_plans_cover_batches_once(batch_invariant: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = random_limits(rng, batch_invariant)
    planner = Planner(limits)
    for batch in batches(rng, limits, BATCHES):
        kv_len = batch.kv_len[: limits.query_rows]
        plan = planner.plan_decode(lengths_of(kv_len))
        check_plan(limits, plan, Batch([1] * len(kv_len), kv_len))


@pytest.mark.parametrize("batch_invariant", [False, True])
@settings(deadline=None, max_examples=EXAMPLES // 2)
@given(SEEDS)
def test_steps_cover_batches_once(batch_invariant: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = random_limits(rng, batch_invariant)
    planner = Planner(limits)
    for batch in batches(rng, limits, BATCHES // 5):
        plan = planner.plan(indptr_of(batch.q_len), lengths_of(batch.kv_len), batch.bounds)
        kv_len = np.array(batch.kv_len, np.int64)
        for _ in range(5):
            room = limits.kv_len - int(kv_len.max(initial=0))
            rows = int(rng.integers(0, min(room, 40) + 1))
            chosen = np.flatnonzero(rng.random(len(kv_len)) < 0.6)
            named = rng.random() < 0.5
            kv_len[chosen if named else slice(None)] += rows
            plan = planner.advance(rows, chosen if named else None).plan
            check_plan(limits, plan, batch._replace(kv_len=kv_len.tolist()))


@settings(deadline=None, max_examples=EXAMPLES)
@given(SEEDS)
def test_plans_of_given_ranges_cover_them_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = random_limits(rng, bool(rng.integers(2)))
    planner = Planner(limits)
    for batch in batches(rng, limits, BATCHES):
        tiles = tiles_of(limits, batch)
        ends = [int(rng.integers(0, batch.kv_len[tile.request] + 1)) for tile in tiles]
        ranges = [(int(rng.integers(0, end + 1)), end) for end in ends]
        begin_end = np.array(ranges, np.int64).reshape(-1, 2).T
        plan = planner.plan(
            indptr_of(batch.q_len),
            lengths_of(batch.kv_len),
            kv_ranges=(begin_end[0], begin_end[1]),
        )
        check_plan(limits, plan, batch._replace(ranges=ranges))
