"""The arguments of a call: symbols solved from the shapes of arrays, and everything checked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..dialects.nest.program import Buffer, Program, ScalarParameter
from ..dialects.sym import Expression, Ranges
from ..dialects.sym.expression import Symbol
from ..runtime.errors import ArgumentError
from .arithmetic import STORAGE, Array, encode

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class _Equation:
    """That an expression has a value, and where it is seen."""

    value: Expression
    number: int
    parameter: str
    place: str


def solve_symbols(
    program: Program, arrays: Mapping[str, Array], given: Mapping[str, int] | None = None
) -> dict[str, int]:
    """
    Returns the values of a program's symbols from the shapes and strides of its arguments.

    A symbol that no extent determines has to be in `given`. Raises ArgumentError that names the
    parameter and axis of a shape that does not match, or a symbol that is out of its range.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    strides = {
        name: tuple(step // array.itemsize for step in array.strides)
        for name, array in arrays.items()
    }
    return solve_shapes(program, shapes, strides, given)


def solve_shapes(
    program: Program,
    shapes: Mapping[str, Shape],
    strides: Mapping[str, Shape] | None = None,
    given: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Returns the values of a program's symbols from shapes, and strides in elements."""
    known = dict(given or {})
    for name in known:
        if name not in program.ranges:
            raise ArgumentError(name, f"a symbol of '{program.ranges}'", "none of that name")
    equations = list(_equations(program, shapes, strides or {}))
    pending = equations
    while pending:
        rest = [equation for equation in pending if not _solve(equation, known)]
        if len(rest) == len(pending):
            break
        pending = rest
    for name in program.ranges:
        if name not in known:
            raise ArgumentError(name, "a value for the symbol", "none, no extent determines it")
    for equation in equations:
        if (number := equation.value.evaluate(known)) != equation.number:
            expected = f"{equation.place} {equation.value}"
            expected += "" if equation.value.constant_value is not None else f" = {number}"
            raise ArgumentError(equation.parameter, expected, str(equation.number))
    check_ranges(program.ranges, known)
    return known


def check_ranges(ranges: Ranges, symbols: Mapping[str, int]) -> None:
    """Raises ArgumentError for a symbol whose value is out of its range."""
    for name in ranges:
        entry, value = ranges[name], symbols[name]
        lower = None if entry.lower is None else entry.lower.evaluate(symbols)
        upper = None if entry.upper is None else entry.upper.evaluate(symbols)
        is_inside = (lower is None or lower <= value) and (upper is None or value <= upper)
        if not is_inside or value % entry.multiple:
            text = f"{'...' if lower is None else lower}, {'...' if upper is None else upper}"
            multiple = "" if entry.multiple == 1 else f" and a multiple of {entry.multiple}"
            raise ArgumentError(name, f"a value in [{text}]{multiple}", str(value))


def check_arrays(program: Program, arrays: Mapping[str, Array], scalars: Mapping[str, Any]) -> None:
    """Raises ArgumentError unless there is an array or number of its dtype for each parameter."""
    names = {parameter.name for parameter in program.parameters}
    for name in (*arrays, *scalars):
        if name not in names:
            raise ArgumentError(name, f"a parameter of '{program.name}'", "none of that name")
    for parameter in program.parameters:
        name = parameter.name
        if isinstance(parameter, ScalarParameter):
            if name not in scalars:
                raise ArgumentError(name, f"a number of dtype {parameter.dtype}", "none")
            continue
        if name not in arrays:
            raise ArgumentError(name, f"an array of dtype {parameter.dtype}", "none")
        array = arrays[name]
        if array.dtype != STORAGE[parameter.dtype]:
            expected = f"elements of {parameter.dtype} as {STORAGE[parameter.dtype]}"
            raise ArgumentError(name, expected, str(array.dtype))
        if array.ndim != len(parameter.shape):
            raise ArgumentError(name, f"{len(parameter.shape)} axes", str(array.ndim))
        if name in program.outputs and not array.flags.writeable:
            raise ArgumentError(name, "an array that can be written", "a read-only one")


def _equations(
    program: Program, shapes: Mapping[str, Shape], strides: Mapping[str, Shape]
) -> Iterator[_Equation]:
    for parameter in program.parameters:
        if not isinstance(parameter, Buffer):
            continue
        name, shape = parameter.name, shapes[parameter.name]
        for axis, (extent, size) in enumerate(zip(parameter.shape, shape, strict=True)):
            yield _Equation(extent, size, name, f"axis {axis} of extent")
        for axis, stride in enumerate(parameter.strides or ()):
            # The stride of an axis of one element is never used, NumPy may give any.
            if shape[axis] > 1 and name in strides:
                yield _Equation(stride, strides[name][axis], name, f"axis {axis} of stride")


def _solve(equation: _Equation, known: dict[str, int]) -> bool:
    """Returns whether the equation says nothing new; a symbol that it determines is added."""
    value = equation.value.substitute(known)
    unknown = value.symbols()
    if not unknown:
        return True
    if len(unknown) > 1:
        return False
    atom = Symbol(min(unknown))
    factor, rest = value.split(atom)
    if (by := factor.constant_value) is None or (start := rest.constant_value) is None:
        return False
    quotient, remainder = divmod(equation.number - start, by)
    if remainder:
        expected = f"{equation.place} {value} with a whole '{atom.name}'"
        raise ArgumentError(equation.parameter, expected, str(equation.number))
    known[atom.name] = quotient
    return True


def random_array(
    generator: np.random.Generator, shape: tuple[int, ...], dtype: str, limit: float = 1.0
) -> Array:
    """
    Returns random elements of a dtype, none of them 0, as a buffer holds them.

    Floats are uniform with magnitudes from `limit`/8 to `limit`; integers go from -8 to 8.
    """
    sign = generator.integers(0, 2, shape) * 2 - 1
    if dtype == "i1":
        return sign > 0
    if STORAGE[dtype].kind == "i":
        return (sign * generator.integers(1, 9, shape)).astype(STORAGE[dtype])
    return encode(sign * generator.uniform(limit / 8, limit, shape), dtype)
