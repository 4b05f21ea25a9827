"""Writes an attention operation as a module of the `attn` dialect."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from xdsl.dialects import arith, func, math
from xdsl.dialects.builtin import (
    ArrayAttr,
    BFloat16Type,
    FileLineColLoc,
    Float8E4M3FNType,
    Float8E5M2Type,
    Float16Type,
    IntAttr,
    IntegerType,
    LocationAttr,
    ModuleOp,
    StringAttr,
    UnknownLoc,
    f32,
    i1,
    i32,
)
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from ..dialects.attn import (
    AttendLatentOp,
    AttendOp,
    BatchType,
    ElementOp,
    PagedType,
    PageLayout,
    PageLayoutAttr,
    PageOp,
    ParamAttr,
    ParamOp,
    QueryRowOp,
    RaggedType,
    RowSumOp,
    ScalesAttr,
    ScaleUnit,
    VariantOp,
    YieldOp,
    term_region,
    variant_region,
)
from ..dialects.sym import Expression, ExpressionAttr, constant, symbol
from ..lowering.emitter import Emitter
from .expression import Parameter, ScalarType, SourceLine, Value, canonical, depending_on, in_order
from .latent_kv import LatentKV
from .spec import AttentionSpec, RaggedKV
from .variants import FUNCTIONS, TracedVariant

KERNEL_NAME = "attend"
VARIANT_NAME = "variant"

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
TURN = 6.283185307179586
# 2 pi in parts of 11 bits, the rest follows.
TURN_PARTS = (6.28125, 0.0019350051879882812)
_FAST = arith.FastMathFlagsAttr([FastMathFlag.APPROX_FUNC])
_RECIPROCAL = arith.FastMathFlagsAttr([FastMathFlag.ALLOW_RECIP])
_TYPES: dict[ScalarType, Attribute] = {
    ScalarType.F32: f32,
    ScalarType.I32: i32,
    ScalarType.I1: i1,
}
ELEMENT_TYPES: dict[str, Attribute] = {
    "f16": Float16Type(),
    "bf16": BFloat16Type(),
    "e4m3": Float8E4M3FNType(),
    "e5m2": Float8E5M2Type(),
    "i8": IntegerType(8),
    "i4": IntegerType(4),
}


def attention_module(spec: AttentionSpec, variant: TracedVariant) -> ModuleOp:
    """Returns the module of one attention operation: its variant and the function that attends."""
    place = _place_of(variant)
    regions = {
        kind: _region(kind, names, variant.regions[kind])
        for kind, names, _ in FUNCTIONS.values()
        if kind in variant.regions
    }
    params = [_param(parameter) for parameter in variant.parameters]
    variant_op = VariantOp(VARIANT_NAME, regions, params, not variant.softmax)
    variant_op.location = place
    if isinstance(spec.kv, LatentKV):
        return ModuleOp([variant_op, _latent_function(spec, spec.kv, place)])
    return ModuleOp([variant_op, _function(spec, place)])


def _extents(*extents: str | int) -> ArrayAttr[ExpressionAttr]:
    def expression(extent: str | int) -> Expression:
        return symbol(extent) if isinstance(extent, str) else constant(extent)

    return ArrayAttr([ExpressionAttr(expression(extent)) for extent in extents])


def _function(spec: AttentionSpec, place: LocationAttr) -> func.FuncOp:
    element, heads, head_dim = ELEMENT_TYPES[spec.dtype], spec.num_qo_heads, spec.head_dim
    query = RaggedType(_extents("n", heads, head_dim), element)
    keys = _keys(spec)
    lse = RaggedType(_extents("n", heads), f32)
    types = (query, keys, keys, BatchType(_extents("batch", "nnz")), f32)
    block = _named_block(types, ("q", "k", "v", "batch", "scale"))
    query_rows, keys_given, values, batch, scale = block.args
    given = (query_rows, keys_given, values, batch, scale)
    attend = AttendOp(*given, VARIANT_NAME, _scales(spec), _flags(spec))
    return _attending(block, attend, (query, lse), place)


def _latent_function(spec: AttentionSpec, kv: LatentKV, place: LocationAttr) -> func.FuncOp:
    element, heads = ELEMENT_TYPES[spec.dtype], spec.num_qo_heads
    stored = ELEMENT_TYPES[spec.format.dtype]
    widths = (kv.head_dim_ckv, kv.head_dim_kpe)
    queries = [RaggedType(_extents("n", heads, width), element) for width in widths]
    layout = PageLayoutAttr(PageLayout.NHD)
    cache = [
        PagedType(_extents("pages", kv.page_size, 1, width), stored, layout)
        for width in ((kv.row_elements,) if kv.combined else widths)
    ]
    lse = RaggedType(_extents("n", heads), f32)
    types = (*queries, *cache, BatchType(_extents("batch", "nnz")), f32)
    names = ("kv",) if kv.combined else ("ckv", "kpe")
    block = _named_block(types, ("q_nope", "q_pe", *names, "batch", "scale"))
    q_nope, q_pe, *pages, batch, scale = block.args
    given = ((q_nope, q_pe), pages, batch, scale, VARIANT_NAME)
    attend = AttendLatentOp(*given, _scales(spec), ["confined"] if kv.confined else [])
    return _attending(block, attend, (queries[0], lse), place)


def _named_block(types: Sequence[Attribute], names: Sequence[str]) -> Block:
    block = Block(arg_types=types)
    for name, argument in zip(names, block.args, strict=True):
        argument.name_hint = name
    return block


def _attending(
    block: Block,
    attend: AttendOp | AttendLatentOp,
    results: Sequence[Attribute],
    place: LocationAttr,
) -> func.FuncOp:
    """Returns the function that an op makes which attends to the arguments of its block."""
    attend.location = place
    types = block.arg_types
    block.add_ops([attend, func.ReturnOp(attend.out, attend.lse)])
    function = func.FuncOp(KERNEL_NAME, (types, results), Region(block))
    function.location = place
    return function


def _keys(spec: AttentionSpec) -> PagedType | RaggedType:
    element = ELEMENT_TYPES[spec.format.dtype]
    if isinstance(spec.kv, RaggedKV):
        return RaggedType(_extents("kv_rows", spec.num_kv_heads, spec.head_dim), element)
    page = _extents("pages", spec.page_size, spec.num_kv_heads, spec.head_dim)
    return PagedType(page, element, PageLayoutAttr(PageLayout(spec.layout)))


def _flags(spec: AttentionSpec) -> list[str]:
    return [flag for flag in spec.kv.flags if flag != "ragged"]


def _scales(spec: AttentionSpec) -> ScalesAttr | None:
    if not spec.scales:
        return None
    unit = ScaleUnit(spec.scales)
    if unit is not ScaleUnit.BLOCK:
        return ScalesAttr(unit)
    kind = f32 if spec.format.scale_dtype == "f32" else Float16Type()
    return ScalesAttr(unit, spec.format.block_of(spec.head_dim), kind)


@lru_cache(maxsize=1024)
def _location(place: SourceLine | None) -> LocationAttr:
    if place is None:
        return UnknownLoc()
    return FileLineColLoc(StringAttr(place.filename), IntAttr(place.line), IntAttr(1))


def _place_of(variant: TracedVariant) -> LocationAttr:
    for _, roots in sorted(variant.regions.items(), reverse=True):
        return _location(roots[0].place)
    return UnknownLoc()


def _param(parameter: Parameter) -> ParamAttr:
    extents = _extents(*parameter.shape)
    return ParamAttr(StringAttr(parameter.name), _TYPES[parameter.dtype], extents)


def _region(kind: str, names: Sequence[str], roots: Sequence[Value]) -> Region:
    region = variant_region(kind)
    writer = RegionWriter(Emitter(region.block, UnknownLoc()))
    for argument, value in zip(names, region.block.args, strict=True):
        value.name_hint = argument
        writer.arguments[argument] = value
    results = [writer.write(root) for root in roots]
    writer.emit.append(YieldOp(*results))
    return region


@dataclass
class RegionWriter:
    """Appends the ops of an expression: each node once, and nodes that compute the same once."""

    emit: Emitter
    arguments: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    written: dict[int, SSAValue] = field(default_factory=dict[int, SSAValue])
    unique: dict[tuple[object, ...], SSAValue] = field(
        default_factory=dict[tuple[object, ...], SSAValue]
    )

    def write(self, root: Value) -> SSAValue:
        """Appends the ops of an expression and returns its SSA value."""
        for node in _outside_of_sums(root):
            if id(node) in self.written:
                continue
            if (argument := self.arguments.get(node.op)) is not None:
                self.written[id(node)] = argument
                continue
            key = self._key(node)
            if (known := self.unique.get(key)) is None:
                known = self.unique[key] = self._new(node)
            self.written[id(node)] = known
        return self.written[id(root)]

    def _key(self, node: Value) -> tuple[object, ...]:
        if node.op == "row_sum":
            return ("row_sum", canonical(node))
        operands = (self.written[id(operand)] for operand in node.operands)
        # 0.0 and -0.0 are equal, and not the same.
        return (node.op, node.dtype, repr(node.constant), node.parameter, *operands)

    def _new(self, node: Value) -> SSAValue:
        if node.place is not None:
            self.emit.location = _location(node.place)
        if node.op == "row_sum":
            return self._row_sum(node)
        return self._operation(node, [self.written[id(operand)] for operand in node.operands])

    def _row_sum(self, node: Value) -> SSAValue:
        term, index = node.operands
        region = term_region()
        known = {**self.written, id(index): region.block.args[0]}
        inner = RegionWriter(self.emit, self.arguments, known)
        with self.emit.into(region.block):
            self.emit.append(YieldOp(inner.write(term)))
        return self.emit.value(RowSumOp(region))

    def _operation(self, value: Value, operands: list[SSAValue]) -> SSAValue:
        if value.constant is not None:
            return self._constant(value)
        if value.op in _READS:
            return self.emit.value(_READS[value.op](value, operands))
        operand_type = value.operands[0].dtype
        if value.op in _COMPARISONS:
            return self._comparison(value.op, operand_type, operands)
        return _RULES[value.op, operand_type](self.emit, operands)

    def _constant(self, value: Value) -> SSAValue:
        number = value.constant
        if value.dtype is ScalarType.F32:
            return self.emit.float32(float(number or 0.0))
        return self.emit.integer(int(number or 0), i1 if value.dtype is ScalarType.I1 else i32)

    def _comparison(self, op: str, kind: ScalarType, operands: list[SSAValue]) -> SSAValue:
        lhs, rhs = operands
        if kind is ScalarType.F32:
            ordered = "u" if op == "ne" else "o"
            return self.emit.result(arith.CmpfOp, lhs, rhs, ordered + op)
        if kind is ScalarType.I32:
            sign = "" if op in ("eq", "ne") else "s"
            return self.emit.compare(sign + op, lhs, rhs)
        different = self.emit.binary("xor", lhs, rhs)
        if op == "ne":
            return different
        return self.emit.binary("xor", different, self.emit.constant_true())


def _outside_of_sums(root: Value) -> list[Value]:
    """Returns the nodes in order, without those that only the term of a sum needs."""
    order: dict[int, Value] = {}
    stack = [root]
    while stack:
        value = stack[-1]
        missing = [part for part in _operands(value) if id(part) not in order]
        if missing:
            stack += reversed(missing)
        else:
            order.setdefault(id(value), value)
            stack.pop()
    return list(order.values())


def _operands(value: Value) -> Sequence[Value]:
    """Returns what is written before a node: of a sum what does not depend on its index."""
    if value.op != "row_sum":
        return value.operands
    term, index = value.operands
    inside = depending_on(term, index)
    parts = [part for node in in_order(term) if id(node) in inside for part in node.operands]
    return [part for part in parts if id(part) not in inside and part.op != "x"]


def _load(value: Value, indices: list[SSAValue]) -> Operation:
    name = "" if value.parameter is None else value.parameter.name
    return ParamOp(name, indices, _TYPES[value.dtype])


# The operations that read something beside the arguments.
_READS: dict[str, Callable[[Value, list[SSAValue]], Operation]] = {
    "scalar": _load,
    "load": _load,
    "page": lambda value, operands: PageOp(operands[0]),
    "query_row": lambda value, operands: QueryRowOp(operands[0]),
    "element": lambda value, operands: ElementOp(operands[1]),
}

_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_Rule = Callable[[Emitter, list[SSAValue]], SSAValue]


def _named(name: str) -> _Rule:
    return lambda emit, operands: emit.binary(name, *operands)


def _maximum(emit: Emitter, operands: list[SSAValue]) -> SSAValue:
    return emit.result(arith.MaximumfOp, operands[0], operands[1])


def _minimum(emit: Emitter, operands: list[SSAValue]) -> SSAValue:
    return emit.result(arith.MinimumfOp, operands[0], operands[1])


def _floordiv(emit: Emitter, operands: list[SSAValue]) -> SSAValue:
    return emit.result(arith.FloorDivSIOp, operands[0], operands[1])


def _mod(emit: Emitter, operands: list[SSAValue]) -> SSAValue:
    lhs, rhs = operands
    return emit.sub(lhs, emit.mul(_floordiv(emit, operands), rhs))


def _divide(emit: Emitter, lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    return emit.result(arith.DivfOp, lhs, rhs, _RECIPROCAL)


def _times(emit: Emitter, value: SSAValue, factor: float) -> SSAValue:
    return emit.binary("mulf", value, emit.float32(factor))


def _tanh(emit: Emitter, operands: list[SSAValue]) -> SSAValue:
    """`1 - 2 / (exp(2x) + 1)`, which is right at both infinities."""
    one, two = emit.float32(1.0), emit.float32(2.0)
    power = emit.exp2(_times(emit, operands[0], 2.0 * LOG2_E))
    return emit.binary("subf", one, _divide(emit, two, emit.binary("addf", power, one)))


def _sigmoid(emit: Emitter, operands: list[SSAValue]) -> SSAValue:
    one = emit.float32(1.0)
    power = emit.exp2(_times(emit, operands[0], -LOG2_E))
    return _divide(emit, one, emit.binary("addf", power, one))


def _within_turn(emit: Emitter, operands: list[SSAValue]) -> SSAValue:
    """
    An angle less whole turns, where the GPU's sine and cosine are accurate.

    A turn is taken off in three parts: times a small integer the first two are exact.
    """
    angle = operands[0]
    turns = emit.result(math.RoundEvenOp, _times(emit, angle, 1.0 / TURN))
    for part in (*TURN_PARTS, TURN - sum(TURN_PARTS)):
        angle = emit.fma(turns, emit.float32(-part), angle)
    return angle


_F32, _I32, _I1 = ScalarType.F32, ScalarType.I32, ScalarType.I1
_RULES: dict[tuple[str, ScalarType], _Rule] = {
    ("add", _F32): _named("addf"),
    ("add", _I32): _named("add"),
    ("sub", _F32): _named("subf"),
    ("sub", _I32): _named("sub"),
    ("mul", _F32): _named("mulf"),
    ("mul", _I32): _named("mul"),
    ("div", _F32): lambda emit, operands: _divide(emit, *operands),
    ("floordiv", _I32): _floordiv,
    ("mod", _I32): _mod,
    ("maximum", _F32): _maximum,
    ("maximum", _I32): _named("max"),
    ("minimum", _F32): _minimum,
    ("minimum", _I32): _named("min"),
    ("and", _I1): _named("and"),
    ("and", _I32): _named("and"),
    ("or", _I1): _named("or"),
    ("or", _I32): _named("or"),
    ("xor", _I1): _named("xor"),
    ("xor", _I32): _named("xor"),
    ("where", _I1): lambda emit, operands: emit.select(*operands),
    ("convert", _I32): lambda emit, operands: emit.result(arith.SIToFPOp, operands[0], f32),
    ("shl", _I32): lambda emit, operands: emit.result(arith.ShLIOp, operands[0], operands[1]),
    ("shr", _I32): lambda emit, operands: emit.result(arith.ShRSIOp, operands[0], operands[1]),
    ("cos", _F32): lambda emit, operands: emit.result(math.CosOp, operands[0], _FAST),
    ("sin", _F32): lambda emit, operands: emit.result(math.SinOp, operands[0], _FAST),
    ("within_turn", _F32): _within_turn,
    ("abs", _F32): lambda emit, operands: emit.result(math.AbsFOp, operands[0]),
    ("abs", _I32): lambda emit, operands: emit.max(operands[0], emit.sub(0, operands[0])),
    ("exp", _F32): lambda emit, operands: emit.exp2(_times(emit, operands[0], LOG2_E)),
    ("exp2", _F32): lambda emit, operands: emit.exp2(operands[0]),
    ("floor", _F32): lambda emit, operands: emit.result(math.FloorOp, operands[0]),
    ("log", _F32): lambda emit, operands: _times(emit, emit.log2(operands[0]), LN_2),
    ("log2", _F32): lambda emit, operands: emit.log2(operands[0]),
    ("rsqrt", _F32): lambda emit, operands: emit.result(math.RsqrtOp, operands[0], _FAST),
    ("sigmoid", _F32): _sigmoid,
    ("sqrt", _F32): lambda emit, operands: emit.result(math.SqrtOp, operands[0], _FAST),
    ("tanh", _F32): _tanh,
}
