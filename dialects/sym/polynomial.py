"""
Polynomials with integer coefficients whose variables are objects that have an order.

They are the ring part of symbolic integers: sums, differences, products and their canonical form.
"""

from collections.abc import Mapping, Sequence
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


def _term_key(term: tuple[tuple[Variable, ...], int]) -> tuple[object, ...]:
    return monomial_key(term[0])


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

    A subclass adds what its variables mean, and takes nothing but terms. Answers that take time
    are kept with the polynomial.
    """

    __slots__ = ("_depth", "_hash", "_key", "_ordered", "_terms", "_variables")

    _terms: Mapping[tuple[V, ...], int]
    _hash: int
    _key: tuple[object, ...]
    _ordered: list[tuple[tuple[V, ...], int]]
    _variables: frozenset[V]
    _depth: int

    def __init__(self, terms: Mapping[tuple[V, ...], int]) -> None:
        """Takes monomials, each a tuple of variables in canonical order, with non-zero factors."""
        self._terms = terms

    @property
    def terms(self) -> Mapping[tuple[V, ...], int]:
        """The coefficient of each monomial; the empty monomial is the constant."""
        return self._terms

    @property
    def constant_value(self) -> int | None:
        """The value of a polynomial without variables, else None."""
        terms = self._terms
        if not terms:
            return 0
        return terms.get(()) if len(terms) == 1 else None

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
        try:
            return self._key
        except AttributeError:
            # Zero is the constant of no terms, and has its place among the constants.
            terms = self.ordered() or [((), 0)]
            self._key = tuple((monomial_key(monomial), factor) for monomial, factor in terms)
            return self._key

    @property
    def depth(self) -> int:
        """How many polynomials are nested inside the variables."""
        try:
            return self._depth
        except AttributeError:
            self._depth = max([variable.depth for variable in self.variables()], default=0)
            return self._depth

    def ordered(self) -> Sequence[tuple[tuple[V, ...], int]]:
        """Returns the terms in canonical order."""
        try:
            return self._ordered
        except AttributeError:
            self._ordered = list(self._terms.items())
            if len(self._ordered) > 1:
                self._ordered.sort(key=_term_key)
            return self._ordered

    def variables(self) -> frozenset[V]:
        """Returns the variables of the polynomial itself, not those nested inside."""
        try:
            return self._variables
        except AttributeError:
            self._variables = frozenset(chain.from_iterable(self._terms))
            return self._variables

    def split(self, variable: V) -> tuple[Self, Self]:
        """Returns `factor` and `rest`: `self == factor*variable + rest`, no variable in `rest`."""
        if variable not in self.variables():
            return type(self)({}), self
        factor: dict[tuple[V, ...], int] = {}
        rest: dict[tuple[V, ...], int] = {}
        for monomial, coefficient in self._terms.items():
            others = without(monomial, (variable,)) if variable in monomial else None
            if others is None:
                rest[monomial] = coefficient
            else:
                factor[others] = coefficient
        return type(self)(factor), type(self)(rest)

    def divide_exactly(self, divisor: int) -> Self:
        """Returns the polynomial whose product with `divisor` is this one."""
        if divisor == 1:
            return self
        return type(self)({m: factor // divisor for m, factor in self._terms.items()})

    def _bounded(self, terms: dict[tuple[V, ...], int]) -> Self:
        if len(terms) > MAX_TERMS:
            raise ExpressionError(f"expected at most {MAX_TERMS} terms, got {len(terms)}")
        return type(self)(terms)

    def __add__(self, other: Self | int) -> Self:
        if not isinstance(other, Polynomial):
            return self._plus_integer(index(other))
        if not other._terms:
            return self
        terms = dict(self._terms)
        known = terms.get
        for monomial, factor in other._terms.items():
            if total := known(monomial, 0) + factor:
                terms[monomial] = total
            else:
                del terms[monomial]
        return self._bounded(terms)

    __radd__ = __add__

    def _plus_integer(self, number: int) -> Self:
        if not number:
            return self
        terms = dict(self._terms)
        if total := terms.get((), 0) + number:
            terms[()] = total
        else:
            del terms[()]
        return type(self)(terms)

    def __neg__(self) -> Self:
        return type(self)({monomial: -factor for monomial, factor in self._terms.items()})

    def __sub__(self, other: Self | int) -> Self:
        if not isinstance(other, Polynomial):
            return self._plus_integer(-index(other))
        if not other._terms:
            return self
        terms = dict(self._terms)
        known = terms.get
        for monomial, factor in other._terms.items():
            if total := known(monomial, 0) - factor:
                terms[monomial] = total
            else:
                del terms[monomial]
        return self._bounded(terms)

    def __rsub__(self, other: int) -> Self:
        return -self + other

    def __mul__(self, other: Self | int) -> Self:
        if not isinstance(other, Polynomial):
            return self._times_integer(index(other))
        if (number := other.constant_value) is not None:
            return self._times_integer(number)
        if (number := self.constant_value) is not None:
            return other._times_integer(number)
        terms: dict[tuple[V, ...], int] = {}
        for right, right_factor in other._terms.items():
            for left, left_factor in self._terms.items():
                monomial = _times(left, right)
                terms[monomial] = terms.get(monomial, 0) + left_factor * right_factor
            self._bounded(terms)
        return type(self)({monomial: factor for monomial, factor in terms.items() if factor})

    __rmul__ = __mul__

    def _times_integer(self, number: int) -> Self:
        if number == 1:
            return self
        if not number:
            return type(self)({})
        return type(self)({monomial: factor * number for monomial, factor in self._terms.items()})

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Polynomial):
            return self._terms == cast(Polynomial[V], other)._terms
        return isinstance(other, int) and self.constant_value == other

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            constant = self.constant_value
            self._hash = hash(frozenset(self._terms.items()) if constant is None else constant)
            return self._hash
