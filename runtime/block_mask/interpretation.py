"""Abstract interpretation of a mask over many rectangles of positions at once (Cousot, 1977)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from . import conditions, forms
from .conditions import Condition
from .forms import Boxes, Form
from .normal import Node, NormalProgram
from .tables import Table

Value = Form | Condition
_EXTREMA = {"minimum": forms.minimum, "maximum": forms.maximum}


@dataclass
class Interpreter:
    """What is known of a mask over rectangles; `tables` are the tensors that it reads, by name."""

    program: NormalProgram
    tables: Mapping[str, Table]
    uniform: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        uniform: set[int] = set()
        for number in self.program.needed:
            node = self.program.nodes[number]
            varies = node.op in ("q_idx", "kv_idx", "q_row", "unknown", "opaque")
            if not varies and uniform.issuperset(node.operands):
                uniform.add(number)
        self.uniform = frozenset(uniform)

    def mask(self, boxes: Boxes) -> Condition:
        """Returns what is known of the mask over each rectangle."""
        value = self.values(boxes)[self.program.root]
        assert isinstance(value, Condition)
        return value

    def values(self, boxes: Boxes) -> dict[int, Value]:
        """Returns what is known of each node over each rectangle."""
        known: dict[int, Value] = {}
        for number in self.program.needed:
            node = self.program.nodes[number]
            operands = [known[operand] for operand in node.operands]
            forms_only = [value for value in operands if isinstance(value, Form)]
            if len(forms_only) == len(operands) and node.op not in ("opaque", "not", "and", "or"):
                known[number] = self._of_integers(node, forms_only, boxes)
            else:
                known[number] = self._of_conditions(node, operands, boxes)
        return known

    def _of_conditions(self, node: Node, operands: Sequence[Value], boxes: Boxes) -> Value:
        match node.op, operands:
            case "not", [Condition() as x]:
                return conditions.negation(x)
            case "and", [Condition() as x, Condition() as y]:
                return conditions.conjunction(x, y, boxes)
            case "or", [Condition() as x, Condition() as y]:
                return conditions.disjunction(x, y, boxes)
            case "where", [Condition() as c, Form() as x, Form() as y]:
                undecided = forms.either(x, y, boxes)
                chosen = forms.choose(~c.may, y, undecided)
                return forms.choose(c.must, x, chosen)
            case "opaque", _:
                return conditions.unknown()
            case op, _:
                raise AssertionError(f"a node {op} of {operands}")

    def _of_integers(self, node: Node, operands: Sequence[Form], boxes: Boxes) -> Value:
        match node.op, operands:
            case "constant", _:
                if isinstance(node.value, bool):
                    return conditions.constant(node.value)
                return forms.point(int(node.value or 0))
            case (("b" | "h" | "q_idx" | "kv_idx" | "q_row"), _):
                return _position(node.op, boxes)
            case "unknown", _:
                return forms.UNKNOWN
            case "load", _:
                ranges = [forms.bounds(index, boxes) for index in operands]
                return self.tables[str(node.value)].entries(operands, ranges)
            case op, _ if op.startswith("label."):
                table = self.tables[str(node.value)].labels(_axis(node))
                return table.entries(operands, [forms.bounds(index, boxes) for index in operands])
            case "multiple", [x]:
                return conditions.is_multiple(x, int(node.value or 1), boxes)
            case (("ge" | "eq"), [x, y]):
                return self._comparison(node, x, y, boxes)
            case "abs", [x]:
                return _absolute(x, boxes)
            case op, [x, y]:
                return _arithmetic(op, x, y, boxes)
            case op, _:
                raise AssertionError(f"a node {op} of {len(operands)} integers")

    def _comparison(self, node: Node, x: Form, y: Form, boxes: Boxes) -> Condition:
        difference = forms.subtract(x, y)
        if node.op == "ge":
            found = conditions.not_negative(difference, boxes)
        else:
            found = conditions.is_zero(difference, boxes)
        if difference.linear not in (None, (0, 0)) or difference.uniform:
            return found
        left, right = node.operands
        if self._are_free_labels(left, right):
            of_query, query = (x, left) if self._is_indexed_by("q_idx", left) else (y, right)
            return self._same_document(found, self.program.nodes[query], of_query)
        if right in self.uniform and y.uniform:
            no = (None, y.lo - 1) if node.op == "ge" else (None, None)
            yes = (y.lo, None) if node.op == "ge" else (y.lo, y.lo)
            return conditions.bounded(found, left, yes, no)
        if left in self.uniform and x.uniform:
            no = (x.lo + 1, None) if node.op == "ge" else (None, None)
            yes = (None, x.lo) if node.op == "ge" else (x.lo, x.lo)
            return conditions.bounded(found, right, yes, no)
        return found

    def _are_free_labels(self, left: int, right: int) -> bool:
        """Whether labels with no gaps are indexed by one position each, the one by the other's."""
        nodes = self.program.nodes
        one, other = nodes[left], nodes[right]
        if not one.op.startswith("label.") or one.op != other.op:
            return False
        positions = [
            (self._is_indexed_by("q_idx", first) and self._is_indexed_by("kv_idx", second))
            for first, second in ((left, right), (right, left))
        ]
        axis = _axis(one)
        return any(positions) and self.tables[str(one.value)].labels(axis).consecutive(axis)

    def _is_indexed_by(self, position: str, number: int) -> bool:
        node = self.program.nodes[number]
        return self.program.nodes[node.operands[_axis(node)]].op == position

    def _same_document(self, found: Condition, node: Node, of_query: Form) -> Condition:
        """`of_query` are the labels of the queries, which `node` reads."""
        axis = _axis(node)
        labels = self.tables[str(node.value)].labels(axis)
        first, last = labels.extent(axis, of_query.lo), labels.extent(axis, of_query.hi)
        one_document = np.asarray(of_query.lo == of_query.hi)
        return conditions.same_document(found, (first[0], last[1]), one_document)


