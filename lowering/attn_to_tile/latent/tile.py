"""
One tile of queries of multi-head latent attention, tile after tile of the cache.

For a tile each team computes the scores of its keys. The greatest of a row is found through shared
memory, and so are the probabilities, in 16 bits, which every team multiplies with its own columns
of the values. Three barriers order a step: the tile has landed, the greatest scores are known, the
probabilities are written. Each of the three also tells that what the next phase overwrites has
been read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from ....dialects.tile import (
    AllocOp,
    BarrierOp,
    CopyAsyncOp,
    DrainOp,
    FillOp,
    FragmentLayout,
    FragmentType,
    LdmatrixOp,
    MmaOp,
    ReduceKind,
    SharedType,
    SliceOp,
    StageOp,
    StoreFragmentOp,
    TeamReduceOp,
    WaitOp,
    WidenOp,
    fragment_type,
)
from ...emitter import Emitter, name_fields
from ..confined import ConfinedValues, hidden_weights
from ..kv_range import KvRange, Masked, where_masked
from ..request import KeyRows, query_rows
from ..scores import Scores, change_scores
from ..softmax import (
    RowState,
    add_weights,
    emit_initial_state,
    emit_probabilities,
    emit_totals,
    scaled_by,
    total_type,
)
from .geometry import LatentGeometry
from .params import LatentArrays

InFlight = Sequence[SSAValue]
# Elements that one step of a product takes of each row.
STEP = 16


@dataclass(frozen=True)
class LatentRings:
    """
    The shared memory of a CTA: queries, tiles of the cache, and what teams exchange.

    `wide_ckv` and `wide_kpe` hold a tile of codes that are widened.
    """

    q_nope: SSAValue
    q_pe: SSAValue
    ckv: SSAValue
    kpe: SSAValue
    probabilities: SSAValue
    exchange: SSAValue
    wide_ckv: SSAValue | None = None
    wide_kpe: SSAValue | None = None

    @classmethod
    def alloc(cls, emit: Emitter, geometry: LatentGeometry) -> "LatentRings":
        """Appends the allocations."""
        rings = cls(*(emit.result(AllocOp, ring) for ring in geometry.rings))
        name_fields(rings)
        return rings


@dataclass(frozen=True)
class Team:
    """The first of this team's keys in a tile, and the first of its columns of the output."""

    keys: SSAValue
    columns: SSAValue


