"""Query tiles that share KV: dealt out in rounds, every CTA with the same load, nothing lost."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.runtime.planner import CostModel, KvBounds, PlanLimits, Planner, WorkPlan

COSTS = CostModel.of_heights((64,))


def planned(lengths: list[int], heads: int, ctas: int) -> tuple[WorkPlan, PlanLimits]:
    limits = PlanLimits(
        num_ctas=ctas,
        num_qo_heads=heads,
        num_kv_heads=heads,
        requests=len(lengths),
        query_rows=sum(lengths),
        kv_len=max(lengths),
        tile_rows=(64,),
    )
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Planner(limits, COSTS).plan(starts, np.array(lengths), KvBounds.causal()), limits


def seen(item: list[int], lengths: list[int]) -> int:
    """Returns the past-the-end key that the rows of an item see."""
    request, first_row = item[:2]
    return min(lengths[request], first_row + 64)


def loads(plan: WorkPlan, limits: PlanLimits, lengths: list[int]) -> list[float]:
    """Returns the cost of each CTA's items, by walking over them."""
    costs = COSTS.costs((64,), limits.kv_tile // limits.granule)
    found: list[float] = []
    for first, end in zip(plan.cta_indptr[:-1], plan.cta_indptr[1:], strict=True):
        total = 0
        for item in plan.items[first:end].tolist():
            rows = min(item[4], seen(item, lengths)) - item[3]
            total += costs.item[0] + costs.granule[0] * -(-rows // limits.granule)
            total += costs.partial * (item[5] >= 0)
        found.append(total)
    return found


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=5),
    st.integers(1, 4),
    st.integers(2, 12),
)
def test_every_pair_of_a_row_and_a_key_is_in_one_item(
    lengths: list[int], heads: int, ctas: int
) -> None:
    plan, _ = planned(lengths, heads, ctas)
    found: Counter[tuple[int, int, int, int]] = Counter()
    for item in plan.items.tolist():
        request, first_row, head, begin, end, _ = item
        for key in range(begin, min(end, seen(item, lengths)), 2):
            found[request, first_row, head, key] += 1
    wanted = {
        (request, row, head, key)
        for request, length in enumerate(lengths)
        for row in range(0, length, 64)
        for head in range(heads)
        for key in range(0, min(length, row + 64), 2)
    }
    assert set(found) == wanted
    assert set(found.values()) == {1}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=5),
    st.integers(1, 4),
    st.integers(2, 12),
)
def test_the_slots_of_a_merge_are_those_of_its_pieces_in_order(
    lengths: list[int], heads: int, ctas: int
) -> None:
    plan, limits = planned(lengths, heads, ctas)
    assert plan.slots <= limits.slots
    for number, (first, count) in enumerate(plan.merges.tolist()):
        pieces = plan.items[plan.item_merge == number]
        ordered = pieces[np.argsort(pieces[:, 3])]
        assert ordered[:, 5].tolist() == list(range(first, first + count))
        assert (ordered[1:, 3] == ordered[:-1, 4]).all()
    assert (plan.items[plan.item_merge < 0, 5] == -1).all()


@pytest.mark.parametrize(
    ("lengths", "heads"),
    [([4096] * 4, 16), ([16_384], 16), ([1024] * 16, 16), ([3000, 17, 8000], 8)],
)
def test_all_ctas_have_nearly_the_same_load(lengths: list[int], heads: int) -> None:
    plan, limits = planned(lengths, heads, 264)
    found = loads(plan, limits, lengths)
    assert np.mean(found) >= 0.97 * max(found)


def test_ctas_work_on_few_requests_and_heads_at_one_time() -> None:
    lengths = [4096] * 4
    plan, _ = planned(lengths, 16, 264)
    for turn in range(8):
        items = [plan.items[first + turn] for first in plan.cta_indptr[:-1]]
        # 264 of the 64 tiles that a request and head has, 64 pairs of which there are.
        assert len({(item[0], item[2]) for item in items}) <= 6
