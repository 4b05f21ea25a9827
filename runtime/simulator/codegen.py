"""Turns a PTX function into a program: its blocks as Python source, compiled once."""

from collections.abc import Iterable
from typing import Any

from .blocks import cut, liveness
from .emitter import BlockEmitter
from .errors import PTXError
from .layout import Layout
from .program import Program
from .scalars import NUMPY
from .syntax import Function, Module

_CANONICAL = {"i1": "u1", "i2": "u2", "i4": "u4", "i8": "u8"}


class FunctionCompiler:
    """Compiles one function; holds what its blocks share."""

    def __init__(self, module: Module, function: Function) -> None:
        self.module = module
        self.function = function
        self.layout = Layout(function)
        self.codes: dict[int, str] = {}
        self.pseudo: dict[tuple[str, str], int] = {}
        self.globals: dict[str, Any] = {name: kind for name, kind in NUMPY.items() if name != "?"}
        self.globals["bool_"] = NUMPY["?"]
        self._constants: dict[tuple[str, int], str] = {}

    def code_of(self, index: int, wanted: str) -> str:
        """Returns the dtype in which the register file keeps a register: the first one used."""
        return self.codes.setdefault(index, _CANONICAL.get(wanted, wanted))

    def pseudo_register(self, kind: str, key: str, code: str) -> int:
        """Returns the index of a launch-time value such as %tid.x or a parameter."""
        index = self.pseudo.get((kind, key))
        if index is None:
            index = len(self.function.registers) + len(self.pseudo)
            self.pseudo[kind, key] = index
            self.codes[index] = code
        return index

    def constant(self, code: str, bits: int) -> str:
        """Returns the name of a NumPy scalar with these bits."""
        name = self._constants.get((code, bits))
        if name is None:
            name = f"k{len(self._constants)}"
            self._constants[code, bits] = name
            kind = NUMPY[code]
            size = 1 if code == "?" else int(code[1:])
            unsigned = NUMPY["u1" if code == "?" else f"u{size}"]
            self.globals[name] = kind(bits) if code == "?" else unsigned(bits).view(kind)
        return name

    def compile(self) -> Program:
        """Returns the program; raises PTXError that lists everything that isn't covered."""
        blocks = cut(self.function)
        emitters = [BlockEmitter(self, block) for block in blocks]
        problems: list[PTXError] = []
        for emitter in emitters:
            problems.extend(emitter.emit())
        if problems:
            raise _together(problems)
        reads = [_bits(emitter.inputs) for emitter in emitters]
        writes = [_bits(emitter.values.keys() - emitter.inputs_only) for emitter in emitters]
        live_in, live_out = liveness(blocks, reads, writes)
        del live_in
        lines: list[str] = []
        for emitter in emitters:
            lines += emitter.finish(live_out[emitter.block.index])
        source = "\n".join(lines)
        namespace = dict(self.globals)
        exec(compile(source, f"<{self.function.name}>", "exec"), namespace)
        compiled = [emitter.result(namespace) for emitter in emitters]
        return Program(
            self.function.name,
            compiled,
            len(self.function.registers) + len(self.pseudo),
            [(code, index) for index, code in self.codes.items()],
            self.pseudo,
            self.layout,
            source,
            self.module,
            self.function,
        )


def _bits(indices: Iterable[int]) -> int:
    """Returns a set of small integers as bits."""
    bits = 0
    for index in indices:
        bits |= 1 << index
    return bits


def _together(problems: list[PTXError]) -> PTXError:
    """Returns one error at the first place that lists all places."""
    first = problems[0]
    if len(problems) == 1:
        return first
    rest = "".join(f"\n  line {p.line}: {p.message}" for p in problems)
    return PTXError(
        f"{len(problems)} instructions are not covered:{rest}", first.line, first.column
    )


def compile_function(module: Module, function: Function) -> Program:
    """Compiles an entry; raises PTXError for what isn't covered."""
    return FunctionCompiler(module, function).compile()
