"""Append, attention and merge together: what one writes the next reads as it was meant."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tilewright import attention
from tilewright.attention.kv_format import KVFormat
from tilewright.runtime.simulator_device import SimulatorDevice

from .kv_case import batch_of

Array = npt.NDArray[Any]
HEADS, GROUP, DIM, PAGE = 2, 2, 64, 8


def i32(*values: int) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


def operation() -> attention.AttentionOp:
    return attention.compile(
        kv=attention.PagedKV(PAGE),
        num_qo_heads=HEADS * GROUP,
        num_kv_heads=HEADS,
        head_dim=DIM,
        dtype="f16",
    )


def attended(q: Array, k: Array, v: Array) -> tuple[Array, Array]:
    """Returns attention of one query [heads * group, dim] over rows, and its lse, in float64."""
    x = q.astype(np.float64).reshape(HEADS, GROUP, DIM)
    scores = np.einsum("hgd,thd->hgt", x, k.astype(np.float64)) * DIM**-0.5
    lse = np.logaddexp.reduce(scores, axis=-1)
    out = np.einsum("hgt,thd->hgd", np.exp(scores - lse[..., None]), v.astype(np.float64))
    return out.reshape(-1, DIM), lse.reshape(-1)


@pytest.mark.parametrize("old", [0, 13])
def test_attention_reads_what_was_appended(old: int) -> None:
    device, generator = SimulatorDevice(checks="all"), np.random.default_rng(old)
    lengths = [21, 9, 40]
    k, v = (generator.normal(size=(sum(lengths), HEADS, DIM)).astype(np.float16) for _ in "kv")
    q = generator.normal(size=(3, HEADS * GROUP, DIM)).astype(np.float16)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    first = [min(old, length) for length in lengths]
    whole = batch_of([(0, length) for length in lengths], PAGE)
    pages = tuple(np.zeros((whole.pages, PAGE, HEADS, DIM), np.float16) for _ in "kv")
    cache = attention.KVCache(pages, KVFormat("f16"))
    table = attention.PageTable(i32(0, 0, 0, 0), i32(), i32(0, 0, 0), PAGE)
    free = whole.table.kv_indices
    for begin, end in (([0, 0, 0], first), (first, lengths)):
        counts = i32(*(e - b for b, e in zip(begin, end, strict=True)))
        table = table.grown(counts, np.setdiff1d(free, table.kv_indices).astype(np.int32))
        plan = attention.plan_append(
            table, np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        )
        bounds = zip(starts.tolist(), begin, end, strict=False)
        rows: list[int] = [row for s, b, e in bounds for row in range(s + b, s + e)]
        attention.append_kv(cache, plan, k[rows], v[rows], device=device)
    tables = (table.kv_indptr, table.kv_indices, table.kv_last_page_len)
    out, lse = operation().plan(i32(0, 1, 2, 3), *tables).run(q, *pages, device=device)
    for b in range(3):
        span = slice(starts[b], starts[b + 1])
        expected = attended(q[b], k[span], v[span])
        np.testing.assert_allclose(out[b].astype(np.float64), expected[0], atol=4e-3)
        np.testing.assert_allclose(lse[b], expected[1], atol=2e-3)


def test_attention_over_parts_of_the_keys_merges_into_attention_over_all() -> None:
    device, generator = SimulatorDevice(checks="all"), np.random.default_rng(0)
    pages = [generator.normal(size=(6, PAGE, HEADS, DIM)).astype(np.float16) for _ in "kv"]
    q = generator.normal(size=(1, HEADS * GROUP, DIM)).astype(np.float16)
    op = operation()
    parts: list[tuple[Array, Array]] = []
    for indices, last in ((i32(4, 1, 2), 8), (i32(), 0), (i32(0, 5), 3)):
        plan = op.plan(i32(0, 1), i32(0, indices.size), indices, i32(last))
        parts.append(plan.run(q, *pages, device=device))
    v, s = (np.stack(part, axis=1) for part in zip(*parts, strict=True))
    out, lse = attention.merge_states(v, s, device=device)
    rows = [page[[4, 1, 2, 0, 5]].reshape(-1, HEADS, DIM)[: 4 * PAGE + 3] for page in pages]
    expected = attended(q[0], *rows)
    np.testing.assert_allclose(out[0].astype(np.float64), expected[0], atol=4e-3)
    np.testing.assert_allclose(lse[0], expected[1], atol=2e-3)
