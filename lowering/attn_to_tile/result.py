"""
Where the result of a work item goes: to the output, or to a slot of partial results.

A query tile whose keys are split over several work items is merged by the CTA that writes the last
of its partial results. It takes them in the order of their slots, so that a result depends on how
the keys were split, and on nothing that happens while the kernel runs.

Source: Ye et al., FlashInfer, MLSys 2025, section 3.3 (the merge of partial results).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import i32
from xdsl.ir import Region, SSAValue

from ...dialects.tile import (
    AccumulateRowsOp,
    ArriveOp,
    BarrierOp,
    FragmentLayout,
    LoadOp,
    LoadRowsOp,
    StoreFragmentOp,
    StoreRowsOp,
    TeamIndexOp,
)
from ..emitter import Emitter
from .geometry import Geometry
from .request import SLOT, Params, QueryRows, load_field, partial_rows, query_rows
from .softmax import (
    RowState,
    combine_teams,
    emit_added_partial,
    emit_initial_state,
    emit_result,
    row_type,
)


@dataclass(frozen=True)
class Result:
    """
    What the result of a work item needs.

    `ring` is the shared memory through which rows go to the output in one piece, `scratch` that of
    the keys, none of which is in flight any more. `slot_rows` are the rows of a slot.
    """

    emit: Emitter
    geometry: Geometry
    params: Params
    rows: QueryRows
    item: SSAValue
    slot_rows: int
    ring: SSAValue
    scratch: SSAValue

    def store(self, state: RowState, unit: SSAValue | None) -> None:
        """Appends the division by the totals and the stores."""
        emit = self.emit
        state = combine_teams(emit, self.geometry, state, unit, self.scratch)
        out, lse = emit_result(emit, self.geometry, state, unit)
        slot = load_field(emit, self.params, self.item, SLOT)
        emit.branch(
            emit.compare("slt", slot, 0),
            lambda: self._store_output(out, lse),
            lambda: self._store_partial(out, lse, slot),
        )

    def _store_output(self, out: SSAValue, lse: SSAValue) -> None:
        emit, geometry, params = self.emit, self.geometry, self.params
        emit.append(StoreFragmentOp(out, self.ring))
        emit.append(BarrierOp())
        out_rows = query_rows(emit, self.rows, geometry, geometry.head_dim)
        emit.append(StoreRowsOp(self.ring, params.out, out_rows))
        emit.append(StoreRowsOp(lse, params.lse, query_rows(emit, self.rows, geometry, 1)))

    def _store_partial(self, out: SSAValue, lse: SSAValue, slot: SSAValue) -> None:
        emit, params = self.emit, self.params
        emit.append(StoreRowsOp(out, params.partial_out, self._rows(slot, self.geometry.head_dim)))
        emit.append(StoreRowsOp(lse, params.partial_lse, self._rows(slot, 1)))
        merge = emit.value(LoadOp(params.item_merge, self.item, i32))
        first_field = emit.mul(merge, 2)
        first = emit.value(LoadOp(params.merges, first_field, i32))
        count = emit.value(LoadOp(params.merges, emit.add(first_field, 1), i32))
        last = emit.value(ArriveOp(params.counters, merge, count, self.scratch))
        emit.when(last, lambda: self._merge(first, count))

    def _merge(self, first: SSAValue, count: SSAValue) -> None:
        """Appends the merge of `count` partial results; teams take every so many of them."""
        emit, params, geometry = self.emit, self.params, self.geometry
        teams = geometry.teams
        team = emit.value(TeamIndexOp(geometry.rows)) if teams > 1 else emit.integer(0)
        rounds = emit.divu(emit.sub(emit.add(count, teams - 1), team), teams)

        def add(turn: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            slot = emit.add(emit.add(first, team), emit.mul(turn, teams))
            out_rows, lse_rows = self._rows(slot, geometry.head_dim), self._rows(slot, 1)
            lse = emit.value(LoadRowsOp(params.partial_lse, lse_rows, row_type(geometry)))

            def add_out(out: SSAValue, weight: SSAValue) -> SSAValue:
                return emit.value(AccumulateRowsOp(out, weight, params.partial_out, out_rows))

            state = RowState(*carried)
            return emit_added_partial(emit, geometry, state, lse, add_out).values()

        initial = emit_initial_state(emit, geometry, FragmentLayout.ROW)
        merged = emit.loop((emit.integer(0), rounds), initial.values(), add)
        state = combine_teams(emit, geometry, RowState(*merged), None, self.scratch)
        self._store_output(*emit_result(emit, geometry, state, None))

    def _rows(self, slot: SSAValue, elements: int) -> Region:
        return partial_rows(self.emit, self.rows, slot, self.slot_rows, elements)
