"""Decides where the parameters of inlined functions live: in registers, or in local memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..ptx.syntax import (
    Address,
    Function,
    Instruction,
    Operand,
    Pair,
    Register,
    SymbolAddress,
    Variable,
    Vector,
)
from ..scalars import BITS
from .call_graph import is_call

_VECTORS = {"v2": 2, "v4": 4, "v8": 8}
_SIZES = (1, 2, 4, 8)


@dataclass(eq=False, slots=True)
class Passed:
    """
    The parameters of calls in a function whose calls are inlined.

    `registers` holds those of which every access names the same pieces, each a register by its
    offset in bytes; `memory` the others, which get a place in local memory.
    """

    registers: dict[Variable, dict[int, Register]] = field(
        default_factory=dict[Variable, dict[int, Register]]
    )
    memory: set[Variable] = field(default_factory=set[Variable])


def pass_parameters(function: Function) -> Passed:
    """Returns where the parameters of calls live; adds their registers to the function."""
    passed = Passed()
    candidates = {v for v in function.variables if v.space == "param"}
    if not candidates:
        return passed
    pieces: dict[Variable, dict[int, int]] = {v: {} for v in candidates}
    for item in function.body or ():
        if not isinstance(item, Instruction):
            continue
        for variable, accesses in _accesses(item):
            if variable not in candidates:
                continue
            if accesses is None or not _join(pieces[variable], accesses, variable):
                candidates.discard(variable)
                passed.memory.add(variable)
    for variable in candidates:
        passed.registers[variable] = {
            offset: _register(function, f"{variable.name}+{offset}", 8 * size)
            for offset, size in pieces[variable].items()
        }
    return passed


def _register(function: Function, name: str, bits: int) -> Register:
    """Adds a register to a function."""
    register = Register(name, f"b{bits}", len(function.registers))
    function.registers.append(register)
    return register


def _join(pieces: dict[int, int], accesses: list[tuple[int, int]], variable: Variable) -> bool:
    """Adds accesses (offset, size) to the pieces; says whether they still part the variable."""
    for offset, size in accesses:
        if pieces.get(offset) == size:
            continue
        inside = 0 <= offset and offset + size <= variable.size and offset % size == 0
        if not inside or size not in _SIZES:
            return False
        if any(offset < at + n and at < offset + size for at, n in pieces.items()):
            return False
        pieces[offset] = size
    return True


def _accesses(item: Instruction) -> Iterator[tuple[Variable, list[tuple[int, int]] | None]]:
    """Yields the parameters that an instruction names with the bytes that it accesses."""
    plain = item.opcode.startswith(("ld.param", "st.param"))
    called = is_call(item)
    for operand in item.operands:
        for inner in _inside(operand):
            if isinstance(inner, SymbolAddress):
                variable = inner.variable
                yield variable, [(0, variable.size)] if called and not inner.offset else None
            elif isinstance(inner.base, Variable):
                yield inner.base, _pieces(item.opcode, inner) if plain else None


def _inside(operand: Operand) -> Iterator[Address | SymbolAddress]:
    """Yields the addresses in an operand."""
    match operand:
        case Address() | SymbolAddress():
            yield operand
        case Vector(items):
            for item in items:
                yield from _inside(item)
        case Pair(first, second):
            yield from _inside(first)
            yield from _inside(second)
        case _:
            pass


def _pieces(opcode: str, address: Address) -> list[tuple[int, int]] | None:
    """Returns offset and size of each element of an access; None where the type has none."""
    *parts, type = opcode.split(".")
    size = BITS.get(type, 0) // 8
    if not size:
        return None
    count = next((_VECTORS[part] for part in parts if part in _VECTORS), 1)
    return [(address.offset + number * size, size) for number in range(count)]
