"""Prints one kernel: walks its regions, unrolling loops and vectors, rule by rule."""

# Operands are read where they are kept: xDSL would wrap those of each op in a list of their own.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xdsl.dialects.builtin import CallSiteLoc, FileLineColLoc, FusedLoc, NameLoc, UnknownLoc
from xdsl.ir import Attribute, Block, Operation, SSAValue

from ...dialects.diagnostic import error_at
from .elements import Element, element_kind, operand_type, result_type
from .operands import Operands

# Of PTX, with 8-bit floats in conversions and products on sm_89 (PTX ISA, "Release History").
EIGHT_BIT_VERSION = "8.4"

Rule = Callable[["KernelPrinter", "Step"], None]
Place = tuple[str, int, int]


class Step:
    """One op, decoded once however often unrolling prints it."""

    __slots__ = ("args", "memo", "op", "outs", "place", "rule")

    def __init__(
        self, op: Operation, rule: Rule, args: tuple[int, ...], place: Place | None
    ) -> None:
        self.op = op
        self.rule = rule
        self.args = args
        self.outs = tuple(map(id, op.results))
        self.place = place
        # Whatever the rule wants to know again the next time.
        self.memo: Any = None

    def joined(self, steps: Sequence[Step], args: tuple[int, ...], rule: Rule, memo: Any) -> Step:
        """Returns the step that stands for a run of steps, of which this is the first."""
        step = Step(self.op, rule, args, self.place)
        step.outs = tuple([out for joined in steps for out in joined.outs])
        step.memo = memo
        return step


def innermost_place(location: Attribute) -> Place | None:
    """Returns (file, line, column) of a location; of several places the innermost."""
    # Attributes are of an abstract class: to ask for the very class is many times faster.
    if type(location) is UnknownLoc:
        return None
    if type(location) is FileLineColLoc:
        return location.filename.data, location.line.data, location.column.data
    if isinstance(location, NameLoc):
        return innermost_place(location.location)
    if isinstance(location, CallSiteLoc):
        return innermost_place(location.callee)
    if isinstance(location, FusedLoc):
        places = (innermost_place(part) for part in getattr(location.locations, "data", ()))
        return next((place for place in places if place is not None), None)
    return None


