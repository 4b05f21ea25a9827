"""
What a traced function computes: expressions over scores and positions.

A variant's Python functions are called once with symbolic values; every operation on them makes
a node. Nodes are immutable and cheap, so that a variant can be recognised without building IR.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, NoReturn, cast

from ..runtime.errors import TilewrightError


class VariantError(TilewrightError):
    """A variant's function cannot be traced; the message begins with the place."""


class ScalarType(StrEnum):
    """The types of a traced value."""

    F32 = "f32"
    I32 = "i32"
    I1 = "i1"


@dataclass(frozen=True)
class SourceLine:
    """A line of the user's program."""

    filename: str
    line: int

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}"


def user_line() -> SourceLine:
    """Returns the line of the variant's function that is being run."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    package = __name__.rpartition(".")[0]
    own = (__name__, f"{package}.functions", f"{package}.parameters")
    while frame.f_back is not None and frame.f_globals.get("__name__") in own:
        frame = frame.f_back
    return SourceLine(frame.f_code.co_filename, frame.f_lineno)


def refuse(message: str, place: SourceLine | None = None) -> NoReturn:
    """Refuses a variant at a line of the user's program, by default the current one."""
    raise VariantError(f"{place or user_line()}: error: {message}")


Number = bool | int | float
_LARGEST_I32 = 2**31 - 1
LARGEST_F32 = (2 - 2**-23) * 2.0**127
# Of the numbers that f32 holds with full precision.
SMALLEST_F32 = 2.0**-126


def is_integer(value: object) -> bool:
    """Whether a value is an integer; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether a value is an integer or a floating-point number; a bool is neither."""
    return isinstance(value, float) or is_integer(value)


@dataclass(frozen=True)
class Parameter:
    """
    A run-time parameter of a variant: a scalar, or with a shape a tensor in row-major order.

    A shape has an integer or the name of a symbol for each axis.
    """

    name: str
    dtype: ScalarType
    shape: tuple[int | str, ...] = ()

    def __str__(self) -> str:
        extents = ", ".join(str(extent) for extent in self.shape)
        return f"{self.name}: {self.dtype}" + (f"[{extents}]" if extents else "")


def _binary(name: str) -> Callable[[Any, Any], "Value"]:
    return lambda self, other: combine(name, self, other)


def _reflected(name: str) -> Callable[[Any, Any], "Value"]:
    return lambda self, other: combine(name, other, self)


@dataclass(frozen=True, eq=False, repr=False)
class Value:
    """
    A traced value: a score (f32), a position (i32) or a condition (i1).

    Arithmetic follows Python and FlexAttention: `/` gives f32, `//` and `%` round down, i32 meets
    f32 as f32. `&`, `|`, `~` combine conditions. `<<` and `>>` shift i32 by 0 to 31 bits.
    """

    op: str
    operands: tuple["Value", ...]
    dtype: ScalarType
    constant: Number | None = None
    place: SourceLine | None = field(default=None, compare=False)
    parameter: Parameter | None = None

    # NumPy must not take the operators of its scalars over ours.
    __array_priority__: ClassVar[float] = 1000.0

    __add__, __radd__ = _binary("add"), _reflected("add")
    __sub__, __rsub__ = _binary("sub"), _reflected("sub")
    __mul__, __rmul__ = _binary("mul"), _reflected("mul")
    __truediv__, __rtruediv__ = _binary("div"), _reflected("div")
    __floordiv__, __rfloordiv__ = _binary("floordiv"), _reflected("floordiv")
    __mod__, __rmod__ = _binary("mod"), _reflected("mod")
    __and__, __rand__ = _binary("and"), _reflected("and")
    __or__, __ror__ = _binary("or"), _reflected("or")
    __xor__, __rxor__ = _binary("xor"), _reflected("xor")
    __lshift__, __rlshift__ = _binary("shl"), _reflected("shl")
    __rshift__, __rrshift__ = _binary("shr"), _reflected("shr")
    __lt__, __le__ = _binary("lt"), _binary("le")
    __gt__, __ge__ = _binary("gt"), _binary("ge")
    __eq__, __ne__ = _binary("eq"), _binary("ne")  # pyright: ignore[reportAssignmentType]
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<traced {self.dtype}>"

    def __neg__(self) -> "Value":
        return combine("sub", 0.0 if self.dtype is ScalarType.F32 else 0, self)

    def __pos__(self) -> "Value":
        return self

    def __abs__(self) -> "Value":
        return call("abs", self)

    def __invert__(self) -> "Value":
        return combine("xor", self, True)

    def __pow__(self, exponent: object) -> "Value":
        if not isinstance(exponent, int) or not 1 <= exponent <= 8:
            refuse(f"expects a power with a constant exponent from 1 to 8, got {exponent!r}")
        result = self
        for _ in range(exponent - 1):
            result = combine("mul", result, self)
        return result

    def __bool__(self) -> bool:
        refuse(
            "the value of a traced condition is not known here (if, and, or, not, while, assert): "
            "use where(condition, a, b), &, | and ~"
        )

    def _no_number(self, kind: str) -> NoReturn:
        refuse(
            f"a traced value has no {kind} yet: use the functions of tilewright.attention, "
            "not those of math, and no lists or tensors indexed by it"
        )

    def __int__(self) -> int:
        self._no_number("integer value")

    def __float__(self) -> float:
        self._no_number("floating-point value")

    def __index__(self) -> int:
        self._no_number("index")

    def __iter__(self) -> NoReturn:
        refuse("a traced value is a scalar and cannot be iterated over")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        refuse(f"a traced value is a scalar and has no '{name}'")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> "Value":
        return _foreign_call(ufunc.__name__, inputs, kwargs)

    def __array_function__(
        self, function: Any, types: Any, inputs: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> "Value":
        return _foreign_call(function.__name__, inputs, kwargs)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, inputs: Sequence[Any] = (), kwargs: Any = None
    ) -> "Value":
        return _foreign_call(function.__name__, inputs, kwargs or {})


