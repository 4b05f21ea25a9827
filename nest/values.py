"""Scalars that Python's operators combine, as a builder's user writes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any, ClassVar, TypeAlias

import numpy as np

from ..dialects.nest.program import Bound
from ..dialects.nest.scalars import (
    DTYPE_BITS,
    FLOAT_BITS,
    Apply,
    Constant,
    Index,
    Load,
    Scalar,
    Variable,
    is_float,
)
from ..dialects.sym import Expression, ExpressionError, constant, floordiv, mod
from .arithmetic import decode, encode
from .errors import NestError

Number: TypeAlias = bool | int | float
Operand: TypeAlias = "Value | Expression | Number"

# The op of each operator for floats, and for integers.
_ARITHMETIC = {
    "+": ("arith.addf", "arith.addi"),
    "-": ("arith.subf", "arith.subi"),
    "*": ("arith.mulf", "arith.muli"),
    "/": ("arith.divf", None),
    "//": (None, "arith.floordivsi"),
    "%": (None, "arith.remsi"),
    "&": (None, "arith.andi"),
    "|": (None, "arith.ori"),
    "^": (None, "arith.xori"),
    "<<": (None, "arith.shli"),
    ">>": (None, "arith.shrsi"),
    "max": ("arith.maximumf", "arith.maxsi"),
    "min": ("arith.minimumf", "arith.minsi"),
}
_COMPARISONS = {
    "<": ("olt", "slt"),
    "<=": ("ole", "sle"),
    ">": ("ogt", "sgt"),
    ">=": ("oge", "sge"),
    "==": ("oeq", "eq"),
    "!=": ("une", "ne"),
}
_ON_EXPRESSIONS: Mapping[str, Callable[[Expression, Expression], Expression]] = {
    "+": Expression.__add__,
    "-": Expression.__sub__,
    "*": Expression.__mul__,
    "//": floordiv,
    "%": mod,
}


@dataclass(frozen=True, eq=False)
class Value:
    """
    A scalar that is computed at each point of a nest.

    Operands of an operator have one dtype; a Python number takes that of the other operand.
    Conversions are written with `cast`.
    """

    scalar: Scalar

    # NumPy must not take the operators of its scalars over ours.
    __array_priority__: ClassVar[float] = 1000.0

    @property
    def dtype(self) -> str:
        """The dtype of the scalar."""
        return self.scalar.dtype

    def __add__(self, other: Operand) -> "Value":
        return combine("+", self, other)

    def __radd__(self, other: Operand) -> "Value":
        return combine("+", other, self)

    def __sub__(self, other: Operand) -> "Value":
        return combine("-", self, other)

    def __rsub__(self, other: Operand) -> "Value":
        return combine("-", other, self)

    def __mul__(self, other: Operand) -> "Value":
        return combine("*", self, other)

    def __rmul__(self, other: Operand) -> "Value":
        return combine("*", other, self)

    def __truediv__(self, other: Operand) -> "Value":
        return combine("/", self, other)

    def __rtruediv__(self, other: Operand) -> "Value":
        return combine("/", other, self)

    def __floordiv__(self, other: Operand) -> "Value":
        return combine("//", self, other)

    def __mod__(self, other: Operand) -> "Value":
        return combine("%", self, other)

    def __and__(self, other: Operand) -> "Value":
        return combine("&", self, other)

    def __or__(self, other: Operand) -> "Value":
        return combine("|", self, other)

    def __xor__(self, other: Operand) -> "Value":
        return combine("^", self, other)

    def __lshift__(self, other: Operand) -> "Value":
        return combine("<<", self, other)

    def __rshift__(self, other: Operand) -> "Value":
        return combine(">>", self, other)

    def __lt__(self, other: Operand) -> "Value":
        return compare("<", self, other)

    def __le__(self, other: Operand) -> "Value":
        return compare("<=", self, other)

    def __gt__(self, other: Operand) -> "Value":
        return compare(">", self, other)

    def __ge__(self, other: Operand) -> "Value":
        return compare(">=", self, other)

    def equals(self, other: Operand) -> "Value":
        """Returns the condition that both are equal."""
        return compare("==", self, other)

    def __neg__(self) -> "Value":
        if is_float(self.dtype):
            return Value(Apply("arith.negf", (self.scalar,), self.dtype))
        return combine("-", 0, self)

    def __bool__(self) -> bool:
        raise NestError("expected a condition inside `select`: a Value has no truth of its own")


def value_of(operand: Operand, dtype: str | None = None) -> Value:
    """Returns an operand as a value; a Python number as a constant of `dtype`."""
    if isinstance(operand, Value):
        return operand
    if isinstance(operand, Expression):
        return Value(Index(operand))
    if dtype is None:
        raise NestError(f"expected a value of a known dtype, got the number {operand!r}")
    return Value(Constant(number_of(operand, dtype), dtype))


def number_of(number: object, dtype: str) -> int | float:
    """
    Returns a Python number as one of a dtype; refuses one that is too large for it.

    It is rounded to floats of 8 and 16 bits. f32 is rounded to where it is computed, so that a
    program that is executed in f64 has the number as it is written.
    """
    if isinstance(number, int | float) and is_float(dtype):
        with np.errstate(over="ignore"):
            rounded = float(decode(encode(np.asarray(number, np.float64), dtype), dtype))
        if isinf(rounded) == isinf(number):
            return rounded if FLOAT_BITS[dtype] < 32 else float(number)
    if isinstance(number, int):
        bits = DTYPE_BITS[dtype]
        if -(1 << (bits - 1)) <= int(number) < 1 << bits:
            return int(number)
    raise NestError(f"expected a number that {dtype} holds, got {number!r}")


def _alike(left: Operand, right: Operand) -> tuple[Value, Value]:
    typed = next((side for side in (left, right) if isinstance(side, Value)), None)
    untyped = "f32" if isinstance(left, float) or isinstance(right, float) else "index"
    dtype = typed.dtype if typed is not None else untyped
    one, two = value_of(left, dtype), value_of(right, dtype)
    if one.dtype != two.dtype:
        raise NestError(
            f"expected operands of one dtype, got {one.dtype} and {two.dtype}; cast one"
        )
    return one, two


def combine(operator: str, left: Operand, right: Operand) -> Value:
    """Returns `left operator right`; indices stay index expressions where they can."""
    one, two = _alike(left, right)
    a, b = one.scalar, two.scalar
    if isinstance(a, Index | Constant) and isinstance(b, Index | Constant) and a.dtype == "index":
        if (on_expressions := _ON_EXPRESSIONS.get(operator)) is not None:
            try:
                return Value(Index(on_expressions(_expression(a), _expression(b))))
            except ExpressionError as error:
                raise NestError(str(error)) from None
    op = _ARITHMETIC[operator][0 if is_float(one.dtype) else 1]
    if op is None:
        raise NestError(f"expected operands that {operator} takes, got {one.dtype}")
    return Value(Apply(op, (a, b), one.dtype))


def _expression(scalar: Index | Constant) -> Expression:
    return scalar.expression if isinstance(scalar, Index) else constant(int(scalar.value))


def compare(operator: str, left: Operand, right: Operand) -> Value:
    """Returns the condition `left operator right`, of dtype i1."""
    one, two = _alike(left, right)
    of_floats, of_integers = _COMPARISONS[operator]
    if is_float(one.dtype):
        return Value(Apply("arith.cmpf", (one.scalar, two.scalar), "i1", of_floats))
    return Value(Apply("arith.cmpi", (one.scalar, two.scalar), "i1", of_integers))


def maximum(left: Operand, right: Operand) -> Value:
    """Returns the greater of two values; NaN if one is."""
    return combine("max", left, right)


def minimum(left: Operand, right: Operand) -> Value:
    """Returns the lesser of two values; NaN if one is."""
    return combine("min", left, right)


def select(condition: Value, yes: Operand, no: Operand) -> Value:
    """Returns `yes` where the condition holds, else `no`; both are computed."""
    if condition.dtype != "i1":
        raise NestError(f"expected a condition of dtype i1, got {condition.dtype}")
    one, two = _alike(yes, no)
    return Value(Apply("arith.select", (condition.scalar, one.scalar, two.scalar), one.dtype))


def _unary(op: str, value: Operand) -> Value:
    operand = value_of(value, "f32")
    if not is_float(operand.dtype):
        raise NestError(f"expected a floating-point operand of {op}, got {operand.dtype}")
    return Value(Apply(op, (operand.scalar,), operand.dtype))


def exp(value: Operand) -> Value:
    """Returns e to the power of a value."""
    return _unary("math.exp", value)


def exp2(value: Operand) -> Value:
    """Returns 2 to the power of a value."""
    return _unary("math.exp2", value)


def log(value: Operand) -> Value:
    """Returns the natural logarithm."""
    return _unary("math.log", value)


def sqrt(value: Operand) -> Value:
    """Returns the square root."""
    return _unary("math.sqrt", value)


def rsqrt(value: Operand) -> Value:
    """Returns one over the square root."""
    return _unary("math.rsqrt", value)


def tanh(value: Operand) -> Value:
    """Returns the hyperbolic tangent."""
    return _unary("math.tanh", value)


def erf(value: Operand) -> Value:
    """Returns the error function."""
    return _unary("math.erf", value)


def sin(value: Operand) -> Value:
    """Returns the sine of an angle in radians."""
    return _unary("math.sin", value)


def cos(value: Operand) -> Value:
    """Returns the cosine of an angle in radians."""
    return _unary("math.cos", value)


def round_even(value: Operand) -> Value:
    """Returns the nearest whole number, as a float; ties go to the even one."""
    return _unary("math.roundeven", value)


def absolute(value: Operand) -> Value:
    """Returns the absolute value of a float."""
    return _unary("math.absf", value)


def sigmoid(value: Operand) -> Value:
    """Returns `1 / (1 + exp(-value))`."""
    operand = value_of(value, "f32")
    return 1.0 / (1.0 + exp(-operand))


def cast(value: Operand, dtype: str) -> Value:
    """
    Returns a value converted to another dtype.

    Floats are rounded to nearest even; a float becomes the integer towards zero; integers are
    signed, and lose their high bits where they do not fit.
    """
    if dtype not in DTYPE_BITS:
        raise NestError(f"expected a dtype among {', '.join(DTYPE_BITS)}, got {dtype!r}")
    operand = value_of(value, dtype)
    if operand.dtype == dtype:
        return operand
    return Value(Apply(cast_op(operand.dtype, dtype), (operand.scalar,), dtype))


def cast_op(source: str, target: str) -> str:
    """Returns the op of `arith` that converts between two different dtypes, signed."""
    wider = DTYPE_BITS[target] > DTYPE_BITS[source]
    if is_float(source) and is_float(target):
        if DTYPE_BITS[target] == DTYPE_BITS[source]:
            raise NestError(f"expected a conversion by way of f32, got {source} to {target}")
        return "arith.extf" if wider else "arith.truncf"
    if is_float(source):
        return "arith.fptosi"
    if "index" in (source, target):
        if is_float(target):
            raise NestError("expected an index to be cast to an integer before a float")
        return "arith.index_cast"
    if is_float(target):
        return "arith.uitofp" if source == "i1" else "arith.sitofp"
    if wider:
        return "arith.extui" if source == "i1" else "arith.extsi"
    return "arith.trunci"


def widened(value: Value, dtype: str) -> Value:
    """
    Returns a sum or product computed in a wider dtype: what it loads is converted first.

    So a product of two f16 elements that is added to an f32 sum loses nothing. Refuses a value
    whose ops are not arithmetic of one dtype.
    """
    if value.dtype == dtype:
        return value
    return Value(_widened(value.scalar, value.dtype, dtype))


def _widened(scalar: Scalar, source: str, target: str) -> Scalar:
    if isinstance(scalar, Apply) and scalar.op in _WIDENING and scalar.dtype == source:
        operands = tuple(_widened(operand, source, target) for operand in scalar.operands)
        return Apply(_across(scalar.op, target), operands, target)
    if isinstance(scalar, Constant):
        return Constant(number_of(scalar.value, target), target)
    if isinstance(scalar, Load | Variable):
        return cast(Value(scalar), target).scalar
    raise NestError(f"expected a value of dtype {target}, got {source}; cast it")


_WIDENING = {op for pair in list(_ARITHMETIC.values())[:3] for op in pair if op}
_TO_FLOAT = {pair[1]: pair[0] for pair in list(_ARITHMETIC.values())[:3]}


def _across(op: str, target: str) -> str:
    return _TO_FLOAT.get(op, op) or op if is_float(target) else op


def inside(left: Operand, right: Operand) -> Bound:
    """Returns the bound `left < right` of two index expressions."""
    one, two = (_as_expression(side) for side in (left, right))
    return Bound(one, two)


def _as_expression(operand: Any) -> Expression:
    match operand:
        case Expression():
            return operand
        case Value(Index(expression)):
            return expression
        case int():
            return constant(operand)
        case _:
            raise NestError(f"expected an index expression, got {operand!r}")


def index_expression(operand: object) -> Expression:
    """Returns an operand that is an index expression, or a whole number, as an expression."""
    return _as_expression(operand)
