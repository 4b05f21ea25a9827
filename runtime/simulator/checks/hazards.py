"""
Finds products of a warpgroup whose registers are touched too early, without running anything.

A forward data-flow analysis over the blocks of a function. What it looks for is undefined by
the PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions" (wgmma.fence, wgmma.commit_group,
wgmma.wait_group): results may be right on one GPU or compiler and wrong on the next.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..compiler.blocks import Block, cut
from ..errors import Finding, Place
from ..ptx.syntax import (
    Function,
    Immediate,
    Instruction,
    Module,
    Operand,
    Register,
    Vector,
    registers_of,
)

_FENCE, _COMMIT = "wgmma.fence", "wgmma.commit_group"
_WAIT, _PRODUCT = "wgmma.wait_group", "wgmma.mma_async"
_OLDEST = 8  # commits since a product was issued, from which on they aren't told apart


@dataclass(eq=False, slots=True)
class _Product:
    """One wgmma.mma_async: its registers as bit sets, and its shape and type of D."""

    instruction: Instruction
    shape: str
    sums: int
    fragment: int

    @property
    def registers(self) -> int:
        """All registers that are in flight with it."""
        return self.sums | self.fragment

    def ordered_after(self, other: "_Product") -> bool:
        """Says whether no fence is needed after another product; see wgmma.fence."""
        clash = self.sums & other.fragment or self.fragment & other.sums
        return not clash and (self.shape == other.shape or not self.sums & other.sums)


@dataclass(slots=True)
class _State:
    """
    What may be true where a path comes by, all as bit sets.

    `unfenced` says that neither a fence nor a product has been met. `touched` holds the
    instructions (by position) that accessed registers since the last fence, `issued` the products
    (by number) since it. `ages[n]` holds the products in flight with n commits since they were
    issued.
    """

    unfenced: bool
    touched: int = 0
    issued: int = 0
    ages: list[int] = field(default_factory=lambda: [0] * (_OLDEST + 1))

    def copy(self) -> "_State":
        """Returns a state of its own."""
        return _State(self.unfenced, self.touched, self.issued, list(self.ages))

    def join(self, other: "_State") -> bool:
        """Takes in what another path brings; says whether that was news."""
        before = (self.unfenced, self.touched, self.issued, tuple(self.ages))
        self.unfenced |= other.unfenced
        self.touched |= other.touched
        self.issued |= other.issued
        self.ages = [mine | theirs for mine, theirs in zip(self.ages, other.ages, strict=True)]
        return before != (self.unfenced, self.touched, self.issued, tuple(self.ages))


@dataclass(frozen=True, slots=True)
class _Hazard:
    """A rule that a pair of instructions breaks; `age` is the commits since the product."""

    rule: str
    product: Instruction
    other: Instruction
    age: int = 0


def _bits(operands: Iterable[Operand]) -> int:
    """Returns the registers of some operands as a bit set."""
    bits = 0
    for operand in operands:
        for register in registers_of(operand):
            bits |= 1 << register.index
    return bits


def _product(instruction: Instruction) -> _Product:
    """Returns what the analysis has to know of a wgmma.mma_async."""
    parts = instruction.opcode.split(".")
    shape = ".".join(part for part in parts[4:] if part != "satfinite")
    d, a = instruction.operands[:2]
    return _Product(instruction, shape, _bits([d]), _bits([a]) if isinstance(a, Vector) else 0)


def _each(bits: int) -> Iterator[int]:
    """Yields the members of a bit set."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _move(instruction: Instruction) -> tuple[Register | None, Operand]:
    """Returns target and source of a move; None and the first operand for all others."""
    operands = instruction.operands
    if instruction.opcode.startswith("mov.") and instruction.guard is None:
        target, source = operands[0], operands[-1]
        if isinstance(target, Register) and isinstance(source, Register | Immediate):
            return target, source
    return None, operands[0] if operands else Vector(())


