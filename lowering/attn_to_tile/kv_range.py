"""Which tiles of keys a work item visits, and which of them need no mask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import i1
from xdsl.ir import Attribute, SSAValue

from ...transforms.kv_bounds import KvBounds, LinearBound
from ..emitter import Emitter
from .geometry import Geometry
from .params import Params
from .request import FIRST_FULL, KV_BEGIN, KV_END, Request, load_field

# Whether a tile needs the mask: known here, or a condition of the kernel.
Masked = bool | SSAValue


def where_masked(
    emit: Emitter,
    masked: Masked,
    types: Sequence[Attribute],
    yes: Callable[[], Sequence[SSAValue]],
    no: Callable[[], Sequence[SSAValue]],
) -> Sequence[SSAValue]:
    """Appends what is done with a tile that needs the mask, or with one that needs none."""
    if isinstance(masked, bool):
        return yes() if masked else no()
    return emit.choose(masked, types, yes, no)


@dataclass(frozen=True)
class KvRange:
    """
    Tiles, i32: [begin, full_begin) masked, [full_begin, full_end) whole, the rest masked.

    A tile is named by its first key, and the next one is `step` keys on. The first begins at the
    first key of the work item, so that a result depends on nothing else. Tiles of a list are named
    by their entries, and `step` is 1.

    `full_begin` and `full_end` are None where all tiles are masked alike; `full_begin` is `begin`
    itself where no mask cuts keys off at the front. Of the rest, rows of the last block alone see
    those from `last_block_begin` on, if it is there: the others have nothing to do.
    """

    step: int
    begin: SSAValue
    end: SSAValue
    full_begin: SSAValue | None
    full_end: SSAValue | None
    last_block_begin: SSAValue | None = None

    def ahead(self, emit: Emitter, tile: SSAValue, tiles: int) -> SSAValue:
        """Appends the name of the tile that many tiles ahead of another."""
        return emit.add(tile, tiles * self.step)

    def stage(self, emit: Emitter, tile: SSAValue, stages: int) -> SSAValue:
        """Appends the stage of a ring that a tile takes: neighbours take them one by one."""
        return emit.remu(emit.divu(tile, self.step), stages)

    @property
    def end_of_all(self) -> SSAValue:
        """The end of the tiles that rows of all blocks may see."""
        return self.end if self.last_block_begin is None else self.last_block_begin

    def visit(
        self,
        emit: Emitter,
        cut_at_front: bool,
        carried: Sequence[SSAValue],
        body: Callable[[SSAValue, Sequence[SSAValue], Masked], Sequence[SSAValue]],
    ) -> Sequence[SSAValue]:
        """
        Appends the loops over the tiles of all blocks, masked ones apart from whole ones.

        The loops have one body: they are the steps of a loop around them, which is unrolled when it
        is printed, so that whether a tile is masked is a constant of each step.
        """
        loops = self._loops(cut_at_front)
        if len(loops) == 1:
            first, last, masked = loops[0]
            return self.loop(emit, (first, last), carried, lambda tile, c: body(tile, c, masked))

        def step(number: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            *_, (first, last, masked) = loops
            is_masked = emit.integer(masked, i1)
            for other, loop in enumerate(loops[:-1]):
                chosen = emit.compare("eq", number, other)
                first = emit.select(chosen, loop[0], first)
                last = emit.select(chosen, loop[1], last)
                is_masked = emit.select(chosen, emit.integer(loop[2], i1), is_masked)
            is_masked.name_hint = "masked"
            bounds = first, last
            return self.loop(emit, bounds, carried, lambda tile, c: body(tile, c, is_masked))

        return emit.unrolled(len(loops), carried, step)

    def loop(
        self,
        emit: Emitter,
        bounds: tuple[SSAValue, SSAValue],
        carried: Sequence[SSAValue],
        body: Callable[[SSAValue, Sequence[SSAValue]], Sequence[SSAValue]],
    ) -> Sequence[SSAValue]:
        """Appends a loop over tiles."""
        return emit.loop(bounds, carried, body, step=self.step)

    def _loops(self, cut_at_front: bool) -> list[tuple[SSAValue, SSAValue, bool]]:
        """Returns the loops over the tiles: first tile, end, whether the tiles are masked."""
        if self.full_begin is None or self.full_end is None:
            return [(self.begin, self.end_of_all, True)]
        front = [(self.begin, self.full_begin, True)] if cut_at_front else []
        back = [(self.full_end, self.end_of_all, True)]
        if self.full_end is self.end:
            back = []
        return [*front, (self.full_begin, self.full_end, False), *back]


def emit_kv_range(emit: Emitter, request: Request, geometry: Geometry, bounds: KvBounds) -> KvRange:
    """Appends the arithmetic that turns the bounds of a mask into tiles of keys."""
    tile = geometry.kv_tile
    first, last = _positions(emit, request, geometry, geometry.tile_rows)

    # The first and the past-the-end key that any query sees, and that every query sees.
    some_begin = every_begin = request.kv_begin
    for bound in bounds.lower:
        low, high = _extremes(emit, bound, first, last)
        some_begin, every_begin = emit.max(some_begin, low), emit.max(every_begin, high)
    some_end = every_end = request.kv_end
    for bound in bounds.upper:
        low, high = _extremes(emit, bound, first, last)
        some_end = emit.min(some_end, emit.add(high, 1))
        every_end = emit.min(every_end, emit.add(low, 1))
    early_end = some_end
    if geometry.blocks > 1 and bounds.upper and request.positions is None:
        early_end = _end_of_early_blocks(emit, request, geometry, bounds)

    def tile_at(key: SSAValue, round_up: bool = False) -> SSAValue:
        keys = emit.max(emit.sub(key, request.kv_begin), 0)
        tiles = emit.divu(emit.add(keys, tile - 1) if round_up else keys, tile)
        return emit.add(emit.mul(tiles, tile), request.kv_begin)

    # No tile begins at the end or behind it; one that begins in front of it need not end there.
    begin, end = tile_at(some_begin), some_end
    # Teams have few scores a thread and wait for memory: masks cost them less than more loops.
    if not bounds.exact or geometry.teams > 1:
        return KvRange(tile, begin, end, None, None)
    full_begin = begin
    if bounds.lower:
        full_begin = emit.min(tile_at(every_begin, round_up=True), end)
    full_end = emit.min(tile_at(every_end), end)
    full_end = emit.max(full_end, full_begin)
    if early_end is some_end:
        return KvRange(tile, begin, end, full_begin, full_end)
    last_block_begin = emit.min(tile_at(early_end, round_up=True), end)
    return KvRange(tile, begin, end, full_begin, full_end, emit.max(last_block_begin, full_end))


def _end_of_early_blocks(
    emit: Emitter, request: Request, geometry: Geometry, bounds: KvBounds
) -> SSAValue:
    """Appends the past-the-end key that any query of a block but the last sees."""
    rows = geometry.tile_rows - geometry.rows
    first, last = _positions(emit, request, geometry, rows)
    end = request.kv_end
    for bound in bounds.upper:
        _, high = _extremes(emit, bound, first, last)
        end = emit.min(end, emit.add(high, 1))
    return end


def emit_list_range(emit: Emitter, params: Params, geometry: Geometry, item: SSAValue) -> KvRange:
    """Appends the loads of the entries of a list of tiles; those that need no mask come last."""
    begin, end, full = (
        load_field(emit, params, geometry, item, number)
        for number in (KV_BEGIN, KV_END, FIRST_FULL)
    )
    return KvRange(1, begin, end, full, end)


def _positions(
    emit: Emitter, request: Request, geometry: Geometry, rows: int
) -> tuple[SSAValue, SSAValue]:
    """Appends the least and the greatest position of the queries of a tile's first rows."""
    if request.positions is not None:
        return request.positions
    last_row = emit.add(request.first_row, rows - 1)
    last_row = emit.min(last_row, emit.sub(request.packed_rows, 1))
    first = emit.add(request.position, emit.divu(request.first_row, geometry.group))
    return first, emit.add(request.position, emit.divu(last_row, geometry.group))


def _extremes(
    emit: Emitter, bound: LinearBound, first: SSAValue, last: SSAValue
) -> tuple[SSAValue, SSAValue]:
    """Returns the least and the greatest value of a bound over the queries of a tile."""
    if bound.slope == 0:
        return emit.integer(bound.offset), emit.integer(bound.offset)
    at_first, at_last = (_at(emit, bound, position) for position in (first, last))
    return (at_first, at_last) if bound.slope > 0 else (at_last, at_first)


def _at(emit: Emitter, bound: LinearBound, position: SSAValue) -> SSAValue:
    scaled = emit.mul(position, bound.slope)
    return emit.add(scaled, bound.offset)
