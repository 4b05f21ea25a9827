"""Pads the axes of a sum of products to multiples, so that tiles of instructions fit."""

from dataclasses import dataclass
from typing import ClassVar

from ...dialects.nest.program import Block, Program, Store
from ...dialects.nest.scalars import Load
from ...dialects.sym import Expression
from .matricize import AxisGroup, Matricize, accesses_by_buffer, characteristic, einsum_difference
from .primitive import Primitive, ScheduleError, place_of


@dataclass(frozen=True)
class PadEinsum(Primitive):
    """
    Pads the axes of a sum of products of two operands to multiples.

        for i in 0..n, k in 0..m                  @A_m: A_m[i, k] = A[i, k] if inside else 0
            @C: C[i] += A[i, k] * B[k]     -->    @B_m: B_m[k] = B[k] if inside else 0
                                                  for i in 0..n', k in 0..m'
                                                      @C: C_m[i] += A_m[i, k] * B_m[k]
                                                  @C_1: C[i] = C_m[i]

    `padding` has a multiple for each axis of the block, in their order; 1 leaves an axis alone. An
    operand that needs no padding is read as it is. `names` are those of the block's loops.

    Legal if `padding` is as long as the block has axes (`rank`) and positive (`positive`), and as
    `Matricize` for the rest: `einsum`, `nest`.
    """

    name: ClassVar[str] = "pad_einsum"

    block: str
    padding: tuple[int, ...]
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the block padded."""
        form = self._form(program)
        try:
            return form.apply(program)
        except ScheduleError as error:
            raise self.refused(error.condition, error.message, error.place, error.cure) from None

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the names of the block's loops after the step."""
        return self._form(program).result_names(program)

    def _form(self, program: Program) -> Matricize:
        """Returns the step that makes a group of each axis."""
        block = self.block_of(program, self.block)
        place = place_of(program.places[self.block])
        if len(self.padding) != len(block.axes):
            raise self.refused(
                "rank",
                f"expected a multiple for each of {len(block.axes)} axes, got {len(self.padding)}",
                place,
            )
        if min(self.padding, default=1) < 1:
            raise self.refused(
                "positive", f"expected multiples from 1, got {min(self.padding)}", place
            )
        if difference := einsum_difference(block):
            raise self.refused("einsum", f"expected a sum of products, got {difference}", place)
        groups = tuple(
            AxisGroup(axis.name.removeprefix("v"), (axis.name,), multiple)
            for axis, multiple in zip(block.axes, self.padding, strict=True)
        )
        return Matricize(self.block, groups, _layouts(block), self.names)


def _layouts(block: Block) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Returns for each operand the axes that index it: in its own order, where these are bare."""
    (store,) = block.body
    if not isinstance(store, Store):
        raise AssertionError("a sum of products is one store")
    return tuple(
        (buffer, tuple(name.removeprefix("v") for name in _order(block, access)))
        for buffer, access in accesses_by_buffer(store).items()
    )


def _order(block: Block, access: Load) -> list[str]:
    bare = [index.symbol_name for index in access.indices if isinstance(index, Expression)]
    names = [axis.name for axis in block.axes if characteristic(axis.name, {"": access})[0]]
    if sorted(name or "" for name in bare) == sorted(names):
        return [name for name in bare if name is not None]
    return names
