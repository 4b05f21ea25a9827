"""
Polynomials with integer coefficients whose variables are objects that have an order.

They are the ring part of symbolic integers: sums, differences, products and their canonical form.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from math import gcd
from operator import index
from typing import Generic, Protocol, Self, TypeVar, cast

MAX_TERMS = 1024  # a polynomial with more terms is refused


class ExpressionError(ValueError):
    """An expression is malformed, too large, or has no value."""


class Variable(Protocol):
    """What a polynomial may be made of; hashable, equal to nothing but itself."""

    @property
    def key(self) -> tuple[object, ...]:
        """The place in the canonical order; keys of all variables compare."""
        ...

    @property
    def depth(self) -> int:
        """How many polynomials are nested inside."""
        ...


V = TypeVar("V", bound=Variable)


def _key(variable: Variable) -> tuple[object, ...]:
    return variable.key


def monomial_key(monomial: tuple[Variable, ...]) -> tuple[object, ...]:
    """Returns the place in the canonical order: long products first, the constant last."""
    return (-len(monomial), *(variable.key for variable in monomial))


def _times(left: tuple[V, ...], right: tuple[V, ...]) -> tuple[V, ...]:
    if not left or not right:
        return left or right
    return tuple(sorted(left + right, key=_key))


def without(monomial: tuple[V, ...], factors: tuple[V, ...]) -> tuple[V, ...] | None:
    """Returns `monomial / factors`, or None if it does not divide."""
    rest = list(monomial)
    for factor in factors:
        if factor not in rest:
            return None
        rest.remove(factor)
    return tuple(rest)


class Polynomial(Generic[V]):
    """
    An immutable polynomial; two that are equal have the same terms.

    A subclass adds what its variables mean, and takes nothing but terms.
    """

    __slots__ = ("_depth", "_hash", "_key", "_terms")

    def __init__(self, terms: Mapping[tuple[V, ...], int]) -> None:
        """Takes monomials, each a tuple of variables in canonical order, with non-zero factors."""
        self._terms = terms
        self._hash: int | None = None
        self._key: tuple[object, ...] | None = None
        self._depth: int | None = None

    @property
    def terms(self) -> Mapping[tuple[V, ...], int]:
        """The coefficient of each monomial; the empty monomial is the constant."""
        return self._terms

    @property
    def constant_value(self) -> int | None:
        """The value of a polynomial without variables, else None."""
        if not self._terms:
            return 0
        return self._terms.get(()) if len(self._terms) == 1 else None

    @property
    def constant_term(self) -> int:
        """The summand that is an integer."""
        return self._terms.get((), 0)

    @property
    def content(self) -> int:
        """The greatest common divisor of the coefficients, the constant aside; 0 for none."""
        return gcd(*(factor for monomial, factor in self._terms.items() if monomial))

    @property
    def key(self) -> tuple[object, ...]:
        """The place of the polynomial in the canonical order."""
        if self._key is None:
            # Zero is the constant of no terms, and has its place among the constants.
            terms = self.ordered() or [((), 0)]
            self._key = tuple((monomial_key(monomial), factor) for monomial, factor in terms)
        return self._key

    @property
    def depth(self) -> int:
        """How many polynomials are nested inside the variables."""
        if self._depth is None:
            self._depth = max((variable.depth for variable in self.variables()), default=0)
        return self._depth

    def ordered(self) -> list[tuple[tuple[V, ...], int]]:
        """Returns the terms in canonical order."""
        return sorted(self._terms.items(), key=lambda term: monomial_key(term[0]))

    def variables(self) -> frozenset[V]:
        """Returns the variables of the polynomial itself, not those nested inside."""
        return frozenset(chain.from_iterable(self._terms))

    def split(self, variable: V) -> tuple[Self, Self]:
        """Returns `factor` and `rest`: `self == factor*variable + rest`, no variable in `rest`."""
        factor: dict[tuple[V, ...], int] = {}
        rest: dict[tuple[V, ...], int] = {}
        for monomial, coefficient in self._terms.items():
            others = without(monomial, (variable,))
            if others is None:
                rest[monomial] = coefficient
            else:
                factor[others] = coefficient
        return type(self)(factor), type(self)(rest)

    def divide_exactly(self, divisor: int) -> Self:
        """Returns the polynomial whose product with `divisor` is this one."""
        return type(self)({m: factor // divisor for m, factor in self._terms.items()})

    def _terms_of(self, other: Self | int) -> Iterable[tuple[tuple[V, ...], int]]:
        if isinstance(other, Polynomial):
            return other._terms.items()
        return (((), value),) if (value := index(other)) else ()

    def _bounded(self, terms: dict[tuple[V, ...], int]) -> Self:
        if len(terms) > MAX_TERMS:
            raise ExpressionError(f"expected at most {MAX_TERMS} terms, got {len(terms)}")
        return type(self)(terms)

    def __add__(self, other: Self | int) -> Self:
        terms = dict(self._terms)
        for monomial, factor in self._terms_of(other):
            total = terms.get(monomial, 0) + factor
            if total:
                terms[monomial] = total
            else:
                del terms[monomial]
        return self._bounded(terms)

    __radd__ = __add__

    def __neg__(self) -> Self:
        return self.divide_exactly(-1)

    def __sub__(self, other: Self | int) -> Self:
        return self + -other

    def __rsub__(self, other: int) -> Self:
        return -self + other

    def __mul__(self, other: Self | int) -> Self:
        terms: dict[tuple[V, ...], int] = {}
        for right, right_factor in self._terms_of(other):
            for left, left_factor in self._terms.items():
                monomial = _times(left, right)
                terms[monomial] = terms.get(monomial, 0) + left_factor * right_factor
            self._bounded(terms)
        return type(self)({monomial: factor for monomial, factor in terms.items() if factor})

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Polynomial):
            that = cast(Polynomial[V], other)
            return self is that or (hash(self) == hash(that) and self._terms == that._terms)
        return isinstance(other, int) and self.constant_value == other

    def __hash__(self) -> int:
        if self._hash is None:
            constant = self.constant_value
            self._hash = hash(frozenset(self._terms.items()) if constant is None else constant)
        return self._hash
