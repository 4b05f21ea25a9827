"""
Inlines the functions that an entry calls, so that what compiles it knows no calls.

A function has one set of registers and local variables in an entry: without recursion a thread
is in one copy of it at a time. Each copy has labels of its own, and takes its parameters where
the call put them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..ptx.syntax import (
    Address,
    Function,
    Guard,
    Immediate,
    Instruction,
    Label,
    Module,
    Name,
    Negated,
    Operand,
    Pair,
    Register,
    SymbolAddress,
    Variable,
    Vector,
    shown,
)
from ..scalars import BITS
from .call_graph import CallGraph, Summary, is_call, refused

# Opcodes that stand for a call and for the return that ends an inlined function.
ENTER, LEAVE = "call.enter", "call.leave"


def inline(module: Module, function: Function) -> Function:
    """
    Returns the entry with all that it calls; the entry itself where it calls nothing.

    Raises PTXError for calls that are not covered; see CallGraph.
    """
    body = function.body or ()
    if not any(item.opcode[:4] == "call" for item in body if isinstance(item, Instruction)):
        return function
    inliner = _Inliner(module, function)
    inliner.copy(_Frame(function, inliner.graph.summary(function)))
    return inliner.result


@dataclass(eq=False, slots=True)
class _Frame:
    """One copy of a function: what its names become."""

    function: Function
    summary: Summary
    registers: Mapping[Register, Register] | None = None  # None for the entry, which keeps its own
    variables: dict[Variable, Variable] = field(default_factory=dict[Variable, Variable])
    mark: str = ""  # what labels end in
    end: str = ""  # the label that `ret` goes to
    calls: tuple[Instruction, ...] = ()
    returns_early: bool = False

    def operand(self, operand: Operand) -> Operand:
        """Returns an operand with its registers and parameters replaced."""
        registers, variables = self.registers, self.variables
        if registers is None:
            return operand
        match operand:
            case Register():
                return registers[operand]
            case Address(base, offset, coordinates):
                if isinstance(base, Register):
                    base = registers[base]
                elif isinstance(base, Variable):
                    base = variables.get(base, base)
                return Address(base, offset, tuple(map(self.operand, coordinates)))
            case Vector(items):
                return Vector(tuple(map(self.operand, items)))
            case SymbolAddress(variable, offset):
                return SymbolAddress(variables.get(variable, variable), offset)
            case Negated(register):
                return Negated(registers[register])
            case Pair(first, second):
                return Pair(self.operand(first), self.operand(second))
            case _:
                return operand

    def instruction(self, item: Instruction) -> Instruction:
        """Returns an instruction of this copy."""
        if self.registers is None:
            return item
        operands = tuple(map(self.operand, item.operands))
        return Instruction(
            _in_local_memory(item.opcode, operands),
            operands,
            self.guard(item),
            item.line,
            item.column,
            item.location,
            item.span,
            self.calls,
        )

    def guard(self, item: Instruction) -> Guard | None:
        """Returns the guard of an instruction of this copy."""
        guard = item.guard
        if guard is None or self.registers is None:
            return guard
        return Guard(self.registers[guard.register], guard.negated)

    def alone(self, variable: Variable, argument: bool) -> bool:
        """Says whether a callee may use a call's variable as its own parameter."""
        summary = self.summary
        own = variable in self.function.params or variable in self.function.returns
        return (
            not own
            and summary.uses[variable] == 1
            and not (argument and variable in summary.loaded)
        )


def _in_local_memory(opcode: str, operands: tuple[Operand, ...]) -> str:
    """
    Returns the opcode with .local for .param where a function's parameter has an address.

    PTX ISA, "Device Function Parameters": `mov` of a parameter gives an address in .local.
    """
    if ".param" not in opcode or ".param::entry" in opcode:
        return opcode
    if opcode[:4] != "cvta":
        address = next((o for o in operands if isinstance(o, Address)), None)
        if address is None or isinstance(address.base, Variable):
            return opcode
    return opcode.replace(".param::func", ".local").replace(".param", ".local")


