"""The bounds that a mask puts on keys hold for every query, and are exact where they say so."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects import arith
from xdsl.dialects.builtin import IntegerAttr, i1, i32
from xdsl.ir import Block, Operation, Region, SSAValue

from tilewright.dialects.attn import YieldOp, mask_region
from tilewright.transforms.kv_bounds import KvBounds, LinearBound, kv_bounds

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

# Queries stand before 0 where there are more of them than keys.
Q_IDX, KV_IDX = np.meshgrid(np.arange(-20, 60), np.arange(70), indexing="ij")


def _wrapped(values: Int64) -> Int64:
    """Returns values as 32 bits hold them."""
    return (values + 2**31) % 2**32 - 2**31


@dataclass(frozen=True)
class Node:
    """A node of a mask: the op that computes it, and the same in NumPy."""

    kind: str
    operands: tuple["Node", ...] = ()
    constant: int = 0

    def evaluate(self, q: Int64, kv: Int64) -> Int64:
        """Returns the value for arrays of positions, conditions as 0 and 1."""
        if self.kind == "q":
            return q
        if self.kind == "kv":
            return kv
        if self.kind == "constant":
            return np.full_like(q, self.constant)
        operands = [operand.evaluate(q, kv) for operand in self.operands]
        return _wrapped(_NUMPY[self.kind](*operands).astype(np.int64))

    def write(self, block: Block) -> SSAValue:
        """Appends the ops that compute the node to a mask region's block."""
        if self.kind in ("q", "kv"):
            return block.args[2 if self.kind == "q" else 3]
        if self.kind == "constant":
            op: Operation = arith.ConstantOp(IntegerAttr(self.constant, i32))
        elif self.kind == "true":
            op = arith.ConstantOp(IntegerAttr(1, i1))
        else:
            operands = [operand.write(block) for operand in self.operands]
            op = _OPS[self.kind](*operands)
        block.add_op(op)
        return op.results[0]


_PREDICATES = ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")


def _comparison(predicate: str) -> Callable[[SSAValue, SSAValue], Operation]:
    return lambda lhs, rhs: arith.CmpiOp(lhs, rhs, predicate)


def _unsigned(compare: Callable[[Int64, Int64], Bool]) -> Callable[[Int64, Int64], Bool]:
    def compare_unsigned(lhs: Int64, rhs: Int64) -> Bool:
        return compare(lhs % 2**32, rhs % 2**32)

    return compare_unsigned


_OPS: dict[str, Callable[..., Operation]] = {
    "add": arith.AddiOp,
    "sub": arith.SubiOp,
    "mul": arith.MuliOp,
    "xor": arith.XOrIOp,
    "and": arith.AndIOp,
    "or": arith.OrIOp,
    **{predicate: _comparison(predicate) for predicate in _PREDICATES},
}
_NUMPY: dict[str, Callable[..., npt.NDArray[np.generic]]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "xor": np.bitwise_xor,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "eq": np.equal,
    "ne": np.not_equal,
    "slt": np.less,
    "sle": np.less_equal,
    "sgt": np.greater,
    "sge": np.greater_equal,
    "ult": _unsigned(np.less),
    "ule": _unsigned(np.less_equal),
    "ugt": _unsigned(np.greater),
    "uge": _unsigned(np.greater_equal),
}

Q, KV = Node("q"), Node("kv")


def _constant(value: int) -> Node:
    return Node("constant", constant=value)


LEAVES = st.sampled_from([Q, KV]) | st.integers(-50, 50).map(_constant)
LARGE_LEAVES = LEAVES | st.integers(-(2**31), 2**31 - 1).map(_constant)