def _foreign_call(name: str, inputs: Sequence[Any], kwargs: Mapping[str, Any]) -> Value:
    """Takes over a call of numpy or torch on a traced value."""
    name = _FOREIGN_NAMES.get(name, name)
    if kwargs:
        refuse(f"expects no keyword arguments of '{name}', got {', '.join(kwargs)}")
    if name == "where" and len(inputs) == 3:
        return where(*inputs)
    if name in _BINARY_TYPES and len(inputs) == 2:
        return combine(name, *inputs)
    if name in _FUNCTIONS and len(inputs) == 1:
        return call(name, *inputs)
    refuse(f"expects a function among {', '.join(sorted(_FUNCTIONS))}, where, got '{name}'")


# Names under which numpy and torch have our functions.
_FOREIGN_NAMES = {
    "absolute": "abs",
    "bitwise_and": "and",
    "bitwise_or": "or",
    "bitwise_xor": "xor",
    "divide": "div",
    "equal": "eq",
    "fmax": "maximum",
    "fmin": "minimum",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "logical_and": "and",
    "logical_or": "or",
    "multiply": "mul",
    "not_equal": "ne",
    "left_shift": "shl",
    "remainder": "mod",
    "right_shift": "shr",
    "subtract": "sub",
    "true_divide": "div",
}

_NUMBERS = (ScalarType.I32, ScalarType.F32)
# For each binary operation the types that it takes, and whether it gives a condition.
_BINARY_TYPES: dict[str, tuple[tuple[ScalarType, ...], bool]] = {
    **{name: (_NUMBERS, False) for name in ("add", "sub", "mul", "maximum", "minimum")},
    "div": (_NUMBERS, False),
    "floordiv": (_NUMBERS, False),
    "mod": (_NUMBERS, False),
    **{name: ((ScalarType.I1, ScalarType.I32), False) for name in ("and", "or", "xor")},
    **{name: ((ScalarType.I32,), False) for name in ("shl", "shr")},
    **{name: (_NUMBERS, True) for name in ("lt", "le", "gt", "ge")},
    "eq": ((*_NUMBERS, ScalarType.I1), True),
    "ne": ((*_NUMBERS, ScalarType.I1), True),
}


def lift(value: object) -> Value:
    """Returns a number as a traced constant, a traced value as it is."""
    if isinstance(value, Value):
        return value
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = cast("Any", value).item()
    match value:
        case bool():
            return Value("constant", (), ScalarType.I1, value)
        case int():
            if abs(value) > _LARGEST_I32:
                refuse(f"expects an integer of 32 bits, got {value}")
            return Value("constant", (), ScalarType.I32, value)
        case float():
            if LARGEST_F32 < abs(value) < math.inf:
                refuse(f"expects a number that f32 can hold, got {value}")
            return Value("constant", (), ScalarType.F32, value)
        case _:
            refuse(f"expects a traced value or a number, got {type(value).__name__}")


def convert(value: Value, dtype: ScalarType) -> Value:
    """Returns a value as f32 or i32; conditions are not numbers here."""
    if value.dtype is dtype:
        return value
    if value.constant is not None and dtype is ScalarType.F32:
        return Value("constant", (), dtype, float(value.constant))
    return Value("convert", (value,), dtype, place=user_line())


