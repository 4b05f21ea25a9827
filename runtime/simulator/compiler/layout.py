"""Places the shared, local and parameter variables of one function."""

from collections.abc import Iterator

from ..ptx.syntax import Address, Function, Instruction, Operand, SymbolAddress, Variable, Vector
from .passing import Passed


def _align(offset: int, align: int) -> int:
    """Returns the next multiple of a power of two."""
    return (offset + align - 1) & -align


def _variables(operand: Operand) -> Iterator[Variable]:
    """Yields the variables that an operand names."""
    if isinstance(operand, SymbolAddress):
        yield operand.variable
    elif isinstance(operand, Address):
        if isinstance(operand.base, Variable):
            yield operand.base
    elif isinstance(operand, Vector):
        for item in operand.items:
            yield from _variables(item)


class Layout:
    """
    Where the variables of a function lie, in bytes from the start of their space.

    Static shared variables come first, in text order; all `.extern .shared` ones begin together
    behind them. Parameters lie as the ABI has them: in order, each at its alignment. Those of
    inlined functions that need memory lie in local memory.
    """

    def __init__(self, function: Function, passed: Passed) -> None:
        self._offsets: dict[Variable, int] = {}
        self._in_memory = passed.memory
        self.names: dict[str, list[tuple[int, int, str]]] = {"shared": [], "local": []}
        used = dict.fromkeys(
            variable
            for item in function.body or ()
            if isinstance(item, Instruction)
            for operand in item.operands
            for variable in _variables(operand)
        )
        self.params = self._place(function.params)
        shared = [v for v in used if v.space == "shared"]
        self.shared = self._place([v for v in shared if not v.extern])
        dynamic = [v for v in shared if v.extern]
        start = _align(self.shared, max([v.align for v in dynamic], default=16))
        self.dynamic = start
        self.has_dynamic = bool(dynamic)
        for variable in dynamic:
            self._offsets[variable] = start
        local = [v for v in used if v.space == "local" or v in passed.memory]
        self.local = _align(self._place(local), 16)
        self.globals = [v for v in used if v.space in ("global", "const")]

    def _place(self, variables: list[Variable]) -> int:
        """Places variables one after the other; returns the end."""
        end = 0
        for variable in variables:
            start = _align(end, variable.align)
            self._offsets[variable] = start
            end = start + variable.size
            space = "local" if variable in self._in_memory else variable.space
            if space in self.names:
                self.names[space].append((start, end, variable.name))
        return end

    def name_at(self, space: str, offset: int) -> str:
        """Returns the name of the variable of shared or local memory at or near an offset."""
        near = ""
        for start, end, name in self.names[space]:
            if start <= offset < end:
                return name
            near = f"memory behind {name}" if start <= offset else near
        dynamic = space == "shared" and self.has_dynamic and offset >= self.dynamic
        return "dynamic shared memory" if dynamic else near

    def offset(self, variable: Variable) -> int | None:
        """Returns where a variable lies in its space, None for global and constant ones."""
        return self._offsets.get(variable)