class _Inliner:
    """Writes an entry's body anew."""

    def __init__(self, module: Module, entry: Function) -> None:
        self.graph = CallGraph(module)
        self.result = replace(
            entry,
            body=[],
            registers=list(entry.registers),
            variables=list(entry.variables),
            branch_targets=dict(entry.branch_targets),
        )
        self._body: list[Instruction | Label] = []
        self.result.body = self._body
        self._registers: dict[str, dict[Register, Register]] = {}
        self._copies = 0

    def copy(self, frame: _Frame) -> None:
        """Appends a copy of a function."""
        inner = frame.registers is not None
        body = frame.function.body or []
        if inner:
            kept = frame.summary.labels
            body = [i for i in body if isinstance(i, Instruction) or i.name in kept]
            for name, targets in frame.function.branch_targets.items():
                marked = tuple(target + frame.mark for target in targets)
                self.result.branch_targets[name + frame.mark] = marked
        last = body[-1] if body else None
        for item in body:
            if isinstance(item, Label):
                self._body.append(Label(item.name + frame.mark, item.line))
            elif is_call(item):
                self._call(frame, item)
            elif inner and item.opcode.partition(".")[0] == "ret":
                self._return(frame, item, item is last)
            else:
                self._check(frame, item)
                self._body.append(self._branch(frame, frame.instruction(item)))

    def _check(self, frame: _Frame, item: Instruction) -> None:
        """Raises where an instruction takes the address of a variable that calls take."""
        for operand in item.operands:
            if isinstance(operand, SymbolAddress):
                variable = operand.variable
                if variable.space == "param" and variable in frame.function.variables:
                    raise refused(item, f"takes the address of {variable.name}, which calls take")

    def _branch(self, frame: _Frame, item: Instruction) -> Instruction:
        """Returns a branch with its label in this copy; other instructions as they are."""
        if item.opcode[:2] == "br" and frame.mark and item.operands:
            *others, target = item.operands
            if isinstance(target, Name):
                item.operands = (*others, Name(target.text + frame.mark))
        return item

    def _return(self, frame: _Frame, item: Instruction, last: bool) -> None:
        """Appends what a return does: nothing at the end, else a branch."""
        if item.operands:
            raise refused(item, f"expects 0 operands, got {len(item.operands)}")
        copied = frame.instruction(item)
        if last:
            copied.opcode, copied.guard = LEAVE, None
        else:
            copied.opcode, copied.operands = "bra", (Name(frame.end),)
            frame.returns_early = True
        self._body.append(copied)

    def _call(self, frame: _Frame, item: Instruction) -> None:
        """Appends a call with the function that it calls."""
        call = frame.summary.calls[item]
        callee = call.callee
        self._copies += 1
        end = f"return#{self._copies}"
        returns = tuple(map(frame.operand, call.returns))
        arguments = tuple(map(frame.operand, call.arguments))
        copied = replace(item, guard=frame.guard(item), calls=frame.calls)
        if copied.guard is not None:
            skips = Guard(copied.guard.register, not copied.guard.negated)
            branch = replace(copied, opcode="bra", operands=(Name(end),), guard=skips)
            self._body.append(branch)
        if callee.body is None:
            given = (Vector(returns), Vector(arguments))
            opcode = f"call.{callee.name}"
            self._body.append(replace(copied, opcode=opcode, operands=given, guard=None))
            self._label(end, item, copied.guard is not None)
            return
        if copied.guard is None:
            self._body.append(replace(copied, opcode=ENTER, operands=()))
        inner = _Frame(
            callee,
            self.graph.summary(callee),
            self._registers_of(callee),
            mark=f"#{self._copies}",
            end=end,
            calls=(item, *frame.calls),
        )
        passing = _Passing(self, frame, inner, replace(copied, guard=None))
        passing.arguments(call.arguments, arguments)
        behind = passing.returns(call.returns, returns)
        self.copy(inner)
        skipped = copied.guard is not None
        if inner.returns_early and not skipped:
            self._label(end, item, True)
        self._body += behind
        self._label(end, item, skipped)

    def _label(self, name: str, item: Instruction, wanted: bool) -> None:
        """Appends a label, where a branch goes to it."""
        if wanted:
            self._body.append(Label(name, item.line))

    def _registers_of(self, callee: Function) -> dict[Register, Register]:
        """Returns the registers of a function in this entry."""
        known = self._registers.get(callee.name)
        if known is None:
            known = {r: self.register(f"{callee.name}:{r.name}", r.type) for r in callee.registers}
            self._registers[callee.name] = known
            self.result.variables += callee.variables
        return known

    def register(self, name: str, type: str) -> Register:
        """Returns a new register of the entry."""
        register = Register(name, type, len(self.result.registers))
        self.result.registers.append(register)
        return register

    def variable(self, like: Variable) -> Variable:
        """Returns a new parameter variable."""
        variable = replace(like)
        self.result.variables.append(variable)
        return variable

    def append(self, instruction: Instruction) -> None:
        """Appends an instruction of the result."""
        self._body.append(instruction)


