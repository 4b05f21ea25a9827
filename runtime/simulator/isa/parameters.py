"""
Loads and stores of .param space by name (PTX ISA, "Parameter State Space").

A kernel's parameters are launch-time constants. Those of inlined functions are registers, or
lie in local memory where their address is taken or accesses don't agree on their pieces.
"""

from typing import TYPE_CHECKING

from ..ptx.syntax import Address, Operand, Register, Variable
from ..scalars import BITS, DTYPES, size_of

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter


def _checked(b: "BlockEmitter", source: Address, variable: Variable, size: int, count: int) -> None:
    """Raises for an access that lies outside its parameter or is misaligned."""
    if source.offset < 0 or source.offset + size * count > variable.size or source.offset % size:
        raise b.error(f"accesses outside parameter {variable.name} or misaligned")


def in_memory(b: "BlockEmitter", operand: Operand) -> bool:
    """Says whether an address names a parameter that lies in local memory."""
    return isinstance(operand, Address) and operand.base in b.scope.passed.memory


def load_parameter(
    b: "BlockEmitter", source: Operand, items: tuple[Operand, ...], type: str
) -> bool:
    """Emits a load of a parameter that isn't in memory; says whether it is one."""
    if not isinstance(source, Address) or not isinstance(source.base, Variable):
        return False
    variable, size = source.base, size_of(type)
    _checked(b, source, variable, size, len(items))
    if variable in b.scope.passed.memory:
        return False
    pieces = b.scope.passed.registers.get(variable)
    place = b.scope.layout.offset(variable)
    if pieces is None and place is None:
        raise b.error(f"reads {variable.name}, which is no parameter of this kernel")
    for number, item in enumerate(items):
        offset = source.offset + number * size
        if pieces is not None:
            _move(b, item, pieces[offset], type)
            continue
        code = DTYPES[type]
        key = f"{(place or 0) + offset}:{code}"
        b.write(item, type, b.launch_value("param", key, code), wide=True)
    return True


def store_parameter(
    b: "BlockEmitter", target: Operand, items: tuple[Operand, ...], type: str
) -> bool:
    """Emits a store to a parameter of a call; says whether it is in registers."""
    variable = target.base if isinstance(target, Address) else None
    if not isinstance(target, Address) or not isinstance(variable, Variable):
        raise b.error("stores to .param at an address in a register: not covered")
    _checked(b, target, variable, size_of(type), len(items))
    if variable in b.scope.passed.memory:
        return False
    pieces = b.scope.passed.registers.get(variable)
    if pieces is None:
        raise b.error(f"can't store to {variable.name}, a parameter of the kernel")
    for number, item in enumerate(items):
        _move(b, pieces[target.offset + number * size_of(type)], item, type)
    return True


def _move(b: "BlockEmitter", target: Operand, source: Operand, type: str) -> None:
    """Emits a move between a piece of a parameter and what a load or store names."""
    if isinstance(target, Register) and isinstance(source, Register):
        if BITS[target.type] == BITS[source.type] == BITS[type]:
            b.alias(target, source, type)
            return
    b.write(target, type, b.read(source, type, wide=True), wide=True)
