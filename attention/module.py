"""Writes an attention operation as a module of the `attn` dialect."""

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.dialects import arith, func, math
from xdsl.dialects.builtin import (
    ArrayAttr,
    BFloat16Type,
    FileLineColLoc,
    Float16Type,
    IntAttr,
    LocationAttr,
    ModuleOp,
    StringAttr,
    UnknownLoc,
    f32,
    i1,
    i32,
)
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Block, Region, SSAValue

from ..dialects.attn import (
    AttendOp,
    BatchType,
    PagedType,
    PageLayout,
    PageLayoutAttr,
    RaggedType,
    VariantOp,
    YieldOp,
    mask_region,
    score_region,
)
from ..dialects.sym import Expression, ExpressionAttr, constant, symbol
from ..lowering.emitter import Emitter
from .expression import ScalarType, SourceLine, Value, in_order
from .spec import AttentionSpec
from .variants import ARGUMENTS, TracedVariant

KERNEL_NAME = "attend"
VARIANT_NAME = "variant"

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
_FAST = arith.FastMathFlagsAttr([FastMathFlag.APPROX_FUNC])
_RECIPROCAL = arith.FastMathFlagsAttr([FastMathFlag.ALLOW_RECIP])
_TYPES: dict[ScalarType, Attribute] = {
    ScalarType.F32: f32,
    ScalarType.I32: i32,
    ScalarType.I1: i1,
}
ELEMENT_TYPES: dict[str, Attribute] = {"f16": Float16Type(), "bf16": BFloat16Type()}


def attention_module(spec: AttentionSpec, variant: TracedVariant) -> ModuleOp:
    """Returns the module of one attention operation: its variant and the function that attends."""
    place = _place_of(variant)
    variant_op = VariantOp(
        VARIANT_NAME,
        _region(score_region(), "score_mod", variant.score),
        _region(mask_region(), "mask_mod", variant.mask),
    )
    variant_op.location = place
    return ModuleOp([variant_op, _function(spec, place)])


def _extents(*extents: str | int) -> ArrayAttr[ExpressionAttr]:
    def expression(extent: str | int) -> Expression:
        return symbol(extent) if isinstance(extent, str) else constant(extent)

    return ArrayAttr([ExpressionAttr(expression(extent)) for extent in extents])


def _function(spec: AttentionSpec, place: LocationAttr) -> func.FuncOp:
    element, heads, head_dim = ELEMENT_TYPES[spec.dtype], spec.num_qo_heads, spec.head_dim
    query = RaggedType(_extents("n", heads, head_dim), element)
    page = _extents("pages", spec.page_size, spec.num_kv_heads, head_dim)
    pages = PagedType(page, element, PageLayoutAttr(PageLayout(spec.layout)))
    lse = RaggedType(_extents("n", heads), f32)
    types = (query, pages, pages, BatchType(_extents("batch", "nnz")), f32)
    block = Block(arg_types=types)
    for name, argument in zip(("q", "k", "v", "batch", "scale"), block.args, strict=True):
        argument.name_hint = name
    query_rows, keys, values, batch, scale = block.args
    attend = AttendOp(query_rows, keys, values, batch, scale, VARIANT_NAME)
    attend.location = place
    block.add_ops([attend, func.ReturnOp(attend.out, attend.lse)])
    function = func.FuncOp(KERNEL_NAME, (types, (query, lse)), Region(block))
    function.location = place
    return function


def _location(place: SourceLine | None) -> LocationAttr:
    if place is None:
        return UnknownLoc()
    return FileLineColLoc(StringAttr(place.filename), IntAttr(place.line), IntAttr(1))


def _place_of(variant: TracedVariant) -> LocationAttr:
    root = variant.mask if variant.score is None else variant.score
    return _location(root.place if root is not None else None)


def _region(region: Region, name: str, root: Value | None) -> Region | None:
    if root is None:
        return None
    writer = _RegionWriter(Emitter(region.block, UnknownLoc()), {})
    for argument, value in zip(ARGUMENTS[name], region.block.args, strict=True):
        value.name_hint = argument
        writer.arguments[argument] = value
    result = writer.write(root)
    writer.emit.append(YieldOp(result))
    return region


@dataclass
class _RegionWriter:
    """Appends the ops of an expression, each node once."""

    emit: Emitter
    arguments: dict[str, SSAValue]

    def write(self, value: Value) -> SSAValue:
        """Appends the ops of an expression and returns its SSA value."""
        written: dict[int, SSAValue] = {}
        for node in in_order(value):
            if (argument := self.arguments.get(node.op)) is not None:
                written[id(node)] = argument
                continue
            operands = [written[id(operand)] for operand in node.operands]
            if node.place is not None:
                self.emit.location = _location(node.place)
            written[id(node)] = self._operation(node, operands)
        return written[id(value)]

    def _operation(self, value: Value, operands: list[SSAValue]) -> SSAValue:
        if value.constant is not None:
            return self._constant(value)
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
            return self.emit.value(arith.CmpfOp(lhs, rhs, ordered + op))
        if kind is ScalarType.I32:
            sign = "" if op in ("eq", "ne") else "s"
            return self.emit.compare(sign + op, lhs, rhs)
        different = self.emit.binary("xor", lhs, rhs)
        if op == "ne":
            return different
        return self.emit.binary("xor", different, self.emit.constant_true())


_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_Rule = Callable[[Emitter, list[SSAValue]], SSAValue]


def _named(name: str) -> _Rule:
    return lambda emit, operands: emit.binary(name, *operands)


def _maximum(emit: Emitter, operands: list[SSAValue]) -> SSAValue:
    return emit.value(arith.MaximumfOp(operands[0], operands[1]))


def _minimum(emit: Emitter, operands: list[SSAValue]) -> SSAValue:
    return emit.value(arith.MinimumfOp(operands[0], operands[1]))


def _floordiv(emit: Emitter, operands: list[SSAValue]) -> SSAValue:
    return emit.value(arith.FloorDivSIOp(operands[0], operands[1]))


def _mod(emit: Emitter, operands: list[SSAValue]) -> SSAValue:
    lhs, rhs = operands
    return emit.sub(lhs, emit.mul(_floordiv(emit, operands), rhs))


def _divide(emit: Emitter, lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    return emit.value(arith.DivfOp(lhs, rhs, _RECIPROCAL))


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
    ("convert", _I32): lambda emit, operands: emit.value(arith.SIToFPOp(operands[0], f32)),
    ("abs", _F32): lambda emit, operands: emit.value(math.AbsFOp(operands[0])),
    ("abs", _I32): lambda emit, operands: emit.max(operands[0], emit.sub(0, operands[0])),
    ("exp", _F32): lambda emit, operands: emit.exp2(_times(emit, operands[0], LOG2_E)),
    ("exp2", _F32): lambda emit, operands: emit.exp2(operands[0]),
    ("floor", _F32): lambda emit, operands: emit.value(math.FloorOp(operands[0])),
    ("log", _F32): lambda emit, operands: _times(emit, emit.log2(operands[0]), LN_2),
    ("log2", _F32): lambda emit, operands: emit.log2(operands[0]),
    ("rsqrt", _F32): lambda emit, operands: emit.value(math.RsqrtOp(operands[0], _FAST)),
    ("sigmoid", _F32): _sigmoid,
    ("sqrt", _F32): lambda emit, operands: emit.value(math.SqrtOp(operands[0], _FAST)),
    ("tanh", _F32): _tanh,
}
