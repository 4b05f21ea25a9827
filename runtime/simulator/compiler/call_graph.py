"""Reads the calls of functions and finds what can't be inlined (PTX ISA, "call")."""

from collections import Counter
from dataclasses import dataclass, field

from ..errors import PTXError
from ..ptx.syntax import (
    Address,
    Function,
    Instruction,
    Label,
    Module,
    Name,
    Operand,
    Register,
    SymbolAddress,
    Variable,
    Vector,
    shown,
)

MOST_INSTRUCTIONS = 1 << 15  # of an entry with everything that it calls
MOST_NESTED = 64  # calls inside each other
# What CUDA gives every module: widths in bits of the return value (0 for none) and arguments
# (PTX Writer's Guide to Interoperability, "System Calls").
SYSTEM_CALLS: dict[str, tuple[int, tuple[int, ...]]] = {
    "vprintf": (32, (64, 64)),
    "__assertfail": (0, (64, 64, 32, 64, 64)),
    "malloc": (64, (64,)),
    "free": (0, (64,)),
}


def refused(instruction: Instruction, message: str) -> PTXError:
    """Returns an error at an instruction."""
    where = (instruction.line, instruction.column)
    return PTXError(f"'{instruction.opcode}' {message}", *where)


def is_call(item: Instruction | Label) -> bool:
    """Says whether a statement is a call."""
    return isinstance(item, Instruction) and item.opcode.partition(".")[0] == "call"


@dataclass(eq=False, slots=True)
class Call:
    """A call's callee and operands, their number checked."""

    callee: Function
    returns: tuple[Operand, ...]
    arguments: tuple[Operand, ...]


@dataclass(eq=False, slots=True)
class Summary:
    """
    What inlining asks about a function.

    `uses` counts how often a parameter variable is an operand of calls, `loaded` are those that
    are read, `addressed` those whose address is taken. `labels` are the labels that something
    refers to. `size` counts instructions, those of the functions that are called included.
    """

    size: int = 0
    calls: dict[Instruction, Call] = field(default_factory=dict[Instruction, Call])
    uses: Counter[Variable] = field(default_factory=Counter[Variable])
    loaded: set[Variable] = field(default_factory=set[Variable])
    addressed: set[Variable] = field(default_factory=set[Variable])
    labels: set[str] = field(default_factory=set[str])


class CallGraph:
    """The functions that an entry reaches; checks them as it goes."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._known: dict[str, Summary] = {}
        self._path: list[str] = []

    def summary(self, function: Function) -> Summary:
        """
        Returns what is known of a function.

        Raises PTXError for recursion, for callees that have no body, for calls through pointers,
        and where inlining would exceed the limits.
        """
        known = self._known.get(function.name)
        if known is not None:
            return known
        self._path.append(function.name)
        summary = Summary(labels=set[str]().union(*function.branch_targets.values()))
        for item in function.body or ():
            if isinstance(item, Label):
                continue
            summary.size += 1
            if is_call(item):
                self._add(summary, item)
            elif item.operands:
                _note(summary, item)
        self._path.pop()
        self._known[function.name] = summary
        return summary

    def _add(self, summary: Summary, instruction: Instruction) -> None:
        """Takes a call into the summary of its function."""
        call = self._read(instruction)
        summary.calls[instruction] = call
        for operand in (*call.returns, *call.arguments):
            if isinstance(operand, SymbolAddress):
                summary.uses[operand.variable] += 1
        name = call.callee.name
        if name in self._path:
            cycle = " -> ".join([*self._path[self._path.index(name) :], name])
            raise refused(instruction, f"is recursive ({cycle}): recursion is not covered")
        if len(self._path) > MOST_NESTED:
            raise refused(instruction, f"nests more than {MOST_NESTED} calls: not covered")
        if call.callee.body is None:
            return
        summary.size += self.summary(call.callee).size
        if summary.size > MOST_INSTRUCTIONS:
            message = (
                f"makes {self._path[-1]} {summary.size} instructions long, as calls are inlined; "
                f"the limit is {MOST_INSTRUCTIONS}"
            )
            raise refused(instruction, message)

    def _read(self, instruction: Instruction) -> Call:
        """Returns what a call calls and with what."""
        if instruction.opcode not in ("call", "call.uni"):
            raise refused(instruction, "is not covered by the simulator")
        operands = list(instruction.operands)
        returns: Vector | None = None
        if operands and isinstance(operands[0], Vector):
            returns = operands[0]
            del operands[0]
        if not operands:
            raise refused(instruction, "expects the name of a function")
        target = operands.pop(0)
        if isinstance(target, Register):
            message = f"calls through the register {target}: calls through pointers are not covered"
            raise refused(instruction, message)
        callee = self._module.functions.get(target.text) if isinstance(target, Name) else None
        if callee is None:
            raise refused(instruction, f"expects the name of a function, got {shown(target)}")
        arguments = operands.pop(0) if operands else Vector(())
        if operands or not isinstance(arguments, Vector):
            raise refused(instruction, "expects one list of arguments behind the function")
        call = Call(callee, returns.items if returns else (), arguments.items)
        _check(instruction, call)
        return call


def _note(summary: Summary, item: Instruction) -> None:
    """Takes the labels and parameters that an instruction names into a summary."""
    last = item.operands[-1]
    if isinstance(last, Name) and item.opcode[:2] == "br":
        summary.labels.add(last.text)
    for operand in item.operands:
        if isinstance(operand, SymbolAddress):
            summary.addressed.add(operand.variable)
    if isinstance(last, Address) and isinstance(last.base, Variable):
        summary.loaded.add(last.base)


def _check(instruction: Instruction, call: Call) -> None:
    """Raises for a callee that can't be called so."""
    callee = call.callee
    if callee.entry:
        raise refused(instruction, f"calls the entry {callee.name}: not covered")
    for what, given, wanted in (
        ("return values", call.returns, callee.returns),
        ("arguments", call.arguments, callee.params),
    ):
        if len(given) != len(wanted):
            message = f"gives {callee.name} {len(given)} {what}, expected {len(wanted)}"
            raise refused(instruction, message)
    if callee.body is not None:
        return
    if callee.name not in SYSTEM_CALLS:
        raise refused(instruction, f"calls {callee.name}, which this module does not define")
    width, widths = SYSTEM_CALLS[callee.name]
    found = [8 * variable.size for variable in (*callee.returns, *callee.params)]
    if found != [width, *widths][width == 0 :]:
        raise refused(instruction, f"calls {callee.name}, whose declaration is not CUDA's")
