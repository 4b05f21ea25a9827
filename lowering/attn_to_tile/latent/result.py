"""The result of a work item whose columns are shared by the teams of a CTA."""

from dataclasses import dataclass, replace

from xdsl.ir import SSAValue

from ....dialects.tile import ReduceKind, StoreFragmentOp, StoreRowsOp, TeamReduceOp
from ..geometry import Geometry
from ..request import SlotRows
from ..result import Results
from ..softmax import RowState


@dataclass(frozen=True)
class LatentResults(Results):
    """
    What the results of a work item need; `column` is the first of this team's columns.

    All teams know the maximum of a row; each has the total of its own keys.
    """

    column: SSAValue

    def combined(self, geometry: Geometry, state: RowState, unit: SSAValue | None) -> RowState:
        """Appends the sum of the totals of all teams, whose maximum is the same."""
        total = self.emit.result(TeamReduceOp, ReduceKind.SUM, state.total, self.scratch, True)
        return replace(state, total=total)

    def store_tile(self, out: SSAValue, ring: SSAValue) -> None:
        """Appends the store of this team's columns into a ring."""
        self.emit.op(StoreFragmentOp, out, ring, self.column)

    def store_partial(
        self, geometry: Geometry, place: SlotRows, out: SSAValue, lse: SSAValue
    ) -> None:
        """Appends the stores of this team's columns and of the log-sum-exp into a slot."""
        emit, params = self.emit, self.params
        rows = place.emit(emit, geometry.head_dim, self.column)
        emit.append(StoreRowsOp(out, params.partial_out, rows, each_team=True))
        emit.append(StoreRowsOp(lse, params.partial_lse, place.emit(emit, 1)))

    def merge_rows(self, geometry: Geometry, place: SlotRows, count: SSAValue) -> RowState:
        """Appends the merge of this team's columns of all slots."""
        emit = self.emit
        return self.added_parts(
            geometry, place, count, lambda turn: emit.add(place.first, turn), self.column
        )
