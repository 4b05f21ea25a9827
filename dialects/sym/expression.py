"""
Integer expressions over named symbols, in one canonical form.

An expression is a polynomial with integer coefficients. Its variables are atoms: symbols, quotients
`a floordiv d` that no rule reduces, and `min`/`max`. `ceildiv` and `mod` are polynomials of
quotients, so that `n - n mod 16` and `16*(n floordiv 16)` are the same expression:

    a ceildiv d = -((-a) floordiv d)        a mod d = a - d*(a floordiv d)

The meaning of `floordiv`, `ceildiv` and `mod` is that of MLIR (Language Reference, Affine dialect,
"Affine Expressions"): divisors are positive, quotients round down, remainders are not negative.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import gcd, prod
from operator import index
from threading import RLock
from typing import Literal, Self, TypeAlias, cast
from weakref import WeakValueDictionary

from .notation import Factor, Piece, call, division, sum_text
from .polynomial import ExpressionError, Polynomial, without

MAX_DEPTH = 16  # atoms nested deeper are refused: `x mod 7 mod 5 mod 7...` doubles at each step
MAX_ARGUMENTS = 64  # a min or max of more arguments is refused

RESERVED = frozenset(("floordiv", "ceildiv", "mod", "min", "max"))
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


Kind: TypeAlias = Literal["min", "max"]


class Symbol:
    """An integer that has a name; there is one object for each name."""

    __match_args__ = ("name",)
    __slots__ = ("__weakref__", "key", "name", "names")

    name: str
    key: tuple[object, ...]
    """The place of the atom in the canonical order."""
    names: frozenset[str]
    """The names of all symbols."""
    depth = 0
    """How many atoms are nested inside one another below this one."""
    parts: "tuple[Expression, ...]" = ()
    """The expressions that the atom is made of."""

    def __new__(cls, name: str) -> "Symbol":
        """Returns the one object of that name."""
        if known := _SYMBOLS.get(name):
            return known
        with _NEW_ATOM:
            if known := _SYMBOLS.get(name):
                return known
            atom = _SYMBOLS[name] = super().__new__(cls)
            atom.name, atom.key, atom.names = name, (0, name), frozenset((name,))
            return atom

    def __reduce__(self) -> tuple[object, ...]:
        """Copies are the same object."""
        return Symbol, (self.name,)

    def __repr__(self) -> str:
        return f"Symbol({self.name!r})"


class _Operation:
    """What quotients and extrema share: one object for the same op and operands."""

    __slots__ = ("__weakref__", "_key", "_names", "depth", "op", "parts")

    op: str
    parts: "tuple[Expression, ...]"
    """The operands."""
    depth: int
    """How many atoms are nested inside one another below this one."""
    _key: tuple[object, ...]
    _names: frozenset[str]

    @classmethod
    def _of(cls, op: str, parts: "tuple[Expression, ...]") -> Self:
        if (known := _OPERATIONS.get((op, parts))) is None:
            with _NEW_ATOM:
                if (known := _OPERATIONS.get((op, parts))) is None:
                    known = _OPERATIONS[op, parts] = super().__new__(cls)
                    known.op, known.parts = op, parts
                    known.depth = 1 + max(part.depth for part in parts)
        return cast(Self, known)

    @property
    def key(self) -> tuple[object, ...]:
        """The place of the atom in the canonical order: quotients, then max, then min."""
        try:
            return self._key
        except AttributeError:
            rank = 1 if self.op == "floordiv" else 2
            self._key = (rank, self.op, *(part.key for part in self.parts))
            return self._key

    @property
    def names(self) -> frozenset[str]:
        """The names of all symbols."""
        try:
            return self._names
        except AttributeError:
            self._names = frozenset[str]().union(*(part.symbols() for part in self.parts))
            return self._names

    def __repr__(self) -> str:
        return f"{self.op}{self.parts}"


class Quotient(_Operation):
    """`numerator floordiv divisor`, in lowest terms; the divisor is not 1."""

    __match_args__ = ("numerator", "divisor")
    __slots__ = ("divisor", "numerator")

    numerator: "Expression"
    divisor: "Expression"

    def __new__(cls, numerator: "Expression", divisor: "Expression") -> Self:
        """Returns the one object of these operands."""
        atom = cls._of("floordiv", (numerator, divisor))
        atom.numerator, atom.divisor = numerator, divisor
        return atom

    def __reduce__(self) -> tuple[object, ...]:
        """Copies are the same object."""
        return Quotient, self.parts


class Extremum(_Operation):
    """
    `min(...)` or `max(...)` of at least two expressions.

    What the arguments have in common is taken out: the least coefficient of each monomial is 0,
    the coefficients have no common divisor, no two arguments differ by a constant.
    """

    __match_args__ = ("kind", "arguments")
    __slots__ = ("kind",)

    kind: Kind

    def __new__(cls, kind: Kind, arguments: "tuple[Expression, ...]") -> Self:
        """Returns the one object of this kind and these arguments."""
        atom = cls._of(kind, arguments)
        atom.kind = kind
        return atom

    @property
    def arguments(self) -> "tuple[Expression, ...]":
        """The expressions of which it is the least or the greatest."""
        return self.parts

    def __reduce__(self) -> tuple[object, ...]:
        """Copies are the same object."""
        return Extremum, (self.kind, self.parts)


# Atoms are compared in every sum: with one object for equal atoms, identity is enough.
_NEW_ATOM = RLock()
_SYMBOLS: WeakValueDictionary[str, Symbol] = WeakValueDictionary()
_OPERATIONS: "WeakValueDictionary[tuple[str, tuple[Expression, ...]], _Operation]" = (
    WeakValueDictionary()
)

Atom: TypeAlias = Symbol | Quotient | Extremum
Monomial: TypeAlias = tuple[Atom, ...]
Terms: TypeAlias = Mapping[Monomial, int]


class Expression(Polynomial[Atom]):
    """
    An immutable integer expression in canonical form; equality is that of the form.

    `+ - * // %` build expressions, also with Python integers; `//` and `%` are `floordiv` and
    `mod`. `str` gives text that `parse_expression` reads back.
    """

    __slots__ = ("_symbols",)

    _symbols: frozenset[str]

    @property
    def symbol_name(self) -> str | None:
        """The name, if the expression is one bare symbol."""
        match list(self._terms.items()):
            case [((Symbol(name),), 1)]:
                return name
            case _:
                return None

    def symbols(self) -> frozenset[str]:
        """Returns the names of all symbols."""
        try:
            return self._symbols
        except AttributeError:
            atoms = self.variables()
            if len(atoms) == 1:
                (self._symbols,) = (atom.names for atom in atoms)
            else:
                self._symbols = frozenset[str]().union(*(atom.names for atom in atoms))
            return self._symbols

    def evaluate(self, symbols: Mapping[str, int]) -> int:
        """Returns the value; raises ExpressionError for a symbol or a quotient without value."""
        return _evaluate(self, symbols, {})

    def substitute(self, symbols: "Mapping[str, Expression | int]") -> "Expression":
        """Returns the expression with symbols replaced, all at once."""
        if self.symbols().isdisjoint(symbols):
            return self
        return _substitute(self, symbols, {})

    def replace_atoms(self, replace: "Callable[[Atom], Expression]") -> "Expression":
        """Returns the polynomial in which `replace(atom)` stands for each atom."""
        images = {atom: replace(atom) for atom in self.variables()}
        terms: dict[Monomial, int] = {}
        for monomial, factor in self._terms.items():
            image = _product([images[atom] for atom in monomial])
            for part, times in image._terms.items():
                terms[part] = terms.get(part, 0) + factor * times
        return self._bounded({part: factor for part, factor in terms.items() if factor})

    def __floordiv__(self, other: "Expression | int") -> "Expression":
        return floordiv(self, other)

    def __rfloordiv__(self, other: int) -> "Expression":
        return floordiv(other, self)

    def __mod__(self, other: "Expression | int") -> "Expression":
        return mod(self, other)

    def __rmod__(self, other: int) -> "Expression":
        return mod(other, self)

    def __str__(self) -> str:
        return sum_text(_pieces(self))

    def __repr__(self) -> str:
        return f"<{self}>"


_ZERO = Expression({})


_ONE = Expression({(): 1})


def _constant(value: int) -> Expression:
    return Expression({(): value}) if value else _ZERO


def _product(factors: list[Expression]) -> Expression:
    return factors[0] if len(factors) == 1 else prod(factors, start=_ONE)


def constant(value: int) -> Expression:
    """Returns the expression that is the integer `value`."""
    return _constant(index(value))


@lru_cache(maxsize=4096)
def symbol(name: str) -> Expression:
    """Returns the symbol `name`; raises ExpressionError for what is not an identifier."""
    if not _NAME.match(name) or name in RESERVED:
        raise ExpressionError(f"expected an identifier as the name of a symbol, got '{name}'")
    return Expression({(Symbol(name),): 1})


def expression_of(atom: Atom) -> Expression:
    """Returns the expression that is one atom; refuses an atom nested too deep."""
    if atom.depth > MAX_DEPTH:
        raise ExpressionError(f"expected at most {MAX_DEPTH} nested operations")
    return Expression({(atom,): 1})


def as_expression(value: Expression | int) -> Expression:
    """Returns `value`, an integer as a constant."""
    return value if isinstance(value, Expression) else constant(value)


def ceildiv(numerator: Expression | int, divisor: Expression | int) -> Expression:
    """Returns the quotient rounded up; raises ExpressionError for a divisor that is below 1."""
    return -floordiv(-numerator, divisor)


def mod(numerator: Expression | int, divisor: Expression | int) -> Expression:
    """Returns the remainder, from 0 to `divisor - 1`; raises ExpressionError as `floordiv`."""
    return numerator - as_expression(divisor) * floordiv(numerator, divisor)


def floordiv(numerator: Expression | int, divisor: Expression | int) -> Expression:
    """Returns the quotient rounded down; raises ExpressionError for a divisor that is below 1."""
    rest, by = as_expression(numerator), as_expression(divisor)
    if (value := by.constant_value) is not None and value < 1:
        raise ExpressionError(f"expected a positive divisor, got {value}")
    whole = _ZERO
    while True:
        multiple, rest = _take_multiples(rest, by)
        whole += multiple
        rest, by = _lowest_terms(rest, by)
        if by == 1:
            return whole + rest
        if (flat := _flatten_quotient(rest, by)) is None:
            break
        rest, by = flat
    if not rest.terms:
        return whole
    if len(by.terms) > 1 or not _is_negative(rest, by):
        return whole + expression_of(Quotient(rest, by))
    # floor(-x / d) = -floor((x + d - 1) / d) gives every quotient one sign.
    multiple, rest = _take_multiples(by - 1 - rest, by)
    whole -= multiple
    return whole - expression_of(Quotient(rest, by)) if rest.terms else whole


def _residue(factor: int, by: int) -> int:
    """Returns the integer in `(-by/2, by/2]` that differs from `factor` by a multiple of `by`."""
    by = abs(by)
    residue = factor % by
    return residue - by if 2 * residue > by else residue


def _take_multiples(numerator: Expression, divisor: Expression) -> tuple[Expression, Expression]:
    if (by := divisor.constant_value) is None:
        return _divide(numerator, divisor)
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, factor in numerator.terms.items():
        # The residue of the constant is not negative: people write `(n + 15) floordiv 16`.
        residue = _residue(factor, by) if monomial else factor % by
        if residue:
            rest[monomial] = residue
        if residue != factor:
            whole[monomial] = (factor - residue) // by
    return Expression(whole), Expression(rest)


def _divide(numerator: Expression, divisor: Expression) -> tuple[Expression, Expression]:
    """Divides polynomials with respect to the leading term of the divisor."""
    leading, leading_factor = divisor.ordered()[0]
    whole = _ZERO
    while True:
        for monomial, factor in numerator.ordered():
            others = without(monomial, leading)
            if others is not None and (residue := _residue(factor, leading_factor)) != factor:
                break
        else:
            return whole, numerator
        quotient = Expression({others: (factor - residue) // leading_factor})
        whole += quotient
        numerator -= quotient * divisor


def _lowest_terms(numerator: Expression, divisor: Expression) -> tuple[Expression, Expression]:
    common = gcd(numerator.content, divisor.content, divisor.constant_term)
    if common == 1:
        return numerator, divisor
    # floor((g*x + r) / (g*d)) = floor((x + floor(r / g)) / d)
    constant_term = numerator.constant_term
    shared = (numerator - constant_term).divide_exactly(common)
    return shared + constant_term // common, divisor.divide_exactly(common)


def _flatten_quotient(
    numerator: Expression, divisor: Expression
) -> tuple[Expression, Expression] | None:
    """Rewrites `(r ± a floordiv b) floordiv d` as one quotient by `b*d`."""
    for monomial, factor in numerator.ordered():
        match monomial:
            case (Quotient(inner, by),) if factor in (1, -1):
                rest = by * (numerator - Expression({monomial: factor}))
                # -floor(a / b) = floor((b - 1 - a) / b)
                return rest + (inner if factor == 1 else by - 1 - inner), by * divisor
            case _:
                pass
    return None


def _is_negative(numerator: Expression, divisor: Expression) -> bool:
    ((leading, by),) = divisor.terms.items()
    for monomial, factor in numerator.ordered():
        is_residue = without(monomial, leading) is not None and bool(monomial)
        # Half of the divisor is its own negative, modulo the divisor.
        if not is_residue or 2 * factor != abs(by):
            return factor < 0
    return False


def minimum(*arguments: Expression | int) -> Expression:
    """Returns the least of one or more expressions."""
    return _extremum("min", [as_expression(argument) for argument in arguments])


def maximum(*arguments: Expression | int) -> Expression:
    """Returns the greatest of one or more expressions."""
    return _extremum("max", [as_expression(argument) for argument in arguments])


def _extremum(kind: Kind, arguments: list[Expression]) -> Expression:
    if not arguments:
        raise ExpressionError(f"expected at least one argument of {kind}, got none")
    if (known := _extremum_of_constants(kind, arguments)) is not None:
        return known
    whole = _ZERO
    while True:
        distinct = _drop_dominated(kind, _flatten_extrema(kind, arguments))
        if len(distinct) == 1:
            return whole + distinct[0]
        monomials = {monomial for argument in distinct for monomial in argument.terms}
        least = {m: min(argument.terms.get(m, 0) for argument in distinct) for m in monomials}
        shared = Expression({monomial: factor for monomial, factor in least.items() if factor})
        whole += shared
        arguments = [argument - shared for argument in distinct]
        # What was taken out can leave an argument that is a sum with a min or max of its own.
        if not any(_nested_extremum(kind, argument) for argument in arguments):
            break
    scale = gcd(*(factor for argument in arguments for factor in argument.terms.values()))
    arguments = [argument.divide_exactly(scale) for argument in arguments]
    atom = Extremum(kind, tuple(sorted(arguments, key=lambda argument: argument.key)))
    return whole + scale * expression_of(atom)


def _extremum_of_constants(kind: Kind, arguments: list[Expression]) -> Expression | None:
    values: list[int] = []
    for argument in arguments:
        if (value := argument.constant_value) is None:
            return None
        values.append(value)
    return _constant(min(values) if kind == "min" else max(values))


def _drop_dominated(kind: Kind, arguments: list[Expression]) -> list[Expression]:
    """Keeps one of the arguments that differ by a constant."""
    choose = min if kind == "min" else max
    constants: dict[Expression, int] = {}
    for argument in arguments:
        value = argument.constant_term
        shape = argument - value
        constants[shape] = choose(constants.get(shape, value), value)
    return [shape + value for shape, value in constants.items()]


def _nested_extremum(kind: Kind, argument: Expression) -> tuple[Extremum, int] | None:
    for monomial, factor in argument.ordered():
        if len(monomial) == 1 and isinstance(inner := monomial[0], Extremum):
            if (factor > 0) == (inner.kind == kind):
                return inner, factor
    return None


def _flatten_extrema(kind: Kind, arguments: list[Expression]) -> list[Expression]:
    """Replaces an argument `r + c*min(a, b)` of min by `r + c*a` and `r + c*b`, and so on."""
    pending, flat = list(arguments), list[Expression]()
    while pending:
        argument = pending.pop()
        if nested := _nested_extremum(kind, argument):
            inner, factor = nested
            rest = argument - factor * expression_of(inner)
            pending.extend(rest + factor * option for option in inner.arguments)
        else:
            flat.append(argument)
        if len(flat) + len(pending) > MAX_ARGUMENTS:
            raise ExpressionError(f"expected at most {MAX_ARGUMENTS} arguments of {kind}")
    return flat


def _evaluate(value: Expression, symbols: Mapping[str, int], known: dict[Atom, int]) -> int:
    total = 0
    for monomial, factor in value.terms.items():
        for atom in monomial:
            if (number := known.get(atom)) is None:
                number = known[atom] = _evaluate_atom(atom, symbols, known)
            factor *= number
        total += factor
    return total


def _evaluate_atom(atom: Atom, symbols: Mapping[str, int], known: dict[Atom, int]) -> int:
    if isinstance(atom, Symbol):
        if (value := symbols.get(atom.name)) is None:
            raise ExpressionError(f"expected a value for the symbol '{atom.name}', got none")
        return value
    values = [_evaluate(part, symbols, known) for part in atom.parts]
    if isinstance(atom, Extremum):
        return min(values) if atom.kind == "min" else max(values)
    if values[1] < 1:
        raise ExpressionError(f"expected a positive divisor '{atom.divisor}', got {values[1]}")
    return values[0] // values[1]


def _substitute(
    value: Expression, symbols: Mapping[str, Expression | int], known: dict[Atom, Expression]
) -> Expression:
    if value.symbols().isdisjoint(symbols):
        return value

    def image(atom: Atom) -> Expression:
        if (found := known.get(atom)) is not None:
            return found
        if isinstance(atom, Symbol):
            new = symbols.get(atom.name)
            found = expression_of(atom) if new is None else as_expression(new)
        else:
            found = rebuild(atom, [_substitute(part, symbols, known) for part in atom.parts])
        known[atom] = found
        return found

    return value.replace_atoms(image)


def rebuild(atom: Quotient | Extremum, parts: list[Expression]) -> Expression:
    """Returns the operation of `atom` on other operands, in canonical form."""
    if isinstance(atom, Quotient):
        return floordiv(*parts)
    return _extremum(atom.kind, parts)


def _pieces(value: Expression) -> list[Piece]:
    """Returns the summands as people write them: with `mod`, with `max(n - 16, 0)`."""
    terms = dict(value.terms)
    deepest = sorted(value.ordered(), key=lambda term: -max((a.depth for a in term[0]), default=0))
    found = [_take_remainder(terms, *term) for term in deepest]
    found.append(_take_extremum(terms))
    pieces = [Piece(factor, _factors(monomial)) for monomial, factor in Expression(terms).ordered()]
    if () in terms:
        return [*pieces[:-1], *filter(None, found), pieces[-1]]
    return [*pieces, *filter(None, found)]


def _factors(monomial: Monomial) -> tuple[Factor, ...]:
    return tuple(_factor(atom) for atom in monomial)


def _factor(atom: Atom) -> Factor:
    match atom:
        case Symbol(name):
            return Factor(name)
        case Quotient(numerator, divisor):
            return division("floordiv", _pieces(numerator), _pieces(divisor))
        case Extremum(kind, arguments):
            return call(kind, [_pieces(argument) for argument in arguments])


def _take_remainder(terms: dict[Monomial, int], monomial: Monomial, factor: int) -> Piece | None:
    """Takes `k*r*a - k*r*d*(a floordiv d)`, where `terms` hold it, and returns `k*r*(a mod d)`."""
    for atom in monomial if terms.get(monomial) == factor else ():
        if not isinstance(atom, Quotient) or len(atom.divisor.terms) != 1:
            continue
        ((by, by_factor),) = atom.divisor.terms.items()
        others = without(monomial, (atom, *by))
        times = -factor // by_factor
        if others is None or times < 1 or -factor != times * by_factor:
            continue
        dividend = atom.numerator * Expression({others: times})
        if _holds(terms, dividend):
            rest = Expression(terms) - Expression({monomial: factor}) - dividend
            terms.clear()
            terms.update(rest.terms)
            remainder = division("mod", _pieces(atom.numerator), _pieces(atom.divisor))
            return Piece(times, (*_factors(others), remainder))
    return None


def _holds(terms: Terms, part: Expression) -> bool:
    # An integer may be left over, but it is no reason to write a remainder.
    for monomial, factor in part.terms.items():
        present = terms.get(monomial, 0)
        if (monomial or not part.content) and not 0 < factor * factor <= present * factor:
            return False
    return True


def _take_extremum(terms: dict[Monomial, int]) -> Piece | None:
    """Takes `max(n, 16) - 16`, where `terms` hold such a sum, and returns `max(n - 16, 0)`."""
    for monomial, factor in Expression(terms).ordered():
        if factor != 1 or len(monomial) != 1 or not isinstance(atom := monomial[0], Extremum):
            continue
        shared = {
            part: negative
            for part, negative in terms.items()
            if any(0 < -negative == argument.terms.get(part) for argument in atom.arguments)
        }
        if shared:
            for part in (monomial, *shared):
                del terms[part]
            arguments = [argument + Expression(shared) for argument in atom.arguments]
            return Piece(1, (call(atom.kind, [_pieces(argument) for argument in arguments]),))
    return None
