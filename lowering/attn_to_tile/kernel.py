"""
The attention kernel of one CTA: gather, product, softmax, product, tile after tile of keys.

The keys and values of the next tiles are under way while one tile is worked on. At the head of
each step the CTA waits for its keys; that barrier also tells that every thread is done with the
tile before, whose stage the newest copy may then overwrite.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import IntAttr, LocationAttr, f32
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Attribute, SSAValue

from ...dialects.attn import VariantOp
from ...dialects.sym import ExpressionAttr, constant, symbol
from ...dialects.tile import (
    AllocOp,
    BarrierOp,
    ConvertLayoutOp,
    CopyAsyncOp,
    DrainOp,
    ExtractOp,
    FillOp,
    FragmentLayout,
    FragmentType,
    KernelOp,
    LdmatrixOp,
    MmaOp,
    ReturnOp,
    StoreFragmentOp,
    StoreRowsOp,
    WaitOp,
)
from ...transforms.kv_bounds import kv_bounds
from ..emitter import Emitter, name_fields
from .geometry import Geometry
from .kv_range import KvRange, emit_kv_range
from .request import Params, Request, emit_request, kv_rows, query_rows
from .scores import Scores, change_scores, emit_scores
from .softmax import RowState, emit_initial_state, emit_probabilities, emit_result

GLOBAL = LLVMPointerType(IntAttr(1))
# The symbol of the launch: how many tiles of packed query rows the batch has.
TILES = "tiles"

PARAMS: tuple[tuple[str, Attribute], ...] = (
    ("q", GLOBAL),
    ("k_pages", GLOBAL),
    ("v_pages", GLOBAL),
    ("qo_indptr", GLOBAL),
    ("kv_indptr", GLOBAL),
    ("kv_indices", GLOBAL),
    ("kv_last_page_len", GLOBAL),
    ("tile_request", GLOBAL),
    ("tile_row", GLOBAL),
    ("out", GLOBAL),
    ("lse", GLOBAL),
    ("softmax_scale", f32),
)

InFlight = Sequence[SSAValue]


@dataclass(frozen=True)
class AttentionKernel:
    """The parts of a kernel while it is written, in the order of the program."""

    emit: Emitter
    geometry: Geometry
    params: Params
    request: Request
    scores: Scores
    keys: SSAValue
    values: SSAValue

    def step(
        self,
        query: SSAValue,
        tile: SSAValue,
        state: RowState,
        in_flight: InFlight,
        tiles: KvRange,
        masked: bool,
    ) -> tuple[RowState, InFlight]:
        """Appends the work on one tile of keys."""
        emit, geometry = self.emit, self.geometry
        keys = emit.value(WaitOp(in_flight[0]))
        ahead = self.copy_tile(emit.add(tile, geometry.stages - 1), tiles)
        products = self.query_times_keys(query, keys)
        first_key = emit.mul(tile, geometry.kv_tile)
        scores = change_scores(emit, self.scores, products, first_key, masked)
        scores.name_hint = "scores"
        probabilities, state = emit_probabilities(emit, geometry, scores, state, self.scores.unit)
        probabilities.name_hint = "probabilities"
        name_fields(state)
        values = emit.value(WaitOp(in_flight[1]))
        out = self.add_weighted_values(probabilities, values, state.out)
        return RowState(out, state.maximum, state.total), (*in_flight[2:], *ahead)

    def copy_tile(self, tile: SSAValue, tiles: KvRange) -> InFlight:
        """Appends the start of the copies of a tile of keys and values, if there is one."""
        emit, geometry = self.emit, self.geometry
        first_key = emit.mul(tile, geometry.kv_tile)
        rows = kv_rows(emit, self.params, self.request, geometry, first_key)
        stage = emit.remu(tile, geometry.stages)
        exists = emit.compare("slt", tile, tiles.end)
        sources = (self.params.k_pages, self.params.v_pages)
        copy = CopyAsyncOp(sources, (self.keys, self.values), stage, exists, rows)
        return emit.append(copy).results

    def query_fragment(self, query: SSAValue) -> SSAValue:
        """Appends the load of the whole query tile into registers."""
        emit, geometry = self.emit, self.geometry
        kind = self._operand(geometry.rows, geometry.head_dim, FragmentLayout.MMA_A)
        return emit.value(LdmatrixOp(query, emit.index(0), emit.index(0), kind))

    def query_times_keys(self, query: SSAValue, keys: SSAValue) -> SSAValue:
        """Appends the product of the query tile and a tile of keys: [rows, kv_tile]."""
        emit, geometry = self.emit, self.geometry
        kind = FragmentType((geometry.rows, geometry.kv_tile), f32, FragmentLayout.MMA_C)
        step_a = self._operand(geometry.rows, 16, FragmentLayout.MMA_A)
        step_b = self._operand(16, geometry.kv_tile, FragmentLayout.MMA_B)

        def step(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            column = emit.mul(index, 16)
            if geometry.query_in_registers:
                a = emit.value(ExtractOp(query, index))
            else:
                a = emit.value(LdmatrixOp(query, emit.index(0), column, step_a))
            b = emit.value(LdmatrixOp(keys, emit.index(0), column, step_b))
            return (emit.value(MmaOp(a, b, carried[0])),)

        zero = emit.value(FillOp(emit.float32(0.0), kind))
        (products,) = emit.unrolled(geometry.head_dim // 16, (zero,), step)
        return products

    def add_weighted_values(
        self, probabilities: SSAValue, values: SSAValue, out: SSAValue
    ) -> SSAValue:
        """Appends the product of probabilities and a tile of values, added to the output."""
        emit, geometry = self.emit, self.geometry
        kind = self._operand(geometry.rows, geometry.kv_tile, FragmentLayout.MMA_A)
        step_b = self._operand(16, geometry.head_dim, FragmentLayout.MMA_B)
        weights = emit.value(ConvertLayoutOp(probabilities, kind))

        def step(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            a = emit.value(ExtractOp(weights, index))
            row = emit.mul(index, 16)
            b = emit.value(LdmatrixOp(values, row, emit.index(0), step_b, transpose=True))
            return (emit.value(MmaOp(a, b, carried[0])),)

        (out,) = emit.unrolled(geometry.kv_tile // 16, (out,), step)
        return out

    def _operand(self, rows: int, columns: int, layout: FragmentLayout) -> FragmentType:
        return FragmentType((rows, columns), self.geometry.element_type, layout)


def build_kernel(
    name: str, variant: VariantOp, geometry: Geometry, location: LocationAttr
) -> KernelOp:
    """Returns the kernel of a variant of attention, for these geometry's numbers."""
    grid = (symbol(TILES), constant(geometry.kv_heads), constant(1))
    kernel_op = KernelOp(name, PARAMS, geometry.warps, [ExpressionAttr(axis) for axis in grid])
    kernel_op.location = location
    emit = Emitter(kernel_op.body.block, location)
    params, bounds = Params(*kernel_op.body.block.args), kv_bounds(variant.mask)

    # What this CTA works on, and which keys it has to see.
    request = emit_request(emit, params, geometry)
    tiles = emit_kv_range(emit, request, geometry, bounds)
    scores = emit_scores(emit, variant, geometry, request, params.softmax_scale)
    query_ring = emit.value(AllocOp(geometry.query_ring))
    keys, values = (emit.value(AllocOp(geometry.kv_ring)) for _ in range(2))
    kernel = AttentionKernel(emit, geometry, params, request, scores, keys, values)
    for record in (tiles, scores, kernel):
        name_fields(record)

    # Start all copies, then take the queries as soon as they are there.
    query_copy = _copy_query(kernel, query_ring)
    in_flight: list[SSAValue] = []
    for ahead in range(geometry.stages - 1):
        in_flight += kernel.copy_tile(emit.add(tiles.begin, ahead), tiles)
    query = emit.value(WaitOp(query_copy))
    if geometry.query_in_registers:
        query = kernel.query_fragment(query)

    state = _visit_tiles(kernel, query, tiles, in_flight, bool(bounds.lower))
    _store_result(kernel, query_ring, state)
    emit.append(ReturnOp())
    return kernel_op


