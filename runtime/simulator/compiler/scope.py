"""The names of a function that is compiled: registers, launch-time values, constants."""

from typing import Any

from ..ptx.syntax import Function, Module
from ..scalars import NUMPY
from .layout import Layout
from .passing import pass_parameters

_CANONICAL = {"i1": "u1", "i2": "u2", "i4": "u4", "i8": "u8"}


class FunctionScope:
    """What the blocks of a function share while it is compiled."""

    def __init__(self, module: Module, function: Function) -> None:
        self.module = module
        self.function = function
        self.passed = pass_parameters(function)
        self.layout = Layout(function, self.passed)
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
