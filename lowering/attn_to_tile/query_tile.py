"""
The attention of one query tile: gather, product, softmax, product, tile after tile of keys.

The keys and values of the next tiles are under way while one tile is worked on. At the head of
each step the CTA waits for its keys; that barrier also tells that every thread is done with the
tile before, whose stage the newest copy may then overwrite.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import f32, i32
from xdsl.ir import SSAValue

from ...dialects.tile import (
    ConvertLayoutOp,
    CopyAsyncOp,
    DrainOp,
    ExtractOp,
    FillOp,
    FragmentLayout,
    FragmentType,
    LdmatrixOp,
    LoadOp,
    MmaOp,
    SliceOp,
    TeamIndexOp,
    WaitOp,
    fragment_type,
)
from ..emitter import Emitter, name_fields
from .geometry import Geometry
from .key_tiles import KeyRings, KeyTiles
from .kv_range import KvRange, Masked
from .params import Params
from .request import Request, query_rows
from .scores import Scores, change_scores
from .softmax import (
    RowState,
    add_weights,
    emit_initial_state,
    emit_probabilities,
    emit_totals,
)
from .transforms import transform_keys, transform_query, transform_values

InFlight = Sequence[SSAValue]


@dataclass(frozen=True)
class QueryTile:
    """
    What the attention of a query tile needs, and its parts in the order of the program.

    `query_ring` is the shared memory of the queries, `rings` that of the tiles of keys and values.
    """

    emit: Emitter
    geometry: Geometry
    params: Params
    request: Request
    scores: Scores
    tiles: KvRange
    query_ring: SSAValue
    rings: KeyRings

    def visit_keys(self, cut_at_front: bool) -> RowState:
        """Appends the copies and the loops: tiles that need a mask are peeled from the others."""
        emit, geometry = self.emit, self.geometry
        # Start all copies, then take the queries as soon as they are there.
        query_copy = self.copy_query()
        in_flight: list[SSAValue] = []
        for ahead in range(geometry.stages - 1):
            in_flight += self.copy_tile(emit.add(self.tiles.begin, ahead))
        query = emit.result(WaitOp, query_copy)
        transform_query(self.scores.scope, query)
        if geometry.query_in_registers:
            query = self.query_fragment(query)

        carried = (*emit_initial_state(emit, geometry, self.scores.softmax).values(), *in_flight)

        def body(tile: SSAValue, carried: Sequence[SSAValue], masked: Masked) -> Sequence[SSAValue]:
            state = RowState(*carried[:3])
            state, in_flight = self.step(query, tile, state, carried[3:], masked)
            return *state.values(), *in_flight

        carried = self.tiles.visit(emit, cut_at_front, carried, body)
        emit.op(DrainOp, carried[3:])
        return emit_totals(emit, RowState(*carried[:3]))

    def step(
        self, query: SSAValue, tile: SSAValue, state: RowState, in_flight: InFlight, masked: Masked
    ) -> tuple[RowState, InFlight]:
        """Appends the work on one tile of keys."""
        emit, geometry = self.emit, self.geometry
        tiles = self.key_tiles(self.first_key(tile))
        keys = tiles.landed_keys(in_flight[0])
        ahead = self.copy_tile(emit.add(tile, geometry.stages - 1))
        transform_keys(self.scores.scope, keys, self.first_key(tile))
        products = self.query_times_keys(query, self.team_rows(keys))
        first_key = emit.add(self.first_key(tile), self.team_offset())
        scores = change_scores(emit, self.scores, products, first_key, masked)
        scores.name_hint = "scores"
        if self.scores.softmax:
            unit = self.scores.unit
            probabilities, state = emit_probabilities(emit, geometry, scores, state, unit)
        else:
            probabilities, state = scores, add_weights(emit, geometry, scores, state)
        probabilities.name_hint = "probabilities"
        name_fields(state)
        values = tiles.landed_values(in_flight[1])
        transform_values(self.scores.scope, values, self.first_key(tile))
        out = self.add_weighted_values(probabilities, self.team_rows(values), state.out)
        return RowState(out, state.maximum, state.total), (*in_flight[2:], *ahead)

    def first_key(self, tile: SSAValue) -> SSAValue:
        """Appends the position of the first key of a tile."""
        emit, lists = self.emit, self.params.kv_tiles
        if lists is not None:
            # An entry behind the list is not used, nor read: there may be none at all.
            entry = emit.max(emit.min(tile, emit.sub(self.tiles.end, 1)), 0)
            return emit.mul(emit.result(LoadOp, lists, entry, i32), self.geometry.kv_tile)
        return emit.add(emit.mul(tile, self.geometry.kv_tile), self.request.kv_begin)

    def team_offset(self) -> SSAValue | int:
        """Appends the first of this team's keys in a tile."""
        emit, geometry = self.emit, self.geometry
        if geometry.teams == 1:
            return 0
        return emit.mul(emit.result(TeamIndexOp, geometry.rows), geometry.team_keys)

    def team_rows(self, stage: SSAValue) -> SSAValue:
        """Appends the choice of this team's keys or values of a tile."""
        offset = self.team_offset()
        if isinstance(offset, int):
            return stage
        return self.emit.result(SliceOp, stage, offset, self.geometry.team_stage)

    def copy_query(self) -> SSAValue:
        """Appends the start of the copy of the query tile."""
        emit, geometry = self.emit, self.geometry
        rows = query_rows(emit, self.params, self.request, geometry, geometry.head_dim)
        always = emit.constant_true()
        copy = CopyAsyncOp((self.params.q,), (self.query_ring,), emit.integer(0), always, rows)
        return emit.value(copy)

    def copy_tile(self, tile: SSAValue) -> InFlight:
        """Appends the start of the copies of a tile of keys and values, if there is one."""
        emit, geometry = self.emit, self.geometry
        stage = emit.remu(tile, geometry.stages)
        exists = emit.compare("slt", tile, self.tiles.end)
        return self.key_tiles(self.first_key(tile)).copy(stage, exists)

    def key_tiles(self, first_key: SSAValue) -> KeyTiles:
        """Returns what is known of the tile of keys that begins at one."""
        return KeyTiles(self.scores.scope, self.rings, first_key)

    def query_fragment(self, query: SSAValue) -> SSAValue:
        """Appends the load of the whole query tile into registers."""
        emit, geometry = self.emit, self.geometry
        kind = self._operand(geometry.rows, geometry.head_dim, FragmentLayout.MMA_A)
        return emit.result(LdmatrixOp, query, emit.index(0), emit.index(0), kind)

    def query_times_keys(self, query: SSAValue, keys: SSAValue) -> SSAValue:
        """Appends the product of the query tile and the team's keys: [rows, team_keys]."""
        emit, geometry = self.emit, self.geometry
        kind = fragment_type((geometry.rows, geometry.team_keys), f32, FragmentLayout.MMA_C)
        step_a = self._operand(geometry.rows, 16, FragmentLayout.MMA_A)
        step_b = self._operand(16, geometry.team_keys, FragmentLayout.MMA_B)

        def step(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            column = emit.mul(index, 16)
            if geometry.query_in_registers:
                a = emit.result(ExtractOp, query, index)
            else:
                a = emit.result(LdmatrixOp, query, emit.index(0), column, step_a)
            b = emit.result(LdmatrixOp, keys, emit.index(0), column, step_b)
            return (emit.result(MmaOp, a, b, carried[0]),)

        zero = emit.result(FillOp, emit.float32(0.0), kind)
        (products,) = emit.unrolled(geometry.head_dim // 16, (zero,), step)
        return products

    def add_weighted_values(
        self, probabilities: SSAValue, values: SSAValue, out: SSAValue
    ) -> SSAValue:
        """Appends the product of probabilities and the team's values, added to the output."""
        emit, geometry = self.emit, self.geometry
        kind = self._operand(geometry.rows, geometry.team_keys, FragmentLayout.MMA_A)
        step_b = self._operand(16, geometry.head_dim, FragmentLayout.MMA_B)
        weights = emit.result(ConvertLayoutOp, probabilities, kind)

        def step(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            a = emit.result(ExtractOp, weights, index)
            row = emit.mul(index, 16)
            b = emit.value(LdmatrixOp(values, row, emit.index(0), step_b, transpose=True))
            return (emit.result(MmaOp, a, b, carried[0]),)

        (out,) = emit.unrolled(geometry.team_keys // 16, (out,), step)
        return out

    def _operand(self, rows: int, columns: int, layout: FragmentLayout) -> FragmentType:
        return fragment_type((rows, columns), self.geometry.element_type, layout)
