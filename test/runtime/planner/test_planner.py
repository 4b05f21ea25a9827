"""What plans promise beyond covering their batch."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.planner import OPEN_END, KvBounds, PlanLimits, Planner, WorkPlan

SEEDS = st.integers(0, 2**32 - 1)


def limits(**changes: object) -> PlanLimits:
    numbers: dict[str, object] = {
        "num_ctas": 8,
        "num_qo_heads": 8,
        "num_kv_heads": 2,
        "requests": 20,
        "query_rows": 400,
        "kv_len": 4000,
    }
    return PlanLimits(**(numbers | changes))  # pyright: ignore[reportArgumentType]


def array(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def pieces_of(plan: WorkPlan, request: int) -> set[tuple[int, ...]]:
    """Returns first row, head, KV range and number among the slots of a request's items."""
    result: set[tuple[int, ...]] = set()
    for (owner, row, head, begin, end, slot), merge in zip(
        plan.items.tolist(), plan.item_merge.tolist(), strict=True
    ):
        number = slot - int(plan.merges[merge, 0]) if merge >= 0 else -1
        if owner == request:
            result.add((row, head, begin, end, number))
    return result


def loads_of(planner: Planner, plan: WorkPlan, kv_len: np.ndarray) -> np.ndarray:
    """Returns the load of each CTA of a decode plan: items, granules of KV, partial results."""
    model, numbers = planner.cost, planner.limits
    height = model.tile_rows.index(numbers.tile_rows[0])
    _, _, _, begin, end, slot = plan.items.astype(np.int64).T
    rows = np.minimum(end, kv_len[plan.items[:, 0]]) - begin
    tiles = np.ceil(rows / numbers.granule) * numbers.granule / numbers.kv_tile
    cost = model.item[height] + model.kv_tile[height] * tiles
    cost += (slot >= 0) * (model.partial + model.merge)
    cta = np.repeat(np.arange(numbers.num_ctas), np.diff(plan.cta_indptr))
    return np.bincount(cta, cost, numbers.num_ctas)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 4000), max_size=20), st.booleans(), st.sampled_from([1, 3, 4]))
