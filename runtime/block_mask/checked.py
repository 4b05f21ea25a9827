"""What a mask must not do: read outside of a tensor, or leave 32 bits unnoticed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from . import forms
from .evaluation import Parameters, index_error
from .forms import INT32, Boxes, Form
from .geometry import Grid
from .interpretation import Interpreter, Value
from .normal import Node, NormalProgram, normalise
from .program import POSITIONS, MaskProgram
from .tables import Table


@dataclass
class _Checker(Interpreter):
    """Notes which nodes may leave 32 bits; refuses positions that leave the tensor they index."""

    wrapping: set[int] = field(default_factory=set[int])

    def _of_integers(self, node: Node, operands: Sequence[Form], boxes: Boxes) -> Value:
        if node.op == "load":
            self._check_indices(node, operands, boxes)
        value = super()._of_integers(node, operands, boxes)
        if isinstance(value, Form) and node.op != "load":
            lo, hi = forms.bounds(value, boxes)
            if np.min(lo, initial=0) < INT32[0] or np.max(hi, initial=0) > INT32[1]:
                self.wrapping.add(self.program.nodes.index(node))
                return forms.UNKNOWN
        return value

    def _check_indices(self, node: Node, operands: Sequence[Form], boxes: Boxes) -> None:
        name = str(node.value)
        shape = self.tables[name].array.shape
        for number, extent, index in zip(node.operands, shape, operands, strict=True):
            if self.program.nodes[number].op not in POSITIONS:
                continue
            lo, hi = forms.bounds(index, boxes)
            smallest, largest = int(np.min(lo)), int(np.max(hi))
            if smallest < 0 or largest >= extent:
                raise index_error(name, extent, smallest, largest)


def checked_interpreter(program: MaskProgram, parameters: Parameters, grid: Grid) -> Interpreter:
    """
    Returns an interpreter of a mask over the positions of a grid.

    Raises ArgumentError where a position that indexes a tensor is outside of it. Arithmetic that
    may wrap in 32 bits is unknown to the interpreter.
    """
    tables = {name: Table(array) for name, array in parameters.tensors.items()}
    plain = normalise(program, parameters.scalars, take_apart=False)
    wrapping = _wrapping(plain, tables, grid)
    return Interpreter(normalise(program, parameters.scalars, wrapping), tables)


def _wrapping(plain: NormalProgram, tables: dict[str, Table], grid: Grid) -> list[int]:
    boxes = grid.whole()
    if not len(boxes):
        return []
    checker = _Checker(plain, tables)
    checker.values(boxes)
    return [number for number, node in enumerate(plain.results) if node in checker.wrapping]