@dataclass(frozen=True)
class LatentTile:
    """What the attention of a query tile needs, and its parts in the order of the program."""

    emit: Emitter
    geometry: LatentGeometry
    arrays: LatentArrays
    scores: Scores
    tiles: KvRange
    rings: LatentRings
    team: Team

    def visit_keys(self, cut_at_front: bool) -> RowState:
        """Appends the copies and the loops: tiles that need a mask are peeled from the others."""
        emit, geometry = self.emit, self.geometry
        queries = self.copy_queries()
        in_flight: list[SSAValue] = []
        for ahead in range(geometry.stages - 1):
            in_flight += self.copy_tile(self.tiles.ahead(emit, self.tiles.begin, ahead))
        queries = emit.op(WaitOp, *queries).results

        start = emit_initial_state(emit, geometry, self.scores.softmax, total_type(geometry))
        carried = (*start.values(), *in_flight)

        def body(tile: SSAValue, carried: Sequence[SSAValue], masked: Masked) -> Sequence[SSAValue]:
            state = RowState(*carried[:3])
            state, in_flight = self.step(queries, tile, state, carried[3:], masked)
            return *state.values(), *in_flight

        carried = self.tiles.visit(emit, cut_at_front, carried, body)
        emit.op(DrainOp, carried[3:])
        return emit_totals(emit, geometry, RowState(*carried[:3]))

    def step(
        self,
        queries: Sequence[SSAValue],
        tile: SSAValue,
        state: RowState,
        in_flight: InFlight,
        masked: Masked,
    ) -> tuple[RowState, InFlight]:
        """Appends the work on one tile of keys."""
        emit, geometry = self.emit, self.geometry
        ckv, kpe = self.landed(*in_flight[:2])
        ahead = self.copy_tile(self.tiles.ahead(emit, tile, geometry.stages - 1))
        products = self.query_times_keys(queries, (ckv, kpe))
        first_key = emit.add(tile, self.team.keys)
        scores = change_scores(emit, self.scores, products, first_key, masked)
        hides = self.scores.hides(masked)
        if self.scores.softmax:
            unit = self.scores.unit
            found = emit_probabilities(emit, geometry, scores, state, unit, self.greatest)
            probabilities, state = found
            probabilities = hidden_weights(emit, probabilities, scores, hides)
        else:
            probabilities, state = scores, add_weights(emit, geometry, scores, state)
        emit.op(StoreFragmentOp, probabilities, self.rings.probabilities, self.team.keys)
        emit.op(BarrierOp)
        out = self.add_weighted_values(ckv, state.out, hides)
        return RowState(out, state.maximum, state.total), (*in_flight[2:], *ahead)

    def landed(self, ckv: SSAValue, kpe: SSAValue) -> Sequence[SSAValue]:
        """Appends the wait for both parts of a tile, and returns their stages in 16 bits."""
        emit, rings, converts = self.emit, self.rings, self.geometry.storage.converts
        if rings.wide_ckv is None or rings.wide_kpe is None:
            return emit.op(WaitOp, ckv, kpe).results
        # At the barrier behind the first, every thread is done with the values before the second.
        wide_kpe = emit.value(WidenOp(kpe, rings.wide_kpe, convert=converts))
        return emit.value(WidenOp(ckv, rings.wide_ckv, convert=converts)), wide_kpe

    def greatest(self, highest: SSAValue) -> SSAValue:
        """Appends the greatest of the scores of a row that all teams have."""
        return self.emit.result(TeamReduceOp, ReduceKind.MAX, highest, self.rings.exchange, True)

    def copy_queries(self) -> InFlight:
        """Appends the start of the copies of both parts of the query tile."""
        emit, geometry, scope = self.emit, self.geometry, self.scores.scope
        params, request = scope.params, scope.request
        parts = (
            (self.arrays.q_nope, self.rings.q_nope, geometry.head_dim),
            (self.arrays.q_pe, self.rings.q_pe, geometry.kpe_dim),
        )
        stage, always = emit.integer(0), emit.constant_true()
        return [
            emit.value(
                CopyAsyncOp(
                    (source,),
                    (ring,),
                    stage,
                    always,
                    query_rows(emit, params, request, geometry, elements),
                )
            )
            for source, ring, elements in parts
        ]

    def copy_tile(self, tile: SSAValue) -> InFlight:
        """Appends the start of the copies of both parts of a tile of the cache, if there is one."""
        emit, scope, arrays = self.emit, self.scores.scope, self.arrays
        rows = KeyRows(emit, scope.params, scope.request, self.geometry, tile)
        stage = self.tiles.stage(emit, tile, self.geometry.stages)
        exists = emit.compare("slt", tile, self.tiles.end)
        parts = (
            (arrays.ckv, self.rings.ckv, arrays.ckv_elements),
            (arrays.kpe, self.rings.kpe, arrays.kpe_elements),
        )
        return [
            emit.value(CopyAsyncOp((source,), (ring,), stage, exists, rows.contiguous(elements)))
            for source, ring, elements in parts
        ]

    def query_times_keys(self, queries: Sequence[SSAValue], keys: Sequence[SSAValue]) -> SSAValue:
        """Appends the product of the query tile and the team's keys: [rows, team_keys]."""
        emit, geometry = self.emit, self.geometry
        kind = fragment_type((geometry.rows, geometry.team_keys), f32, FragmentLayout.MMA_C)
        products = emit.result(FillOp, emit.float32(0.0), kind)
        stages = (geometry.team_stage, geometry.kpe_team_stage)
        ckv, kpe = zip(queries, keys, stages, strict=True)
        if self.arrays.scales is None:
            return self._add_products(*kpe, self._add_products(*ckv, products))
        # The scale of the latent elements is a factor of all scores.
        products = self._add_products(*kpe, products)
        factor = emit.binary("divf", *reversed(self.arrays.scales))
        return self._add_products(*ckv, scaled_by(emit, products, factor))

    def _add_products(
        self, query: SSAValue, keys: SSAValue, part: SharedType, products: SSAValue
    ) -> SSAValue:
        emit, geometry = self.emit, self.geometry
        keys = emit.result(SliceOp, keys, self.team.keys, part)
        step_a = self._operand(geometry.rows, STEP, FragmentLayout.MMA_A)
        step_b = self._operand(STEP, geometry.team_keys, FragmentLayout.MMA_B)

        def step(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            column = emit.mul(index, STEP)
            a = emit.result(LdmatrixOp, query, emit.index(0), column, step_a)
            b = emit.result(LdmatrixOp, keys, emit.index(0), column, step_b)
            return (emit.result(MmaOp, a, b, carried[0]),)

        return emit.unrolled(part.columns // STEP, (products,), step)[0]

    def add_weighted_values(self, values: SSAValue, out: SSAValue, hides: Masked) -> SSAValue:
        """Appends the product of all probabilities and the team's columns, added to the output."""
        emit, geometry = self.emit, self.geometry
        probabilities = emit.result(StageOp, self.rings.probabilities)
        first_column = emit.to_index(self.team.columns)
        step_a = self._operand(geometry.rows, STEP, FragmentLayout.MMA_A)
        step_b = self._operand(STEP, geometry.out_columns, FragmentLayout.MMA_B)

        signed = not self.scores.softmax
        confined_values = ConfinedValues(emit, values, first_column, signed)

        def step(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            key = emit.mul(index, STEP)
            a = emit.result(LdmatrixOp, probabilities, emit.index(0), key, step_a)

            def whole() -> Sequence[SSAValue]:
                b = emit.result(LdmatrixOp, values, key, first_column, step_b, True)
                return (emit.result(MmaOp, a, b, carried[0]),)

            def confined() -> Sequence[SSAValue]:
                return (confined_values.add_products(a, key, carried[0]),)

            return where_masked(emit, hides, (out.type,), confined, whole)

        return emit.unrolled(geometry.kv_tile // STEP, (out,), step)[0]

    def _operand(self, rows: int, columns: int, layout: FragmentLayout) -> FragmentType:
        return fragment_type((rows, columns), self.geometry.element_type, layout)