def _nodes(kinds: tuple[str, ...], operand: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.builds(Node, st.sampled_from(kinds), st.tuples(operand, operand))


def _terms(leaves: st.SearchStrategy[Node], kinds: tuple[str, ...]) -> st.SearchStrategy[Node]:
    return st.recursive(leaves, lambda inner: _nodes(kinds, inner), max_leaves=4)


LINEAR = ("add", "sub", "mul")
# Comparisons of linear terms, and of terms that are not understood.
CLEAR = _nodes(("eq", "slt", "sle", "sgt", "sge"), _terms(LEAVES, LINEAR))
ANY = _nodes(_PREDICATES, _terms(LARGE_LEAVES, (*LINEAR, "xor", "and", "or")))
CONJUNCTIONS = st.recursive(
    CLEAR | ANY, lambda inner: _nodes(("and",), inner), max_leaves=4
) | st.recursive(CLEAR, lambda inner: _nodes(("and", "or", "xor"), inner), max_leaves=4)


def region_of(mask: Node) -> Region:
    """Returns the mask region that computes a node."""
    region = mask_region()
    region.block.add_op(YieldOp(mask.write(region.block)))
    return region


def within(bounds: KvBounds, q: Int64, kv: Int64) -> Bool:
    """Returns where a key lies between all bounds of a query."""
    inside = np.ones(q.shape, np.bool_)
    for bound in bounds.lower:
        inside &= kv >= bound.slope * q + bound.offset
    for bound in bounds.upper:
        inside &= kv <= bound.slope * q + bound.offset
    return inside


def check(mask: Node, q: Int64, kv: Int64) -> KvBounds:
    """Compares the bounds of a mask with the mask itself at some positions."""
    bounds = kv_bounds(region_of(mask))
    seen, inside = mask.evaluate(q, kv) != 0, within(bounds, q, kv)
    assert not np.any(seen & ~inside)
    if bounds.exact:
        np.testing.assert_array_equal(seen, inside)
    return bounds


@given(CONJUNCTIONS)
@settings(max_examples=400, deadline=None)
def test_bounds_hold_and_are_exact_where_they_say_so(mask: Node) -> None:
    check(mask, Q_IDX, KV_IDX)


POSITIONS = st.integers(0, 2**29 - 1)


@given(CONJUNCTIONS, st.lists(st.tuples(POSITIONS, POSITIONS), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_bounds_hold_where_sums_of_positions_could_wrap(
    mask: Node, positions: list[tuple[int, int]]
) -> None:
    q, kv = (np.array(axis, np.int64) for axis in zip(*positions, strict=True))
    check(mask, q, kv)


@given(st.integers(-50, 50), st.integers(-50, 50), st.permutations([0, 1]))
def test_a_band_is_exact_however_it_is_spelt(low: int, high: int, order: list[int]) -> None:
    distance = Node("sub", (Q, KV))
    sides = [Node("sge", (distance, _constant(low))), Node("sgt", (_constant(high), distance))]
    bounds = check(Node("and", tuple(sides[side] for side in order)), Q_IDX, KV_IDX)
    assert bounds.exact
    assert bounds.lower == (LinearBound(1, 1 - high),)
    assert bounds.upper == (LinearBound(1, -low),)


def test_no_mask_bounds_nothing() -> None:
    assert kv_bounds(None) == KvBounds()


def test_a_mask_that_is_always_true_bounds_nothing() -> None:
    assert kv_bounds(region_of(Node("true"))) == KvBounds()


def test_an_equality_bounds_from_both_sides() -> None:
    diagonal = (LinearBound(1, 0),)
    assert kv_bounds(region_of(Node("eq", (Q, KV)))) == KvBounds(diagonal, diagonal)


@pytest.mark.parametrize(
    "mask",
    [
        Node("ule", (KV, Q)),
        Node("ne", (KV, Q)),
        Node("or", (Node("sle", (KV, Q)), Node("sle", (KV, _constant(4))))),
        Node("sle", (Node("mul", (KV, KV)), Q)),
        Node("sle", (Node("mul", (KV, _constant(2))), Q)),
        Node("sle", (KV, Node("mul", (Q, _constant(3))))),
        Node("sle", (Node("add", (KV, _constant(2**30))), Q)),
        Node(
            "sle", (Node("add", (KV, _constant(2**31 - 9))), Node("add", (Q, _constant(2**31 - 9))))
        ),
        Node("sle", (_constant(3), Q)),
    ],
    ids=["unsigned", "unequal", "or", "square", "half", "triple", "large", "wraps", "of_queries"],
)
def test_what_is_not_understood_is_not_exact(mask: Node) -> None:
    assert not check(mask, Q_IDX, KV_IDX).exact
