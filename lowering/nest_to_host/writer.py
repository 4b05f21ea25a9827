"""Writes the MLIR text of one function: regions, numbered values, and pure ops hoisted."""

from __future__ import annotations

import struct
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

POINTER = "!llvm.ptr"


@dataclass(frozen=True, slots=True)
class Value:
    """
    A value: its name, the type of its element, its lanes and the region that it is made in.

    `lanes` is 0 for a scalar. `depth` counts the regions around the op that makes it.
    """

    name: str
    element: str
    lanes: int
    depth: int

    @property
    def type(self) -> str:
        """The type as MLIR writes it."""
        return type_of(self.element, self.lanes)


def type_of(element: str, lanes: int) -> str:
    """Returns the type of a scalar, or of a vector of `lanes` elements where that is not 0."""
    return f"vector<{lanes}x{element}>" if lanes else element


@dataclass(slots=True)
class _Region:
    lines: list[str] = field(default_factory=list[str])
    # Pure ops that were written here, by their text.
    known: dict[str, Value] = field(default_factory=dict[str, Value])
    # Where the condition that was written last stands: from and to before these lines.
    branch: tuple[int, int] = (0, 0)


class Writer:
    """
    Writes ops into the innermost region that is open.

    A pure op is written once, in the outermost region where its operands are known. So what a
    loop does not change stands before it.
    """

    def __init__(self) -> None:
        self._regions = [_Region()]
        self._count = 0

    @property
    def depth(self) -> int:
        """How many regions are open inside the function."""
        return len(self._regions) - 1

    @property
    def text(self) -> str:
        """The ops of the function's body."""
        return "\n".join(self._regions[0].lines)

    def is_open(self, value: Value, region: object) -> bool:
        """Whether a region that `region_of` returned for a value is still being written."""
        return value.depth < len(self._regions) and self._regions[value.depth] is region

    def region_of(self, value: Value) -> object:
        """Returns what stands for the region that a value is made in."""
        return self._regions[value.depth]

    def argument(self, element: str) -> Value:
        """Returns a value of the function's own, that is to be written as its argument."""
        return self._value(element, 0, 0)

    def pure(self, op: str, element: str, lanes: int, *operands: Value) -> Value:
        """Writes an op without effects, `{0}` in its text is the first operand."""
        text = op.format(*(operand.name for operand in operands))
        depth = max((operand.depth for operand in operands), default=0)
        region = self._regions[depth]
        value = region.known.get(text)
        if value is None:
            value = region.known[text] = self._value(element, lanes, depth)
            region.lines.append(f"{value.name} = {text}")
        return value

    def effect(self, op: str, element: str, lanes: int, *operands: Value) -> Value:
        """Writes an op that stays where it is; returns its result."""
        value = self._value(element, lanes, self.depth)
        self._regions[-1].lines.append(f"{value.name} = {op.format(*(o.name for o in operands))}")
        return value

    def at_entry(self, op: str, element: str, *operands: Value) -> Value:
        """Writes an op at the function's own level; its operands are known there."""
        value = self._value(element, 0, 0)
        text = op.format(*(operand.name for operand in operands))
        self._regions[0].lines.append(f"{value.name} = {text}")
        return value

    def do(self, op: str, *operands: Value) -> None:
        """Writes an op without result that stays where it is."""
        self._regions[-1].lines.append(op.format(*(operand.name for operand in operands)))

    @contextmanager
    def loop(self, low: Value, end: Value, step: int = 1) -> Generator[Value]:
        """Writes `for value in low .. end - 1 by step`; the ops inside the `with` are its body."""
        by = self.integer(step)
        self._regions.append(_Region())
        index = self._value("i64", 0, self.depth)
        yield index
        body = self._regions.pop().lines
        bounds = f"{low.name} to {end.name} step {by.name}"
        self._regions[-1].lines += [f"scf.for {index.name} = {bounds} : i64 {{", *body, "}"]

    @contextmanager
    def condition(self, condition: Value) -> Generator[None]:
        """Writes `if condition`."""
        self._regions.append(_Region())
        yield
        body = self._regions.pop().lines
        region = self._regions[-1]
        start = len(region.lines)
        region.lines += [f"scf.if {condition.name} {{", *body, "}"]
        region.branch = (start, len(region.lines))

    @contextmanager
    def otherwise(self) -> Generator[None]:
        """Writes the `else` of the condition that was written last."""
        self._regions.append(_Region())
        yield
        body = self._regions.pop().lines
        region = self._regions[-1]
        # What this branch needs and was written since goes before the condition.
        lines, (start, end) = region.lines, region.branch
        condition = lines[start : end - 1]
        region.lines = [*lines[:start], *lines[end:], *condition, "} else {", *body, "}"]

    def _value(self, element: str, lanes: int, depth: int) -> Value:
        self._count += 1
        return Value(f"%{self._count}", element, lanes, depth)

    def integer(self, value: int, element: str = "i64") -> Value:
        """Returns a scalar integer constant."""
        if element == "i1":
            value &= 1
        return self.pure(f"llvm.mlir.constant({value} : {element}) : {element}", element, 0)

    def float(self, value: float, element: str = "f32") -> Value:
        """
        Returns a scalar constant of f32 or f64, written as the cast of its bits.

        The versions of LLVM behind the bindings and llvmlite write literals differently.
        """
        width, code = (64, "<qd") if element == "f64" else (32, "<if")
        if element == "f32":
            value = _to_f32(value)
        bits = self.integer(
            struct.unpack(code[:2], struct.pack(f"<{code[2]}", value))[0], f"i{width}"
        )
        frozen = self.pure(f"llvm.freeze {{0}} : i{width}", f"i{width}", 0, bits)
        return self.pure(f"llvm.bitcast {{0}} : i{width} to {element}", element, 0, frozen)

    def broadcast(self, value: Value, lanes: int) -> Value:
        """Returns a vector of a scalar; a vector as it is."""
        if not lanes or value.lanes:
            return value
        vector = type_of(value.element, lanes)
        text = f"vector.broadcast {{0}} : {value.element} to {vector}"
        return self.pure(text, value.element, lanes, value)

    def extract(self, vector: Value, lane: int) -> Value:
        """Returns one lane of a vector; a scalar as it is."""
        if not vector.lanes:
            return vector
        text = f"vector.extract {{0}}[{lane}] : {vector.element} from {vector.type}"
        return self.pure(text, vector.element, 0, vector)

    def gather(self, lanes: list[Value]) -> Value:
        """Returns the vector of scalars."""
        element = lanes[0].element
        names = ", ".join(lane.name for lane in lanes)
        text = f"vector.from_elements {names} : {type_of(element, len(lanes))}"
        depth = max(lane.depth for lane in lanes)
        at_depth = next(lane for lane in lanes if lane.depth == depth)
        return self.pure(text, element, len(lanes), at_depth)

    def any(self, flags: Value) -> Value:
        """Returns whether a flag is set, or one of those of a vector."""
        if not flags.lanes:
            return flags
        return self.pure(f"vector.reduction <or>, {{0}} : {flags.type} into i1", "i1", 0, flags)

    def iota(self, lanes: int) -> Value:
        """Returns 0, 1, 2, .. as a vector of i64."""
        numbers = ", ".join(map(str, range(lanes)))
        vector = type_of("i64", lanes)
        text = f"llvm.mlir.constant(dense<[{numbers}]> : {vector}) : {vector}"
        return self.pure(text, "i64", lanes)

    def binary(self, op: str, left: Value, right: Value, flags: str = "") -> Value:
        """Writes a pure op of two operands of one element type; scalars are broadcast."""
        lanes = left.lanes or right.lanes
        left, right = self.broadcast(left, lanes), self.broadcast(right, lanes)
        return self.pure(
            f"{op} {{0}}, {{1}}{flags} : {left.type}", left.element, lanes, left, right
        )

    def unary(self, op: str, value: Value, flags: str = "") -> Value:
        """Writes a pure op of one operand that keeps its type."""
        return self.pure(f"{op} {{0}}{flags} : {value.type}", value.element, value.lanes, value)

    def convert(self, op: str, value: Value, element: str) -> Value:
        """Writes a conversion to another element type."""
        target = type_of(element, value.lanes)
        return self.pure(f"{op} {{0}} : {value.type} to {target}", element, value.lanes, value)

    def compare(self, op: str, predicate: str, left: Value, right: Value) -> Value:
        """Writes `arith.cmpi` or `arith.cmpf`."""
        lanes = left.lanes or right.lanes
        left, right = self.broadcast(left, lanes), self.broadcast(right, lanes)
        text = f"{op} {predicate}, {{0}}, {{1}} : {left.type}"
        return self.pure(text, "i1", lanes, left, right)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        """Writes `arith.select`."""
        lanes = condition.lanes or yes.lanes or no.lanes
        yes, no = self.broadcast(yes, lanes), self.broadcast(no, lanes)
        condition = self.broadcast(condition, lanes)
        kinds = f"{condition.type}, {yes.type}" if lanes else yes.type
        text = f"arith.select {{0}}, {{1}}, {{2}} : {kinds}"
        return self.pure(text, yes.element, lanes, condition, yes, no)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """Writes `math.fma`, rounded once."""
        lanes = x.lanes or y.lanes or z.lanes
        x, y, z = (self.broadcast(value, lanes) for value in (x, y, z))
        return self.pure(f"math.fma {{0}}, {{1}}, {{2}} : {x.type}", x.element, lanes, x, y, z)


def _to_f32(value: float) -> float:
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
