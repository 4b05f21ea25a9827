"""
What a plan may need at most, and where its parts lie.

A CUDA graph keeps the addresses that it was captured with. So the sections of a plan lie at
offsets that follow from declared maxima alone, and so do the sizes of the workspace.
"""

from dataclasses import dataclass
from typing import NamedTuple

from ..errors import ArgumentError

ITEM_FIELDS = 6
MERGE_FIELDS = 2
_WORD = 4
_LARGEST = 2**31 - 1


class Workspace(NamedTuple):
    """The bytes that a kernel needs beside the plan; `counters` start as zeros."""

    partial_out: int
    partial_lse: int
    counters: int

    @property
    def total(self) -> int:
        """All bytes."""
        return self.partial_out + self.partial_lse + self.counters


@dataclass(frozen=True)
class PlanLimits:
    """
    The largest batch that a planner takes, and the numbers of the kernel.

    `num_ctas` is the grid. `requests`, `query_rows` (of all requests) and `kv_len` (of one
    request) are maxima, `kv_total` the largest sum of KV lengths, by default `requests * kv_len`.
    `tile_rows` are the heights of the kernel's query tiles in packed rows, ascending: a request
    takes the lowest that holds all its rows, else the highest, whatever else is in the batch.
    `kv_tile` is the number of KV rows that the kernel takes at a time, `granule`, which divides it,
    that to whose multiples splits are aligned: finer than the KV tile, since a few requests spread
    over many CTAs have no more than some tiles for each. With `batch_invariant` KV is
    split at multiples of `chunk` rows and nowhere else.
    Raises ArgumentError.
    """

    num_ctas: int
    num_qo_heads: int
    num_kv_heads: int
    requests: int
    query_rows: int
    kv_len: int
    kv_total: int = 0
    tile_rows: tuple[int, ...] = (16, 64)
    kv_tile: int = 64
    granule: int = 2
    batch_invariant: bool = False
    chunk: int = 2048

    def __post_init__(self) -> None:
        for name in ("num_ctas", "num_kv_heads", "requests", "query_rows", "kv_len", "kv_tile"):
            if not 1 <= getattr(self, name) <= _LARGEST:
                got = str(getattr(self, name))
                raise ArgumentError(name, f"a number of 1 to {_LARGEST}", got)
        if self.num_qo_heads < 1 or self.num_qo_heads % self.num_kv_heads:
            expected = f"a multiple of the {self.num_kv_heads} KV heads"
            raise ArgumentError("num_qo_heads", expected, str(self.num_qo_heads))
        rising = all(a < b for a, b in zip((0, *self.tile_rows), self.tile_rows, strict=False))
        if not self.tile_rows or not rising:
            raise ArgumentError("tile_rows", "ascending heights", str(self.tile_rows))
        if self.granule < 1 or self.kv_tile % self.granule:
            expected = f"a divisor of kv_tile, {self.kv_tile}"
            raise ArgumentError("granule", expected, str(self.granule))
        if self.kv_total < 0:
            raise ArgumentError("kv_total", "at least 0", str(self.kv_total))
        if self.batch_invariant and (self.chunk < 1 or self.chunk % self.kv_tile):
            expected = f"a multiple of kv_tile, {self.kv_tile}"
            raise ArgumentError("chunk", expected, str(self.chunk))
        if self.items * ITEM_FIELDS > _LARGEST:
            expected = f"limits of at most {_LARGEST // ITEM_FIELDS} work items"
            raise ArgumentError("limits", expected, str(self.items))

    @property
    def group(self) -> int:
        """Query heads that share one KV head."""
        return self.num_qo_heads // self.num_kv_heads

    @property
    def largest_kv_total(self) -> int:
        """The largest sum of KV lengths."""
        return self.kv_total or self.requests * self.kv_len

    @property
    def tiles(self) -> int:
        """The largest number of query tiles, for one KV head."""
        # One tile for each request, and one more wherever the rows before fill a tile.
        rows, height, group = self.query_rows, self.tile_rows[-1], self.group
        requests = min(self.requests, rows)
        if height % group == 0:
            return requests + (rows - requests) // (height // group)
        return requests + (rows * group - requests) // height

    @property
    def items(self) -> int:
        """The largest number of work items."""
        whole = self.tiles * self.num_kv_heads
        if not self.batch_invariant:
            return whole + self.num_ctas - 1
        return self._pieces(self.chunk) * self.num_kv_heads

    @property
    def slots(self) -> int:
        """The largest number of partial results."""
        if self.batch_invariant:
            return self.items if self.kv_len > self.chunk else 0
        return 2 * (self.num_ctas - 1)

    @property
    def merges(self) -> int:
        """The largest number of query tiles whose KV is split."""
        if self.batch_invariant:
            return min(self.slots // 2, self.tiles * self.num_kv_heads)
        return min(self.num_ctas - 1, self.tiles * self.num_kv_heads)

    @property
    def listed(self) -> int:
        """The largest number of KV tiles of all query tiles, for one KV head."""
        return self._pieces(self.kv_tile)

    def _pieces(self, rows: int) -> int:
        """Returns the largest number of pieces of so many KV rows of all query tiles."""
        longest = -(-self.kv_len // rows)
        requests = min(self.requests, self.query_rows)
        # Every request once with all its pieces; its other tiles as if it were the longest.
        once = min(requests * longest, requests + self.largest_kv_total // rows)
        return once + (self.tiles - requests) * longest

    def workspace(self, head_dim: int) -> Workspace:
        """
        Returns the exact bytes of the workspace for rows of `head_dim` values.

        A partial result is a slot of the highest query tile: its rows in f32, and their lse in f32.
        """
        rows = self.slots * self.tile_rows[-1]
        return Workspace(rows * head_dim * _WORD, rows * _WORD, self.merges * _WORD)


class PlanLayout(NamedTuple):
    """
    Offsets in a plan's buffer, counted in int32 words, and its size.

    `cta_indptr[num_ctas + 1]` and `merges[m, 2]` (first slot, number of slots) lie side by side,
    then `item_merge[n]` (the merge of an item, -1 for none) and `items[n, 6]`: request, first
    packed row, KV head, first KV row, end of the KV rows, slot of the partial result or -1.
    """

    cta_indptr: int
    merges: int
    item_merge: int
    items: int
    size: int

    @classmethod
    def of(cls, limits: PlanLimits) -> "PlanLayout":
        """Returns the layout for declared maxima. Sections begin at multiples of 16 bytes."""
        merges = limits.num_ctas + 1
        item_merge = _aligned(merges + limits.merges * MERGE_FIELDS)
        items = item_merge + _aligned(limits.items)
        return cls(0, merges, item_merge, items, items + _aligned(limits.items * ITEM_FIELDS))


def _aligned(words: int) -> int:
    return -(-words // 4) * 4