class _Analysis:
    """The analysis of one function."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks
        self.text = [instruction for block in blocks for instruction in block.instructions]
        self._starts: list[int] = []
        at = 0
        for block in blocks:
            self._starts.append(at)
            at += len(block.instructions)
        made = [_product(i) for i in self.text if i.opcode.startswith(_PRODUCT)]
        self.products = made
        self._number = {product.instruction: n for n, product in enumerate(made)}
        watched = 0
        for product in made:
            watched |= product.registers
        self._accesses = [self._access(instruction) & watched for instruction in self.text]
        self._constants = self._find_constants()
        self._found: dict[tuple[str, Instruction, Instruction], _Hazard] = {}

    def _access(self, instruction: Instruction) -> int:
        """Returns the registers that an instruction accesses by itself, at once."""
        operands = instruction.operands
        if instruction in self._number:
            operands = operands[3:] if isinstance(operands[1], Vector) else operands[1:]
        bits = _bits(operands)
        if instruction.guard is not None:
            bits |= 1 << instruction.guard.register.index
        return bits

    def _find_constants(self) -> frozenset[int]:
        """
        Returns the positions of what sets registers to constants, copies of them included.

        Compilers set accumulators to zero right before the product, behind the fence of the
        source, and ptxas orders that by itself.
        """
        varying: set[Register] = set()
        moves: list[tuple[Register, Operand]] = []
        for instruction in self.text:
            target, source = _move(instruction)
            if target is not None:
                moves.append((target, source))
            elif instruction not in self._number:
                varying.update(registers_of(source))
        before = -1
        while len(varying) != before:
            before = len(varying)
            varying.update(target for target, source in moves if source in varying)
        found: set[int] = set()
        for block in self.blocks:
            here: set[Operand] = set()  # registers that hold constants at this place alone
            for position, instruction in enumerate(block.instructions, self._starts[block.index]):
                target, source = _move(instruction)
                if target is None:
                    here.difference_update(registers_of(source))
                elif source in here or source not in varying:
                    here.add(target)
                    found.add(position)
                else:
                    here.discard(target)
        return frozenset(found)

    def run(self) -> list[_Hazard]:
        """Returns all hazards."""
        entries: list[_State | None] = [None] * len(self.blocks)
        entries[0] = _State(True)
        pending = {0}
        while pending:
            index = min(pending)
            pending.discard(index)
            state = entries[index]
            assert state is not None
            leaving = self._walk(self.blocks[index], state.copy(), False)
            block = self.blocks[index]
            for successor in (*block.targets, *([block.follow] if block.follow >= 0 else [])):
                known = entries[successor]
                if known is None:
                    entries[successor] = leaving.copy()
                    pending.add(successor)
                elif known.join(leaving):
                    pending.add(successor)
        for block, state in zip(self.blocks, entries, strict=True):
            if state is not None:
                self._walk(block, state, True)
        return list(self._found.values())

    def _walk(self, block: Block, state: _State, telling: bool) -> _State:
        """Takes a state through a block; records hazards where `telling`."""
        for position, instruction in enumerate(block.instructions, self._starts[block.index]):
            opcode = instruction.opcode
            accessed = self._accesses[position]
            if accessed:
                if telling:
                    self._check_access(state, instruction, accessed)
                if position not in self._constants:
                    state.touched |= 1 << position
            if opcode.startswith("wgmma."):
                self._step(state, instruction, telling)
            elif telling and opcode.partition(".")[0] in ("ret", "exit"):
                self._check_exit(state, instruction)
        if telling and self._falls_off(block):
            self._check_exit(state, block.instructions[-1])
        return state

    @staticmethod
    def _falls_off(block: Block) -> bool:
        """Says whether threads exit below a block, past the last instruction of the body."""
        if not block.instructions or block.targets or block.follow >= 0:
            return False
        return block.instructions[-1].opcode.partition(".")[0] not in ("ret", "exit", "trap")

    def _step(self, state: _State, instruction: Instruction, telling: bool) -> None:
        """Takes a state through an instruction of the wgmma family."""
        opcode, ages = instruction.opcode, state.ages
        if opcode.startswith(_PRODUCT):
            number = self._number[instruction]
            if telling:
                self._check_product(state, self.products[number])
            ages[0] |= 1 << number
            state.issued |= 1 << number
            state.unfenced = False
        elif instruction.guard is not None:
            return  # it may not be executed
        elif opcode.startswith(_FENCE):
            state.unfenced, state.touched, state.issued = False, 0, 0
        elif opcode.startswith(_COMMIT):
            ages[:] = [0, *ages[: _OLDEST - 1], ages[-2] | ages[-1]]
        elif opcode.startswith(_WAIT):
            count = instruction.operands[0]
            if isinstance(count, Immediate):
                for age in range(min(count.value, _OLDEST - 1) + 1, _OLDEST + 1):
                    ages[age] = 0

    def _record(self, rule: str, product: _Product, other: Instruction, age: int = 0) -> None:
        """Records a hazard; the youngest of equal ones tells how to wait."""
        key = (rule, product.instruction, other)
        known = self._found.get(key)
        if known is None or age < known.age:
            self._found[key] = _Hazard(rule, product.instruction, other, age)

    def _in_flight(self, state: _State, wanted: int, part: str) -> Iterator[tuple[_Product, int]]:
        """Yields the products in flight that own some of the registers, with their ages."""
        for age, numbers in enumerate(state.ages):
            for number in _each(numbers):
                product = self.products[number]
                if getattr(product, part) & wanted:
                    yield product, age

    def _check_access(self, state: _State, instruction: Instruction, accessed: int) -> None:
        """Checks an access of registers against the products in flight: the youngest counts."""
        flying = list(self._in_flight(state, accessed, "registers"))
        if flying:
            youngest = min(age for _, age in flying)
            product = [product for product, age in flying if age == youngest][-1]
            self._record("access", product, instruction, youngest)

    def _check_product(self, state: _State, product: _Product) -> None:
        """Checks a product where it is issued."""
        if state.unfenced:
            self._record("first", product, product.instruction)
        else:
            self._check_fence(state, product)
        for wanted, part in ((product.fragment, "sums"), (product.sums, "fragment")):
            flying = list(self._in_flight(state, wanted, part))
            if flying:
                youngest = min(age for _, age in flying)
                other = [other for other, age in flying if age == youngest][-1]
                self._record("access", other, product.instruction, youngest)

    def _check_fence(self, state: _State, product: _Product) -> None:
        """Checks a product against all accesses since the last fence."""
        for position in _each(state.touched):
            if self._accesses[position] & product.registers:
                self._record("fence", product, self.text[position])
        for number in _each(state.issued):
            other = self.products[number]
            if not product.ordered_after(other):
                self._record("fence", product, other.instruction)

    def _check_exit(self, state: _State, instruction: Instruction) -> None:
        """Checks that nothing is in flight where threads exit."""
        for age, numbers in enumerate(state.ages):
            for number in _each(numbers):
                rule = "exit" if age else "uncommitted"
                self._record(rule, self.products[number], instruction, age)


def _together(hazards: Sequence[_Hazard]) -> Iterator[list[_Hazard]]:
    """
    Yields the hazards that one fence, commit or wait would end, the first one first.

    Those are all accesses of one product, then all products first missed at one instruction.
    """
    alike: dict[tuple[str, Instruction], list[_Hazard]] = {}
    for hazard in hazards:
        alike.setdefault((hazard.rule, hazard.product), []).append(hazard)
    merged: dict[tuple[str, Instruction], list[_Hazard]] = {}
    for (rule, _), group in alike.items():
        group.sort(key=lambda hazard: hazard.other.line)
        merged.setdefault((rule, group[0].other), []).extend(group)
    yield from merged.values()


def _told(hazards: Sequence[_Hazard]) -> tuple[Instruction, str, str]:
    """Returns the instruction that a finding names, its message and its cure."""
    first = hazards[0]
    product, other = first.product.line, first.other.line
    fence, wait = "put wgmma.fence.sync.aligned", "wait with wgmma.wait_group.sync.aligned"
    close = "" if first.age else "commit with wgmma.commit_group.sync.aligned, then "
    ages = [hazard.age for hazard in hazards]
    if first.rule == "first":
        message = "is reached with no wgmma.fence before it"
        return first.product, message, f"{fence} before line {product}"
    if first.rule == "fence":
        more = _more({hazard.other for hazard in hazards})
        message = f"its registers were accessed by line {other}{more}, with no wgmma.fence since"
        return first.product, message, f"{fence} between line {other} and line {product}"
    if first.rule == "access":
        more = _more({hazard.other for hazard in hazards})
        message = (
            f"line {other}{more} accesses registers of the wgmma.mma_async of line {product}, "
            "which may still be in flight"
        )
        return first.other, message, f"{close}{wait} {max(min(ages) - 1, 0)} before line {other}"
    more = _more({hazard.product for hazard in hazards})
    message = (
        f"line {product}{more} may still be in flight where the threads exit at line {other}"
        if first.age
        else f"line {product}{more} is never committed before the threads exit at line {other}"
    )
    return first.product, message, f"{close}{wait} 0 before line {other}"


def _more(instructions: set[Instruction]) -> str:
    """Returns how many instructions a finding stands for besides the one it names."""
    return f" (and {len(instructions) - 1} more)" if len(instructions) > 1 else ""


def static_finding(
    kind: str,
    message: str,
    module: Module,
    function: Function,
    instruction: Instruction,
    cure: str,
    other: Instruction | None = None,
) -> Finding:
    """Returns a finding that concerns an instruction, or two, whatever the threads do."""
    return Finding(
        kind,
        message,
        function.name,
        line=instruction.line,
        source=module.source_of(instruction),
        instruction=module.text_of(instruction),
        other=None if other is None else _place(module, other),
        cure=cure,
    )


def _place(module: Module, instruction: Instruction) -> Place:
    """Returns the place of an instruction, of the first thread."""
    source, text = module.source_of(instruction), module.text_of(instruction)
    return Place((0, 0, 0), (0, 0, 0), instruction.line, source, text)


def hazards(module: Module, function: Function) -> tuple[Finding, ...]:
    """
    Returns findings of kind "wgmma" for a function, in the order of the text.

    They say where a wgmma.fence, wgmma.commit_group or wgmma.wait_group is missing. A function
    without wgmma.mma_async costs one look at its text.
    """
    if not any(
        isinstance(item, Instruction) and item.opcode.startswith(_PRODUCT)
        for item in function.body or ()
    ):
        return ()
    found: list[Finding] = []
    for group in _together(_Analysis(cut(function)).run()):
        instruction, message, cure = _told(group)
        first = group[0]
        other = first.product if instruction is first.other else first.other
        if first.rule not in ("access", "fence"):
            other = None
        found.append(static_finding("wgmma", message, module, function, instruction, cure, other))
    return tuple(sorted(found, key=lambda finding: finding.line))
