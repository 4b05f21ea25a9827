"""Names, scopes and dtypes: what has to hold for a program to say anything."""

from collections.abc import Iterable, Iterator
from itertools import chain

from ..sym import Expression
from .defects import ProgramError
from .program import (
    Block,
    Body,
    Buffer,
    Call,
    Guard,
    Loop,
    Program,
    Region,
    Statement,
    Store,
    walk,
)
from .scalars import Index, Load, Scalar, Subscript, Variable, walk_scalar


def check_well_formed(program: Program) -> None:
    """Raises ProgramError unless names are unique and visible, and accesses fit their buffers."""
    _Checker(program).check()


def has_blocks(program: Program) -> bool:
    """Whether a program has blocks; `lower-blocks` leaves none."""
    return any(isinstance(statement, Block) for statement in walk(program.body))


class _Checker:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.symbols = frozenset(program.ranges)
        self.buffers = program.buffers
        self.variables = {
            entry.name: entry.dtype for entry in program.parameters if not isinstance(entry, Buffer)
        }
        self.needs_block = has_blocks(program)

    def check(self) -> None:
        self._parameters()
        self._names()
        self._body(self.program.body, self.symbols, self.symbols, "", in_block=False)

    def _parameters(self) -> None:
        program = self.program
        entries = (*program.parameters, *program.allocations)
        for name in _repeated(entry.name for entry in entries):
            raise ProgramError(f"expects one buffer or number '{name}', got two", condition="names")
        for buffer in self.buffers.values():
            strides = buffer.strides or ()
            for extent in (*buffer.shape, *strides):
                self._visible(extent, self.symbols, "", f"the shape of '{buffer.name}'")
        if unknown := program.outputs - self.buffers.keys():
            raise ProgramError(
                f"expects outputs among {', '.join(self.buffers)}, got '{min(unknown)}'",
                condition="names",
            )
        for buffer in program.allocations:
            if buffer.place is not None and program.loop(buffer.place) is None:
                raise ProgramError(
                    f"expects '{buffer.name}' to be allocated in a loop, got '{buffer.place}'",
                    condition="names",
                )

    def _names(self) -> None:
        named = [part for part in walk(self.program.body) if isinstance(part, Loop | Block)]
        for name in _repeated(chain(self.symbols, (part.name for part in named))):
            raise ProgramError(
                f"expects a name of its own, got '{name}' for two loops, blocks or symbols",
                place=name,
                condition="names",
            )
        taken = self.symbols.union(part.name for part in named)
        for part in named:
            if isinstance(part, Block):
                axes = [axis.name for axis in part.axes]
                for name in chain(_repeated(axes), taken.intersection(axes)):
                    raise ProgramError(
                        f"expects axes with names of their own, got '{name}'",
                        place=part.name,
                        condition="names",
                    )

    def _body(
        self,
        body: Body,
        visible: frozenset[str],
        axes: frozenset[str],
        place: str,
        *,
        in_block: bool,
    ) -> None:
        """What is `visible` may be named here; of that, `axes` inside of blocks too."""
        for statement in body:
            match statement:
                case Loop(name, extent, inner):
                    self._visible(extent, visible, name, "its extent")
                    self._body(inner, visible | {name}, axes, name, in_block=in_block)
                case Block():
                    self._block(statement, visible, axes)
                case Guard(condition, inner):
                    self._scalar(condition, "i1", visible, place, "its condition")
                    self._body(inner, visible, axes, place, in_block=in_block)
                case Store() | Call():
                    if self.needs_block and not in_block:
                        raise ProgramError(
                            f"expects {_what(statement)} to stand in a block",
                            place=place,
                            condition="in-block",
                        )
                    self._access(statement, visible, place)

    def _block(self, block: Block, visible: frozenset[str], axes: frozenset[str]) -> None:
        place = block.name
        own = frozenset(axis.name for axis in block.axes)
        if shadowed := own & axes:
            raise ProgramError(
                f"expects axes with names of their own, got '{min(shadowed)}' of a block around it",
                place=place,
                condition="names",
            )
        for axis in block.axes:
            self._visible(axis.extent, axes, place, f"the extent of '{axis.name}'")
            self._visible(axis.binding, visible, place, f"the binding of '{axis.name}'")
        for bound in block.predicate:
            self._visible(bound.left - bound.right, visible, place, "its predicate")
        inside = axes | own
        for region in (*block.reads, *block.writes):
            self._region(region, inside, place)
        self._body(block.init, inside, inside, place, in_block=True)
        self._body(block.body, inside, inside, place, in_block=True)

    def _access(self, statement: Statement, visible: frozenset[str], place: str) -> None:
        if isinstance(statement, Store):
            buffer = self._indexed(statement.buffer, statement.indices, visible, place)
            what = f"the value stored to '{buffer.name}'"
            self._scalar(statement.value, buffer.dtype, visible, place, what)
        elif isinstance(statement, Call):
            for operand in statement.operands:
                self._region(operand.region, visible, place)

    def _indexed(
        self, name: str, indices: tuple[Subscript, ...], visible: frozenset[str], place: str
    ) -> Buffer:
        buffer = self._buffer(name, len(indices), "indices", place)
        for index in indices:
            if isinstance(index, Expression):
                self._visible(index, visible, place, f"an index of '{name}'")
            else:
                self._scalar(index, "index", visible, place, f"an index of '{name}'")
        return buffer

    def _buffer(self, name: str, rank: int, what: str, place: str) -> Buffer:
        if (buffer := self.buffers.get(name)) is None:
            raise ProgramError(
                f"expects a buffer among {', '.join(self.buffers)}, got '{name}'",
                place=place,
                condition="names",
            )
        if rank != len(buffer.shape):
            raise ProgramError(
                f"expects {len(buffer.shape)} {what} of '{name}', got {rank}",
                place=place,
                condition="rank",
            )
        return buffer

    def _region(self, region: Region, visible: frozenset[str], place: str) -> None:
        self._buffer(region.buffer, len(region.ranges), "ranges", place)
        for part in region.ranges:
            self._visible(part.start, visible, place, f"a region of '{region.buffer}'")
            self._visible(part.extent, visible, place, f"a region of '{region.buffer}'")

    def _scalar(
        self, scalar: Scalar, dtype: str, visible: frozenset[str], place: str, what: str
    ) -> None:
        if scalar.dtype != dtype:
            raise ProgramError(
                f"expects {what} to be of dtype {dtype}, got {scalar.dtype}",
                place=place,
                condition="dtype",
            )
        for node in walk_scalar(scalar):
            match node:
                case Load(name, indices):
                    buffer = self._buffer(name, len(indices), "indices", place)
                    for index in indices:
                        if isinstance(index, Expression):
                            self._visible(index, visible, place, f"an index of '{name}'")
                    self._same_dtype(node, buffer.dtype, place)
                case Index(expression):
                    self._visible(expression, visible, place, "an index")
                case Variable(name):
                    if name not in self.variables:
                        raise ProgramError(
                            f"expects a number that is a parameter, got '{name}'",
                            place=place,
                            condition="names",
                        )
                    self._same_dtype(node, self.variables[name], place)
                case _:
                    pass

    def _same_dtype(self, node: "Load | Variable", dtype: str, place: str) -> None:
        if node.dtype != dtype:
            name = node.buffer if isinstance(node, Load) else node.name
            raise ProgramError(
                f"expects '{name}' to be of dtype {dtype}, got {node.dtype}",
                place=place,
                condition="dtype",
            )

    def _visible(self, value: Expression, visible: frozenset[str], place: str, what: str) -> None:
        names = value.symbols()
        if not names <= visible:
            known = ", ".join(sorted(visible)) or "nothing"
            raise ProgramError(
                f"expects {what} to name {known}, got '{min(names - visible)}'",
                place=place,
                condition="scope",
            )


def _what(statement: Store | Call) -> str:
    if isinstance(statement, Store):
        return f"a store to '{statement.buffer}'"
    return f"a call of '{statement.intrinsic}'"


def _repeated(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
