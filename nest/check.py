"""Checks a schedule by what it does: results, races and regions before and after it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from ..dialects.nest.program import (
    Body,
    Buffer,
    Loop,
    Program,
    ScalarParameter,
    Store,
    blocks_of,
)
from ..dialects.nest.program import walk as walk_statements
from ..dialects.nest.scalars import is_float
from ..dialects.sym import Expression, Ranges
from ..transforms.races import races_of
from .arguments import copy_of, random_array
from .arithmetic import Arithmetic, Array, decode
from .concrete import Concrete, Descriptions, ExecutionError, concrete, undivided
from .interpreter import NO_DESCRIPTIONS, execute, interpret
from .plan import symbols_of
from .region_check import uncovered
from .values import NestError

MAX_POINTS = 1 << 22  # a trial executes at most about as many statements, if symbols allow it
# Values that leave remainders by the usual factors, and some that leave none.
_SIZES = (1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 47, 64, 65, 100, 127, 129)
_UNIT = {"f64": 53, "f32": 24, "f16": 11, "bf16": 8, "f8E4M3FN": 4, "f8E5M2": 3}


@dataclass(frozen=True)
class Report:
    """What a check found: nothing, if the schedule keeps the meaning of the program."""

    symbols: tuple[Mapping[str, int], ...]
    findings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        if self.passed:
            return f"passed in {len(self.symbols)} trials"
        return "\n".join(self.findings)

    def require(self) -> None:
        """Raises NestError with the findings, if there are any."""
        if self.findings:
            raise NestError("; ".join(self.findings))


def check_schedule(
    original: Program,
    scheduled: Program,
    *,
    trials: int = 3,
    seed: int = 0,
    descriptions: Descriptions = NO_DESCRIPTIONS,
) -> Report:
    """
    Executes two programs on the same random inputs, and looks for races and wrong regions.

    Symbols get values of their ranges, small ones that leave remainders. Integers must be the same
    bit for bit; floats may differ by the rounding of the longest reduction in the narrowest dtype.
    """
    if (difference := _difference_of_parameters(original, scheduled)) is not None:
        return Report((), (difference,))
    generator = np.random.default_rng(seed)
    findings: list[str] = []
    tried: list[Mapping[str, int]] = []
    for _ in range(trials if original.ranges else min(trials, 2)):
        symbols = random_symbols(original, generator, (original, scheduled))
        tried.append(symbols)
        trial = _Trial(original, scheduled, symbols, descriptions)
        findings.extend(text for text in trial.findings(generator) if text not in findings)
    return Report(tuple(tried), tuple(findings))


def _difference_of_parameters(original: Program, scheduled: Program) -> str | None:
    for one, two in zip(original.parameters, scheduled.parameters, strict=False):
        if one != two:
            return f"expected the parameter {one}, got {two}"
    if len(original.parameters) != len(scheduled.parameters):
        counts = len(original.parameters), len(scheduled.parameters)
        return f"expected {counts[0]} parameters, got {counts[1]}"
    if original.ranges != scheduled.ranges:
        return f"expected the ranges '{original.ranges}', got '{scheduled.ranges}'"
    return None


def random_symbols(
    program: Program, generator: np.random.Generator, cost_of: tuple[Program, ...]
) -> dict[str, int]:
    """
    Returns values of the symbols in their ranges, small ones, many of which leave remainders.

    They are drawn again, at most 20 times, until no program of `cost_of` executes too much.
    """
    best: dict[str, int] = {}
    least = -1
    for _ in range(20):
        symbols = _draw_symbols(program.ranges, generator)
        cost = max((_cost(part.body, symbols) for part in cost_of), default=0)
        if least < 0 or cost < least:
            best, least = symbols, cost
        if cost <= MAX_POINTS:
            return symbols
    return best


def _draw_symbols(ranges: Ranges, generator: np.random.Generator) -> dict[str, int]:
    symbols: dict[str, int] = {}
    for name in ranges:
        entry = ranges[name]
        low = 1 if entry.lower is None else entry.lower.evaluate(symbols)
        high = low + 4096 if entry.upper is None else entry.upper.evaluate(symbols)
        low += -low % entry.multiple
        high -= high % entry.multiple
        if low > high:
            raise NestError(f"expected a value of '{name}' in '{ranges}', got none")
        sizes = [entry.multiple * size for size in _SIZES] + [low]
        legal = [size for size in sizes if low <= size <= high]
        symbols[name] = int(generator.choice(sorted(set(legal))))
    return symbols


def _cost(body: Body, symbols: Mapping[str, int]) -> int:
    total = 0
    for statement in body:
        inner = 1
        if isinstance(statement, Loop):
            names = dict.fromkeys(statement.extent.symbols(), 0) | dict(symbols)
            inner = max(0, statement.extent.evaluate(names))
        nested: Body = getattr(statement, "body", ())
        total += inner * max(1, _cost(nested, symbols))
    return total


@dataclass(frozen=True)
class _Trial:
    original: Program
    scheduled: Program
    symbols: Mapping[str, int]
    descriptions: Descriptions

    def findings(self, generator: np.random.Generator) -> list[str]:
        arrays, scalars = self.arguments(generator)
        found: list[str] = []
        results: list[dict[str, Array]] = []
        for program, which in ((self.original, "original"), (self.scheduled, "scheduled")):
            copies = {name: copy_of(array) for name, array in arrays.items()}
            try:
                results.append(self.run(program, copies, scalars))
            except ExecutionError as error:
                found.append(f"{which} program{self.place()}: {error}")
        if len(results) == 2:
            found.extend(self.differences(arrays, scalars, *results))
        made = undivided(self.scheduled, self.symbols, self.descriptions)
        scopes = {name: buffer.scope for name, buffer in self.scheduled.buffers.items()}
        found.extend(f"{race}{self.place()}" for race in races_of(made.body, scopes))
        for block in blocks_of(self.scheduled.body):
            text = uncovered(self.scheduled, block, self.symbols, self.descriptions, generator)
            found.extend([] if text is None else [text + self.place()])
        return found

    def place(self) -> str:
        """Returns the values of the symbols as text."""
        values = ", ".join(f"{name} = {value}" for name, value in self.symbols.items())
        return f" at {values}" if values else ""

    def run(
        self, program: Program, arrays: dict[str, Array], scalars: Mapping[str, Any]
    ) -> dict[str, Array]:
        return interpret(program, arrays, scalars, self.symbols, descriptions=self.descriptions)

    def arguments(self, generator: np.random.Generator) -> tuple[dict[str, Array], dict[str, Any]]:
        arrays: dict[str, Array] = {}
        scalars: dict[str, Any] = {}
        for parameter in self.original.parameters:
            if isinstance(parameter, ScalarParameter):
                drawn = random_array(generator, (), parameter.dtype)
                scalars[parameter.name] = decode(drawn, parameter.dtype)
            else:
                arrays[parameter.name] = self.array(parameter, generator)
        return arrays, scalars

    def array(self, buffer: Buffer, generator: np.random.Generator) -> Array:
        shape = tuple(extent.evaluate(self.symbols) for extent in buffer.shape)
        values = random_array(generator, shape, buffer.dtype)
        if buffer.strides is None:
            return values
        strides = [stride.evaluate(self.symbols) for stride in buffer.strides]
        span = sum((size - 1) * step for size, step in zip(shape, strides, strict=True)) + 1
        memory = np.zeros(max(span, 0), values.dtype)
        steps = [step * values.itemsize for step in strides]
        array = np.lib.stride_tricks.as_strided(memory, shape, steps)
        array[...] = values
        return array

    def differences(
        self,
        arrays: Mapping[str, Array],
        scalars: Mapping[str, Any],
        first: Mapping[str, Array],
        second: Mapping[str, Array],
    ) -> list[str]:
        found: list[str] = []
        made = concrete(self.original, self.symbols, self.descriptions)
        after = concrete(self.scheduled, self.symbols, self.descriptions)
        bound: float | None = None
        for name, one in first.items():
            dtype, two = made.dtypes[name], second[name]
            if not is_float(dtype):
                wrong = one != two
            else:
                if bound is None:
                    peak = self.peak(made, arrays, scalars)
                    bound = peak * max(rounding_of(made), rounding_of(after))
                one, two = (decode(part, dtype).astype(np.float64) for part in (one, two))
                same = (one == two) | (np.isnan(one) & np.isnan(two))
                with np.errstate(invalid="ignore"):
                    wrong = ~same & ~(np.abs(one - two) <= bound)
            if np.any(wrong):
                index = tuple(int(part[0]) for part in np.nonzero(wrong))
                tolerance = f" +- {bound:.3g}" if is_float(dtype) else ""
                found.append(
                    f"'{name}'{list(index)}{self.place()}: expected "
                    f"{one[index]}{tolerance}, got {two[index]}; {int(np.sum(wrong))} of "
                    f"{wrong.size} elements differ"
                )
        return found

    def peak(
        self, made: Concrete, arrays: Mapping[str, Array], scalars: Mapping[str, Any]
    ) -> float:
        """Returns the greatest magnitude of any float that the original program holds in f64."""
        arithmetic = Arithmetic(is_exact=True)
        held = {
            name: arithmetic.rounded(decode(array, made.dtypes[name]), made.dtypes[name]).copy()
            for name, array in arrays.items()
        }
        numbers = {name: np.asarray(value) for name, value in scalars.items()}
        execute(made, held, numbers, arithmetic)
        floats = [held[name] for name, dtype in made.dtypes.items() if is_float(dtype)]
        peaks = [np.abs(part[np.isfinite(part)]).max(initial=0.0) for part in floats]
        return max((float(peak) for peak in peaks), default=0.0)


def rounding_of(made: Concrete) -> float:
    """
    Returns a bound of the rounding error of a program, over the greatest magnitude in it.

    A sum of k terms errs by at most k*u, with a probability near 1 by 8*sqrt(k)*u (Higham and Mary,
    SIAM J. Sci. Comput. 41, 2019); u is that of the narrowest float dtype.
    """
    bits = [_UNIT[dtype] for dtype in made.dtypes.values() if is_float(dtype)]
    terms = _longest(made.body, {})
    statements = sum(isinstance(part, Store) for part in walk_statements(made.body))
    return (min(terms, 8 * sqrt(terms)) + 8 * statements) * 2.0 ** -min(bits, default=53)


def _longest(body: Body, extents: Mapping[str, int]) -> int:
    """Returns how many points at most are combined in one element."""
    longest = 1
    for statement in body:
        if isinstance(statement, Store):
            named = {
                name
                for index in statement.indices
                for name in (
                    index.symbols() if isinstance(index, Expression) else symbols_of(index)
                )
            }
            count = 1
            for name, extent in extents.items():
                count *= 1 if name in named else max(1, extent)
            longest = max(longest, count)
        elif isinstance(statement, Loop):
            inner = {**extents, statement.name: statement.extent.constant_value or 1}
            longest = max(longest, _longest(statement.body, inner))
        else:
            longest = max(longest, _longest(getattr(statement, "body", ()), extents))
    return longest