def _visit_tiles(
    kernel: AttentionKernel,
    query: SSAValue,
    tiles: KvRange,
    in_flight: InFlight,
    cut_at_front: bool,
) -> RowState:
    """Appends the loops: tiles that need a mask are peeled from those that need none."""
    emit = kernel.emit
    carried = (*emit_initial_state(emit, kernel.geometry).values(), *in_flight)
    for first, last, masked in _loops(tiles, cut_at_front):

        def body(
            tile: SSAValue, carried: Sequence[SSAValue], masked: bool = masked
        ) -> Sequence[SSAValue]:
            state, in_flight = kernel.step(
                query, tile, RowState(*carried[:3]), carried[3:], tiles, masked
            )
            return *state.values(), *in_flight

        carried = emit.loop((first, last), carried, body)
    emit.append(DrainOp(carried[3:]))
    return RowState(*carried[:3])


def _store_result(kernel: AttentionKernel, ring: SSAValue, state: RowState) -> None:
    """Appends the division and the stores, through shared memory so that rows go in one piece."""
    emit, geometry, request = kernel.emit, kernel.geometry, kernel.request
    out, lse = emit_result(emit, geometry, state, kernel.scores.unit)
    emit.append(StoreFragmentOp(out, ring))
    emit.append(BarrierOp())
    out_rows = query_rows(emit, request, geometry, geometry.head_dim)
    emit.append(StoreRowsOp(ring, kernel.params.out, out_rows))
    emit.append(StoreRowsOp(lse, kernel.params.lse, query_rows(emit, request, geometry, 1)))


def _copy_query(kernel: AttentionKernel, ring: SSAValue) -> SSAValue:
    emit, geometry = kernel.emit, kernel.geometry
    rows = query_rows(emit, kernel.request, geometry, geometry.head_dim)
    always = emit.constant_true()
    copy = CopyAsyncOp((kernel.params.q,), (ring,), emit.integer(0), always, rows)
    return emit.value(copy)


def _loops(tiles: KvRange, cut_at_front: bool) -> list[tuple[SSAValue, SSAValue, bool]]:
    """Returns the loops over tiles of keys: first tile, end, whether the tiles are masked."""
    if tiles.full_begin is None or tiles.full_end is None:
        return [(tiles.begin, tiles.end, True)]
    front = [(tiles.begin, tiles.full_begin, True)] if cut_at_front else []
    return [
        *front,
        (tiles.full_begin, tiles.full_end, False),
        (tiles.full_end, tiles.end, True),
    ]
