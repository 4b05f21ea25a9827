"""
The attention of one query tile: gather, product, softmax, product, tile after tile of keys.

The keys and values of the next tiles are under way while one tile is worked on. At the head of
each step the CTA waits for its keys; that barrier also tells that every thread is done with the
tile before, whose stage the newest copy may then overwrite.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xdsl.dialects.builtin import BFloat16Type, Float16Type, FloatAttr, f32, i32
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
from .confined import ConfinedValues, hidden_weights
from .geometry import Geometry
from .key_tiles import KeyRings, KeyTiles
from .kv_range import KvRange, Masked, where_masked
from .params import Params
from .regions import Scope
from .request import Request, query_rows
from .scores import Scores, change_scores
from .softmax import (
    STATE_FIELDS,
    RowState,
    add_weights,
    emit_initial_state,
    emit_probabilities,
    emit_totals,
    total_type,
)
from .transforms import transform_keys, transform_query, transform_values

InFlight = Sequence[SSAValue]


@dataclass(frozen=True)
class QueryTile:
    """
    What the attention of a query tile needs, and its parts in the order of the program.

    `scores` are those of its blocks of rows, `query_ring` is the shared memory of the queries, with
    a stage for each block, `rings` that of the tiles of keys and values.
    """

    emit: Emitter
    geometry: Geometry
    params: Params
    request: Request
    scores: Sequence[Scores]
    tiles: KvRange
    query_ring: SSAValue
    rings: KeyRings

    @property
    def scope(self) -> Scope:
        """What is known of the keys and values."""
        return self.scores[0].scope

    def visit_keys(self, cut_at_front: bool) -> list[RowState]:
        """Appends the copies and the loops: tiles that need a mask are peeled from the others."""
        emit, geometry = self.emit, self.geometry
        # Start all copies, then take the queries as soon as they are there.
        query_copies = [self.copy_query(block) for block in range(geometry.blocks)]
        in_flight: list[SSAValue] = []
        for ahead in range(geometry.stages - 1):
            in_flight += self.copy_tile(self.tiles.ahead(emit, self.tiles.begin, ahead))
        queries: Sequence[SSAValue] = emit.op(WaitOp, *query_copies).results
        for scores, query in zip(self.scores, queries, strict=True):
            transform_query(scores.scope, query)
        if geometry.query_in_registers:
            queries = [self.query_fragment(query) for query in queries]

        starts = [
            emit_initial_state(emit, geometry, scores.softmax, total_type(geometry)).values()
            for scores in self.scores
        ]
        states = STATE_FIELDS * geometry.blocks

        def body(tile: SSAValue, carried: Sequence[SSAValue], masked: Masked) -> Sequence[SSAValue]:
            before = _states(carried[:states])
            after, in_flight = self.step(queries, tile, before, carried[states:], masked)
            return *(value for state in after for value in state.values()), *in_flight

        first = (*(value for start in starts for value in start), *in_flight)
        carried = self.tiles.visit(emit, cut_at_front, first, body)
        carried = self.visit_last_block(queries, carried)
        emit.op(DrainOp, carried[states:])
        return [emit_totals(emit, geometry, state) for state in _states(carried[:states])]

    def visit_last_block(
        self, queries: Sequence[SSAValue], carried: Sequence[SSAValue]
    ) -> Sequence[SSAValue]:
        """Appends the loop over tiles that rows of the last block alone see, if there is one."""
        tiles, states = self.tiles, STATE_FIELDS * self.geometry.blocks
        if tiles.last_block_begin is None:
            return carried
        early = carried[: states - STATE_FIELDS]

        def body(tile: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            before, in_flight = _states(carried[:STATE_FIELDS]), carried[STATE_FIELDS:]
            after, in_flight = self.step(queries[-1:], tile, before, in_flight, True)
            return *after[0].values(), *in_flight

        bounds = tiles.last_block_begin, tiles.end
        return [*early, *self.tiles.loop(self.emit, bounds, carried[len(early) :], body)]

    def step(
        self,
        queries: Sequence[SSAValue],
        tile: SSAValue,
        states: Sequence[RowState],
        in_flight: InFlight,
        masked: Masked,
    ) -> tuple[list[RowState], InFlight]:
        """Appends the work on one tile of keys, for the last blocks: those that have queries."""
        emit, geometry = self.emit, self.geometry
        tiles = self.key_tiles(self.first_key(tile))
        keys = tiles.landed_keys(in_flight[0])
        ahead = self.copy_tile(self.tiles.ahead(emit, tile, geometry.stages - 1))
        transform_keys(self.scope, keys, self.first_key(tile))
        products = self.queries_times_keys(queries, self.team_rows(keys))
        first_key = emit.add(self.first_key(tile), self.team_offset())
        weighed = [
            self.weights(scores, product, first_key, state, masked)
            for scores, product, state in zip(
                self.scores[-len(queries) :], products, states, strict=True
            )
        ]
        values = tiles.landed_values(in_flight[1])
        transform_values(self.scope, values, self.first_key(tile))
        hides = self.scores[0].hides(masked)
        states = self.add_weighted_values(weighed, self.team_rows(values), hides)
        return states, (*in_flight[2:], *ahead)

    def weights(
        self,
        of_rows: Scores,
        products: SSAValue,
        first_key: SSAValue,
        state: RowState,
        masked: Masked,
    ) -> tuple[SSAValue, RowState]:
        """Appends the weights of a tile of values for one block of rows, and its new state."""
        emit, geometry = self.emit, self.geometry
        scores = change_scores(emit, of_rows, products, first_key, masked)
        scores.name_hint = "scores"
        if of_rows.softmax:
            weights, state = emit_probabilities(emit, geometry, scores, state, of_rows.unit)
            weights = hidden_weights(emit, weights, scores, of_rows.hides(masked))
        else:
            weights, state = scores, add_weights(emit, geometry, scores, state)
        weights.name_hint = "probabilities"
        name_fields(state)
        if geometry.blocks > 1:
            # Rounded at once, before the next block has its own.
            weights = self.rounded(weights)
        return weights, state

    def rounded(self, weights: SSAValue) -> SSAValue:
        """Appends the rounding of weights, if they are not rounded, to an operand of a product."""
        geometry = self.geometry
        kind = self._operand(geometry.rows, geometry.team_keys, FragmentLayout.MMA_A)
        if weights.type == kind:
            return weights
        return self.emit.result(ConvertLayoutOp, weights, kind)

    def first_key(self, tile: SSAValue) -> SSAValue:
        """Appends the position of the first key of a tile."""
        emit, lists = self.emit, self.params.kv_tiles
        if lists is None:
            return tile
        # An entry behind the list is not used, nor read: there may be none at all.
        entry = emit.max(emit.min(tile, emit.sub(self.tiles.end, 1)), 0)
        return emit.mul(emit.result(LoadOp, lists, entry, i32), self.geometry.kv_tile)

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

    def copy_query(self, block: int) -> SSAValue:
        """Appends the start of the copy of a block of queries."""
        emit, geometry, request = self.emit, self.geometry, self.scores[block].scope.request
        rows = query_rows(emit, self.params, request, geometry, geometry.head_dim)
        always, stage = emit.constant_true(), emit.integer(block)
        return emit.value(CopyAsyncOp((self.params.q,), (self.query_ring,), stage, always, rows))

    def copy_tile(self, tile: SSAValue) -> InFlight:
        """Appends the start of the copies of a tile of keys and values, if there is one."""
        emit, geometry = self.emit, self.geometry
        stage = self.tiles.stage(emit, tile, geometry.stages)
        exists = emit.compare("slt", tile, self.tiles.end)
        return self.key_tiles(self.first_key(tile)).copy(stage, exists)

    def key_tiles(self, first_key: SSAValue) -> KeyTiles:
        """Returns what is known of the tile of keys that begins at one."""
        return KeyTiles(self.scope, self.rings, first_key)

    def query_fragment(self, query: SSAValue) -> SSAValue:
        """Appends the load of a whole block of queries into registers."""
        emit, geometry = self.emit, self.geometry
        kind = self._operand(geometry.rows, geometry.head_dim, FragmentLayout.MMA_A)
        return emit.result(LdmatrixOp, query, emit.index(0), emit.index(0), kind)

    def queries_times_keys(self, queries: Sequence[SSAValue], keys: SSAValue) -> Sequence[SSAValue]:
        """Appends the products of all blocks and the team's keys, [rows, team_keys] each."""
        emit, geometry = self.emit, self.geometry
        kind = fragment_type((geometry.rows, geometry.team_keys), f32, FragmentLayout.MMA_C)
        step_a = self._operand(geometry.rows, 16, FragmentLayout.MMA_A)
        step_b = self._operand(16, geometry.team_keys, FragmentLayout.MMA_B)

        def step(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            column = emit.mul(index, 16)
            b = emit.result(LdmatrixOp, keys, emit.index(0), column, step_b)
            sums: list[SSAValue] = []
            for query, before in zip(queries, carried, strict=True):
                if geometry.query_in_registers:
                    a = emit.result(ExtractOp, query, index)
                else:
                    a = emit.result(LdmatrixOp, query, emit.index(0), column, step_a)
                sums.append(emit.result(MmaOp, a, b, before))
            return sums

        zero = emit.result(FillOp, emit.float32(0.0), kind)
        return emit.unrolled(geometry.head_dim // 16, [zero] * len(queries), step)

    def add_weighted_values(
        self, weighed: Sequence[tuple[SSAValue, RowState]], values: SSAValue, hides: Masked
    ) -> list[RowState]:
        """Appends the products of weights and the team's values, added to the states' outputs."""
        emit, geometry = self.emit, self.geometry
        weights = [self.rounded(one) for one, _ in weighed]
        states = [state for _, state in weighed]

        def step(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            def whole() -> Sequence[SSAValue]:
                return self.add_products(weights, values, index, carried)

            def confined() -> Sequence[SSAValue]:
                return self.add_confined_products(weights, values, index, carried)

            types = [value.type for value in carried]
            return where_masked(emit, hides, types, confined, whole)

        steps = geometry.team_keys // 16
        if not geometry.sums_by_product:
            outs = emit.unrolled(steps, [state.out for state in states], step)
            return [replace(state, out=out) for state, out in zip(states, outs, strict=True)]
        before = [value for state in states for value in (state.out, state.total)]
        after = emit.unrolled(steps, before, step)
        return [
            replace(state, out=out, total=total)
            for state, out, total in zip(states, after[::2], after[1::2], strict=True)
        ]

    def add_products(
        self,
        weights: Sequence[SSAValue],
        values: SSAValue,
        index: SSAValue,
        sums: Sequence[SSAValue],
    ) -> Sequence[SSAValue]:
        """Appends one step of the products with values, and with ones where weights are added."""
        emit, geometry, row = self.emit, self.geometry, self.emit.mul(index, 16)
        step_b = self._operand(16, geometry.head_dim, FragmentLayout.MMA_B)
        b = emit.value(LdmatrixOp(values, row, emit.index(0), step_b, transpose=True))
        factors = [b, self.ones()] if geometry.sums_by_product else [b]
        parts = [emit.result(ExtractOp, one, index) for one in weights]
        products = ((part, factor) for part in parts for factor in factors)
        return [
            emit.result(MmaOp, part, factor, before)
            for (part, factor), before in zip(products, sums, strict=True)
        ]

    def add_confined_products(
        self,
        weights: Sequence[SSAValue],
        values: SSAValue,
        index: SSAValue,
        sums: Sequence[SSAValue],
    ) -> Sequence[SSAValue]:
        """Appends that step for values that may be no numbers, of keys that some rows hide."""
        emit, signed = self.emit, not self.scores[0].softmax
        confined = ConfinedValues(emit, values, emit.index(0), signed)
        key, after = emit.mul(index, 16), list[SSAValue]()
        for one in weights:
            part = emit.result(ExtractOp, one, index)
            after.append(confined.add_products(part, key, sums[len(after)]))
            if self.geometry.sums_by_product:
                after.append(emit.result(MmaOp, part, self.ones(), sums[len(after)]))
        return after

    def ones(self) -> SSAValue:
        """Appends what sums up the weights of 16 keys in a product, in each of 8 columns."""
        element = self.geometry.element_type
        if not isinstance(element, Float16Type | BFloat16Type):
            raise TypeError(f"expected elements of f16 or bf16, got {element}")
        one = self.emit.constant(FloatAttr(1.0, element))
        return self.emit.result(FillOp, one, self._operand(16, 8, FragmentLayout.MMA_B))

    def _operand(self, rows: int, columns: int, layout: FragmentLayout) -> FragmentType:
        return fragment_type((rows, columns), self.geometry.element_type, layout)


def _states(values: Sequence[SSAValue]) -> list[RowState]:
    """Returns the states of the blocks, out of what loops carry of them."""
    starts = range(0, len(values), STATE_FIELDS)
    return [RowState(*values[start : start + STATE_FIELDS]) for start in starts]
