"""What one point computes, as ops on scalars."""

from collections.abc import Mapping

from xdsl.dialects import arith, llvm, math, scf
from xdsl.dialects.builtin import FloatAttr, IntegerType, f32
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from ...dialects.diagnostic import DiagnosticError
from ...dialects.nest.program import Buffer, Scope
from ...dialects.nest.scalars import (
    FLOAT_BITS,
    INTEGER_BITS,
    Apply,
    Constant,
    Index,
    Load,
    Scalar,
    Subscript,
    Variable,
    is_float,
    loads_of,
)
from ...dialects.sym import Expression, constant
from .eight_bit import EIGHT_BIT, code_of, decoded, encoded
from .thread import Thread, type_of

_CLASSES: dict[str, type[Operation]] = {
    op.name: op for op in (*arith.Arith.operations, *math.Math.operations)
}
_CONTRACT = arith.FastMathFlagsAttr([FastMathFlag.ALLOW_CONTRACT])
_CONTRACTED = ("arith.addf", "arith.subf", "arith.mulf")
_FUSED = ("f32", "f64")


_WIDTHS = {type_of(name): bits for name, bits in FLOAT_BITS.items() if name not in EIGHT_BIT}


# What a number is passed as, where PTX has no parameters of its dtype or callers no such numbers.
PASSED_AS = {"f8E4M3FN": "f32", "f8E5M2": "f32", "f16": "f32", "bf16": "f32", "i1": "i32"}


def passed_number(thread: Thread, dtype: str, value: SSAValue) -> SSAValue:
    """Returns a scalar parameter in its dtype; a float was rounded to it by the caller."""
    if dtype in EIGHT_BIT:
        return encoded(thread.emit, thread.target, value, dtype)
    if dtype not in PASSED_AS:
        return value
    op = arith.TruncFOp if is_float(dtype) else arith.TruncIOp
    return thread.emit.create(op, (value,), type_of(dtype))


def _class_of(name: str) -> type[Operation]:
    op = _CLASSES.get(name)
    if op is None:
        raise DiagnosticError(f"expected an op of arith or math, got {name}")
    return op


def _has_eight_bits(apply: Apply) -> bool:
    return apply.dtype in EIGHT_BIT or any(o.dtype in EIGHT_BIT for o in apply.operands)


