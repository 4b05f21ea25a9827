"""The names of SSA values: loops and axes are printed under their own names, others beside them."""

from abc import abstractmethod
from collections.abc import Sequence

from xdsl.ir import Block, Operation, OpResult, SSAValue
from xdsl.irdl import IRDLOperation
from xdsl.printer import Printer

from .types import BufferType


class IndexScopeOp(IRDLOperation):
    """An op whose region has indices as arguments: a loop or a block."""

    @property
    @abstractmethod
    def index_names(self) -> Sequence[str]:
        """The names of the arguments of the region."""


def index_name(value: SSAValue) -> str | None:
    """Returns the name of the loop or axis whose index a value is, None for other values."""
    if isinstance(value, OpResult) or not isinstance(value.owner, Block):
        return None
    around = value.owner.parent_op()
    if not isinstance(around, IndexScopeOp):
        return None
    names = around.index_names
    position = value.owner.args.index(value)
    return names[position] if position < len(names) else None


def name_values(printer: Printer, function: Operation, buffers: Sequence[tuple[SSAValue, str]]):
    """
    Settles how the values of a function are printed.

    Loops and axes have their own names, which expressions use. Buffers and other values have
    theirs, with a number behind it where it is taken.
    """
    settled = printer._ssa_values  # pyright: ignore[reportPrivateUsage]
    others: list[tuple[SSAValue, str | None]] = list(buffers)
    taken: set[str] = set()
    for op in function.walk():
        if isinstance(op, IndexScopeOp):
            for region in op.regions:
                for argument in region.block.args:
                    name = index_name(argument)
                    if name is not None:
                        settled[argument] = name
                        taken.add(name)
        elif not any(isinstance(result.type, BufferType) for result in op.results):
            others += [(result, result.name_hint) for result in op.results]
    numbers: dict[str, int] = {}
    for value, hint in others:
        settled[value] = _free(hint, taken, numbers)
        taken.add(settled[value])


def _free(hint: str | None, taken: set[str], numbers: dict[str, int]) -> str:
    key = hint or ""
    name = hint or "0"
    while name in taken:
        numbers[key] = numbers.get(key, 0) + 1
        name = f"{hint}_{numbers[key]}" if hint else str(numbers[key])
    return name
