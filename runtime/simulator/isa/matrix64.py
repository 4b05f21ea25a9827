"""mma.sync of f64 (PTX ISA, "Matrix fragments for mma.m8n8k4 with .f64" and its kin)."""

from typing import TYPE_CHECKING

import numpy as np

from ..placement import WARP
from ..ptx.syntax import Instruction
from ..scalars import Array, Lanes
from .forms import Fields, Table
from .operands import elements
from .operations import lanes_of, require_warps

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group


def _blocks(group: "Group", registers: tuple[Lanes, ...], halves: int) -> Array:
    """Returns registers, each 8 rows of 4 numbers a warp, as f64 [warps, rows, k]."""
    steps = len(registers) // halves
    out = np.empty((group.n // WARP, halves, 8, steps, 4), np.float64)
    for number, register in enumerate(registers):
        block = lanes_of(group, register).reshape(-1, 8, 4)
        out[:, number % halves, :, number // halves] = block
    return out.reshape(-1, 8 * halves, 4 * steps)


def multiply64(
    group: "Group",
    site: "Site",
    left: tuple[Lanes, ...],
    right: tuple[Lanes, ...],
    *start: Lanes,
) -> tuple[Lanes, ...]:
    """Returns C + A B of f64; lane 4r+c holds row r and column c of each block of 8 by 4."""
    require_warps(group, site)
    halves = len(start) // 2
    a, b = _blocks(group, left, halves), _blocks(group, right, 1)
    product = np.matmul(a, b.transpose(0, 2, 1)).reshape(-1, halves, 8, 4, 2)
    rows = np.ascontiguousarray(product.transpose(1, 4, 0, 2, 3)).reshape(-1, group.n)
    return tuple(row + former for row, former in zip(rows, start, strict=True))


# Shape: registers of A, B and C.
_SHAPES = {"m8n8k4": (1, 1, 2), "m16n8k4": (2, 1, 4), "m16n8k8": (4, 2, 4), "m16n8k16": (8, 4, 4)}


def _multiply(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mma.sync of f64."""
    counts = _SHAPES[fields["shape"]]
    d, a, x, c = b.operands(4)
    left, right, start = (
        ", ".join(b.read(item, "f64") for item in elements(b, operand, count))
        for operand, count in zip((a, x, c), counts, strict=True)
    )
    targets = [(item, "f8") for item in elements(b, d, counts[2])]
    b.call(multiply64, b.site(), [f"({left},)", f"({right},)", start], targets)


FORMS: Table = (
    (
        "mma.sync.aligned.<shape:m8n8k4|m16n8k4|m16n8k8|m16n8k16>.row.col[.rn].<d:f64>.f64.f64.f64",
        _multiply,
    ),
)
