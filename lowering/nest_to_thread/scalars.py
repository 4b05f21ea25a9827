"""What one point computes, as ops on scalars."""

from collections.abc import Mapping

from xdsl.dialects import arith, llvm, math, scf
from xdsl.dialects.builtin import FloatAttr, IntegerType, f32
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Block, Operation, Region, SSAValue

from ...dialects.diagnostic import DiagnosticError
from ...dialects.nest.program import Buffer, Scope
from ...dialects.nest.scalars import (
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
from .thread import Thread, type_of

_CLASSES: dict[str, type[Operation]] = {
    op.name: op for op in (*arith.Arith.operations, *math.Math.operations)
}
_CONTRACT = arith.FastMathFlagsAttr([FastMathFlag.ALLOW_CONTRACT])
_CONTRACTED = ("arith.addf", "arith.subf", "arith.mulf")
_FUSED = ("f32", "f64")


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
        return thread.emit.value(llvm.LoadOp(place, type_of(load.dtype)))

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
                emit.append(scf.YieldOp(self.value(side)))
            self._known = before
            blocks.append(block)
        kind = type_of(yes.dtype)
        return emit.value(scf.IfOp(chosen, [kind], Region(blocks[0]), Region(blocks[1])))

    def _apply(self, apply: Apply) -> SSAValue:
        emit = self.thread.emit
        if apply.op == "arith.addf" and apply.dtype in _FUSED:
            for product, other in (apply.operands, apply.operands[::-1]):
                if isinstance(product, Apply) and product.op == "arith.mulf":
                    a, b = map(self.value, product.operands)
                    return emit.fma(a, b, self.value(other))
        operands = [self.value(operand) for operand in apply.operands]
        source = apply.operands[0].dtype if apply.operands else apply.dtype
        if apply.op == "arith.cmpi":
            return emit.value(arith.CmpiOp(operands[0], operands[1], apply.predicate))
        if apply.op == "arith.cmpf":
            return emit.value(arith.CmpfOp(operands[0], operands[1], apply.predicate))
        if apply.op == "arith.index_cast":
            return self._index_cast(operands[0], apply.dtype, source)
        if apply.op in ("arith.sitofp", "arith.uitofp") and apply.dtype == "bf16":
            # Through f32, as PTX has no instruction, and as the meaning of nests has it.
            wide = emit.value(_CLASSES[apply.op].create(operands=operands, result_types=[f32]))
            return emit.value(arith.TruncFOp(wide, type_of(apply.dtype)))
        op = _CLASSES.get(apply.op)
        if op is None:
            raise DiagnosticError(f"expected an op of arith or math, got {apply.op}")
        properties = {"fastmath": _CONTRACT} if apply.op in _CONTRACTED else {}
        return emit.value(
            op.create(operands=operands, result_types=[type_of(apply.dtype)], properties=properties)
        )

    def _index_cast(self, value: SSAValue, to: str, source: str) -> SSAValue:
        bits = {name: 32 if name == "index" else INTEGER_BITS[name] for name in (to, source)}
        if bits[to] == bits[source]:
            return value
        op = arith.ExtSIOp if bits[to] > bits[source] else arith.TruncIOp
        return self.thread.emit.value(op(value, IntegerType(bits[to])))
