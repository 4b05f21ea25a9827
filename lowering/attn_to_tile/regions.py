"""
The regions of a variant, inlined where the kernel needs them.

What a region reads beside its arguments becomes loads whose indices are held within the arrays.
Reads that do not depend on the key are taken out of the loop over keys: `hoist_reads`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import IntAttr, i32
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue

from ...dialects import attn, tile
from ...dialects.attn import ParamAttr, VariantOp
from ...dialects.diagnostic import error_at
from ..creation import ops_of
from ..emitter import Emitter, Scalar
from .geometry import Geometry
from .params import Params
from .request import Request, page_of_key

Bound = int | str
LARGEST_INDEX = (1 << 31) - 1


def extent_name(symbol: str) -> str:
    """Returns the name of the kernel's parameter that holds the value of a symbol."""
    return f"extent_{symbol}"


def variant_params(variant: VariantOp) -> list[tuple[str, Attribute]]:
    """Returns the kernel's parameters for those of a variant: its arrays, scalars and extents."""
    names: list[tuple[str, Attribute]] = []
    symbols: list[str] = []
    for param in variant.params:
        kind = LLVMPointerType(IntAttr(1)) if param.extents.data else param.element_type
        names.append((param.param_name.data, kind))
        for extent in _extents(variant, param):
            if isinstance(extent, str) and extent not in symbols:
                symbols.append(extent)
    return [*names, *((extent_name(symbol), i32) for symbol in symbols)]


def _extents(variant: VariantOp, param: ParamAttr) -> list[Bound]:
    extents: list[Bound] = []
    for extent in param.extents:
        constant, text = extent.data.constant_value, str(extent.data)
        if constant is None and not text.isidentifier():
            raise error_at(
                variant,
                f"expects extents of '{param.param_name.data}' that are constants or symbols, "
                f"got {text}",
            )
        extents.append(text if constant is None else constant)
    return extents


