"""What a workload is: a program, what it computes in f64, and random inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ...dialects.nest.program import Buffer, Program
from ...dialects.sym import Expression, Ranges, parse_expression
from ..arguments import check_ranges, random_array
from ..arithmetic import Array, decode, encode
from ..builder import Extent
from ..values import index_expression

Reference: TypeAlias = Callable[[Mapping[str, Array]], dict[str, Array]]
Symbols: TypeAlias = Mapping[str, int]
RangesLike: TypeAlias = Ranges | str
NO_SYMBOLS: Symbols = {}


def extent(value: Extent) -> Expression:
    """Returns an extent that is a number, a symbol's name or text as an expression."""
    return parse_expression(value) if isinstance(value, str) else index_expression(value)


@dataclass(frozen=True)
class Workload:
    """
    A program with a reference: a function from inputs in f64 to the outputs in f64.

    The reference is written in another way than the program, with NumPy's own operations. Integer
    inputs come as i64.
    """

    program: Program
    reference: Reference

    @property
    def inputs(self) -> tuple[Buffer, ...]:
        """The buffers that are read only."""
        return tuple(
            p
            for p in self.program.parameters
            if isinstance(p, Buffer) and p.name not in self.program.outputs
        )

    def arguments(
        self, generator: np.random.Generator, symbols: Symbols = NO_SYMBOLS
    ) -> dict[str, Array]:
        """
        Returns an array for each buffer: random inputs without zeros, outputs that hold no number.

        `symbols` are values for all symbols of the program.
        """
        check_ranges(self.program.ranges, symbols)
        arrays: dict[str, Array] = {}
        for buffer in self.program.parameters:
            if isinstance(buffer, Buffer):
                shape = tuple(size.evaluate(symbols) for size in buffer.shape)
                if buffer.name in self.program.outputs:
                    arrays[buffer.name] = unwritten(shape, buffer.dtype)
                else:
                    arrays[buffer.name] = random_array(generator, shape, buffer.dtype)
        return arrays

    def expected(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs in f64, or i64, of arrays as they are passed to the program."""
        wide: dict[str, Array] = {}
        for buffer in self.inputs:
            values = decode(arrays[buffer.name], buffer.dtype)
            wide[buffer.name] = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
        return self.reference(wide)


def unwritten(shape: tuple[int, ...], dtype: str) -> Array:
    """Returns elements that no program computes by chance: NaN, or 85 for integers."""
    if dtype.startswith(("f", "bf")):
        return encode(np.full(shape, np.nan, np.float32), dtype)
    return encode(np.full(shape, 85), dtype)
