"""
Writes block functions that tell an observer of each instruction.

A kernel that is profiled or traced is compiled once more with this emitter, so that a launch
without an observer runs the same code as ever.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ..errors import PTXError
from ..profile.block_accesses import Access, block_access
from ..ptx.syntax import (
    Address,
    Immediate,
    Instruction,
    Operand,
    Register,
    registers_of,
)
from ..scalars import BITS, Lanes, size_of
from .emitter import BlockEmitter

_VECTORS = {"v2": 2, "v4": 4, "v8": 8}
_SPACES = ("global", "const", "shared", "shared::cta", "param", "local")


class Observer(Protocol):
    """What is told of each instruction; `group` is the lanes that run it."""

    @property
    def wants_values(self) -> bool:
        """Says whether `after` is called, with the registers that an instruction names."""
        ...

    def before(self, group: Any, site: Any, guard: Lanes, addresses: tuple[Lanes, ...]) -> None:
        """Is called before an instruction; the Accesses in `site.extra` share out `addresses`."""
        ...

    def after(self, group: Any, site: Any, guard: Lanes, values: tuple[Lanes, ...]) -> None:
        """Is called after an instruction; `site.extra` holds a Register a value."""
        ...


def observe_before(group: Any, site: Any, guard: Lanes, addresses: tuple[Lanes, ...]) -> None:
    """Tells the launch's observer of an instruction that is about to run."""
    group.machine.launch.observer.before(group, site, guard, addresses)


def observe_after(group: Any, site: Any, guard: Lanes, values: tuple[Lanes, ...]) -> None:
    """Tells the launch's observer of an instruction that has run."""
    group.machine.launch.observer.after(group, site, guard, values)


class CountingEmitter(BlockEmitter):
    """Tells the observer before each instruction, with the addresses it accesses."""

    def _emit(self, instruction: Instruction) -> None:
        """Emits an instruction behind the call of the observer."""
        self.instruction = instruction
        self.guard = None
        accesses: list[Access] = []
        names: list[str] = []
        try:
            for operand, space, size in _accesses(instruction):
                name, offset = self.address(operand)
                accesses.append(Access(space, offset, size, lanes=_lanes(instruction)))
                names.append(name)
            if (block := block_access(self, instruction)) is not None:
                accesses.append(block[0])
                names += block[1]
        except PTXError:
            accesses, names = [], []  # the table row refuses it as well, and says why
        self._tell(observe_before, names, tuple(accesses))
        super()._emit(instruction)

    def _tell(self, function: Callable[..., None], names: list[str], extra: Any) -> None:
        """Emits the call of the observer."""
        guard = "None"
        if self.instruction is not None and self.instruction.guard is not None:
            asked = self.instruction.guard
            guard = self.view(self.value(asked.register), "?")
            guard = self.inverse(guard) if asked.negated else guard
        given = "".join(f"{name}, " for name in names)
        site = self.site(extra=extra)
        self.lines.append(f"{self.use(function)}(g, {site}, {guard}, ({given}))")


class TracingEmitter(CountingEmitter):
    """Tells the observer after each instruction too, with the registers that it names."""

    def _emit(self, instruction: Instruction) -> None:
        """Emits an instruction between calls of the observer."""
        super()._emit(instruction)
        found = dict.fromkeys(_registers(instruction))
        names = [self.view(self.value(register), self._code(register)) for register in found]
        self._tell(observe_after, names, tuple(found))

    def _code(self, register: Register) -> str:
        """Returns the dtype code in which a register is shown."""
        if register.type in ("f32", "f64", "pred"):
            return {"f32": "f4", "f64": "f8", "pred": "?"}[register.type]
        code = "i" if register.type[0] == "s" else "u"
        return "c16" if BITS[register.type] == 128 else f"{code}{BITS[register.type] // 8}"


def _accesses(instruction: Instruction) -> Iterator[tuple[Operand, str, int]]:
    """Yields the addresses of loads, stores, atomics and copies with their space and size."""
    head, *parts = instruction.opcode.split(".")
    addresses = [o for o in instruction.operands if isinstance(o, Address) and not o.coordinates]
    space = next((part.partition("::")[0] for part in parts if part in _SPACES), "")
    if head in ("ldmatrix", "stmatrix"):
        yield from ((address, "shared", 16) for address in addresses)
    elif head in ("ld", "ldu", "st", "atom", "red") and space not in ("param", "local"):
        count = next((_VECTORS[part] for part in parts if part in _VECTORS), 1)
        if parts and parts[-1] in BITS:
            yield from ((address, space, size_of(parts[-1]) * count) for address in addresses)
    elif instruction.opcode.startswith("cp.async.c") and len(instruction.operands) > 2:
        size = instruction.operands[2]
        if isinstance(size, Immediate):
            for address, side in zip(addresses, ("shared", "global"), strict=False):
                yield address, side, size.value


def _lanes(instruction: Instruction) -> int:
    """Returns how many lanes of a warp give addresses that count."""
    parts = instruction.opcode.split(".")
    if parts[0] not in ("ldmatrix", "stmatrix"):
        return 32
    return 8 * next((int(part[1]) for part in parts if part in ("x1", "x2", "x4")), 4)


def _registers(instruction: Instruction) -> Iterator[Register]:
    """Yields the registers that an instruction names."""
    if instruction.guard is not None:
        yield instruction.guard.register
    for operand in instruction.operands:
        yield from registers_of(operand)
