"""Programs that say what intrinsics compute: one block over small buffers."""

from collections.abc import Mapping, Sequence

from ...sym import Expression, Ranges, constant, symbol
from ..program import Axis, AxisKind, Block, Body, Buffer, Loop, Program, Range, Region, Store
from ..scalars import FLOAT_BITS, Apply, Constant, Load, Scalar

ONE = constant(1)
NO_RANGES = Ranges({})


def buffer(name: str, axes: str, extents: Mapping[str, int], dtype: str) -> Buffer:
    """Returns a buffer whose axes are those named by the letters of `axes`."""
    return Buffer(name, tuple(constant(extents[axis]) for axis in axes), dtype)


def element(of: Buffer, axes: str) -> Load:
    """Returns the element at the block's axes."""
    return Load(of.name, _indices(axes), of.dtype)


def _indices(axes: str) -> tuple[Expression, ...]:
    return tuple(symbol(f"v{axis}") for axis in axes)


def description(
    name: str,
    buffers: Sequence[Buffer],
    axes: Mapping[str, str],
    extents: Mapping[str, int],
    written: Buffer,
    value: Scalar,
) -> Program:
    """
    Returns `written[axes] = value` for all points of `extents`.

    `axes` gives the letters of the axes that index each buffer; an axis that does not index
    `written` is reduced.
    """
    block = Block(
        name,
        tuple(_axis(axis, extent, axes[written.name]) for axis, extent in extents.items()),
        tuple(_region(b, axes) for b in buffers if _is_read(b, value)),
        (_region(written, axes),),
        (Store(written.name, _indices(axes[written.name]), value),),
    )
    body: Body = (block,)
    for axis, extent in reversed(list(extents.items())):
        body = (Loop(axis, constant(extent), body),)
    return Program(name, tuple(buffers), NO_RANGES, body, outputs=frozenset((written.name,)))


def _axis(axis: str, extent: int, spatial: str) -> Axis:
    kind = AxisKind.SPATIAL if axis in spatial else AxisKind.REDUCE
    return Axis(f"v{axis}", constant(extent), symbol(axis), kind)


def _region(of: Buffer, axes: Mapping[str, str]) -> Region:
    return Region(of.name, tuple(Range(start, ONE) for start in _indices(axes[of.name])))


def _is_read(of: Buffer, value: Scalar) -> bool:
    match value:
        case Load(name):
            return name == of.name
        case Apply(_, operands):
            return any(_is_read(of, operand) for operand in operands)
        case _:
            return False


def no_description(name: str) -> Program:
    """Returns the program that does nothing: what orders copies and threads computes nothing."""
    return Program(name, (), NO_RANGES, ())


def converted(value: Scalar, dtype: str) -> Scalar:
    """Returns a scalar in a dtype that is as wide or wider, or a float in a narrower one."""
    if value.dtype == dtype:
        return value
    if dtype in FLOAT_BITS:
        wider = FLOAT_BITS[dtype] > FLOAT_BITS[value.dtype]
        return Apply("arith.extf" if wider else "arith.truncf", (value,), dtype)
    return Apply("arith.extsi", (value,), dtype)


def product_sum(accumulator: Load, left: Load, right: Load) -> Scalar:
    """Returns `accumulator + left * right`, the factors converted to the accumulator's dtype."""
    dtype = accumulator.dtype
    add, multiply = (
        ("arith.addf", "arith.mulf") if dtype in FLOAT_BITS else ("arith.addi", "arith.muli")
    )
    factors = (converted(left, dtype), converted(right, dtype))
    return Apply(add, (accumulator, Apply(multiply, factors, dtype)), dtype)


def zero(dtype: str) -> Constant:
    """Returns the zero of a dtype."""
    return Constant(0.0 if dtype in FLOAT_BITS else 0, dtype)
