"""Requests that share prefixes: read once, merged in the same launch, right against float64."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright.attention import (
    AttentionOp,
    Plan,
    alibi,
    causal,
    tensor,
)
from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.planner import Prefixes
from tilewright.test.attention.queues import Launcher
from tilewright.test.attention.reference import Batch, Geometry, attend, check, random_batch
from tilewright.test.attention.test_on_simulator import causal_mask, generator

GEOMETRY = Geometry(group=4, num_kv_heads=2, head_dim=32)


def sharing(
    lengths: Sequence[tuple[int, int]],
    shared: Sequence[tuple[Sequence[int], int]],
    rng: np.random.Generator,
    geometry: Geometry = GEOMETRY,
) -> Batch:
    """Returns a random batch in which groups of requests have their first KV rows in common."""
    batch = random_batch(geometry, lengths, rng)
    indices = batch.kv_indices.copy()
    for requests, rows in shared:
        pages = rows // geometry.page_size
        first = indices[batch.kv_indptr[requests[0]] :][:pages].copy()
        for request in requests:
            start = batch.kv_indptr[request]
            indices[start : start + pages] = first
    return replace(batch, kv_indices=indices)


def launched(op: AttentionOp, plan: Plan, batch: Batch, **options: Any) -> Any:
    return Launcher(op, plan, batch, **options).launch()


@pytest.mark.parametrize(
    "ctas", [40, *(pytest.param(ctas, marks=pytest.mark.full) for ctas in (1, 5))]
)
def test_one_prefix_among_other_requests(ctas: int) -> None:
    rng = generator("prefix", ctas)
    lengths = [
        (3, 260),
        *[(1, 200 + int(rng.integers(1, 90))) for _ in range(19)],
        (30, 30),
        (0, 0),
    ]
    batch = sharing(lengths, [(range(1, 20), 192)], rng)
    op = GEOMETRY.compile(causal(), work="cascade")
    plan = op.plan(*batch.tables, num_ctas=ctas)
    # 19 requests of 4 packed rows fill two query tiles, each of which reads the prefix for a head.
    items = plan.arrays.tables["items"]
    of_prefix = items[(items[:, 0] >= 1) & (items[:, 0] < 20) & (items[:, 3] < 192)]
    assert int((of_prefix[:, 4] - of_prefix[:, 3]).sum()) == 2 * 2 * 192
    check(GEOMETRY, launched(op, plan, batch), attend(GEOMETRY, batch, mask_mod=causal_mask))


def test_a_tree_of_prefixes() -> None:
    rng = generator("tree")
    lengths = [(1 + int(rng.integers(3)), 300 + int(rng.integers(1, 90))) for _ in range(9)]
    shared = [(range(9), 128), ((0, 4, 7), 256), ((1, 2, 3, 8), 272)]
    batch = sharing(lengths, shared, rng)
    op = GEOMETRY.compile(causal(), work="cascade")
    plan = op.plan(*batch.tables, num_ctas=11)
    # Some rows have partial results of two levels and of their own.
    assert (plan.arrays.tables["merges"][:, 4] >= 3).any()
    check(GEOMETRY, launched(op, plan, batch), attend(GEOMETRY, batch, mask_mod=causal_mask))


@pytest.mark.full
def test_a_batch_that_shares_nothing() -> None:
    batch = random_batch(GEOMETRY, [(70, 90), (1, 200), (2, 0)], generator("alone"))
    op = GEOMETRY.compile(causal(), work="cascade")
    plan = op.plan(*batch.tables, num_ctas=6)
    check(GEOMETRY, launched(op, plan, batch), attend(GEOMETRY, batch, mask_mod=causal_mask))


@pytest.mark.full
def test_positions_and_states_are_those_of_each_request() -> None:
    rng = generator("positions")
    lengths = [(1, 140 + int(rng.integers(1, 90))) for _ in range(6)]
    batch = sharing(lengths, [(range(6), 128)], rng)
    heads = GEOMETRY.num_qo_heads
    op = GEOMETRY.compile(alibi(heads), work="cascade")

    def score(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return score - 2.0 ** (-8.0 * (h + 1) / heads) * (q_idx - kv_idx)

    expected = attend(GEOMETRY, batch, score_mod=score, mask_mod=causal_mask)
    check(GEOMETRY, launched(op, op.plan(*batch.tables, num_ctas=5), batch), expected)


@pytest.mark.full
def test_bits_do_not_depend_on_the_order_of_threads() -> None:
    rng = generator("order")
    batch = sharing([(1, 200), (1, 220), (1, 190)], [(range(3), 128)], rng)
    op = GEOMETRY.compile(causal(), work="cascade")
    launcher = Launcher(op, op.plan(*batch.tables, num_ctas=9), batch, "none")
    first = [array.copy() for array in launcher.launch()]
    for seed in range(3):
        for one, other in zip(launcher.launch(seed=seed), first, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_prefix_is_read_once_for_a_query_tile() -> None:
    # 64 requests of 4 packed rows: four query tiles of 64 rows.
    requests, shared, own = 64, 1024, 64
    geometry, rng = replace(GEOMETRY, num_kv_heads=1, head_dim=16), generator("bytes")
    batch = sharing([(1, shared + own)] * requests, [(range(requests), shared)], rng, geometry)
    op = geometry.compile(causal(), work="cascade")
    plan = op.plan(*batch.tables, num_ctas=8)
    lines = Launcher(op, plan, batch, "none").run(profile=True).profile.lines
    read = sum(line.global_bytes for line in lines if line.opcode.startswith("cp.async"))
    rows = 4 * shared + requests * own
    least = rows * 2 * geometry.head_dim * 2 + batch.q.nbytes
    assert least <= read <= 1.1 * least


def test_given_prefixes_are_shared() -> None:
    rng = generator("given")
    batch = sharing([(1, 100), (1, 90), (1, 80)], [((0, 2), 32)], rng)
    op = GEOMETRY.compile(causal(), work="cascade")
    # Too short to be shared unless it is given.
    alone = op.plan(*batch.tables, num_ctas=3).arrays.tables["items"]
    assert (alone[:, 6] == GEOMETRY.group).all()
    given = Prefixes(*(np.array(a) for a in ([0, 2, 1], [0], [2], [0], [2], [-1])))
    plan = op.plan(*batch.tables, num_ctas=3, prefixes=given)
    items = plan.arrays.tables["items"]
    assert ((items[:, 3:5] == (0, 32)).all(axis=1) & (items[:, 6] == 8)).sum() == 2
    check(GEOMETRY, launched(op, plan, batch), attend(GEOMETRY, batch, mask_mod=causal_mask))


def test_what_depends_on_one_request_is_refused() -> None:
    biased = tensor("bias", ("batch",), "f32")

    def by_request(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return score + biased[b]

    with pytest.raises(
        DiagnosticError, match="expects a variant that reads nothing of the request"
    ):
        GEOMETRY.compile(by_request, work="cascade")
    batch = random_batch(GEOMETRY, [(1, 40)], generator("refused"))
    op = GEOMETRY.compile(causal(), work="cascade")
    with pytest.raises(ArgumentError, match="'batch_invariant': expected False where requests"):
        op.plan(*batch.tables, batch_invariant=True)
