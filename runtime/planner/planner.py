"""The planner: which CTA does which part of a batch, in one buffer at fixed addresses."""

from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError
from .cost import CostModel
from .dealing import deal, shares_kv, write_dealt
from .emission import (
    Counts,
    Int32Array,
    Rows,
    Sections,
    decode_rows,
    rows_of,
    whole_items,
    write_line,
    write_pieces,
)
from .limits import ITEM_FIELDS, MERGE_FIELDS, PlanLayout, PlanLimits
from .line import Shares
from .packing import cuts_of
from .pieces import assign, fixed_pieces, piece_costs
from .tiles import OPEN_END, Array, KvBounds, Tiles, decode_height, decode_tiles, query_tiles

_WORD = 4
_INT64 = np.dtype(np.int64)
_NO_BOUNDS = KvBounds()


class Transfer(NamedTuple):
    """Bytes of the plan's buffer that the device has to get: where they begin, how many."""

    offset: int
    size: int


class Batch(NamedTuple):
    """
    What a plan was made for.

    `query_lengths` is None for one query row a request, `ranged` tells of ranges in place of
    bounds, `grows` that the plan holds for longer requests too.
    """

    query_lengths: Array | None
    kv_lengths: Array
    longest: int
    bounds: KvBounds
    ranged: bool
    grows: bool


class Step(NamedTuple):
    """What a step changed: the plan, whether it was made anew, and the bytes to send."""

    plan: "WorkPlan"
    replanned: bool
    transfers: tuple[Transfer, ...]


class WorkPlan:
    """
    A plan, in the buffer of its planner until that plans again.

    `PlanLayout` says what its arrays hold. `slots` partial results are used, those of one merge
    side by side in the order of KV.
    """

    def __init__(self, sections: Sections, layout: PlanLayout, counts: Counts) -> None:
        self._sections, self._layout, self._counts = sections, layout, counts

    @property
    def cta_indptr(self) -> Int32Array:
        """Where the items of each CTA begin, [num_ctas + 1]."""
        return self._sections.cta_indptr

    @property
    def items(self) -> Int32Array:
        """The work items in the order of the CTAs, [n, 6]."""
        return self._sections.items[: self._counts.items]

    @property
    def item_merge(self) -> Int32Array:
        """The merge that each item takes part in, -1 for none, [n]."""
        return self._sections.item_merge[: self._counts.items]

    @property
    def merges(self) -> Int32Array:
        """The first slot and the number of slots of each query tile that is split, [m, 2]."""
        return self._sections.merges[: self._counts.merges]

    @property
    def slots(self) -> int:
        """The number of partial results."""
        return self._counts.slots

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        """The bytes of the buffer that the device has to get."""
        layout, counts = self._layout, self._counts
        head = layout.merges + counts.merges * MERGE_FIELDS
        transfers = (
            Transfer(0, head * _WORD),
            Transfer(layout.item_merge * _WORD, counts.items * _WORD),
            Transfer(layout.items * _WORD, counts.items * ITEM_FIELDS * _WORD),
        )
        return transfers if counts.items else transfers[:1]