class KernelPrinter(Operands):
    """
    The state of printing one kernel.

    `values` maps an SSA value to its elements in row-major order; a struct's members follow each
    other. `files` numbers the source files of `.loc` lines, from 1; None prints no such lines.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        files: dict[str, int] | None,
        target: str,
        block_size: Sequence[int],
        join: Callable[[Sequence[Step]], Sequence[Step]] = list,
    ) -> None:
        super().__init__()
        self.rules = rules
        self.join = join
        self.files = files
        self.target = target
        self.block_size = tuple(block_size)
        self.values: dict[int, list[Element]] = {}
        # Versions of PTX that instructions need beyond that of the target.
        self.versions: set[str] = set()
        # While a branch-free `if` is printed: the register that guards its side effects.
        self.guard: str | None = None
        # The steps of a block in a loop's first iteration, and in later ones; the terminator apart.
        self._first: dict[int, tuple[Sequence[Step], Step]] = {}
        self._later: dict[int, tuple[Sequence[Step], Step]] = {}
        # Integer constants, and the steps of a block that compute numbers from its first argument.
        self.constants: set[int] = set()
        self._numbers: dict[int, list[Step]] = {}
        # Values that have the elements of another one.
        self._same: dict[int, int] = {}
        self._place: Place | None = None
        # Places that are equal are one object.
        self._places: dict[Place | None, Place | None] = {}

    def steps(self, block: Block) -> Sequence[Step]:
        """Returns the decoded ops of a block, the terminator last."""
        if (known := self._first.get(id(block))) is not None:
            return [*known[0], known[1]]
        return self.join(self._decode(block))

    def _decode(self, block: Block) -> list[Step]:
        same, places, location, place = self._same, self._places, None, None
        get, get_rule = same.get, self.rules.get
        steps: list[Step] = []
        op = block.first_op
        while op is not None:
            # Neighbours mostly come from one place.
            if op.location is not location:
                location = op.location
                place = innermost_place(location)
                place = places.setdefault(place, place)
            keys = list(map(id, op._operands))
            args = tuple(map(get, keys, keys))
            name = op.name
            if name == "arith.index_cast" and _keeps_elements(op):
                same[id(*op.results)] = args[0]
            else:
                if (rule := get_rule(name)) is None:
                    raise error_at(op, "has no rule that prints it as PTX")
                steps.append(Step(op, rule, args, place))
            op = op._next_op
        return steps

    def varying_steps(self, block: Block) -> list[Step]:
        """Returns the steps that a later unrolled iteration prints anew, the terminator last."""
        varying: list[Step] = []
        *body, end = self.steps(block)
        known_to_vary = {id(argument) for argument in block.args}
        known_to_vary.update(out for step in self._numbers.get(id(block), ()) for out in step.outs)
        for step in body:
            if not known_to_vary.isdisjoint(step.args) or not is_pure(step.op):
                known_to_vary.update(step.outs)
                varying.append(step)
        return [*varying, end]

    def number_steps(self, block: Block) -> list[Step]:
        """
        Returns the steps that compute numbers from the block's first argument and constants alone.

        They are no longer among those that `run` passes.
        """
        if (known := self._numbers.get(id(block))) is None:
            known = self._numbers[id(block)] = []
            *body, end = self.steps(block)
            numbers, rest = {id(block.args[0]), *self.constants}, list[Step]()
            for step in body:
                if step.op.name in _ON_NUMBERS and numbers.issuperset(step.args):
                    numbers.update(step.outs)
                    known.append(step)
                else:
                    rest.append(step)
            self._first[id(block)] = (rest, end)
        return known

    def run(self, block: Block, again: bool = False) -> Step:
        """
        Prints a block and returns its terminator, which is left to the caller.

        `again` says that this is a later iteration of an unrolled loop.
        """
        parts = (self._later if again else self._first).get(id(block))
        if parts is None:
            parts = self._part(block, again)
        body, end = parts
        for step in body:
            place = step.place
            if place is not self._place and place is not None:
                self.move_to(place)
            step.rule(self, step)
        return end

    def _part(self, block: Block, again: bool) -> tuple[Sequence[Step], Step]:
        *body, end = self.varying_steps(block) if again else self.steps(block)
        parts = (self._later if again else self._first)[id(block)] = (body, end)
        return parts

    def move_to(self, place: Place | None) -> None:
        """Says where what follows comes from, if that is known and another place."""
        if place is None or place is self._place:
            return
        self._place = place
        if self.files is None:
            return
        file, line, column = place
        number = self.files.setdefault(file, len(self.files) + 1)
        self.line(f"\t.loc {number} {line} {column}")

    def lost_place(self) -> None:
        """Forgets the place after a label, so that the next op prints its own."""
        self._place = None

    def elements(self, step: Step, index: int) -> list[Element]:
        """Returns the elements of an operand."""
        return self.values[step.args[index]]

    def element(self, step: Step, index: int) -> Element:
        """Returns the one element of a scalar operand."""
        return self.values[step.args[index]][0]

    def bind(self, value: SSAValue, elements: list[Element]) -> None:
        """Gives a value its elements."""
        self.values[id(value)] = elements


_ON_NUMBERS = frozenset(
    f"arith.{name}"
    for name in ("addi", "subi", "muli", "andi", "ori", "xori", "shli", "divui", "remui")
)
_PURE_DIALECTS = ("arith.", "math.", "vector.")
_PURE = frozenset(
    {
        "llvm.getelementptr",
        "llvm.extractvalue",
        "llvm.insertvalue",
        "llvm.mlir.addressof",
        "llvm.mlir.constant",
        "llvm.mlir.undef",
        "llvm.mlir.zero",
        "nvvm.ex2",
        "nvvm.rcp.approx.ftz.f",
    }
)


def _keeps_elements(cast: Operation) -> bool:
    """Whether a cast is to a type whose values are held alike."""
    return operand_kind(cast) == result_kind(cast)


def is_pure(op: Operation) -> bool:
    """Says whether an op only computes its results from its operands."""
    return op.name.startswith(_PURE_DIALECTS) or op.name in _PURE


def kind_of(op: Operation, value: SSAValue) -> str:
    """Returns the kind of a value's elements; refuses types that the thread level lacks."""
    return _known_kind(op, value.type)


def operand_kind(op: Operation, index: int = 0) -> str:
    """Returns the kind of an operand's elements, as `kind_of` does."""
    return _known_kind(op, operand_type(op, index))


def result_kind(op: Operation) -> str:
    """Returns the kind of the first result's elements, as `kind_of` does."""
    return _known_kind(op, result_type(op))


def _known_kind(op: Operation, type_: Attribute) -> str:
    kind = element_kind(type_)
    if kind is None:
        raise error_at(op, f"has a value of type {type_}, which PTX cannot hold")
    return kind