@dataclass(frozen=True)
class Scope:
    """What the regions of a variant can see in a kernel: parameters, the request, the pages."""

    emit: Emitter
    variant: VariantOp
    geometry: Geometry
    params: Params
    request: Request
    values: Mapping[str, SSAValue]

    def inline(
        self,
        region: Region,
        arguments: Sequence[SSAValue],
        known: Mapping[SSAValue, SSAValue] | None = None,
    ) -> list[SSAValue]:
        """Appends what a region computes for these arguments, beside what is known of it."""
        values = {**(known or {}), **dict(zip(region.block.args, arguments, strict=True))}
        needed = _needed(attn.yielded(region), values)
        self._inline_ops(region.block, values, needed, self._bounds(region))
        return [values.get(value, value) for value in attn.yielded(region)]

    def evaluate(
        self, region: Region, result: SSAValue, known: Mapping[SSAValue, SSAValue]
    ) -> SSAValue:
        """Appends what one value of a region needs beside what is known, and returns it."""
        values = dict(known)
        self._inline_ops(region.block, values, _needed([result], values), self._bounds(region))
        return values[result]

    def _inline_ops(
        self,
        block: Block,
        values: dict[SSAValue, SSAValue],
        needed: set[Operation],
        bounds: Mapping[SSAValue, Bound],
    ) -> None:
        emit = self.emit
        for op in ops_of(block):
            if op not in needed:
                continue
            operands = [values.get(operand, operand) for operand in op.operands]
            # Ops are of an abstract class: to ask for the very class is many times faster.
            if type(op) is attn.ParamOp:
                values[op.value] = self.read(op, operands, bounds)
            elif type(op) is attn.PageOp:
                values[op.page] = self._page(op, operands[0])
            elif type(op) is attn.QueryRowOp:
                first = emit.sub(self.request.query_begin, self.request.position)
                values[op.row] = emit.add(operands[0], first)
            elif type(op) is attn.ElementOp:
                values[op.element] = emit.result(tile.RowElementOp, operands[0])
            elif type(op) is attn.RowSumOp:
                values[op.total] = self._row_sum(op, values, bounds)
            else:
                emit.copy(op, values)

    def _row_sum(
        self,
        op: attn.RowSumOp,
        values: Mapping[SSAValue, SSAValue],
        bounds: Mapping[SSAValue, Bound],
    ) -> SSAValue:
        term = Region(Block(arg_types=[i32]))
        inner = {**values, op.term.block.args[0]: term.block.args[0]}
        bounds = {**bounds, op.term.block.args[0]: self.geometry.head_dim}
        with self.emit.into(term.block):
            needed = _needed(attn.yielded(op.term), inner)
            self._inline_ops(op.term.block, inner, needed, bounds)
            (result,) = attn.yielded(op.term)
            self.emit.op(tile.YieldOp, inner.get(result, result))
        return self.emit.value(tile.RowSumOp(term))

    def _bounds(self, region: Region) -> dict[SSAValue, Bound]:
        """Returns below what the arguments of a region lie; none is negative."""
        kind = next(kind for kind, found in self.variant.named_regions() if found is region)
        args, geometry = region.block.args, self.geometry
        if kind in ("score", "mask"):
            b, h = args[-4], args[-3]
            return {b: "batch", h: geometry.qo_heads}
        if kind == "state":
            return {args[2]: "batch", args[3]: geometry.qo_heads}
        heads = geometry.kv_heads if kind in ("key", "value") else geometry.qo_heads
        return {args[1]: "batch", args[2]: heads, args[4]: geometry.head_dim}

    def read(
        self,
        op: attn.ParamOp,
        indices: Sequence[SSAValue],
        bounds: Mapping[SSAValue, Bound],
    ) -> SSAValue:
        """Appends the read of a parameter, at the nearest element to these indices."""
        name = op.param.data
        param = next(param for param in self.variant.params if param.param_name.data == name)
        if not indices:
            return self.values[name]
        emit, flat = self.emit, None
        extents = _extents(self.variant, param)
        for source, index, extent in zip(op.indices, indices, extents, strict=True):
            size = self.values[extent_name(extent)] if isinstance(extent, str) else extent
            is_within = _within(bounds.get(source), extent)
            if not is_within:
                last = emit.sub(size, 1) if isinstance(size, SSAValue) else size - 1
                index = emit.max(emit.min(index, last), 0)
            flat = index if flat is None else emit.add(self._row(flat, size, is_within), index)
        if flat is None:
            raise error_at(op, "expects an index")
        return emit.result(tile.LoadOp, self.values[name], flat, op.value.type)

    def _row(self, index: SSAValue, size: Scalar, is_within: bool) -> SSAValue:
        """
        Appends the flat index of a row of so many elements.

        Where indices in the row are known to lie in it, the sum of both is made known to fit in 32
        bits, so that elements a constant apart have one address.
        """
        emit = self.emit
        row = emit.mul(index, size)
        if not is_within or isinstance(size, SSAValue):
            return row
        return emit.min(emit.max(row, 0), LARGEST_INDEX - size)

    def _page(self, op: attn.PageOp, position: SSAValue) -> SSAValue:
        emit, request, storage = self.emit, self.request, self.geometry.storage
        if not storage.paged:
            raise error_at(op, "expects keys in pages, got ragged rows")
        if storage.columns:
            return emit.divu(position, storage.page_size)
        query_len = emit.divu(request.packed_rows, self.geometry.group)
        last = emit.sub(emit.add(request.position, query_len), 1)
        within = emit.max(emit.min(position, last), 0)
        return page_of_key(emit, self.params, request, self.geometry, within)


def _within(bound: Bound | None, extent: Bound) -> bool:
    """Whether an index below a bound is one of an axis."""
    if isinstance(bound, int) and isinstance(extent, int):
        return bound <= extent
    return bound is not None and bound == extent


