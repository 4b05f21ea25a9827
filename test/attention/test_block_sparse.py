"""Block-sparse patterns: blocks of any sizes, masks within blocks, what is refused."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.attention as attention
from tilewright.attention import BlockSparse, BlockSparseKV, Variant, tensor
from tilewright.runtime.errors import ArgumentError
from tilewright.test.attention.reference import average, exact
from tilewright.test.attention.test_on_simulator import generator

Array = npt.NDArray[Any]


def i32(*values: int) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


def seen_by(pattern: BlockSparse) -> Array:
    """Returns which query sees which key, bool [heads or 1, rows, columns], entry by entry."""
    heads = pattern.heads or 1
    seen = np.zeros((heads, pattern.rows, pattern.columns), np.bool_)
    for row in range(len(pattern.row_indptr) - 1):
        for head in range(heads):
            number = row * heads + head
            for block in pattern.indices[pattern.indptr[number] : pattern.indptr[number + 1]]:
                first = int(block) * pattern.block_columns
                rows = slice(pattern.row_indptr[row], pattern.row_indptr[row + 1])
                seen[head, rows, first : first + pattern.block_columns] = True
    return seen


def check(pattern: BlockSparse, seen: Array, variant: Variant | None = None, **params: Any) -> None:
    """Compares attention over a pattern with attention under a mask [heads or 1, rows, columns]."""
    rng = generator("block sparse")
    op = attention.compile(
        variant=variant,
        kv=BlockSparseKV(pattern.block_columns, per_head=pattern.heads is not None),
        num_qo_heads=4,
        num_kv_heads=2,
        head_dim=32,
        dtype="f16",
    )
    q = rng.standard_normal((pattern.rows, 4, 32)).astype(np.float16)
    k, v = (rng.standard_normal((pattern.columns, 2, 32)).astype(np.float16) for _ in range(2))
    out, lse = op.plan(*pattern.tables).run(q, k, v, params=params)
    for head in range(4):
        scores = exact(q[:, head]) @ exact(k[:, head // 2]).T * 32**-0.5
        scores = np.where(seen[head // 2 if len(seen) > 1 else 0], scores, -np.inf)
        wanted, wanted_lse = average(scores, exact(v[:, head // 2]))
        np.testing.assert_allclose(exact(out[:, head]), wanted, rtol=0, atol=4e-3)
        np.testing.assert_allclose(lse[:, head], wanted_lse, rtol=0, atol=1e-3)


def test_blocks_of_one_size() -> None:
    pattern = attention.block_sparse(i32(0, 2, 2, 5), i32(0, 3, 1, 2, 6), 20, 27, 8, 4)
    check(pattern, seen_by(pattern))


def test_blocks_of_sizes_of_their_own_for_each_head() -> None:
    rng = generator("variable")
    block_map = rng.random((2, 4, 3)) < 0.6
    rows, columns = np.array([[3, 9, 5, 4], [8, 1, 6, 6]]), np.array([[4, 12, 8], [8, 8, 8]])
    pattern = attention.variable_blocks(block_map, rows, columns)
    assert (pattern.block_columns, pattern.heads) == (4, 2)
    sizes = zip(block_map, rows, columns, strict=True)
    wanted = np.array([np.repeat(np.repeat(m, r, 0), c, 1) for m, r, c in sizes])
    np.testing.assert_array_equal(seen_by(pattern), wanted)
    check(pattern, wanted)


def test_a_mask_within_blocks() -> None:
    pattern = attention.block_sparse(i32(0, 2, 3), i32(0, 2, 1), 11, 24, 8, 8)
    mask = generator("inner").random((3, 8, 8)) < 0.5
    seen = seen_by(pattern)
    for entry, (row, block) in enumerate([(0, 0), (0, 2), (1, 1)]):
        rows = slice(8 * row, min(8 * row + 8, 11))
        seen[0, rows, 8 * block : 8 * block + 8] &= mask[entry, : rows.stop - rows.start]
    variant = attention.bit_mask(tensor("bits", ("n", "words"), "i32"))
    check(pattern, seen, variant, bits=pattern.bits(mask))


@given(st.integers(0, 2**16), st.integers(1, 7), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_variable_blocks_are_what_they_say(seed: int, row_blocks: int, column_blocks: int) -> None:
    rng = np.random.default_rng(seed)
    block_map = rng.random((row_blocks, column_blocks)) < 0.5
    rows, columns = rng.integers(0, 5, row_blocks), rng.integers(0, 5, column_blocks)
    pattern = attention.variable_blocks(block_map, rows, columns)
    wanted = np.repeat(np.repeat(block_map, rows, 0), columns, 1)
    np.testing.assert_array_equal(seen_by(pattern)[0], wanted)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"indices": i32(0, 7)}, r"'indices': expected blocks from 0 to 6, of 27 columns, got 7 at"),
    ({"indices": i32(-1, 0)}, r"got -1 at \[0\]"),
    ({"indices": i32(3, 1)}, r"'indices': expected ascending blocks in each row, .* 1 after 3"),
    ({"indices": i32(3, 3)}, r"each once, got 3 after 3 at \[1\]"),
    ({"indptr": i32(0, 2)}, "'indptr': expected 3 entries, got 2"),
    ({"indptr": i32(0, 3, 2)}, "'indptr': expected entries that never decrease"),
    ({"rows": -1}, "'rows': expected an integer from 0"),
    ({"block_rows": 0}, "'block_rows': expected an integer from 1"),
    ({"block_columns": 0}, "'block_columns': expected an integer from 1"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED)
def test_arrays_that_are_no_pattern_are_refused(change: dict[str, Any], reason: str) -> None:
    good: dict[str, Any] = {"indptr": i32(0, 2, 2), "indices": i32(0, 3), "rows": 16}
    sizes: dict[str, Any] = {"columns": 27, "block_rows": 8, "block_columns": 4}
    with pytest.raises(ArgumentError, match=reason):
        attention.block_sparse(**{**good, **sizes, **change})


def test_sizes_of_blocks_that_do_not_fit_are_refused() -> None:
    block_map = np.ones((2, 2, 2), np.bool_)
    with pytest.raises(ArgumentError, match="'row_sizes': expected sizes with the same sum"):
        attention.variable_blocks(block_map, np.array([[1, 2], [2, 2]]), np.array([1, 1]))
    with pytest.raises(ArgumentError, match=r"'column_sizes': expected integers of shape \(2,\)"):
        attention.variable_blocks(block_map, np.array([1, 2]), np.array([1, 1, 1]))
    with pytest.raises(ArgumentError, match="'block_map': expected bool"):
        attention.variable_blocks(np.ones((2, 2)), np.array([1, 2]), np.array([1, 1]))


def test_fewer_keys_than_the_pattern_has_columns_are_refused() -> None:
    pattern = attention.block_sparse(i32(0, 1), i32(6), 8, 27, 8, 4)
    op = attention.compile(
        kv=BlockSparseKV(4), num_qo_heads=1, num_kv_heads=1, head_dim=32, dtype="f16"
    )
    q, k = np.zeros((8, 1, 32), np.float16), np.zeros((20, 1, 32), np.float16)
    with pytest.raises(ArgumentError, match="'kv_indices': expected page numbers below 5"):
        op.plan(*pattern.tables).run(q, k, k)