class _Passing:
    """Hands the operands of one call over to the parameters of the function."""

    def __init__(self, inliner: _Inliner, outer: _Frame, inner: _Frame, call: Instruction) -> None:
        self._inliner = inliner
        self._outer = outer
        self._inner = inner
        self._call = call

    def arguments(self, written: tuple[Operand, ...], given: tuple[Operand, ...]) -> None:
        """Appends what hands the arguments over."""
        for formal, original, actual in zip(
            self._inner.function.params, written, given, strict=True
        ):
            if isinstance(actual, SymbolAddress) and actual.variable.space == "param":
                if self._shared(formal, original, actual.variable, argument=True):
                    continue
                moves = self._copied(actual.variable, self._home(formal))
            else:
                moves = [self._stored(formal, actual)]
            for move in moves:
                self._inliner.append(move)

    def returns(
        self, written: tuple[Operand, ...], given: tuple[Operand, ...]
    ) -> list[Instruction]:
        """Returns what hands the return values over, behind the function."""
        behind: list[Instruction] = []
        for formal, original, actual in zip(
            self._inner.function.returns, written, given, strict=True
        ):
            if isinstance(actual, SymbolAddress) and actual.variable.space == "param":
                if not self._shared(formal, original, actual.variable, argument=False):
                    behind += self._copied(self._home(formal), actual.variable)
            else:
                behind.append(self._loaded(formal, actual))
        return behind

    def _shared(
        self, formal: Variable, original: Operand, actual: Variable, argument: bool
    ) -> bool:
        """Makes a call's variable the function's parameter, where nobody could tell."""
        if actual.size != formal.size and formal.space == "param":
            name = self._inner.function.name
            message = (
                f"gives {name} {actual.name} of {actual.size} bytes for {formal.name} "
                f"of {formal.size} bytes"
            )
            raise refused(self._call, message)
        if formal.space == "reg" or not isinstance(original, SymbolAddress):
            return False
        if formal in self._inner.summary.addressed:
            return False
        if not self._outer.alone(original.variable, argument):
            return False
        self._inner.variables[formal] = actual
        return True

    def _home(self, formal: Variable) -> Variable | Register:
        """Returns the place of a parameter that is not shared with the call."""
        if formal.space == "reg":
            registers = self._inner.registers or {}
            return registers[self._inner.function.formals[formal]]
        home = self._inner.variables[formal] = self._inliner.variable(formal)
        return home

    def _copied(
        self, source: Variable | Register, target: Variable | Register
    ) -> list[Instruction]:
        """Returns what copies a parameter, piece by piece."""
        if isinstance(source, Register) and isinstance(target, Variable):
            return [self._move(f"st.param.{_scalar(source.type)}", Address(target), source)]
        if isinstance(source, Variable) and isinstance(target, Register):
            return [self._move(f"ld.param.{_scalar(target.type)}", target, Address(source))]
        assert isinstance(source, Variable)
        assert isinstance(target, Variable)
        moves: list[Instruction] = []
        offset = 0
        while offset < target.size:
            size = min(8, source.align, target.align)
            while offset % size or offset + size > target.size:
                size //= 2
            register = self._inliner.register(f"{source.name}+{offset}", f"b{8 * size}")
            moves.append(self._move(f"ld.param.b{8 * size}", register, Address(source, offset)))
            moves.append(self._move(f"st.param.b{8 * size}", Address(target, offset), register))
            offset += size
        return moves

    def _stored(self, formal: Variable, actual: Operand) -> Instruction:
        """Returns what gives a register or constant to a parameter."""
        if not isinstance(actual, Register | Immediate):
            raise refused(self._call, f"can't give {formal.name} {shown(actual)}")
        type = _scalar(formal.type)
        home = self._home(formal)
        if isinstance(home, Register):
            return self._move(f"mov.{type}", home, actual)
        return self._move(f"st.param.{type}", Address(home), actual)

    def _loaded(self, formal: Variable, actual: Operand) -> Instruction:
        """Returns what gives a return value to a register."""
        taken = isinstance(actual, Register) or actual == Name("_")
        if not taken:
            raise refused(self._call, f"can't take {formal.name} in {shown(actual)}")
        type = _scalar(formal.type)
        home = self._home(formal)
        if isinstance(home, Register):
            return self._move(f"mov.{type}", actual, home)
        return self._move(f"ld.param.{type}", actual, Address(home))

    def _move(self, opcode: str, *operands: Operand) -> Instruction:
        """Returns an instruction in the place of the call."""
        return replace(self._call, opcode=opcode, operands=operands)


def _scalar(type: str) -> str:
    """Returns the type that moves a value of a type."""
    return type if type in ("pred", "f32", "f64") else f"b{BITS[type]}"