def _needed(results: Iterable[SSAValue], known: Mapping[SSAValue, SSAValue]) -> set[Operation]:
    """Returns the ops that results need, where some values are known."""
    needed: set[Operation] = set()
    stack = list(results)
    while stack:
        value = stack.pop()
        # Values are of an abstract class: to ask for the very class is many times faster.
        if type(value) is not OpResult or value in known or (op := value.op) in needed:
            continue
        needed.add(op)
        stack += op.operands
        if op.regions:
            stack += [operand for inner in op.walk() for operand in inner.operands]
    return needed


@dataclass(frozen=True)
class Hoisted:
    """
    Reads of the score and mask regions that do not depend on the key.

    `uniform` has one value for the CTA; `rows` has a value a row, in fragments, in the order of
    `row_reads`.
    """

    uniform: Mapping[SSAValue, SSAValue]
    row_reads: Sequence[SSAValue]
    rows: Sequence[SSAValue]

    def known(self, elements: Sequence[SSAValue]) -> dict[SSAValue, SSAValue]:
        """Returns what is known of the regions, given the values of one row."""
        return {**self.uniform, **dict(zip(self.row_reads, elements, strict=True))}


NOTHING_HOISTED = Hoisted({}, (), ())


def hoist_reads(scope: Scope, position: SSAValue, head: SSAValue) -> Hoisted:
    """Appends the reads of the score and mask regions that all tiles of keys share."""
    uniform: dict[SSAValue, SSAValue] = {}
    row_reads: list[tuple[Region, SSAValue]] = []
    for region in (scope.variant.score, scope.variant.mask):
        if region is None:
            continue
        b, h, q_idx = region.block.args[-4:-1]
        for_cta = _reads_of(region, {b})
        for read in for_cta:
            uniform[read] = _read_for_cta(scope, region, read, uniform)
        per_row = [read for read in _reads_of(region, {b, h, q_idx}) if read not in for_cta]
        row_reads += [(region, read) for read in per_row]
    rows = _read_rows(scope, row_reads, uniform, position, head)
    return Hoisted(uniform, [read for _, read in row_reads], rows)


def _reads_of(region: Region, arguments: set[SSAValue]) -> list[SSAValue]:
    """Returns the reads of tensors that depend on no other arguments than these."""
    known = set(arguments)
    reads: list[SSAValue] = []
    for op in region.block.ops:
        if isinstance(op, attn.PageOp | attn.YieldOp) or not set(op.operands) <= known:
            continue
        known |= set(op.results)
        if isinstance(op, attn.ParamOp) and op.indices:
            reads.append(op.value)
    return reads


def _read_for_cta(
    scope: Scope, region: Region, read: SSAValue, known: Mapping[SSAValue, SSAValue]
) -> SSAValue:
    values = {**known, region.block.args[-4]: scope.request.batch}
    return scope.evaluate(region, read, values)


def _read_rows(
    scope: Scope,
    reads: Sequence[tuple[Region, SSAValue]],
    uniform: Mapping[SSAValue, SSAValue],
    position: SSAValue,
    head: SSAValue,
) -> Sequence[SSAValue]:
    if not reads:
        return ()
    emit, rows = scope.emit, scope.geometry.rows
    kinds = [tile.FragmentType((rows,), read.type, tile.FragmentLayout.ROW) for _, read in reads]
    body = tile.map_region((position, head), kinds[0])
    with emit.into(body.block):
        at, h, _ = body.block.args
        results: list[SSAValue] = []
        known = dict(uniform)
        for region, read in reads:
            arguments = zip(region.block.args[-4:-1], (scope.request.batch, h, at), strict=True)
            known[read] = scope.evaluate(region, read, {**known, **dict(arguments)})
            results.append(known[read])
        emit.op(tile.YieldOp, *results)
    return emit.with_regions(tile.MapOp, (position, head), kinds, body).results