class Scalars:
    """
    Appends the ops of scalars, a shared part once.

    `names` are replaced in indices; `loaded` has vectors of what loads give at all points, of
    which the element `lane` is taken.
    """

    def __init__(
        self,
        thread: Thread,
        names: Mapping[str, Expression] | None = None,
        loaded: Mapping[int, SSAValue] | None = None,
        lane: int = 0,
    ) -> None:
        self.thread = thread
        self._names = names or {}
        self._loaded = loaded or {}
        self._lane = lane
        self._known: dict[int, SSAValue] = {}

    def value(self, scalar: Scalar) -> SSAValue:
        """Returns the value of a scalar."""
        known = self._known.get(id(scalar))
        if known is None:
            known = self._known[id(scalar)] = self._value(scalar)
        return known

    def _value(self, scalar: Scalar) -> SSAValue:
        emit = self.thread.emit
        match scalar:
            case Constant(value, dtype):
                kind = type_of(dtype)
                if dtype in EIGHT_BIT:
                    return emit.integer(code_of(float(value), dtype), kind)
                if is_float(dtype):
                    return emit.constant(FloatAttr(float(value), kind))  # pyright: ignore
                return emit.integer(int(value), kind)
            case Index(expression):
                return self.thread.indices.value(expression.substitute(self._names))
            case Variable(name):
                return self.thread.numbers[name]
            case Load():
                return self._load(scalar)
            case Apply("arith.select", (condition, yes, no)):
                return self._select(condition, yes, no)
            case Apply():
                return self._apply(scalar)

    def _load(self, load: Load) -> SSAValue:
        thread = self.thread
        if (found := self._loaded.get(id(load))) is not None:
            kind = type_of(load.dtype)
            return thread.emit.extract(found, kind, self._lane)
        buffer = thread.buffer(load.buffer)
        if buffer.scope is Scope.LOCAL:
            return thread.extract(buffer, self.constant_indices(buffer, load.indices))
        place = self.address(buffer, load.indices)
        return thread.emit.result(llvm.LoadOp, place, type_of(load.dtype))

    def constant_indices(
        self, buffer: Buffer, indices: tuple[Subscript, ...]
    ) -> tuple[Expression, ...]:
        """Returns the indices of a local buffer, which do not depend on data."""
        known = [i.substitute(self._names) for i in indices if isinstance(i, Expression)]
        if len(known) < len(indices):
            raise DiagnosticError(
                f"expected indices of the local buffer '{buffer.name}' that do not depend on data; "
                "registers have no address"
            )
        return tuple(known)

    def address(self, buffer: Buffer, indices: tuple[Subscript, ...]) -> SSAValue:
        """Returns the address of an element in memory; an index may depend on data."""
        thread = self.thread
        if buffer.scope is Scope.FRAGMENT:
            raise DiagnosticError(
                f"expected a tensor intrinsic on the fragment buffer '{buffer.name}', got an "
                "access to one element"
            )
        plain = tuple(
            i.substitute(self._names) if isinstance(i, Expression) else constant(0) for i in indices
        )
        place = thread.address(buffer, thread.offset(buffer, plain))
        for index, stride in zip(indices, thread.strides(buffer), strict=True):
            if not isinstance(index, Expression):
                if buffer.swizzle:
                    raise DiagnosticError(
                        f"expected indices of the swizzled buffer '{buffer.name}' that do not "
                        "depend on data"
                    )
                place = self._moved(buffer, place, index, stride)
        return place

    def _moved(
        self, buffer: Buffer, place: SSAValue, index: Scalar, stride: Expression
    ) -> SSAValue:
        emit = self.thread.emit
        steps = self.value(index)
        if buffer.scope is Scope.GLOBAL:
            wide = emit.to_i64(steps)
            steps = emit.mul(wide, self.thread.indices.value(stride, 64))
        else:
            steps = emit.mul(steps, self.thread.indices.value(stride))
        element = type_of(buffer.dtype)
        return emit.pointer(place, steps, element)

    def _select(self, condition: Scalar, yes: Scalar, no: Scalar) -> SSAValue:
        """What is not chosen is not loaded: it may lie outside of its buffer."""
        emit = self.thread.emit
        chosen = self.value(condition)
        if all(id(load) in self._loaded for side in (yes, no) for load in loads_of(side)):
            return emit.select(chosen, self.value(yes), self.value(no))
        blocks: list[Block] = []
        for side in (yes, no):
            before = dict(self._known)
            with emit.into(block := Block()):
                emit.op(scf.YieldOp, self.value(side))
            self._known = before
            blocks.append(block)
        kind = type_of(yes.dtype)
        return emit.with_regions(scf.IfOp, (chosen,), (kind,), *map(Region, blocks)).results[0]

    def _apply(self, apply: Apply) -> SSAValue:
        emit = self.thread.emit
        if apply.op != "arith.bitcast" and _has_eight_bits(apply):
            return self._apply_wide(apply)
        if apply.op == "arith.addf" and apply.dtype in _FUSED:
            for product, other in (apply.operands, apply.operands[::-1]):
                if isinstance(product, Apply) and product.op == "arith.mulf":
                    a, b = map(self.value, product.operands)
                    return emit.fma(a, b, self.value(other))
        operands = [self.value(operand) for operand in apply.operands]
        source = apply.operands[0].dtype if apply.operands else apply.dtype
        if apply.op == "arith.cmpi":
            return emit.result(arith.CmpiOp, operands[0], operands[1], apply.predicate)
        if apply.op == "arith.cmpf":
            return emit.result(arith.CmpfOp, operands[0], operands[1], apply.predicate)
        if apply.op == "arith.index_cast":
            return self._index_cast(operands[0], apply.dtype, source)
        if apply.op in ("arith.sitofp", "arith.uitofp") and apply.dtype == "bf16":
            # Through f32, as PTX has no instruction, and as the meaning of nests has it.
            wide = emit.create(_CLASSES[apply.op], operands, f32)
            return emit.result(arith.TruncFOp, wide, type_of(apply.dtype))
        if apply.op == "arith.truncf" and (source, apply.dtype) == ("f64", "bf16"):
            operands = [emit.result(arith.TruncFOp, operands[0], f32)]
        op = _class_of(apply.op)
        properties = {"fastmath": _CONTRACT} if apply.op in _CONTRACTED else {}
        return emit.create(op, operands, type_of(apply.dtype), properties)

    def _apply_wide(self, apply: Apply) -> SSAValue:
        """Appends an op on 8-bit floats, which is computed in f32."""
        emit = self.thread.emit
        operands = [self._wide(operand) for operand in apply.operands]
        if apply.op in ("arith.extf", "arith.truncf"):
            value = operands[0]
        elif apply.op == "arith.cmpf":
            return emit.result(arith.CmpfOp, operands[0], operands[1], apply.predicate)
        else:
            to = f32 if is_float(apply.dtype) else type_of(apply.dtype)
            value = emit.create(_class_of(apply.op), operands, to)
        if apply.dtype in EIGHT_BIT:
            return encoded(emit, self.thread.target, self._converted(value, f32), apply.dtype)
        return self._converted(value, type_of(apply.dtype))

    def _wide(self, scalar: Scalar) -> SSAValue:
        """Returns the value of a scalar, that of a narrow float in f32."""
        value = self.value(scalar)
        if scalar.dtype in EIGHT_BIT:
            return decoded(self.thread.emit, self.thread.target, value, scalar.dtype)
        return self._converted(value, f32) if is_float(scalar.dtype) else value

    def _converted(self, value: SSAValue, to: Attribute) -> SSAValue:
        """Returns a float in another type, an integer as it is."""
        if value.type == to or isinstance(value.type, IntegerType):
            return value
        op = arith.ExtFOp if _WIDTHS[value.type] < _WIDTHS[to] else arith.TruncFOp
        return self.thread.emit.create(op, (value,), to)

    def _index_cast(self, value: SSAValue, to: str, source: str) -> SSAValue:
        bits = {name: 32 if name == "index" else INTEGER_BITS[name] for name in (to, source)}
        if bits[to] == bits[source]:
            return value
        op = arith.ExtSIOp if bits[to] > bits[source] else arith.TruncIOp
        return self.thread.emit.create(op, (value,), IntegerType(bits[to]))
