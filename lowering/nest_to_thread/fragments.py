"""
How a lane holds its part of a fragment buffer: a vector of tiles, each of some registers.

| tile | registers of a lane   | register e of the tile                                     |
|------|-----------------------|------------------------------------------------------------|
| A    | 4 words of 32 bits    | row g + 8*(e mod 2), 4 bytes from byte 16*(e div 2) + 4t   |
| B    | 2 words of 32 bits    | column g, 4 bytes from byte 16*e + 4t along k              |
| C    | 4 of 32 bits          | row g + 8*(e div 2), column 2t + e mod 2                   |
| C    | 2 words of two f16    | row g + 8*e, columns 2t, 2t + 1                            |

Lane `l` has g = l div 4 and t = l mod 4. Tiles follow each other in the order of the buffer's axes.
Source: PTX ISA, "Matrix Fragments for mma".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from xdsl.dialects.builtin import VectorType, f32, i32
from xdsl.ir import Attribute

from ...dialects.diagnostic import DiagnosticError
from ...dialects.nest.intrinsics import FragmentTile, MatrixRole, intrinsic_named
from ...dialects.nest.program import Buffer, Call, Program, Region, Scope, walk
from ...dialects.sym import Expression, constant

_WORDS = {MatrixRole.A: 4, MatrixRole.B: 2}


@dataclass(frozen=True)
class FragmentLayout:
    """The registers of a fragment buffer: how many tiles on each axis, and a tile's registers."""

    tile: FragmentTile
    counts: tuple[int, ...]
    sides: tuple[int, ...]
    element: Attribute
    registers: int

    @cached_property
    def vector(self) -> VectorType[Any]:
        """The type of all registers of a lane: tiles, and the registers of each."""
        return VectorType(self.element, (prod(self.counts), self.registers))

    @cached_property
    def tile_vector(self) -> VectorType[Any]:
        """The type of the registers of one tile."""
        return VectorType(self.element, (self.registers,))

    def place(self, region: Region) -> Expression:
        """Returns the number of the first tile of a region."""
        number = constant(0)
        for part, count, side in zip(region.ranges, self.counts, self.sides, strict=True):
            number = number * count + _quotient(region.buffer, part.start, side)
        return number


def fragment_layouts(program: Program) -> Mapping[str, FragmentLayout]:
    """
    Returns the layout of each fragment buffer that calls of a program touch.

    Raises DiagnosticError where intrinsics do not agree on the tile, or it does not divide a
    buffer.
    """
    tiles: dict[str, FragmentTile] = {}
    for statement in walk(program.body):
        if not isinstance(statement, Call):
            continue
        intrinsic = intrinsic_named(statement.intrinsic)
        for operand, requirement in zip(statement.operands, intrinsic.operands, strict=True):
            name = operand.region.buffer
            if requirement.tile is None or program.buffers[name].scope is not Scope.FRAGMENT:
                continue
            if tiles.setdefault(name, requirement.tile) != requirement.tile:
                raise DiagnosticError(
                    f"expected intrinsics that agree on the tiles of the fragment '{name}', got "
                    f"{tiles[name]} and {requirement.tile} in '{statement.intrinsic}'"
                )
    return {name: _layout(program.buffers[name], tile) for name, tile in tiles.items()}


def _layout(buffer: Buffer, tile: FragmentTile) -> FragmentLayout:
    sides = (tile.columns, tile.rows) if tile.transposed else (tile.rows, tile.columns)
    sides = (1,) * (len(buffer.shape) - 2) + sides
    extents = [extent.constant_value for extent in buffer.shape]
    counts: list[int] = []
    for extent, side in zip(extents, sides, strict=True):
        if extent is None or extent % side:
            raise DiagnosticError(
                f"expected a fragment '{buffer.name}' of whole tiles {tile}, got the shape "
                f"[{', '.join(map(str, buffer.shape))}]"
            )
        counts.append(extent // side)
    element: Attribute = f32 if tile.role is MatrixRole.C and buffer.dtype == "f32" else i32
    registers = _WORDS.get(tile.role) or (2 if buffer.dtype == "f16" else 4)
    return FragmentLayout(tile, tuple(counts), sides, element, registers)


def _quotient(name: str, start: Expression, side: int) -> Expression:
    terms: dict[Any, int] = {}
    for monomial, factor in start.terms.items():
        if factor % side:
            raise DiagnosticError(
                f"expected a region of the fragment '{name}' that begins at a multiple of {side}, "
                f"got {start}"
            )
        terms[monomial] = factor // side
    return Expression(terms)