def _axis(node: Node) -> int:
    return int(node.op.removeprefix("label."))


def _position(name: str, boxes: Boxes) -> Form:
    match name:
        case "b":
            return forms.point(boxes.b)
        case "h":
            return forms.point(boxes.h)
        case "q_idx":
            return Form(1, 0, 0, 0, 0)
        case "q_row":
            return Form(1, 0, boxes.row_shift, boxes.row_shift, 0)
        case _:
            return Form(0, 1, 0, 0, 0)


def _absolute(x: Form, boxes: Boxes) -> Form:
    lo, hi = forms.bounds(x, boxes)
    straddling = forms.between(0, np.maximum(-lo, hi))
    negated = forms.choose(np.asarray(hi <= 0), forms.negative(x), straddling)
    return forms.choose(np.asarray(lo >= 0), x, negated)


def _arithmetic(op: str, x: Form, y: Form, boxes: Boxes) -> Form:
    match op:
        case "add":
            return forms.add(x, y)
        case "sub":
            return forms.subtract(x, y)
        case "mul":
            return forms.multiply(x, y, boxes)
        case "floordiv":
            return (
                forms.floordiv(x, y.number, boxes)
                if y.number
                else (forms.divide_by_range(x, y, boxes))
            )
        case "mod":
            return (
                forms.modulo(x, y.number, boxes)
                if y.number
                else (forms.modulo_by_range(x, y, boxes))
            )
        case "minimum" | "maximum":
            return _EXTREMA[op](x, y, boxes)
        case "shl" | "shr":
            return _shifted(op, x, y, boxes)
        case _:
            return _bits(op, x, y, boxes)


def _bits_of_mask(op: str, x: Form, mask: int, boxes: Boxes) -> Form:
    """A mask changes the bits below its highest one; those above stay, or are lost."""
    lo, hi = forms.bounds(x, boxes)
    size = 1 << mask.bit_length()
    high, low_lo, low_hi = lo // size * size, lo % size, hi % size
    same_high = np.asarray(high == hi // size * size)
    single = _BITS[op](np.asarray(lo), mask)
    if op == "bits.and":
        open_ = forms.between(0, np.where(same_high, np.minimum(low_hi, mask), mask))
    else:
        least = np.maximum(mask, np.where(same_high, low_lo, 0)) if op == "bits.or" else 0
        open_ = forms.between(high + least, hi // size * size + (size - 1))
    return forms.choose(np.asarray(lo == hi), forms.between(single, single), open_)


def _shifted(op: str, x: Form, y: Form, boxes: Boxes) -> Form:
    """Shifts are monotone in each operand, so that the corners bound them."""
    (a, b), (c, d) = forms.bounds(x, boxes), forms.bounds(y, boxes)
    defined = np.asarray(c >= 0) & np.asarray(d <= 31)
    shift = np.left_shift if op == "shl" else np.right_shift
    distances = [np.clip(np.asarray(distance, np.int64), 0, 31) for distance in (c, d)]
    corners = [shift(np.asarray(value, np.int64), s) for value in (a, b) for s in distances]
    lo = np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3]))
    hi = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))
    return forms.choose(defined, forms.between(lo, hi), forms.UNKNOWN)


_BITS = {"bits.and": np.bitwise_and, "bits.or": np.bitwise_or, "bits.xor": np.bitwise_xor}


def _bits(op: str, x: Form, y: Form, boxes: Boxes) -> Form:
    """Bitwise operations: with a mask, of single values, and of any others by their length."""
    for one, other in ((x, y), (y, x)):
        if one.number is not None and one.number >= 0:
            return _bits_of_mask(op, other, one.number, boxes)
    (a, b), (c, d) = forms.bounds(x, boxes), forms.bounds(y, boxes)
    single = np.asarray(a == b) & np.asarray(c == d)
    value = _BITS[op](a, c)
    natural = np.asarray(np.minimum(a, c) >= 0)
    # All bits below the highest of any value; those of a negative one are of its complement.
    largest = np.maximum(np.maximum(b, d), -1 - np.minimum(a, c))
    ones = (1 << np.frexp(np.asarray(largest, np.float64))[1].astype(np.int64)) - 1
    least = np.where(natural, 0, -1 - ones)
    if op == "bits.and":
        ones = np.where(natural, np.minimum(b, d), ones)
    return forms.choose(single, forms.between(value, value), forms.between(least, ones))
