"""
Which keys a query can see, read off the mask of a variant.

A mask that is a conjunction of comparisons, linear in the two positions, bounds the keys of a
query from below and above. From these bounds follow the tiles of keys that no query of a tile
sees, and those that every query sees; no mask is evaluated for that.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from xdsl.dialects import arith
from xdsl.dialects.builtin import IntegerAttr
from xdsl.ir import Region, SSAValue

# Beyond this, sums of positions could wrap in 32 bits, and a comparison says nothing.
_LARGEST_CONSTANT = 1 << 29


@dataclass(frozen=True)
class LinearBound:
    """The key position `slope * q_idx + offset`."""

    slope: int
    offset: int


@dataclass(frozen=True)
class KvBounds:
    """
    The keys that a query sees lie between all `lower` and all `upper` bounds, both included.

    `exact` tells that it sees all the keys between them; otherwise the mask must be evaluated.
    """

    lower: tuple[LinearBound, ...] = ()
    upper: tuple[LinearBound, ...] = ()
    exact: bool = True

    def __and__(self, other: "KvBounds") -> "KvBounds":
        return KvBounds(
            self.lower + other.lower, self.upper + other.upper, self.exact and other.exact
        )


_UNKNOWN = KvBounds(exact=False)


@dataclass(frozen=True)
class _Linear:
    """`q * q_idx + kv * kv_idx + constant`."""

    q: int
    kv: int
    constant: int

    def __add__(self, other: "_Linear") -> "_Linear":
        return _Linear(self.q + other.q, self.kv + other.kv, self.constant + other.constant)

    def __neg__(self) -> "_Linear":
        return self.scaled(-1)

    def scaled(self, factor: int) -> "_Linear":
        return _Linear(self.q * factor, self.kv * factor, self.constant * factor)


def kv_bounds(mask: Region | None) -> KvBounds:
    """Returns the bounds that a mask region of `attn.variant` puts on the keys of a query."""
    if mask is None:
        return KvBounds()
    block = mask.block
    _, _, q_idx, kv_idx = block.args
    positions: dict[SSAValue, _Linear] = {q_idx: _Linear(1, 0, 0), kv_idx: _Linear(0, 1, 0)}
    terminator = block.last_op
    return _bounds_of(terminator.operands[0], positions) if terminator else _UNKNOWN


def _bounds_of(condition: SSAValue, positions: Mapping[SSAValue, _Linear]) -> KvBounds:
    match condition.owner:
        case arith.AndIOp(lhs=lhs, rhs=rhs):
            return _bounds_of(lhs, positions) & _bounds_of(rhs, positions)
        case arith.CmpiOp() as comparison:
            return _bounds_of_comparison(comparison, positions)
        case arith.ConstantOp(value=IntegerAttr() as constant) if constant.value.data != 0:
            return KvBounds()
        case _:
            return _UNKNOWN


def _bounds_of_comparison(
    comparison: arith.CmpiOp, positions: Mapping[SSAValue, _Linear]
) -> KvBounds:
    lhs, rhs = _linear(comparison.lhs, positions), _linear(comparison.rhs, positions)
    if lhs is None or rhs is None:
        return _UNKNOWN
    difference = lhs + -rhs
    one = _Linear(0, 0, 1)
    # Each predicate as linear terms that must not be negative.
    match arith.CMPI_COMPARISON_OPERATIONS[comparison.predicate.value.data]:
        case "eq":
            return _where_not_negative(difference) & _where_not_negative(-difference)
        case "sge":
            return _where_not_negative(difference)
        case "sgt":
            return _where_not_negative(difference + -one)
        case "sle":
            return _where_not_negative(-difference)
        case "slt":
            return _where_not_negative(-difference + -one)
        case _:
            return _UNKNOWN


def _where_not_negative(term: _Linear) -> KvBounds:
    if abs(term.constant) > _LARGEST_CONSTANT or abs(term.q) > 1:
        return _UNKNOWN
    if term.kv == 1:
        return KvBounds(lower=(LinearBound(-term.q, -term.constant),))
    if term.kv == -1:
        return KvBounds(upper=(LinearBound(term.q, term.constant),))
    return _UNKNOWN


def _linear(value: SSAValue, positions: Mapping[SSAValue, _Linear]) -> _Linear | None:
    if (position := positions.get(value)) is not None:
        return position
    match value.owner:
        case arith.ConstantOp(value=IntegerAttr() as constant):
            return _Linear(0, 0, constant.value.data)
        case arith.AddiOp(lhs=lhs, rhs=rhs):
            return _sum(_linear(lhs, positions), _linear(rhs, positions))
        case arith.SubiOp(lhs=lhs, rhs=rhs):
            right = _linear(rhs, positions)
            return _sum(_linear(lhs, positions), None if right is None else -right)
        case arith.MuliOp(lhs=lhs, rhs=rhs):
            return _product(_linear(lhs, positions), _linear(rhs, positions))
        case _:
            return None


def _sum(lhs: _Linear | None, rhs: _Linear | None) -> _Linear | None:
    return None if lhs is None or rhs is None else _in_range(lhs + rhs)


def _product(lhs: _Linear | None, rhs: _Linear | None) -> _Linear | None:
    if lhs is None or rhs is None:
        return None
    if lhs.q == lhs.kv == 0:
        return _in_range(rhs.scaled(lhs.constant))
    if rhs.q == rhs.kv == 0:
        return _in_range(lhs.scaled(rhs.constant))
    return None


def _in_range(term: _Linear) -> _Linear | None:
    """Refuses intermediate terms that could wrap in 32 bits for positions below 2^29."""
    fits = abs(term.q) <= 1 and abs(term.kv) <= 1 and abs(term.constant) <= _LARGEST_CONSTANT
    return term if fits else None
