"""
The request that a CTA works for: its rows, its pages, and where they lie in memory.

Rows of an array are counted in 32 bits, one for each head; the contract bounds the arrays so that
the count fits. Only the offset of a row's elements takes 64 bits.
"""

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.dialects.builtin import i32
from xdsl.ir import Region, SSAValue

from ...dialects.attn import PageLayout
from ...dialects.tile import BlockIndexOp, LoadOp, YieldOp, rows_region
from ..emitter import Emitter, name_fields
from .geometry import Geometry


@dataclass(frozen=True)
class Params:
    """The kernel's parameters, by name."""

    q: SSAValue
    k_pages: SSAValue
    v_pages: SSAValue
    qo_indptr: SSAValue
    kv_indptr: SSAValue
    kv_indices: SSAValue
    kv_last_page_len: SSAValue
    tile_request: SSAValue
    tile_row: SSAValue
    out: SSAValue
    lse: SSAValue
    softmax_scale: SSAValue


@dataclass(frozen=True)
class Request:
    """
    What a CTA knows of its work, all i32 and the same for all threads.

    A packed row `r` of a request is its query row `r // group` for the head `r % group` of the
    CTA's key head. `position` is the place of the request's first query row in its sequence.
    """

    index: SSAValue
    kv_head: SSAValue
    first_row: SSAValue
    packed_rows: SSAValue
    query_begin: SSAValue
    page_begin: SSAValue
    kv_len: SSAValue
    position: SSAValue


def emit_request(emit: Emitter, params: Params, geometry: Geometry) -> Request:
    """Appends the loads that tell a CTA its work."""
    tile = emit.value(BlockIndexOp(0))
    kv_head = emit.value(BlockIndexOp(1))

    def load(pointer: SSAValue, index: SSAValue) -> SSAValue:
        return emit.value(LoadOp(pointer, index, i32))

    request = load(params.tile_request, tile)
    first_row = load(params.tile_row, tile)
    request.name_hint = "request"
    after = emit.add(request, 1)
    query_begin = load(params.qo_indptr, request)
    query_len = emit.sub(load(params.qo_indptr, after), query_begin)
    page_begin = load(params.kv_indptr, request)
    pages = emit.sub(load(params.kv_indptr, after), page_begin)
    last_page_len = load(params.kv_last_page_len, request)
    full_pages = emit.mul(emit.sub(pages, 1), geometry.page_size)
    has_pages = emit.compare("sgt", pages, 0)
    kv_len = emit.select(has_pages, emit.add(full_pages, last_page_len), emit.integer(0))
    found = Request(
        index=request,
        kv_head=kv_head,
        first_row=first_row,
        packed_rows=emit.mul(query_len, geometry.group),
        query_begin=query_begin,
        page_begin=page_begin,
        kv_len=kv_len,
        position=emit.sub(kv_len, query_len),
    )
    name_fields(found)
    return found


def _rows(emit: Emitter, body: Callable[[SSAValue], tuple[SSAValue, SSAValue]]) -> Region:
    region = rows_region()
    with emit.into(region.block):
        emit.append(YieldOp(*body(region.block.args[0])))
    return region


def query_rows(emit: Emitter, request: Request, geometry: Geometry, elements: int) -> Region:
    """Returns the rows region of the query tile in an array of `elements` a row and head."""

    def place(row: SSAValue) -> tuple[SSAValue, SSAValue]:
        packed = emit.add(request.first_row, row)
        valid = emit.compare("slt", packed, request.packed_rows)
        packed = emit.min(packed, emit.sub(request.packed_rows, 1))
        query_row = emit.add(request.query_begin, emit.divu(packed, geometry.group))
        first_head = emit.mul(request.kv_head, geometry.group)
        head = emit.add(first_head, emit.remu(packed, geometry.group))
        array_row = emit.add(emit.mul(query_row, geometry.qo_heads), head)
        return emit.mul(emit.to_i64(array_row), elements), valid

    return _rows(emit, place)


def kv_rows(
    emit: Emitter, params: Params, request: Request, geometry: Geometry, first_key: SSAValue
) -> Region:
    """Returns the rows region of the tile of keys that begins at `first_key`."""
    page_size, heads, head_dim = geometry.page_size, geometry.kv_heads, geometry.head_dim
    head_major = geometry.layout is PageLayout.HND

    def place(row: SSAValue) -> tuple[SSAValue, SSAValue]:
        key = emit.add(first_key, row)
        valid = emit.compare("slt", key, request.kv_len)
        key = emit.min(key, emit.sub(request.kv_len, 1))
        entry = emit.add(request.page_begin, emit.divu(key, page_size))
        page = emit.value(LoadOp(params.kv_indices, entry, i32))
        token = emit.remu(key, page_size)
        if head_major:
            in_page = emit.add(emit.mul(request.kv_head, page_size), token)
        else:
            in_page = emit.add(emit.mul(token, heads), request.kv_head)
        array_row = emit.add(emit.mul(page, page_size * heads), in_page)
        return emit.mul(emit.to_i64(array_row), head_dim), valid

    return _rows(emit, place)
