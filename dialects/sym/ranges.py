"""
What is known of symbols: their least and greatest values, and what divides them.

    n in [1, 8192], n mod 16 == 0, m in [0, ...], tile in [0, (n + 63) floordiv 64 - 1]

A bound is an expression over symbols that come before, or `...` where there is none.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from math import lcm
from typing import TypeAlias

from .expression import Expression, constant, symbol
from .parsing import TextSource, TokenSource, read_expression
from .polynomial import ExpressionError

Bound: TypeAlias = Expression | int | None
_MOST_FURTHER = 256  # ranges with one more symbol that are kept


@dataclass(frozen=True, slots=True)
class Range:
    """The integers from `lower` to `upper`, both included, that `multiple` divides."""

    lower: Expression | None = None
    upper: Expression | None = None
    multiple: int = 1


class Ranges:
    """
    The ranges of symbols, immutable; a symbol without a range may be any integer.

    `Ranges.of(n=(1, 8192), m=(0, None))` makes them from numbers, `Ranges.parse` from text.
    """

    __slots__ = ("_further", "_hash", "_last", "_ranges", "before", "steps")

    before: "Ranges | None"
    """These ranges without the last symbol, where they were made by `also`."""
    steps: int
    """How often `also` was used since the ranges that were made otherwise."""

    def __init__(self, ranges: Mapping[str, Range]) -> None:
        """Raises ExpressionError for an empty range or a bound over later symbols."""
        self._ranges = dict(ranges)
        self._hash: int | None = None
        self._further: dict[tuple[str, Range], Ranges] = {}
        self.before, self.steps, self._last = None, 0, ""
        known: set[str] = set()
        for name, entry in self._ranges.items():
            symbol(name)
            _check(name, entry, known)
            known.add(name)

    @classmethod
    def of(cls, **bounds: tuple[Bound, Bound]) -> "Ranges":
        """Returns the ranges that go from the first to the second of each pair."""
        return cls({name: Range(_bound(low), _bound(high)) for name, (low, high) in bounds.items()})

    @classmethod
    def parse(cls, text: str) -> "Ranges":
        """Returns the ranges that `text` says; raises ExpressionSyntaxError with the column."""
        source = TextSource(text)
        ranges = read_ranges(source)
        source.finish()
        return ranges

    def also(
        self, name: str, lower: Bound = None, upper: Bound = None, multiple: int = 1
    ) -> "Ranges":
        """Returns these ranges and that of one more symbol; refuses one that has a range."""
        if name in self._ranges:
            raise ExpressionError(f"expected one range for the symbol '{name}', got two")
        entry = Range(_bound(lower), _bound(upper), multiple)
        if (known := self._further.get((name, entry))) is not None:
            return known
        symbol(name)
        _check(name, entry, self._ranges.keys())
        ranges = Ranges({})
        ranges._ranges = {**self._ranges, name: entry}
        ranges.before, ranges.steps, ranges._last = self, self.steps + 1, name
        # The same ranges are the same object, so that what is proved of them is found at once.
        if len(self._further) >= _MOST_FURTHER:
            self._further.clear()
        self._further[name, entry] = ranges
        return ranges

    def up_to(self, names: Set[str]) -> "Ranges":
        """
        Returns these ranges without the last symbols that are not among `names`.

        What is known of an expression is known from those of its symbols and of symbols before
        them; so it is the same in all loops inside the last of them.
        """
        ranges = self
        while (before := ranges.before) is not None:
            if ranges._last in names or ranges._ranges[ranges._last].multiple != 1:
                break
            ranges = before
        return ranges

    def __getitem__(self, name: str) -> Range:
        return self._ranges.get(name, _ANY)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    def __contains__(self, name: object) -> bool:
        return name in self._ranges

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Ranges) and self._ranges == other._ranges)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._ranges.items()))
        return self._hash

    def __str__(self) -> str:
        return ", ".join(text for name in self for text in _texts(name, self[name]))

    def __repr__(self) -> str:
        return f"<{self}>"


_ANY = Range()


def _bound(value: Bound) -> Expression | None:
    return value if isinstance(value, Expression) or value is None else constant(value)


def _check(name: str, entry: Range, known: Set[str]) -> None:
    if entry.multiple < 1:
        raise ExpressionError(f"expected a positive divisor of '{name}', got {entry.multiple}")
    for bound in (entry.lower, entry.upper):
        if bound is None or bound.constant_value is not None:
            continue
        if unknown := bound.symbols() - known:
            raise ExpressionError(
                f"expected the bound '{bound}' of '{name}' to name symbols that come before, "
                f"got '{min(unknown)}'"
            )
    lower = entry.lower and entry.lower.constant_value
    upper = entry.upper and entry.upper.constant_value
    if lower is not None and upper is not None:
        if -(-lower // entry.multiple) > upper // entry.multiple:
            text = ", ".join(_texts(name, entry))
            raise ExpressionError(f"expected a range that is not empty, got {text}")


def _texts(name: str, entry: Range) -> list[str]:
    texts = list[str]()
    if entry.lower is not None or entry.upper is not None or entry.multiple == 1:
        lower, upper = ("..." if b is None else str(b) for b in (entry.lower, entry.upper))
        texts.append(f"{name} in [{lower}, {upper}]")
    if entry.multiple != 1:
        texts.append(f"{name} mod {entry.multiple} == 0")
    return texts


def read_ranges(source: TokenSource) -> Ranges:
    """Returns the ranges at the front of `source`, which may be none."""
    place = source.place
    entries: dict[str, Range] = {}
    name = source.accept_word()
    while name:
        _read_fact(source, name, entries)
        name = None
        if source.accept(",") and not (name := source.accept_word()):
            source.fail_expected("a symbol")
    try:
        return Ranges(entries)
    except ExpressionError as error:
        source.fail(str(error), place)


def _read_fact(source: TokenSource, name: str, entries: dict[str, Range]) -> None:
    place = source.place
    old = entries.get(name, _ANY)
    if source.accept_word(frozenset(("in",))):
        if old.lower is not None or old.upper is not None:
            source.fail(f"expected one range for the symbol '{name}', got two", place)
        lower, upper = _read_bounds(source)
        entries[name] = Range(lower, upper, old.multiple)
    elif source.accept_word(frozenset(("mod",))):
        multiple = _read_multiple(source)
        entries[name] = Range(old.lower, old.upper, lcm(multiple, old.multiple))
    else:
        source.fail_expected("'in' or 'mod'")


def _read_bounds(source: TokenSource) -> tuple[Expression | None, Expression | None]:
    _expect(source, "[")
    lower = None if source.accept("...") else read_expression(source)
    _expect(source, ",")
    upper = None if source.accept("...") else read_expression(source)
    _expect(source, "]")
    return lower, upper


def _expect(source: TokenSource, punctuation: str) -> None:
    if not source.accept(punctuation):
        source.fail_expected(f"'{punctuation}'")


def _read_multiple(source: TokenSource) -> int:
    place = source.place
    if (multiple := source.accept_integer()) is None:
        source.fail_expected("an integer")
    if multiple < 1:
        source.fail(f"expected a positive divisor, got {multiple}", place)
    for punctuation in "==":
        if not source.accept(punctuation):
            source.fail_expected("'== 0'")
    place = source.place
    if (remainder := source.accept_integer()) != 0:
        found = "" if remainder is None else f", got {remainder}"
        source.fail(f"expected the remainder 0{found}", place)
    return multiple
