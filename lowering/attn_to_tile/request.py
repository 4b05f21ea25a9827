"""
The work item that a CTA works on: its request, rows, keys, and where they lie in memory.

A CTA takes its items from a queue that the plan made: `items[n, 6]` holds request, first packed
row, key head, first key, end of the keys, and the slot of a partial result, -1 for none. The items
of CTA c are `cta_indptr[c] .. cta_indptr[c + 1] - 1` (Ye et al., FlashInfer, section 3.3).

Where items have lists of tiles, keys are entries of `kv_tiles`, and a seventh number is the first
entry of a tile that needs no mask. In a cascade packed rows are counted over the whole batch, in
the order of `query_rows[n, 2]`: the row of each query, and its position; three more numbers are the
packed rows of the item, and the least and the greatest of their positions. In place of a slot a
cascade's item names the first row of its partial result: one holds few rows of a tile's height.

Rows of an array are counted in 32 bits, one for each head; the contract bounds the arrays so that
the count fits. Only the offset of a row's elements takes 64 bits.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from xdsl.dialects.builtin import i32
from xdsl.ir import Region, SSAValue

from ...dialects.attn import PageLayout
from ...dialects.diagnostic import DiagnosticError
from ...dialects.tile import BlockIndexOp, LoadOp, YieldOp, rows_region
from ..emitter import Emitter, name_fields
from .geometry import Geometry, Work
from .params import Params, Strides

# Numbers of a work item.
KV_BEGIN, KV_END, SLOT = 3, 4, 5
FIRST_FULL = 6
ROW_COUNT, LEAST_POSITION, GREATEST_POSITION = 6, 7, 8


@dataclass(frozen=True)
class QueryRows:
    """
    The rows of a work item, i32 and the same for all threads.

    A packed row `r` of a request is its query row `r // group` for the head `r % group` of the
    item's key head. `index` is the request, `query_begin` its first row among those of all. In a
    cascade rows are those of the batch, and `packed_rows` is the end of the item's own.
    """

    index: SSAValue
    first_row: SSAValue
    kv_head: SSAValue
    query_begin: SSAValue
    packed_rows: SSAValue


@dataclass(frozen=True)
class Request(QueryRows):
    """
    What a CTA knows of a work item, i32 and the same for all threads.

    `batch` is what variants are told of the request, 0 where all are rows of one sequence.
    `page_begin` is its first entry of the page table, or its first row of ragged keys. `position`
    is the place of the request's first query row in its sequence. The item has the keys from
    `kv_begin` to before `kv_end`, counted among those of the request. `positions` are the least and
    the greatest of a cascade's rows.
    """

    batch: SSAValue
    page_begin: SSAValue
    position: SSAValue
    kv_begin: SSAValue
    kv_end: SSAValue
    positions: tuple[SSAValue, SSAValue] | None = None

    def own_rows(self, emit: Emitter) -> SSAValue:
        """Appends the number of rows for which a tile is chosen: the request's, or the item's."""
        if self.positions is None:
            return self.packed_rows
        return emit.sub(self.packed_rows, self.first_row)


def emit_queue(emit: Emitter, params: Params, body: Callable[[SSAValue], None]) -> None:
    """
    Appends the loop over the work items of this CTA.

    The end of its queue is loaded for each of them: kept, it took a register from the keys.
    """
    cta = emit.result(BlockIndexOp, 0)
    first = emit.result(LoadOp, params.cta_indptr, cta, i32)

    def is_left(item: SSAValue) -> SSAValue:
        end = emit.result(LoadOp, params.cta_indptr, emit.add(cta, 1), i32)
        return emit.compare("slt", item, end)

    def each(item: SSAValue) -> SSAValue:
        item.name_hint = "item"
        body(item)
        return emit.add(item, 1)

    emit.repeat(first, is_left, each)


def load_field(
    emit: Emitter, params: Params, geometry: Geometry, item: SSAValue, number: int
) -> SSAValue:
    """Appends the load of a number of a work item."""
    place = emit.add(emit.mul(item, geometry.work.item_fields), number)
    return emit.result(LoadOp, params.items, place, i32)


def emit_query_rows(emit: Emitter, params: Params, geometry: Geometry, item: SSAValue) -> QueryRows:
    """
    Appends the loads that tell the rows of a work item.

    They are loaded for the queries, and again for the results: kept, they took registers from the
    keys.
    """
    fields = (load_field(emit, params, geometry, item, number) for number in range(3))
    index, first_row, kv_head = fields
    index.name_hint = "request"
    if geometry.work is Work.CASCADE:
        count = load_field(emit, params, geometry, item, ROW_COUNT)
        rows = QueryRows(index, first_row, kv_head, index, emit.add(first_row, count))
        name_fields(rows)
        return rows
    query_begin, query_end = (
        emit.result(LoadOp, params.qo_indptr, emit.add(index, step), i32) for step in range(2)
    )
    packed_rows = emit.mul(emit.sub(query_end, query_begin), geometry.group)
    rows = QueryRows(index, first_row, kv_head, query_begin, packed_rows)
    name_fields(rows)
    return rows


def emit_request(emit: Emitter, params: Params, geometry: Geometry, item: SSAValue) -> Request:
    """Appends the loads that tell what a work item is."""
    storage = geometry.storage
    rows = emit_query_rows(emit, params, geometry, item)
    kv_begin, planned_end = (
        load_field(emit, params, geometry, item, number) for number in (KV_BEGIN, KV_END)
    )
    table_row = rows.index
    if storage.table_of_heads:
        table_row = emit.add(emit.mul(rows.index, geometry.kv_heads), rows.kv_head)
    begin, end = (
        emit.result(LoadOp, params.kv_indptr, emit.add(table_row, step), i32) for step in range(2)
    )
    kv_len = emit.sub(end, begin)
    if params.kv_last_page_len is not None:
        last_page_len = emit.result(LoadOp, params.kv_last_page_len, table_row, i32)
        full_pages = emit.mul(emit.sub(kv_len, 1), storage.page_size)
        has_pages = emit.compare("sgt", kv_len, 0)
        kv_len = emit.select(has_pages, emit.add(full_pages, last_page_len), emit.integer(0))
    query_len = emit.divu(rows.packed_rows, geometry.group)
    lists, positions = geometry.work is Work.TILE_LISTS, None
    if geometry.work is Work.CASCADE:
        fields = (LEAST_POSITION, GREATEST_POSITION)
        least, greatest = (load_field(emit, params, geometry, item, number) for number in fields)
        positions = (least, greatest)
    found = Request(
        **vars(rows),
        batch=emit.integer(0) if storage.columns else rows.index,
        page_begin=begin,
        position=rows.query_begin if storage.columns else emit.sub(kv_len, query_len),
        kv_begin=emit.integer(0) if lists else kv_begin,
        kv_end=kv_len if lists else emit.min(planned_end, kv_len),
        positions=positions,
    )
    name_fields(found)
    return found


def blocks_of(emit: Emitter, request: Request, geometry: Geometry) -> list[Request]:
    """Appends the first rows of the blocks of a query tile; returns the request from each on."""
    first = request.first_row
    further = [emit.add(first, block * geometry.rows) for block in range(1, geometry.blocks)]
    return [replace(request, first_row=row) for row in (first, *further)]


def query_of(
    emit: Emitter, params: Params, request: Request, geometry: Geometry, packed: SSAValue
) -> tuple[SSAValue, SSAValue]:
    """Appends the position and the head of a packed row of the request."""
    row = emit.divu(packed, geometry.group)
    if params.query_rows is None:
        position = emit.add(request.position, row)
    else:
        # Rows behind the last one are no one's; their positions are never used.
        last = emit.divu(emit.sub(request.packed_rows, 1), geometry.group)
        place = emit.add(emit.mul(emit.min(row, last), 2), 1)
        position = emit.result(LoadOp, params.query_rows, place, i32)
    first_head = emit.mul(request.kv_head, geometry.group)
    return position, emit.add(first_head, emit.remu(packed, geometry.group))


def _rows(emit: Emitter, body: Callable[[SSAValue], tuple[SSAValue, SSAValue]]) -> Region:
    region = rows_region()
    with emit.into(region.block):
        emit.op(YieldOp, *body(region.block.args[0]))
    return region


def query_rows(
    emit: Emitter, params: Params, request: QueryRows, geometry: Geometry, elements: int
) -> Region:
    """Returns the rows region of the query tile in an array of `elements` a row and head."""

    def place(row: SSAValue) -> tuple[SSAValue, SSAValue]:
        packed = emit.add(request.first_row, row)
        valid = emit.compare("slt", packed, request.packed_rows)
        packed = emit.min(packed, emit.sub(request.packed_rows, 1))
        query_row = emit.divu(packed, geometry.group)
        if params.query_rows is None:
            query_row = emit.add(request.query_begin, query_row)
        else:
            place = emit.mul(query_row, 2)
            query_row = emit.result(LoadOp, params.query_rows, place, i32)
        first_head = emit.mul(request.kv_head, geometry.group)
        head = emit.add(first_head, emit.remu(packed, geometry.group))
        array_row = emit.add(emit.mul(query_row, geometry.qo_heads), head)
        return emit.mul(emit.to_i64(array_row), elements), valid

    return _rows(emit, place)


@dataclass(frozen=True)
class SlotRows:
    """
    Where `rows` lie among the rows of partial results: `before` rows behind `first`.

    `before` None is 0.
    """

    rows: QueryRows
    first: SSAValue
    before: SSAValue | None = None

    def emit(self, emit: Emitter, elements: int, column: SSAValue | None = None) -> Region:
        """Returns the rows region in an array of `elements` a row, from a column on."""

        def place(row: SSAValue) -> tuple[SSAValue, SSAValue]:
            packed = emit.add(self.rows.first_row, row)
            valid = emit.compare("slt", packed, self.rows.packed_rows)
            behind = row if self.before is None else emit.add(row, self.before)
            array_row = emit.add(self.first, behind)
            offset = emit.mul(emit.to_i64(array_row), elements)
            return offset if column is None else emit.add(offset, emit.to_i64(column)), valid

        return _rows(emit, place)


@dataclass(frozen=True)
class KeyRows:
    """Where the keys of a tile that begins at `first_key` lie in arrays of keys or values."""

    emit: Emitter
    params: Params
    request: Request
    geometry: Geometry
    first_key: SSAValue

    def contiguous(self, elements: int) -> Region:
        """Returns the rows region in a contiguous array of `elements` a row of a head."""
        emit, storage, heads = self.emit, self.geometry.storage, self.geometry.kv_heads
        page_rows = storage.page_size * heads * (2 if storage.combined else 1)

        def place(row: SSAValue) -> tuple[SSAValue, SSAValue]:
            page, token, valid = self._place(row)
            if storage.layout is PageLayout.HND:
                array_row = emit.add(emit.mul(self.request.kv_head, storage.page_size), token)
            else:
                array_row = emit.add(emit.mul(token, heads), self.request.kv_head)
            if page is not None:
                array_row = emit.add(emit.mul(page, page_rows), array_row)
            return emit.mul(emit.to_i64(array_row), elements), valid

        return _rows(emit, place)

    def strided(self, strides: Strides) -> Region:
        """Returns the rows region in an array of these strides."""
        emit = self.emit

        def place(row: SSAValue) -> tuple[SSAValue, SSAValue]:
            page, token, valid = self._place(row)
            offset = emit.mul(emit.to_i64(token), strides.token)
            offset = emit.add(offset, emit.mul(emit.to_i64(self.request.kv_head), strides.head))
            if page is not None and strides.page is not None:
                offset = emit.add(offset, emit.mul(emit.to_i64(page), strides.page))
            return offset, valid

        return _rows(emit, place)

    def _place(self, row: SSAValue) -> tuple[SSAValue | None, SSAValue, SSAValue]:
        """Appends the page of a key, its place there or its ragged row, and whether it is one."""
        emit, request = self.emit, self.request
        key = emit.add(self.first_key, row)
        valid = emit.compare("slt", key, request.kv_end)
        key = emit.min(key, emit.sub(request.kv_end, 1))
        if self.params.kv_indices is None:
            return None, emit.add(request.page_begin, key), valid
        page = page_of_key(emit, self.params, request, self.geometry, key)
        return page, emit.remu(key, self.geometry.storage.page_size), valid


def page_of_key(
    emit: Emitter, params: Params, request: Request, geometry: Geometry, key: SSAValue
) -> SSAValue:
    """Appends the load of the page number of a key of the request."""
    if params.kv_indices is None:
        raise DiagnosticError("expected pages, got ragged keys")
    entry = emit.add(request.page_begin, emit.divu(key, geometry.storage.page_size))
    return emit.result(LoadOp, params.kv_indices, entry, i32)


def key_position(
    emit: Emitter, params: Params, request: Request, geometry: Geometry, key: SSAValue
) -> SSAValue:
    """Appends the position of a key of the request in its sequence."""
    if not geometry.storage.columns:
        return key
    page_size = geometry.storage.page_size
    key = emit.min(key, emit.sub(request.kv_end, 1))
    page = page_of_key(emit, params, request, geometry, key)
    return emit.add(emit.mul(page, page_size), emit.remu(key, page_size))