class Planner:
    """
    Plans the batches of one kernel, at fixed addresses, without asking the device anything.

    A work item is one query tile of one request for one KV head and a part of its KV. CTA c works
    through `items[cta_indptr[c]:cta_indptr[c + 1]]`. Plans are deterministic. `buffer`, int32 of
    `layout.size` words, may be the caller's own, in pinned memory say. Raises ArgumentError.

    Source: Ye et al., FlashInfer, MLSys 2025, section 3.3; how work is shared is its own, see
    `line` and `pieces`.
    """

    def __init__(
        self,
        limits: PlanLimits,
        cost: CostModel | None = None,
        buffer: Int32Array | None = None,
    ) -> None:
        self.limits = limits
        self.cost = cost or CostModel()
        self.layout = PlanLayout.of(limits)
        self.buffer = np.zeros(self.layout.size, np.int32) if buffer is None else buffer
        if self.buffer.dtype != np.int32 or self.buffer.shape != (self.layout.size,):
            got = f"{self.buffer.dtype} of shape {self.buffer.shape}"
            raise ArgumentError("buffer", f"int32 of shape ({self.layout.size},)", got)
        self._costs = self.cost.costs(limits.tile_rows, limits.kv_tile // limits.granule)
        self._shares = Shares(limits, self._costs)
        self._sections = Sections.of(limits, self.layout, self.buffer)
        self._decode_rows: Rows | None = None
        # Batches of more units than this are cut by way of `Shares.cut_decode`.
        cheap = self._costs.granule[decode_height(limits)] == 1 and not limits.batch_invariant
        self._cut_always = limits.num_ctas if cheap else limits.items
        self._plan: WorkPlan | None = None
        self._batch: Batch | None = None
        # The lengths that the last batch has by now, and how much they may grow from here.
        self._lengths = np.zeros(0, np.int64)
        self._longest = self._left = 0
        # By how many rows all of these lengths are too small.
        self._behind = 0

    def plan(
        self,
        qo_indptr: object,
        kv_len: object,
        bounds: KvBounds | None = None,
        kv_ranges: tuple[object, object] | None = None,
    ) -> WorkPlan:
        """
        Returns the plan of a batch of B requests; raises ArgumentError, and then writes nothing.

        Takes integer arrays in host memory: qo_indptr[B+1] (query rows), kv_len[B]. A query tile
        gets the KV rows that `bounds` leave, or the begin and end of `kv_ranges`, two arrays with
        an entry for each query tile in the batch's order.
        """
        starts = _integers(qo_indptr, "qo_indptr")
        lengths = _integers(kv_len, "kv_len")
        q_len = self._query_lengths(starts, len(lengths))
        longest = self._check_kv(lengths)
        ranges = None
        if kv_ranges is not None:
            begins, ends = kv_ranges
            ranges = _integers(begins, "kv_begin"), _integers(ends, "kv_end")
        given = bounds or KvBounds()
        tiles = query_tiles(self.limits, self._costs, q_len, lengths, given, ranges)
        grows = _grows(tiles, given)
        batch = Batch(q_len, lengths.copy(), longest, given, ranges is not None, grows)
        return self._planned(batch, self._write(tiles))

    def plan_decode(self, kv_len: object) -> WorkPlan:
        """
        Returns the plan of B requests of one query row that see all their KV; kv_len[B].

        The same as `plan` with one query row a request, in less time. Raises ArgumentError.
        """
        lengths = _integers(kv_len, "kv_len")
        count = len(lengths)
        if count > self.limits.query_rows:
            raise ArgumentError("kv_len", f"at most {self.limits.query_rows} rows", str(count))
        if self.limits.group > self.limits.tile_rows[-1]:
            return self.plan(np.arange(count + 1), lengths)
        longest = self._check_kv(lengths)
        if count * self.limits.num_kv_heads <= self._cut_always:
            tiles = decode_tiles(self.limits, self._costs, lengths, longest)
            counts = self._write(tiles, self._whole_decode(count))
        else:
            cuts = self._shares.cut_decode(lengths, longest)
            whole = self._whole_decode(count)
            counts = write_line(self.limits, self._sections, 0, cuts, whole)
        return self._planned(Batch(None, lengths.copy(), longest, _NO_BOUNDS, False, True), counts)

    def _whole_decode(self, count: int) -> Rows:
        """Returns the items of so many requests of one query row that nothing splits."""
        if self._decode_rows is None:
            room = min(self.limits.requests, self.limits.query_rows)
            self._decode_rows = decode_rows(room, self.limits.num_kv_heads)
        return self._decode_rows[: count * self.limits.num_kv_heads]

    def advance(self, rows: int = 1, requests: object = None) -> Step:
        """
        Returns the plan of the last batch with `rows` more KV rows, in all or the named requests.

        Items that end with their request's KV say so, and the kernel reads its length; so nothing
        has to be written until the lengths have grown by a KV tile, or, batch-invariant, until one
        passes a multiple of the chunk. Then the batch is planned anew. Positions of queries move
        with the ends. Raises ArgumentError, and then changes nothing.
        """
        if self._plan is None or self._batch is None:
            raise ArgumentError("rows", "a plan to go on from", "none")
        if self._batch.ranged:
            raise ArgumentError("rows", "a plan made from bounds", "one made from kv_ranges")
        if rows < 0:
            raise ArgumentError("rows", "at least 0", str(rows))
        if requests is None and rows < self._left and not self.limits.kv_total:
            if self._longest + rows <= self.limits.kv_len:
                self._behind += rows
                self._longest += rows
                self._left -= rows
                return Step(self._plan, False, ())
        batch, lengths = self._batch, self._caught_up(self._batch)
        chosen = slice(None) if requests is None else self._chosen(requests)
        if self._longest + rows > self.limits.kv_len or self.limits.kv_total:
            lengths = lengths.copy()
            lengths[chosen] += rows
            self._longest = self._check_kv(lengths)
            self._lengths = lengths
        else:
            lengths[chosen] += rows
            self._longest += rows
        self._left -= rows
        if self._left <= 0:
            self._left = self._room(batch, lengths)
        if self._left > 0 or not len(lengths):
            return Step(self._plan, False, ())
        plan = self._again(batch._replace(kv_lengths=lengths, longest=self._longest))
        return Step(plan, True, plan.transfers)

    def _caught_up(self, batch: Batch) -> Array:
        """Returns the lengths by now, in memory of their own."""
        if self._lengths is batch.kv_lengths:
            self._lengths = batch.kv_lengths.copy()
        self._lengths += self._behind
        self._behind = 0
        return self._lengths

    def _chosen(self, requests: object) -> Array:
        assert self._batch is not None
        chosen, count = _integers(requests, "requests"), len(self._batch.kv_lengths)
        if len(chosen) and int(chosen.view(np.uint64).max()) >= count:
            at = int(np.argmax((chosen < 0) | (chosen >= count)))
            got = f"{int(chosen[at])} at [{at}]"
            raise ArgumentError("requests", f"numbers below {count}, the last batch's", got)
        return np.unique(chosen)

    def _again(self, batch: Batch) -> WorkPlan:
        """Returns a new plan of a batch whose lengths were checked."""
        if batch.query_lengths is None:
            return self.plan_decode(batch.kv_lengths)
        tiles = query_tiles(
            self.limits, self._costs, batch.query_lengths, batch.kv_lengths, batch.bounds
        )
        batch = batch._replace(grows=_grows(tiles, batch.bounds))
        return self._planned(batch, self._write(tiles))

    def _write(self, tiles: Tiles, whole: Rows | None = None) -> Counts:
        """Writes the plan of these tiles; `whole` are the items of a plan that splits none."""
        if not len(tiles.granules):
            self._sections.cta_indptr.fill(0)
            return Counts(0, 0, 0)
        if self.limits.batch_invariant:
            return self._with_pieces(tiles)
        limits, sections = self.limits, self._sections
        if whole is None:
            items = whole_items(tiles, limits.num_kv_heads)
            if len(items) > limits.num_ctas and shares_kv(tiles):
                dealt = deal(limits, self._costs, tiles)
                return write_dealt(limits, sections, tiles, dealt, items)
            whole = rows_of(items)
        return write_line(limits, sections, tiles.begin, cuts_of(self._shares, tiles), whole)

    def _planned(self, batch: Batch, counts: Counts) -> WorkPlan:
        self._plan = WorkPlan(self._sections, self.layout, counts)
        self._batch, self._lengths, self._longest = batch, batch.kv_lengths, batch.longest
        self._behind = 0
        self._left = 0 if not batch.grows else 1
        if batch.grows and not self.limits.batch_invariant:
            self._left = self.limits.kv_tile
        return self._plan

    def _with_pieces(self, tiles: Tiles) -> Counts:
        pieces = fixed_pieces(self.limits, tiles)
        assignment = assign(self.limits, piece_costs(self._costs, tiles, pieces))
        return write_pieces(self.limits, self._sections, tiles, pieces, assignment)

    def _room(self, batch: Batch, lengths: Array) -> int:
        """Returns by how much any of these lengths may grow before the batch's plan is too old."""
        limits = self.limits
        if not batch.grows or not len(lengths):
            return 0
        if not limits.batch_invariant:
            return limits.kv_tile - int((lengths - batch.kv_lengths).max())
        if batch.bounds.lower:
            return 0
        # A request without KV has a piece too, as if it had one row.
        last, planned = (np.maximum(rows, 1) - 1 for rows in (lengths, batch.kv_lengths))
        if (last // limits.chunk > planned // limits.chunk).any():
            return 0
        return limits.chunk - int((last % limits.chunk).max())

    def _query_lengths(self, starts: Array, requests: int) -> Array:
        limits = self.limits
        if len(starts) != requests + 1:
            expected = f"{requests + 1} entries, one more than kv_len"
            raise ArgumentError("qo_indptr", expected, str(len(starts)))
        if starts[0] != 0:
            raise ArgumentError("qo_indptr", "0 as the first entry", str(int(starts[0])))
        lengths = starts[1:] - starts[:-1]
        if requests and int(lengths.min()) < 0:
            at = int(np.argmax(lengths < 0)) + 1
            got = f"{int(starts[at])} after {int(starts[at - 1])} at [{at}]"
            raise ArgumentError("qo_indptr", "entries that never decrease", got)
        if int(starts[-1]) > limits.query_rows:
            expected = f"at most {limits.query_rows} query rows, as declared"
            raise ArgumentError("qo_indptr", expected, str(int(starts[-1])))
        return lengths

    def _check_kv(self, lengths: Array) -> int:
        """Returns the largest length."""
        limits = self.limits
        if len(lengths) > limits.requests:
            expected = f"at most {limits.requests} requests, as declared"
            raise ArgumentError("kv_len", expected, str(len(lengths)))
        # Negative lengths are the largest of all, seen as unsigned.
        at = lengths.view(np.uint64).argmax() if len(lengths) else 0
        longest = int(lengths[at]) if len(lengths) else 0
        if not 0 <= longest <= limits.kv_len:
            at = int(np.argmax((lengths < 0) | (lengths > limits.kv_len)))
            expected = f"0 to {limits.kv_len} KV rows, as declared"
            raise ArgumentError("kv_len", expected, f"{int(lengths[at])} at [{at}]")
        if limits.kv_total and int(lengths.sum()) > limits.kv_total:
            expected = f"at most {limits.kv_total} KV rows in all, as declared"
            raise ArgumentError("kv_len", expected, str(int(lengths.sum())))
        return longest


def _grows(tiles: Tiles, bounds: KvBounds) -> bool:
    """Tells whether items hold for longer requests too: ends that are written down don't move."""
    open_ended = bool(np.all(np.equal(tiles.stop, OPEN_END)))
    return open_ended and all(bound.slope >= 0 for bound in bounds.lower)


def _integers(values: object, name: str) -> Array:
    """Returns a one-dimensional integer array as int64."""
    if isinstance(values, np.ndarray):
        array = cast("npt.NDArray[Any]", values)
        if array.dtype is _INT64 and array.ndim == 1:
            return array
        if array.ndim == 1 and array.dtype.kind in "iu":
            if array.dtype == np.uint64 and array.size and int(array.max()) > 2**63 - 1:
                raise ArgumentError(name, "numbers of 63 bits", str(int(array.max())))
            return array.astype(np.int64, copy=False)
        got = f"{array.ndim} dimensions of {array.dtype}"
    else:
        got = type(values).__name__
    raise ArgumentError(name, "a one-dimensional integer array in host memory", got)