def test_decode_plans_are_those_of_one_query_row_each(
    lengths: list[int], fixed: bool, granule: int
) -> None:
    numbers = limits(batch_invariant=fixed, kv_tile=48, chunk=960, granule=granule)
    one, other = Planner(numbers), Planner(numbers)
    kv_len = np.array(lengths, np.int64)
    one.plan_decode(kv_len)
    other.plan(np.arange(len(lengths) + 1), kv_len)
    np.testing.assert_array_equal(one.buffer, other.buffer)


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_batch_invariant_pieces_do_not_depend_on_the_batch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    planner = Planner(limits(batch_invariant=True, chunk=int(rng.choice([64, 256, 1024]))))
    bounds = (KvBounds(), KvBounds.causal(), KvBounds.causal(300))[rng.integers(3)]
    q_len, kv_len = rng.integers(1, 20, 12), rng.integers(0, 4000, 12)
    place = int(rng.integers(12))
    batch = planner.plan(np.cumsum([0, *q_len]), kv_len, bounds)
    among = pieces_of(batch, place)
    alone = planner.plan(np.array([0, q_len[place]]), kv_len[place : place + 1], bounds)
    assert pieces_of(alone, 0) == among


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_what_is_transferred_is_all_that_a_kernel_reads(seed: int) -> None:
    rng = np.random.default_rng(seed)
    planner = Planner(limits(num_ctas=int(rng.integers(1, 12))))
    device = rng.integers(-5, 5, planner.layout.size).astype(np.int32)
    plan = planner.plan_decode(rng.integers(0, 4000, rng.integers(0, 21)))
    for offset, size in plan.transfers:
        words = slice(offset // 4, (offset + size) // 4)
        device[words] = planner.buffer[words]
    layout, items = planner.layout, len(plan.items)
    indptr = device[layout.cta_indptr :][: planner.limits.num_ctas + 1]
    np.testing.assert_array_equal(indptr, plan.cta_indptr)
    assert indptr[-1] == items
    merges = device[layout.merges :][: 2 * len(plan.merges)]
    np.testing.assert_array_equal(merges, plan.merges.reshape(-1))
    np.testing.assert_array_equal(device[layout.item_merge :][:items], plan.item_merge)
    np.testing.assert_array_equal(device[layout.items :][: 6 * items], plan.items.reshape(-1))


def test_a_plan_in_the_callers_buffer_lies_there() -> None:
    numbers = limits()
    buffer = np.zeros(Planner(numbers).layout.size, np.int32)
    plan = Planner(numbers, buffer=buffer).plan_decode(array(100, 50))
    for section in (plan.cta_indptr, plan.items, plan.item_merge):
        assert np.shares_memory(section, buffer)


@pytest.mark.parametrize("kv_heads", [32, 8, 4])
@pytest.mark.parametrize("ctas", [132, 264])
@pytest.mark.parametrize("lengths", ["constant", "uniform", "zipf"])
def test_loads_are_balanced(kv_heads: int, ctas: int, lengths: str) -> None:
    rng = np.random.default_rng(5)
    weights = 1 / np.arange(1, 17) ** 1.2
    kv_len = {
        "constant": np.full(16, 1024),
        "uniform": rng.integers(512, 1025, 16),
        "zipf": rng.permutation((16 * 1024 * weights / weights.sum()).astype(np.int64)),
    }[lengths]
    planner = Planner(limits(num_ctas=ctas, num_qo_heads=32, num_kv_heads=kv_heads, kv_len=8192))
    loads = loads_of(planner, planner.plan_decode(kv_len), kv_len)
    assert loads.mean() / loads.max() >= 0.97


def test_ctas_that_equal_units_leave_over_take_halves_and_none_has_more_than_before() -> None:
    planner = Planner(limits(num_ctas=132, num_qo_heads=32, num_kv_heads=8, requests=16))
    kv_len = np.full(16, 1024)
    plan = planner.plan_decode(kv_len)
    loads = loads_of(planner, plan, kv_len)
    # 128 units, the longest of which stay whole: in halves each would cost two items.
    assert (np.diff(plan.cta_indptr) == 1).all()
    assert len(plan.merges) == 4
    assert loads.max() == pytest.approx(planner.cost.item[0] + 1024 / 64)


def test_no_more_tiles_are_split_than_ctas_meet() -> None:
    rng = np.random.default_rng(3)
    planner = Planner(limits(num_ctas=40, requests=100, kv_len=100_000))
    plan = planner.plan_decode((100_000 * rng.random(100) ** 8).astype(np.int64))
    assert 0 < len(plan.merges) < 40


def test_one_unit_for_each_cta_is_not_split() -> None:
    plan = Planner(limits()).plan_decode(array(1000, 1000, 1000, 1000))
    assert len(plan.merges) == 0
    assert np.diff(plan.cta_indptr).tolist() == [1] * 8


def test_little_kv_is_not_split() -> None:
    # A merge of 100 partial results would take longer than the few KV tiles.
    plan = Planner(limits(num_ctas=1000)).plan_decode(array(256))
    assert len(plan.items) < 20


def test_the_declared_slots_can_all_be_used() -> None:
    planner = Planner(limits(num_ctas=3, num_qo_heads=2))
    plan = planner.plan_decode(array(4000))
    assert plan.slots == planner.limits.slots == 4


def test_workspace_holds_rows_of_all_slots() -> None:
    numbers = limits(num_ctas=3, tile_rows=(16, 64))
    # 4 slots of 64 rows of 128 values and one lse, f32; a counter for each of 2 merges.
    assert numbers.workspace(128) == (4 * 64 * 128 * 4, 4 * 64 * 4, 2 * 4)


def test_each_cta_has_its_tall_tiles_first_in_a_mixed_batch() -> None:
    planner = Planner(limits(num_ctas=2))
    plan = planner.plan(array(0, 1, 41, 42), array(300, 300, 300), KvBounds.causal())
    for requests in np.split(plan.items[:, 0], plan.cta_indptr[1:-1]):
        assert requests.tolist() == sorted(requests, key=lambda request: request != 1)


def test_causal_tiles_stop_where_their_last_row_does() -> None:
    plan = Planner(limits(num_ctas=1)).plan(array(0, 32), array(100), KvBounds.causal())
    # 32 query rows are 128 packed rows, two tiles; the first one's last row stands at 68 + 15.
    ends = {row: end for _, row, _, _, end, _ in plan.items.tolist()}
    assert ends == {0: 84, 64: OPEN_END}


def test_windows_begin_at_the_granule_of_their_first_key() -> None:
    numbers = limits(num_ctas=1, granule=16)
    plan = Planner(numbers).plan(array(0, 1), array(1000), KvBounds.causal(100))
    # The query stands at 999 and sees 899 and later; 896 is the multiple of 16 before.
    assert plan.items[:, 3].tolist() == [896, 896]


def test_steps_within_a_kv_tile_write_nothing() -> None:
    planner = Planner(limits())
    planner.plan_decode(array(100, 2000, 700))
    before = planner.buffer.copy()
    for _ in range(63):
        assert planner.advance().transfers == ()
    np.testing.assert_array_equal(planner.buffer, before)


def test_a_step_beyond_a_kv_tile_is_planned_anew() -> None:
    planner, other = Planner(limits()), Planner(limits())
    planner.plan_decode(array(100, 2000, 700))
    step = planner.advance(64)
    fresh = other.plan_decode(array(164, 2064, 764))
    assert step.replanned
    assert step.transfers == fresh.transfers
    np.testing.assert_array_equal(step.plan.items, fresh.items)


@pytest.mark.parametrize(("length", "steps"), [(256, 1), (250, 7), (1, 256), (0, 257)])
def test_batch_invariant_steps_last_to_the_next_chunk(length: int, steps: int) -> None:
    planner = Planner(limits(batch_invariant=True, chunk=256))
    planner.plan_decode(array(length, 10))
    replanned = [planner.advance(1, array(0)).replanned for _ in range(steps)]
    assert replanned == [False] * (steps - 1) + [True]


def refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize(
    ("starts", "kv_len", "message"),
    [
        ([0, 1], [-1], r"kv_len.*-1 at \[0\]"),
        ([0, 1], [4001], r"0 to 4000 KV rows.*4001 at \[0\]"),
        ([0, 2, 1], [5, 5], r"qo_indptr.*1 after 2 at \[2\]"),
        ([1, 2], [5], "0 as the first entry"),
        ([0, 401], [5], "at most 400 query rows"),
        ([0] * 22, [1] * 21, "at most 20 requests"),
        ([0, 1], [5, 5], "qo_indptr.*3 entries"),
        ([], [], "1 entries"),
    ],
)
def test_bad_batches_are_refused_and_nothing_is_written(
    starts: list[int], kv_len: list[int], message: str
) -> None:
    planner = Planner(limits())
    planner.plan_decode(array(77, 3000))
    before = planner.buffer.copy()
    indptr, lengths = np.array(starts, np.int64), np.array(kv_len, np.int64)
    refused(lambda: planner.plan(indptr, lengths), message)
    np.testing.assert_array_equal(planner.buffer, before)


@pytest.mark.parametrize(
    ("kv_len", "message"),
    [
        (np.array([2**63], np.uint64), "63 bits"),
        (np.array([1.0]), "integer array"),
        (np.zeros((1, 1), np.int32), "2 dimensions"),
        ([1], "got list"),
        (np.array([2**62]), "0 to 4000"),
    ],
)
def test_lengths_that_are_no_lengths_are_refused(kv_len: object, message: str) -> None:
    refused(lambda: Planner(limits()).plan_decode(kv_len), message)


def test_more_kv_in_all_than_declared_is_refused() -> None:
    planner = Planner(limits(kv_total=100))
    refused(lambda: planner.plan_decode(array(60, 60)), "at most 100 KV rows in all.*120")


@pytest.mark.parametrize(
    ("begin", "end", "message"),
    [
        ([0], [11], "0 <= begin <= end <= 10"),
        ([5], [4], "5 and 4"),
        ([-1], [4], "-1 and 4"),
        ([0, 0], [1, 1], "1 entries, one a query tile"),
    ],
)
def test_bad_ranges_are_refused(begin: list[int], end: list[int], message: str) -> None:
    ranges = array(*begin), array(*end)
    refused(lambda: Planner(limits()).plan(array(0, 1), array(10), kv_ranges=ranges), message)


def test_a_step_without_a_plan_is_refused() -> None:
    refused(lambda: Planner(limits()).advance(), "a plan to go on from")


def test_a_step_beyond_the_declared_length_is_refused_and_not_taken() -> None:
    planner = Planner(limits())
    planner.plan_decode(array(3999))
    refused(lambda: planner.advance(2), "0 to 4000 KV rows")
    assert planner.advance(1).replanned is False


def test_a_step_of_requests_that_are_not_there_is_refused() -> None:
    planner = Planner(limits())
    planner.plan_decode(array(10, 10))
    refused(lambda: planner.advance(1, array(1, 2)), r"numbers below 2.*2 at \[1\]")


def test_a_step_of_a_plan_of_ranges_is_refused() -> None:
    planner = Planner(limits())
    planner.plan(array(0, 1), array(10), kv_ranges=(array(0), array(10)))
    refused(planner.advance, "a plan made from bounds")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_ctas": 0}, "num_ctas"),
        ({"num_qo_heads": 7}, "multiple of the 2 KV heads"),
        ({"tile_rows": (64, 16)}, "ascending"),
        ({"tile_rows": ()}, "ascending"),
        ({"granule": 48}, "divisor of kv_tile"),
        ({"batch_invariant": True, "chunk": 100}, "multiple of kv_tile"),
        ({"requests": 2**28, "query_rows": 2**28}, "work items"),
    ],
)
def test_bad_limits_are_refused(changes: dict[str, object], message: str) -> None:
    refused(lambda: limits(**changes), message)


def test_a_buffer_of_another_size_is_refused() -> None:
    refused(lambda: Planner(limits(), buffer=np.zeros(3, np.int32)), "buffer")
