"""
Mask programs in a form that is good to reason about.

Conditions are `and`, `or`, `not` of the comparisons `ge` and `eq`; scalars are numbers; what is
computed twice is one node. Comparisons with minima, maxima, absolute values and choices become
comparisons with their parts, so that each compares affine terms where it can. Numbers are those of
mathematics: what may leave 32 bits has to be named before, and becomes unknown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .program import Instruction, MaskProgram

# Beyond this many nodes comparisons are no longer taken apart, which can double them.
_LARGEST_TAKEN_APART = 256
_ROUNDS_DOWN: dict[str, Callable[[int, int], int]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "floordiv": lambda x, y: x // y,
    "mod": lambda x, y: x % y,
    "minimum": min,
    "maximum": max,
}


@dataclass(frozen=True)
class Node:
    """An operation on earlier nodes; `source` is the instruction that it comes from."""

    op: str
    operands: tuple[int, ...]
    value: bool | int | str | None
    source: int


@dataclass
class NormalProgram:
    """
    The nodes of a mask in order; `root` is the mask, `needed` the nodes that it depends on.

    `results` has for each instruction of the program the node that it became.
    """

    nodes: list[Node]
    results: list[int]
    root: int = field(init=False)
    needed: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.root = self.results[-1]
        needed = {self.root}
        for number in range(self.root, -1, -1):
            if number in needed:
                needed.update(self.nodes[number].operands)
        self.needed = sorted(needed)


def normalise(
    program: MaskProgram,
    scalars: Mapping[str, int],
    wrapping: Sequence[int] = (),
    *,
    take_apart: bool = True,
) -> NormalProgram:
    """Returns the normal form; instructions of `wrapping` may leave 32 bits and are unknown."""
    builder = _Builder(scalars, take_apart)
    results: list[int] = []
    for number, instruction in enumerate(program.instructions):
        builder.source = number
        operands = [results[operand] for operand in instruction.operands]
        if number in wrapping:
            results.append(builder.node("unknown", (), number))
        else:
            are_conditions = [program.conditions[operand] for operand in instruction.operands]
            results.append(builder.instruction(instruction, operands, any(are_conditions[-1:])))
    return NormalProgram(builder.nodes, results)


class _Builder:
    """Makes nodes, each once, and rewrites while it does."""

    def __init__(self, scalars: Mapping[str, int], take_apart: bool) -> None:
        self.scalars = scalars
        self.take_apart = take_apart
        self.nodes: list[Node] = []
        self.source = 0
        self._numbers: dict[tuple[str, tuple[int, ...], type, object], int] = {}

    def node(
        self, op: str, operands: tuple[int, ...] = (), value: bool | int | str | None = None
    ) -> int:
        """Returns the number of a node, which is made where there is none yet."""
        key = (op, operands, type(value), value)
        if key not in self._numbers:
            self._numbers[key] = len(self.nodes)
            self.nodes.append(Node(op, operands, value, self.source))
        return self._numbers[key]

    def constant(self, value: bool | int) -> int:
        """Returns a constant."""
        return self.node("constant", (), value)

    def number_of(self, node: int) -> bool | int | None:
        """Returns the value of a constant, or None for what is none."""
        value = self.nodes[node].value
        return value if self.nodes[node].op == "constant" and isinstance(value, int) else None

    def instruction(self, instruction: Instruction, parts: list[int], conditions: bool) -> int:
        """Returns what an instruction becomes; `conditions` tells the kind of its operands."""
        match instruction.op, parts:
            case "scalar", _:
                return self.constant(self.scalars[str(instruction.value)])
            case "lt", [x, y]:
                return self.negation(self.compare("ge", x, y))
            case "gt", [x, y]:
                return self.negation(self.compare("ge", y, x))
            case "le", [x, y]:
                return self.compare("ge", y, x)
            case "ge", [x, y]:
                return self.compare("ge", x, y)
            case "ne", [x, y]:
                return self.negation(self._equal(x, y, conditions))
            case "eq", [x, y]:
                return self._equal(x, y, conditions)
            case "not", [x]:
                return self.negation(x)
            case "and" | "or" as op, [x, y] if conditions:
                return self.connect(op, x, y)
            case "xor", [x, y] if conditions:
                return self.negation(self._equal(x, y, conditions))
            case "and" | "or" | "xor" as op, [x, y]:
                return self.bits(op, x, y)
            case "shl" | "shr" as op, [x, y] if 0 <= int(self.number_of(y) or 0) <= 30:
                return self.shift(op, x, y)
            case "where", [condition, x, y] if conditions:
                return self.choice(condition, x, y)
            case "opaque", _:
                # Two of them can differ where they read the same.
                return self.node("opaque", (), self.source)
            case ("constant" | "load") as op, _:
                return self.node(op, tuple(parts), instruction.value)
            case op, _:
                return self.integer(op, tuple(parts))

    def negation(self, x: int) -> int:
        """Returns the negation of a condition."""
        if (value := self.number_of(x)) is not None:
            return self.constant(not value)
        node = self.nodes[x]
        return node.operands[0] if node.op == "not" else self.node("not", (x,))

    def connect(self, op: str, x: int, y: int) -> int:
        """Returns the conjunction or disjunction of two conditions; one is a fact for the other."""
        if self.take_apart and len(self.nodes) < _LARGEST_TAKEN_APART:
            y = self._assuming(y, self._facts(x, op == "and"))
            x = self._assuming(x, self._facts(y, op == "and"))
        return self._join(op, x, y)

    def _facts(self, x: int, holds: bool) -> dict[int, bool]:
        """Returns the conditions that are known where one holds, or where it does not."""
        node, facts = self.nodes[x], {x: holds}
        if node.op == "not":
            facts |= self._facts(node.operands[0], not holds)
        elif node.op == ("and" if holds else "or"):
            for operand in node.operands:
                facts |= self._facts(operand, holds)
        return facts

    def _assuming(self, x: int, facts: Mapping[int, bool]) -> int:
        """Returns what is left of a condition where others are known."""
        if x in facts:
            return self.constant(facts[x])
        node = self.nodes[x]
        if node.op == "not":
            return self.negation(self._assuming(node.operands[0], facts))
        if node.op in ("and", "or"):
            left, right = (self._assuming(operand, facts) for operand in node.operands)
            return self._join(node.op, left, right)
        return x

    def _join(self, op: str, x: int, y: int) -> int:
        neutral = op == "and"
        for one, other in ((x, y), (y, x)):
            if (value := self.number_of(one)) is not None:
                return other if bool(value) == neutral else self.constant(not neutral)
        if x == y:
            return x
        if self.negation(x) == y:
            return self.constant(not neutral)
        return self.node(op, (x, y))

    def choice(self, condition: int, x: int, y: int) -> int:
        """Returns the condition that is x where a condition holds, else y."""
        if x == y:
            return x
        yes = self.connect("and", condition, x)
        return self.connect("or", yes, self.connect("and", self.negation(condition), y))

    def _equal(self, x: int, y: int, conditions: bool) -> int:
        return self.choice(x, y, self.negation(y)) if conditions else self.compare("eq", x, y)

    def compare(self, op: str, x: int, y: int) -> int:
        """Returns the comparison `x >= y` or `x == y` of integers, taken apart where it can be."""
        left, right = self.number_of(x), self.number_of(y)
        if left is not None and right is not None:
            return self.constant(left >= right if op == "ge" else left == right)
        if x == y:
            return self.constant(True)
        if op == "eq" and self.take_apart:
            special = self._equal_labels(x, y) or self._congruent(x, y)
            if special is not None:
                return special
        if self.take_apart and len(self.nodes) < _LARGEST_TAKEN_APART:
            for part, is_left in ((x, True), (y, False)):
                taken = self._compare_parts(op, part, y if is_left else x, is_left)
                if taken is not None:
                    return taken
        return self.node(op, (x, y))

    def _equal_labels(self, x: int, y: int) -> int | None:
        """
        Compares two entries of one tensor, such as document numbers, by labels instead.

        Labels are as equal as the entries, and rise along the axis whose index is another.
        """
        left, right = self.nodes[x], self.nodes[y]
        if left.op != "load" or right.op != "load" or left.value != right.value:
            return None
        pairs = zip(left.operands, right.operands, strict=True)
        differ = [axis for axis, (one, other) in enumerate(pairs) if one != other]
        if len(differ) != 1:
            return None
        labels = [self.node(f"label.{differ[0]}", n.operands, n.value) for n in (left, right)]
        return self.node("eq", (labels[0], labels[1]))

    def _congruent(self, x: int, y: int) -> int | None:
        """Returns `x % m == y % m`, or with a number in place of one side, as one condition."""
        for one, other in ((x, y), (y, x)):
            node = self.nodes[one]
            if node.op != "mod" or (divisor := self.number_of(node.operands[1])) is None:
                continue
            if divisor == 0:
                return None
            difference, sides = node.operands[0], self.nodes[other]
            if sides.op == "mod" and sides.operands[1] == node.operands[1]:
                difference = self.integer("sub", (difference, sides.operands[0]))
            elif (rest := self.number_of(other)) is not None:
                if rest != rest % divisor:
                    return self.constant(False)
                difference = self.integer("sub", (difference, other))
            else:
                continue
            return self.node("multiple", (difference,), abs(divisor))
        return None

    def _compare_parts(self, op: str, part: int, other: int, is_left: bool) -> int | None:
        """Compares what a minimum, maximum, absolute value or choice is made of."""
        node = self.nodes[part]
        if node.op not in ("minimum", "maximum", "abs", "where"):
            return None
        if node.op == "where":
            condition, *parts = node.operands
            yes, no = (self._ordered(op, one, other, is_left) for one in parts)
            return self.choice(condition, yes, no)
        if op == "eq":
            below = self.compare("ge", other, part)
            return self.connect("and", below, self.compare("ge", part, other))
        parts = list(node.operands)
        if node.op == "abs":
            parts.append(self.integer("sub", (self.constant(0), parts[0])))
        first, second = (self._ordered(op, one, other, is_left) for one in parts)
        any_suffices = (node.op != "minimum") == is_left
        return self.connect("or" if any_suffices else "and", first, second)

    def _ordered(self, op: str, part: int, other: int, is_left: bool) -> int:
        return self.compare(op, part, other) if is_left else self.compare(op, other, part)

    def integer(self, op: str, operands: tuple[int, ...]) -> int:
        """Returns an operation on integers; sums are drawn into extrema and choices."""
        values = [self.number_of(operand) for operand in operands]
        if (
            op in _ROUNDS_DOWN
            and None not in values
            and (op not in ("floordiv", "mod") or values[1])
        ):
            x, y = (int(value or 0) for value in values)
            return self.constant(_ROUNDS_DOWN[op](x, y))
        drawn_in = self._drawn_in(op, operands)
        return self.node(op, operands) if drawn_in is None else drawn_in

    def _drawn_in(self, op: str, operands: tuple[int, ...]) -> int | None:
        small = self.take_apart and len(self.nodes) < _LARGEST_TAKEN_APART
        if not small or op not in ("add", "sub"):
            return None
        for position, operand in enumerate(operands):
            node = self.nodes[operand]
            if node.op in ("minimum", "maximum", "where"):
                parts = [
                    self.integer(op, (*operands[:position], part, *operands[position + 1 :]))
                    for part in node.operands[-2:]
                ]
                turned = op == "sub" and position == 1
                swap = {"minimum": "maximum", "maximum": "minimum"} if turned else {}
                return self.node(swap.get(node.op, node.op), (*node.operands[:-2], *parts))
        return None

    def shift(self, op: str, x: int, y: int) -> int:
        """Returns a shift; one by a number is a product or a quotient."""
        if (distance := self.number_of(y)) is None:
            return self.node(op, (x, y))
        power = self.constant(1 << int(distance))
        return self.integer("mul" if op == "shl" else "floordiv", (x, power))

    def bits(self, op: str, x: int, y: int) -> int:
        """Returns a bitwise operation; the lowest bits of an integer are a remainder."""
        for one, other in ((x, y), (y, x)):
            mask = self.number_of(one)
            if op == "and" and mask is not None and mask >= 0 and mask & (mask + 1) == 0:
                return self.integer("mod", (other, self.constant(mask + 1)))
        return self.node(f"bits.{op}", (x, y))
