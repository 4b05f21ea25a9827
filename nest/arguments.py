"""The arguments of a call: symbols solved from the shapes of arrays, and everything checked."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..dialects.nest.program import Buffer, Program, ScalarParameter
from ..dialects.sym import Expression, Ranges
from ..dialects.sym.expression import Symbol
from ..runtime.errors import ArgumentError
from .arithmetic import STORAGE, Array, encode

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class _Equation:
    """
    That an expression has a value, and where it is seen.

    The stride of an axis of one element is never used: `is_free`, other arrays decide first.
    """

    value: Expression
    number: int
    parameter: str
    place: str
    is_free: bool = False


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
    _solve_all([equation for equation in equations if not equation.is_free], known)
    _solve_all(equations, known)
    for name in program.ranges:
        if name not in known:
            raise ArgumentError(name, "a value for the symbol", "none, no extent determines it")
    for equation in equations:
        if equation.is_free:
            continue
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


def check_layouts(program: Program, arrays: Mapping[str, Array]) -> None:
    """
    Raises ArgumentError for arrays whose elements lie in memory as no buffer may have them.

    Without strides an array is C-contiguous. Strides are whole elements and not negative, and the
    elements of what is written lie apart: the next axis steps over all that the axes of smaller
    strides span.
    """
    for name, array in arrays.items():
        if program.buffers[name].strides is None:
            if not array.flags.c_contiguous:
                raise ArgumentError(name, "a C-contiguous array", "other strides")
            continue
        steps = [(step, count) for step, count in zip(array.strides, array.shape) if count > 1]
        if any(step < 0 or step % array.itemsize for step, _ in steps):
            expected = "strides of whole elements that are not negative"
            raise ArgumentError(name, expected, f"{array.strides} bytes")
        if name in program.outputs and array.size and not _lie_apart(steps, array.itemsize):
            expected = "strides that give each element a place of its own"
            raise ArgumentError(
                name, expected, f"{array.strides} bytes for the shape {array.shape}"
            )


def _lie_apart(steps: Iterable[tuple[int, int]], size: int) -> bool:
    for step, count in sorted(steps):
        if step < size:
            return False
        size += (count - 1) * step
    return True


def memory_of(array: Array) -> Array:
    """Returns the stretch of memory from an array's first element to its last one, flat."""
    if array.flags.c_contiguous:
        return array
    steps = zip(array.shape, array.strides, strict=True)
    last = sum((count - 1) * step for count, step in steps) // array.itemsize
    size = last + 1 if array.size else 0
    return as_strided(array, (size,), (array.itemsize,), writeable=False)


def copy_of(array: Array) -> Array:
    """Returns a copy of an array with the strides of its own."""
    if array.flags.c_contiguous:
        return array.copy()
    return as_strided(memory_of(array).copy(), array.shape, array.strides)


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
            if name in strides:
                place, is_free = f"axis {axis} of stride", shape[axis] < 2
                yield _Equation(stride, strides[name][axis], name, place, is_free)


def _solve_all(equations: list[_Equation], known: dict[str, int]) -> None:
    """Adds the symbols that equations determine, one after the other."""
    pending = equations
    while pending:
        rest = [equation for equation in pending if not _solve(equation, known)]
        if len(rest) == len(pending):
            return
        pending = rest


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
    if remainder and equation.is_free:
        return False
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