def combine(name: str, lhs: object, rhs: object) -> Value:
    """Returns the traced result of a binary operation."""
    left, right = lift(lhs), lift(rhs)
    types, gives_condition = _BINARY_TYPES[name]
    for side in (left, right):
        if side.dtype not in types:
            expected = " or ".join(types)
            refuse(f"'{name}' expects operands of {expected}, got {side.dtype}")
    if name == "div" or ScalarType.F32 in (left.dtype, right.dtype):
        left, right = convert(left, ScalarType.F32), convert(right, ScalarType.F32)
    if left.dtype is not right.dtype:
        refuse(f"'{name}' expects operands of one type, got {left.dtype} and {right.dtype}")
    if name in ("floordiv", "mod") and left.dtype is ScalarType.F32:
        if name == "mod":
            return left - call("floor", left / right) * right
        return call("floor", left / right)
    if name in ("floordiv", "mod") and right.constant == 0:
        refuse(f"'{name}' by the constant 0")
    dtype = ScalarType.I1 if gives_condition else left.dtype
    return Value(name, (left, right), dtype, place=user_line())


# For each function of one number the types that it takes.
_FUNCTIONS: dict[str, tuple[ScalarType, ...]] = {
    "abs": _NUMBERS,
    "cos": _NUMBERS,
    "exp": _NUMBERS,
    "exp2": _NUMBERS,
    "floor": _NUMBERS,
    "log": _NUMBERS,
    "log2": _NUMBERS,
    "rsqrt": _NUMBERS,
    "sigmoid": _NUMBERS,
    "sin": _NUMBERS,
    "sqrt": _NUMBERS,
    "tanh": _NUMBERS,
    # The same angle less whole turns.
    "within_turn": _NUMBERS,
}


def call(name: str, operand: object) -> Value:
    """Returns the traced result of a function of one number."""
    value = lift(operand)
    if value.dtype not in _FUNCTIONS[name]:
        refuse(f"'{name}' expects a number, got {value.dtype}")
    if name == "abs":
        return Value(name, (value,), value.dtype, place=user_line())
    value = convert(value, ScalarType.F32)
    if name in ("sin", "cos"):
        value = call("within_turn", value)
    return Value(name, (value,), ScalarType.F32, place=user_line())


def where(condition: object, yes: object, no: object) -> Value:
    """Returns `yes` where the condition holds, else `no`."""
    chosen, left, right = lift(condition), lift(yes), lift(no)
    if chosen.dtype is not ScalarType.I1:
        refuse(f"'where' expects a condition first, got {chosen.dtype}")
    if ScalarType.F32 in (left.dtype, right.dtype):
        if ScalarType.I1 in (left.dtype, right.dtype):
            refuse("'where' expects two numbers or two conditions")
        left, right = convert(left, ScalarType.F32), convert(right, ScalarType.F32)
    if left.dtype is not right.dtype:
        refuse(f"'where' expects values of one type, got {left.dtype} and {right.dtype}")
    return Value("where", (chosen, left, right), left.dtype, place=user_line())


def leaves_of(root: Value) -> list[Value]:
    """Returns what an expression reads: its arguments and scalar parameters, each once."""
    return [node for node in in_order(root) if not node.operands and node.constant is None]


def in_order(root: Value) -> list[Value]:
    """Returns the nodes of an expression, each once and behind its operands."""
    order: dict[int, Value] = {}
    # A loop in a user's function makes expressions deeper than Python's stack.
    stack = [root]
    while stack:
        value = stack[-1]
        missing = [operand for operand in value.operands if id(operand) not in order]
        if missing:
            stack += reversed(missing)
        else:
            order.setdefault(id(value), value)
            stack.pop()
    return list(order.values())


def depending_on(root: Value, leaf: Value) -> set[int]:
    """Returns the nodes, by their `id`, of an expression that depend on one of its leaves."""
    found: set[int] = {id(leaf)}
    for node in in_order(root):
        if any(id(operand) in found for operand in node.operands):
            found.add(id(node))
    return found


def canonical(root: Value) -> str:
    """Returns a text that two expressions share exactly if they compute the same, node for node."""
    numbers: dict[int, int] = {}
    lines: list[str] = []
    for value in in_order(root):
        operands = [numbers[id(operand)] for operand in value.operands]
        constant = value.constant
        text = constant.hex() if isinstance(constant, float) else repr(constant)
        read = "" if value.parameter is None else f" {value.parameter}"
        lines.append(f"{value.op} {value.dtype} {text} {operands}{read}")
        numbers[id(value)] = len(numbers)
    return ";".join(lines)
