"""
Where the result of a work item goes: to the output, or to a slot of partial results.

A query tile whose keys are split over several work items is merged by the CTA that writes the last
of its partial results. It takes them in the order of their slots, so that a result depends on how
the keys were split, and on nothing that happens while the kernel runs.

Source: Ye et al., FlashInfer, MLSys 2025, section 3.3 (the merge of partial results).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from xdsl.dialects.builtin import i32
from xdsl.ir import SSAValue

from ...dialects.tile import (
    AccumulateRowsOp,
    ArriveOp,
    BarrierOp,
    LoadOp,
    LoadRowsOp,
    RingType,
    StoreFragmentOp,
    StoreRowsOp,
    TeamIndexOp,
    ViewOp,
)
from ..emitter import Emitter
from .geometry import Geometry, Work
from .params import Params
from .regions import Scope
from .request import (
    SLOT,
    QueryRows,
    SlotRows,
    emit_query_rows,
    emit_request,
    load_field,
    query_rows,
)
from .scales import scale_after
from .softmax import (
    RowState,
    combine_teams,
    emit_added_partial,
    emit_added_sum,
    emit_initial_state,
    emit_log_total,
    emit_result,
    row_type,
    scaled_by,
)
from .transforms import changes_results, finish_rows


@dataclass(frozen=True)
class Results:
    """
    What the results of a work item need.

    `ring` is the shared memory of the queries, through which rows go to the output in one piece,
    `scratch` that of the keys, none of which is in flight any more. A slot has `slot_rows` rows.
    Without a softmax a slot holds sums of weighted values, and the totals of weights as their lse.
    """

    scope: Scope
    item: SSAValue
    slot_rows: int
    ring: SSAValue
    scratch: SSAValue

    @property
    def emit(self) -> Emitter:
        """Where ops are appended."""
        return self.scope.emit

    @property
    def params(self) -> Params:
        """The kernel's parameters."""
        return self.scope.params

    @property
    def softmax(self) -> bool:
        """Whether the weights are those of a softmax."""
        return self.scope.variant.no_softmax is None

    def store(
        self, geometry: Geometry, state: RowState, unit: SSAValue | None, block: int = 0
    ) -> None:
        """
        Appends the division by the totals, and the stores to the output or to a slot.

        The rows are those of a block of the query tile.
        """
        emit, before = self.emit, block * geometry.rows
        if block:
            # Every thread is done with the rows of the block before.
            emit.op(BarrierOp)
        state = self.combined(geometry, state, unit)
        out, lse = self._divided(geometry, state, unit)
        rows = emit_query_rows(emit, self.params, geometry, self.item)
        rows = replace(rows, first_row=emit.add(rows.first_row, before))
        factor = scale_after(self.scope, "value", rows.kv_head)
        if factor is not None:
            out = scaled_by(emit, out, factor)
        slot = load_field(emit, self.params, geometry, self.item, SLOT)

        def store_partial() -> None:
            place = SlotRows(rows, emit.add(self._rows_before(slot), before))
            self.store_partial(geometry, place, out, lse)

        emit.branch(
            emit.compare("slt", slot, 0),
            lambda: self._store_output(geometry, rows, out, lse),
            store_partial,
        )

    def merge(self, geometry: Geometry) -> None:
        """Appends the merges of the item's rows, by the CTA that filled the last slot of them."""
        emit, params = self.emit, self.params
        if geometry.work is Work.CASCADE:
            self._merge_groups(geometry)
            return
        merge = emit.result(LoadOp, params.item_merge, self.item, i32)

        def arrive() -> None:
            first, count = self._merge_fields(geometry, merge)
            last = emit.result(ArriveOp, params.counters, merge, count, self.scratch)

            def merge_tile() -> None:
                tile = emit_query_rows(emit, params, geometry, self.item)
                self._merge_tile(geometry, tile, first, count)

            emit.when(last, merge_tile)

        emit.when(emit.compare("sge", merge, 0), arrive)

    def _merge_groups(self, geometry: Geometry) -> None:
        """Appends the merges of a cascade: one for each request that has rows in the item."""
        emit, params = self.emit, self.params
        field = emit.mul(self.item, 2)
        first_merge, merges = (
            emit.result(LoadOp, params.item_merge, emit.add(field, number), i32)
            for number in range(2)
        )

        def each(number: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            merge = emit.add(first_merge, number)
            first_row, rows, head, first, count = self._merge_fields(geometry, merge)
            last = emit.result(ArriveOp, params.counters, merge, count, self.scratch)
            end = emit.add(first_row, rows)
            group = QueryRows(head, first_row, head, head, end)
            emit.when(last, lambda: self._merge_tile(geometry, group, first, count))
            return ()

        emit.loop((emit.integer(0), merges), (), each)

    def _merge_fields(self, geometry: Geometry, merge: SSAValue) -> list[SSAValue]:
        """Appends the loads of the numbers of a merge."""
        emit, fields = self.emit, geometry.work.merge_fields
        first_field = emit.mul(merge, fields)
        places = (emit.add(first_field, number) for number in range(fields))
        return [emit.result(LoadOp, self.params.merges, place, i32) for place in places]

    def _divided(
        self, geometry: Geometry, state: RowState, unit: SSAValue | None
    ) -> tuple[SSAValue, SSAValue]:
        """Appends the division by the totals; without a softmax the sums are what they are."""
        if self.softmax:
            return emit_result(self.emit, geometry, state, unit)
        return state.out, state.total

    def _finished(
        self, geometry: Geometry, rows: QueryRows, out: SSAValue, lse: SSAValue
    ) -> tuple[SSAValue, SSAValue]:
        """Appends what the variant changes of results of all keys that the rows see."""
        emit = self.emit
        if not self.softmax:
            lse = emit_log_total(emit, geometry, lse)
        if not changes_results(self.scope.variant):
            return out, lse
        request = emit_request(emit, self.params, geometry, self.item)
        request = replace(request, **vars(rows))
        scope = replace(self.scope, geometry=geometry, request=request)
        return finish_rows(scope, out, lse)

    def _store_output(
        self, geometry: Geometry, rows: QueryRows, out: SSAValue, lse: SSAValue
    ) -> None:
        emit, ring = self.emit, ring_of(self.emit, self.ring, geometry.out_ring)
        out, lse = self._finished(geometry, rows, out, lse)
        self.store_tile(out, ring)
        emit.op(BarrierOp)
        out_rows, lse_rows = (
            query_rows(emit, self.params, rows, geometry, elements)
            for elements in (geometry.head_dim, 1)
        )
        emit.append(StoreRowsOp(ring, self.params.out, out_rows))
        emit.append(StoreRowsOp(lse, self.params.lse, lse_rows))

    def combined(self, geometry: Geometry, state: RowState, unit: SSAValue | None) -> RowState:
        """Appends the merge of the states of all teams, each of which has seen other keys."""
        return combine_teams(self.emit, geometry, state, unit, self.scratch)

    def store_tile(self, out: SSAValue, ring: SSAValue) -> None:
        """Appends the store of the rounded output into a ring, which holds all of its columns."""
        self.emit.op(StoreFragmentOp, out, ring)

    def store_partial(
        self, geometry: Geometry, place: SlotRows, out: SSAValue, lse: SSAValue
    ) -> None:
        """Appends the stores of the average and its log-sum-exp into a slot."""
        emit, params = self.emit, self.params
        emit.append(StoreRowsOp(out, params.partial_out, place.emit(emit, geometry.head_dim)))
        emit.append(StoreRowsOp(lse, params.partial_lse, place.emit(emit, 1)))

    def _merge_tile(
        self, geometry: Geometry, tile: QueryRows, first: SSAValue, count: SSAValue
    ) -> None:
        """
        Appends the merge of the rows of a tile, as many at a time as the teams share.

        They have `count` partial results: those of slots from `first` on, or of a cascade's parts.
        """
        emit = self.emit
        present = emit.min(emit.sub(tile.packed_rows, tile.first_row), self.slot_rows)
        blocks = emit.divu(emit.add(present, geometry.rows - 1), geometry.rows)

        def each(block: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            # Every thread is done with the rows of the block before.
            emit.op(BarrierOp)
            before = emit.mul(block, geometry.rows)
            rows = replace(tile, first_row=emit.add(tile.first_row, before))
            state = self.merge_rows(geometry, SlotRows(rows, first, before), count)
            self._store_output(geometry, rows, *self._divided(geometry, state, None))
            return ()

        emit.loop((emit.integer(0), blocks), (), each)

    def merge_rows(self, geometry: Geometry, place: SlotRows, count: SSAValue) -> RowState:
        """Appends the merge of `count` partial results; teams take every so many of them."""
        emit, teams = self.emit, geometry.teams
        team = emit.result(TeamIndexOp, geometry.rows) if teams > 1 else emit.integer(0)
        turns = emit.divu(emit.sub(emit.add(count, teams - 1), team), teams)

        def part(turn: SSAValue) -> SSAValue:
            return emit.add(emit.add(place.first, team), emit.mul(turn, teams))

        merged = self.added_parts(geometry, place, turns, part)
        return combine_teams(emit, geometry, merged, None, self.scratch)

    def added_parts(
        self,
        geometry: Geometry,
        place: SlotRows,
        turns: SSAValue,
        part: Callable[[SSAValue], SSAValue],
        column: SSAValue | None = None,
    ) -> RowState:
        """Appends the merge of so many partial results, of their columns from one on."""
        emit, params = self.emit, self.params

        def add(turn: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            at = replace(place, first=self._first_row(part(turn)))
            lse = LoadRowsOp(params.partial_lse, at.emit(emit, 1), row_type(geometry))
            out_rows = at.emit(emit, geometry.head_dim, column)

            def add_out(out: SSAValue, weight: SSAValue) -> SSAValue:
                return emit.value(AccumulateRowsOp(out, weight, params.partial_out, out_rows))

            state = RowState(*carried)
            merge = emit_added_partial if self.softmax else emit_added_sum
            return merge(emit, geometry, state, emit.value(lse), add_out).values()

        initial = emit_initial_state(emit, geometry, self.softmax, row_type(geometry))
        return RowState(*emit.loop((emit.integer(0), turns), initial.values(), add))

    def _first_row(self, part: SSAValue) -> SSAValue:
        """Appends the first row of a partial result: that of a slot, or of a cascade's part."""
        if self.params.parts is None:
            return self._rows_before(part)
        return self.emit.result(LoadOp, self.params.parts, part, i32)

    def _rows_before(self, slot: SSAValue) -> SSAValue:
        """Appends the first row of a slot; items of a cascade name the row itself."""
        return slot if self.params.parts is not None else self.emit.mul(slot, self.slot_rows)


def ring_of(emit: Emitter, ring: SSAValue, kind: RingType) -> SSAValue:
    """Appends the view of the shared memory of the queries as tiles of another type."""
    return ring if ring.type == kind else emit.result(ViewOp, ring, kind)
