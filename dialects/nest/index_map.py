"""
Maps of indices to indices: the layout of a buffer, or other axes of a block.

`(i, j) -> (i floordiv 16, j, i mod 16)` divides the first index and puts its remainder last. A
map that divides, fuses and exchanges indices has an inverse; others are refused where one is
needed.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from inspect import Parameter, signature
from operator import add

from ..sym import (
    Expression,
    ExpressionError,
    Ranges,
    ceildiv,
    constant,
    parse_expression,
    prove_divisible,
    prove_eq,
    prove_le,
    simplify,
    symbol,
)
from ..sym.expression import Quotient, Symbol, as_expression

_ARROW = re.compile(r"\s*\((?P<inputs>[^()]*)\)\s*->\s*\((?P<outputs>.*)\)\s*\Z", re.DOTALL)


class IndexMapError(ValueError):
    """A map cannot be read, applied to so many indices, or inverted; the message says why."""


@dataclass(frozen=True)
class Digit:
    """
    `scale * ((x floordiv low) mod (high / low))` of one input `x`, as a summand of an output.

    `high` is None for the leading digit of the input, which has no `mod`.
    """

    source: str
    low: Expression
    high: Expression | None
    scale: Expression


@dataclass(frozen=True)
class IndexMap:
    """Indices as expressions over other indices; `inputs` are the names of these."""

    inputs: tuple[str, ...]
    outputs: tuple[Expression, ...]

    def __post_init__(self) -> None:
        if len(set(self.inputs)) != len(self.inputs):
            raise IndexMapError(f"expected inputs of different names, got {', '.join(self.inputs)}")

    @classmethod
    def of(cls, function: Callable[..., Sequence[Expression | int]]) -> "IndexMap":
        """Returns the map that a Python function computes: `lambda i, j: (i // 16, j, i % 16)`."""
        parameters = signature(function).parameters.values()
        if any(p.kind is not Parameter.POSITIONAL_OR_KEYWORD for p in parameters):
            raise IndexMapError("expected a function of named indices, got one of *args or **kw")
        names = tuple(parameter.name for parameter in parameters)
        return cls(names, tuple(as_expression(o) for o in function(*map(symbol, names))))

    @classmethod
    def parse(cls, text: str) -> "IndexMap":
        """Returns the map that text says; raises IndexMapError."""
        if (match := _ARROW.match(text)) is None:
            raise IndexMapError(f"expected a map as (i, j) -> (j, i), got '{text}'")
        try:
            inputs = tuple(name.strip() for name in match["inputs"].split(",") if name.strip())
            for name in inputs:
                symbol(name)
            return cls(inputs, tuple(map(parse_expression, _split(match["outputs"]))))
        except ExpressionError as error:
            raise IndexMapError(str(error)) from None

    def __str__(self) -> str:
        return f"({', '.join(self.inputs)}) -> ({', '.join(map(str, self.outputs))})"

    def __call__(self, *indices: Expression | int) -> tuple[Expression, ...]:
        """Returns the outputs for other inputs."""
        if len(indices) != len(self.inputs):
            raise IndexMapError(f"expected {len(self.inputs)} indices, got {len(indices)}")
        images = dict(zip(self.inputs, indices, strict=True))
        return tuple(output.substitute(images) for output in self.outputs)

    def is_permutation(self) -> bool:
        """Whether the outputs are the inputs in some order."""
        names = [output.symbol_name for output in self.outputs]
        return len(names) == len(self.inputs) and set(names) == set(self.inputs)

    def shape(self, extents: Sequence[Expression], ranges: Ranges) -> tuple[Expression, ...]:
        """Returns the extents of the outputs; raises IndexMapError where they are not known."""
        known = dict(zip(self.inputs, extents, strict=True))
        return tuple(
            simplify(
                reduce(
                    add,
                    (d.scale * (_count(d, known) - 1) for d in self.digits(output)),
                    constant(1),
                ),
                ranges,
            )
            for output in self.outputs
        )

    def digits(self, output: Expression) -> tuple[Digit, ...]:
        """Returns an output as a sum of digits of the inputs, or raises IndexMapError."""
        found: list[Digit] = []
        rest = output
        for name in self.inputs:
            if name in rest.symbols():
                factors, rest = _quotients(rest, name)
                found.extend(_digits_of(name, factors, str(output)))
        if rest != 0 or any(not d.scale.symbols().isdisjoint(self.inputs) for d in found):
            raise IndexMapError(f"expected a sum of digits of the indices, got '{output}'")
        return tuple(found)

    def inverse(self, extents: Sequence[Expression], ranges: Ranges) -> "IndexMap":
        """
        Returns the map from the outputs, named `y0, y1, ...`, back to the inputs.

        Raises IndexMapError if the map does not take different indices to different ones, as far
        as it is a sum of digits that tell.
        """
        known = dict(zip(self.inputs, extents, strict=True))
        names = tuple(f"y{number}" for number in range(len(self.outputs)))
        found: dict[str, list[tuple[Digit, Expression]]] = {name: [] for name in self.inputs}
        for name, output in zip(names, self.outputs, strict=True):
            digits = sorted(self.digits(output), key=lambda digit: _order(digit.scale))
            for number, digit in enumerate(digits):
                value = symbol(name) // digit.scale
                if number + 1 < len(digits):
                    count, following = _count(digit, known), digits[number + 1].scale
                    if not prove_le(digit.scale * count, following, ranges):
                        raise IndexMapError(f"expected digits that don't overlap in '{output}'")
                    ratio = _ratio(following, digit.scale)
                    if ratio is None:
                        raise IndexMapError(f"expected scales that divide another in '{output}'")
                    value = value % ratio
                found[digit.source].append((digit, value))
        return IndexMap(names, tuple(_joined(n, found[n], known) for n in self.inputs))

    def is_onto(self, extents: Sequence[Expression], ranges: Ranges) -> bool:
        """Whether each index in the box of the outputs is proved to be one that the map gives."""
        shape = self.shape(extents, ranges)
        sizes = [
            reduce(lambda one, two: one * two, extent, constant(1)) for extent in (shape, extents)
        ]
        return bool(prove_eq(sizes[0], sizes[1], ranges)) and all(
            digit.high is not None or bool(prove_divisible(extent, digit.low, ranges))
            for output in self.outputs
            for digit in self.digits(output)
            for extent in [dict(zip(self.inputs, extents, strict=True))[digit.source]]
        )


def _split(text: str) -> list[str]:
    """Divides text at the commas that stand in no parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]


