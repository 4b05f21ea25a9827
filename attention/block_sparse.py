"""
Block-sparse patterns of one sequence: which blocks of key columns each block of query rows sees.

A pattern is BSR as linear algebra has it. It is attended to as pages are, a block of columns being
a page and a block of rows a request, so that no key is moved (Ye et al., FlashInfer, MLSys 2025,
section 3.1); but positions are those in the sequence, which masks and scores see.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..runtime.errors import ArgumentError
from ..runtime.page_table import Int32Array, check_indptr, int32_table

Array = npt.NDArray[Any]
_LARGEST = 2**31 - 1


@dataclass(frozen=True, eq=False)
class BlockSparse:
    """
    The pattern of `rows` queries and `columns` keys, int32 in host memory; raises ArgumentError.

    Block row i is the query rows `row_indptr[i]` to before `row_indptr[i + 1]`, [MB + 1]. It sees
    the blocks of `block_columns` keys `indices[indptr[i]:indptr[i + 1]]`, ascending, each once; the
    last block may be cut off by `columns`. With `heads`, the KV heads have patterns of their own:
    `indptr` is [MB * heads + 1], row `i * heads + h` that of block row i and head h.
    """

    row_indptr: Int32Array
    indptr: Int32Array
    indices: Int32Array
    columns: int
    block_columns: int
    heads: int | None = None

    def __post_init__(self) -> None:
        for name in ("row_indptr", "indptr", "indices"):
            object.__setattr__(self, name, int32_table(getattr(self, name), name))
        check_indptr(self.row_indptr, "row_indptr")
        check_indptr(self.indptr, "indptr", self.indices.size)
        _check_extents(self.columns, self.block_columns)
        expected = (self.row_indptr.size - 1) * (self.heads or 1) + 1
        if self.indptr.size != expected:
            raise ArgumentError("indptr", f"{expected} entries", str(self.indptr.size))
        self._check_indices()

    def _check_indices(self) -> None:
        blocks, indices = self.column_blocks, self.indices
        outside = (indices < 0) | (indices >= blocks)
        if outside.any():
            at = int(np.argmax(outside))
            expected = f"blocks from 0 to {blocks - 1}, of {self.columns} columns"
            raise ArgumentError("indices", expected, f"{indices[at]} at [{at}]")
        unsorted = indices[1:] <= indices[:-1]
        starts = self.indptr[1:-1]
        unsorted[starts[(starts > 0) & (starts < indices.size)] - 1] = False
        if unsorted.any():
            at = int(np.argmax(unsorted)) + 1
            got = f"{indices[at]} after {indices[at - 1]} at [{at}]"
            raise ArgumentError("indices", "ascending blocks in each row, each once", got)

    @property
    def rows(self) -> int:
        """The number of query rows."""
        return int(self.row_indptr[-1])

    @property
    def column_blocks(self) -> int:
        """The number of blocks of columns, the one that is cut off included."""
        return -(-self.columns // self.block_columns)

    @cached_property
    def tables(self) -> tuple[Int32Array, Int32Array, Int32Array, Int32Array]:
        """What `AttentionOp.plan` takes: `op.plan(*pattern.tables)`."""
        cut = self.columns - (self.column_blocks - 1) * self.block_columns
        last = np.zeros(self.indptr.size - 1, np.int32)
        filled = self.indptr[1:] > self.indptr[:-1]
        ends = self.indices[self.indptr[1:][filled] - 1]
        last[filled] = np.where(ends == self.column_blocks - 1, cut, self.block_columns)
        return self.row_indptr, self.indptr, self.indices, last

    def bits(self, block_mask: object) -> Int32Array:
        """
        Returns an element mask within the blocks as rows of bits, for the variant `bit_mask`.

        `block_mask` is bool [nnz, most rows of a block, block_columns], True where a query sees a
        key. The result is int32 [rows, words]: bit `k % 32` of word `k // 32` is that of column k.
        Patterns of one head each have no such mask. Raises ArgumentError.
        """
        if self.heads is not None:
            raise ArgumentError("block_mask", "a pattern for all heads", "one for each head")
        lengths = np.diff(self.row_indptr)
        shape = (self.indices.size, int(lengths.max(initial=0)), self.block_columns)
        mask = np.asarray(block_mask)
        if mask.dtype != np.bool_ or mask.shape != shape:
            got = f"{mask.dtype} {mask.shape}"
            raise ArgumentError("block_mask", f"bool of shape {shape}", got)
        words = -(-self.column_blocks * self.block_columns // 32)
        seen = np.zeros((self.rows, words * 32), np.bool_)
        for row, (begin, end) in enumerate(zip(self.indptr, self.indptr[1:], strict=False)):
            for entry in range(begin, end):
                first = int(self.indices[entry]) * self.block_columns
                rows = slice(self.row_indptr[row], self.row_indptr[row + 1])
                seen[rows, first : first + self.block_columns] = mask[entry, : lengths[row]]
        return np.packbits(seen, axis=1, bitorder="little").view(np.int32)


def block_sparse(
    indptr: object, indices: object, rows: int, columns: int, block_rows: int, block_columns: int
) -> BlockSparse:
    """
    Returns the pattern of BSR arrays with blocks of `block_rows` x `block_columns`, for all heads.

    `indptr` is int32 [ceil(rows / block_rows) + 1], `indices` int32 [nnz], ascending in each row.
    Raises ArgumentError.
    """
    for name, number in (("rows", rows), ("block_rows", block_rows)):
        _check_count(name, number, 0 if name == "rows" else 1)
    row_indptr = np.minimum(np.arange(-(-rows // block_rows) + 1) * block_rows, rows)
    table, entries = int32_table(indptr, "indptr"), int32_table(indices, "indices")
    return BlockSparse(row_indptr.astype(np.int32), table, entries, columns, block_columns)


def variable_blocks(block_map: object, row_sizes: object, column_sizes: object) -> BlockSparse:
    """
    Returns the pattern of blocks of sizes of their own.

    `block_map` is bool [MB, NB], or [heads, MB, NB] with a pattern for each KV head; `row_sizes`
    int32 [MB] and `column_sizes` int32 [NB], or a row of them for each head. The block of columns
    of the result is the largest that divides all blocks; rows are divided where any head's are.
    Raises ArgumentError.
    """
    seen = np.asarray(block_map)
    if seen.dtype != np.bool_ or seen.ndim not in (2, 3):
        expected = "bool [MB, NB], or [heads, MB, NB]"
        raise ArgumentError("block_map", expected, f"{seen.dtype} with {seen.ndim} dimensions")
    heads = seen.shape[0] if seen.ndim == 3 else None
    maps = seen if heads is not None else seen[None]
    row_ends = _ends(row_sizes, "row_sizes", maps.shape[0], maps.shape[1])
    column_ends = _ends(column_sizes, "column_sizes", maps.shape[0], maps.shape[2])
    block = int(np.gcd.reduce(column_ends, axis=None)) or 1
    bounds = np.unique(np.concatenate([[0], row_ends.ravel()]))
    columns = int(column_ends[0, -1]) if column_ends.shape[1] else 0
    # For each stretch of rows and each head, the block row that it lies in.
    lists: list[Array] = []
    for begin in bounds[:-1].tolist():
        for head, map_of_head in enumerate(maps):
            row = int(np.count_nonzero(row_ends[head] <= begin))
            blocks = np.repeat(map_of_head[row], np.diff(column_ends[head], prepend=0) // block)
            lists.append(np.flatnonzero(blocks))
    indptr = np.concatenate([[0], np.cumsum([len(found) for found in lists])]).astype(np.int32)
    indices = np.concatenate([np.zeros(0, np.int64), *lists]).astype(np.int32)
    return BlockSparse(bounds.astype(np.int32), indptr, indices, columns, block, heads)


def _ends(sizes: object, name: str, heads: int, blocks: int) -> npt.NDArray[np.int64]:
    """Returns where the blocks of each head end, [heads, blocks]."""
    given = np.asarray(sizes)
    if given.dtype.kind not in "iu" or given.shape not in ((blocks,), (heads, blocks)):
        expected = f"integers of shape ({blocks},) or ({heads}, {blocks})"
        raise ArgumentError(name, expected, f"{given.dtype} {given.shape}")
    wide = given.astype(np.int64)
    if (wide < 0).any() or (blocks and int(wide.sum(axis=-1).max()) > _LARGEST):
        raise ArgumentError(name, f"sizes from 0, of {_LARGEST} together", "others")
    ends = np.cumsum(np.broadcast_to(wide, (heads, blocks)), axis=1)
    if blocks and (ends[:, -1] != ends[0, -1]).any():
        raise ArgumentError(name, "sizes with the same sum for all heads", "others")
    return ends


def _check_count(name: str, number: object, least: int) -> None:
    ok = isinstance(number, int) and not isinstance(number, bool) and least <= number <= _LARGEST
    if not ok:
        raise ArgumentError(name, f"an integer from {least}", repr(number))


def _check_extents(columns: object, block_columns: object) -> None:
    _check_count("columns", columns, 0)
    _check_count("block_columns", block_columns, 1)