def _quotients(
    value: Expression, name: str
) -> tuple[list[tuple[Expression, Expression]], Expression]:
    """Returns the factor of each `name floordiv d` with its divisor, and what is left."""
    found: list[tuple[Expression, Expression]] = []
    index = symbol(name)
    for atom in sorted(value.variables(), key=lambda atom: atom.key):
        match atom:
            case Symbol(other) if other == name:
                divisor = constant(1)
            case Quotient(numerator, by) if numerator == index:
                divisor = by
            case _:
                continue
        factor, value = value.split(atom)
        found.append((divisor, factor))
    return sorted(found, key=lambda pair: _order(pair[0])), value


def _order(value: Expression) -> tuple[int, int, int, str]:
    number = value.constant_value
    if number is not None:
        return 0, number, 0, ""
    return 1, max(map(len, value.terms)), value.content, str(value)


def _ratio(value: Expression, by: Expression) -> Expression | None:
    if by == 1:
        return value
    quotient = value // by
    return quotient if quotient * by == value else None


def _digits_of(
    name: str, factors: Sequence[tuple[Expression, Expression]], text: str
) -> Iterable[Digit]:
    """Reads `x - 16*(x floordiv 16)` as the digit below 16, and so on."""
    scale = constant(0)
    for number, (divisor, factor) in enumerate(factors):
        if scale != 0:
            ratio = _ratio(divisor, factors[number - 1][0])
            if ratio is None:
                raise IndexMapError(
                    f"expected divisors of '{name}' that divide another in '{text}'"
                )
            yield Digit(name, factors[number - 1][0], divisor, scale)
            factor = factor + scale * ratio
        scale = factor
    if scale != 0:
        yield Digit(name, factors[-1][0], None, scale)


def _count(digit: Digit, extents: Mapping[str, Expression]) -> Expression:
    """Returns how many values a digit takes."""
    if digit.high is None:
        return ceildiv(extents[digit.source], digit.low)
    return digit.high // digit.low


def _joined(
    name: str, digits: list[tuple[Digit, Expression]], extents: Mapping[str, Expression]
) -> Expression:
    """Returns an input from its digits, which have to follow one another from 1 to the end."""
    if extents[name] == 1 and not digits:
        return constant(0)
    low: Expression | None = constant(1)
    value = constant(0)
    for digit, part in sorted(digits, key=lambda pair: _order(pair[0].low)):
        if digit.low != low:
            raise IndexMapError(f"expected the outputs to tell '{name}'")
        value = value + digit.low * part
        low = digit.high
    if low is not None:
        raise IndexMapError(f"expected the outputs to tell '{name}'")
    return value
