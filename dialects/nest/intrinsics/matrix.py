"""
The tensor cores of a warp: `mma.sync`, the loads of its fragments, their zeros and stores.

Names tell the form: `mma.m16n8k16.bf16.f32.row.col` multiplies bf16 with f32 accumulators, A held
as [m, k] and B as [n, k]. `row` is the order in which the description of `mma` in the PTX ISA
writes a matrix, A [m, k] and B [k, n], `col` the other one.
"""

from dataclasses import dataclass
from functools import partial
from itertools import product

from ..program import AccessMode
from .descriptions import buffer, converted, description, element, product_sum, zero
from .model import (
    IN_FRAGMENT,
    IN_MEMORY,
    IN_SHARED,
    ExecutionScope,
    FragmentTile,
    Intrinsic,
    MatrixRole,
    Requirement,
)
from .registry import register_maker

LAYOUTS = ("row", "col")
# ldmatrix moves rows of 16 bytes, whatever they hold.
_ROW_BYTES = 16


@dataclass(frozen=True)
class Multiplicand:
    """What `mma.sync` multiplies: word of the PTX ISA, dtype, bytes, k, architecture."""

    word: str
    dtype: str
    bytes: int
    depth: int
    target: str = "sm_80"
    precision: str = ""

    @property
    def shape(self) -> str:
        """The extents of the instruction, as the PTX ISA writes them."""
        return f"m16n8k{self.depth}"

    def tile(self, role: MatrixRole, transposed: bool) -> FragmentTile:
        """Returns the tile of A or B."""
        if role is MatrixRole.A:
            return FragmentTile(role, 16, self.depth, transposed)
        return FragmentTile(role, self.depth, 8, transposed)


F16 = Multiplicand("f16", "f16", 2, 16)
BF16 = Multiplicand("bf16", "bf16", 2, 16)
TF32 = Multiplicand("tf32", "f32", 4, 8, precision="tf32")
I8 = Multiplicand("i8", "i8", 1, 32)
E4M3 = Multiplicand("e4m3", "f8E4M3FN", 1, 32, "sm_89")
E5M2 = Multiplicand("e5m2", "f8E5M2", 1, 32, "sm_89")
MULTIPLICANDS = (F16, BF16, TF32, I8, E4M3, E5M2)
PRODUCTS = (
    (F16, "f32"),
    (F16, "f16"),
    (BF16, "f32"),
    (TF32, "f32"),
    (I8, "i32"),
    (E4M3, "f32"),
    (E5M2, "f32"),
)
ACCUMULATORS = {"f32": 4, "f16": 2, "i32": 4}


def accumulator_tile() -> FragmentTile:
    """Returns the tile of C, which all forms have in common."""
    return FragmentTile(MatrixRole.C, 16, 8)


def multiply(of: Multiplicand, accumulator: str, a_layout: str, b_layout: str) -> Intrinsic:
    """Returns `C += A B` on fragments."""
    name = f"mma.{of.shape}.{of.word}.{accumulator}.{a_layout}.{b_layout}"
    extents = {"i": 16, "j": 8, "k": of.depth}
    axes = {
        "C": "ij",
        "A": "ik" if a_layout == "row" else "ki",
        "B": "kj" if b_layout == "row" else "jk",
    }
    c = buffer("C", axes["C"], extents, accumulator)
    a, b = (buffer(matrix, axes[matrix], extents, of.dtype) for matrix in "AB")
    value = product_sum(*(element(matrix, axes[matrix.name]) for matrix in (c, a, b)))
    return Intrinsic(
        name,
        description("mma", (c, a, b), axes, extents, c, value),
        (
            Requirement(AccessMode.UPDATE, IN_FRAGMENT, accumulator_tile()),
            Requirement(AccessMode.READ, IN_FRAGMENT, of.tile(MatrixRole.A, a_layout == "col")),
            Requirement(AccessMode.READ, IN_FRAGMENT, of.tile(MatrixRole.B, b_layout == "col")),
        ),
        ExecutionScope.WARP,
        of.target,
        "mma",
        of.precision,
        (("multiplicand", of.word), ("accumulator", accumulator), ("depth", of.depth)),
    )


def load(of: Multiplicand, role: MatrixRole, layout: str, matrices: int) -> Intrinsic:
    """Returns the load of `matrices` 8x8 matrices of 16-bit pairs from shared memory."""
    transposed = layout == "col"
    columns = 16 if role is MatrixRole.A or matrices == 4 else 8
    first, second = (
        (columns, of.depth) if (role is MatrixRole.B) == transposed else (of.depth, columns)
    )
    extents = {"i": first, "j": second}
    target = buffer("F", "ij", extents, of.dtype)
    source = buffer("S", "ij", extents, of.dtype)
    name = f"ldmatrix.{role.value}.{layout}.x{matrices}.{of.word}"
    axes = {"F": "ij", "S": "ij"}
    return Intrinsic(
        name,
        description("ldmatrix", (target, source), axes, extents, target, element(source, "ij")),
        (
            Requirement(AccessMode.WRITE, IN_FRAGMENT, of.tile(role, transposed)),
            Requirement(AccessMode.READ, IN_SHARED, alignment=_ROW_BYTES),
        ),
        ExecutionScope.WARP,
        of.target,
        "ldmatrix",
        parameters=(("role", role.value), ("layout", layout), ("matrices", matrices)),
    )


def fill(dtype: str) -> Intrinsic:
    """Returns the zero of an accumulator."""
    extents = {"i": 16, "j": 8}
    target = buffer("F", "ij", extents, dtype)
    return Intrinsic(
        f"mma.fill.{dtype}",
        description("fill", (target,), {"F": "ij"}, extents, target, zero(dtype)),
        (Requirement(AccessMode.WRITE, IN_FRAGMENT, accumulator_tile()),),
        ExecutionScope.WARP,
        "sm_80",
        "mma.fill",
    )


def store(dtype: str, stored: str) -> Intrinsic:
    """Returns the store of an accumulator to memory in pairs of columns, rounded to `stored`."""
    extents, axes = {"i": 16, "j": 8}, {"T": "ij", "F": "ij"}
    target, source = buffer("T", "ij", extents, stored), buffer("F", "ij", extents, dtype)
    value = converted(element(source, "ij"), stored)
    pair = {"f32": 8, "i32": 8, "f16": 4, "bf16": 4}[stored]
    return Intrinsic(
        f"mma.store.{dtype}.{stored}",
        description("store", (target, source), axes, extents, target, value),
        (
            Requirement(AccessMode.WRITE, IN_MEMORY, alignment=pair),
            Requirement(AccessMode.READ, IN_FRAGMENT, accumulator_tile()),
        ),
        ExecutionScope.WARP,
        "sm_80",
        "mma.store",
    )


def _register_loads(of: Multiplicand) -> None:
    # The transposed form of ldmatrix exchanges elements of 16 bits, no others.
    swaps = of.bytes == 2
    forms = [(MatrixRole.A, "row", 4), (MatrixRole.B, "col", 4), (MatrixRole.B, "col", 2)]
    if swaps:
        forms += [(MatrixRole.A, "col", 4), (MatrixRole.B, "row", 4), (MatrixRole.B, "row", 2)]
    for role, layout, matrices in forms:
        register_maker(
            f"ldmatrix.{role.value}.{layout}.x{matrices}.{of.word}",
            partial(load, of, role, layout, matrices),
        )


def register_matrix_intrinsics() -> None:
    """Makes the intrinsics of this module known."""
    for (of, accumulator), a, b in product(PRODUCTS, LAYOUTS, LAYOUTS):
        register_maker(
            f"mma.{of.shape}.{of.word}.{accumulator}.{a}.{b}",
            partial(multiply, of, accumulator, a, b),
        )
    for of in MULTIPLICANDS:
        _register_loads(of)
    for dtype in ACCUMULATORS:
        register_maker(f"mma.fill.{dtype}", partial(fill, dtype))
        register_maker(f"mma.store.{dtype}.{dtype}", partial(store, dtype, dtype))
    for stored in ("f16", "bf16"):
        register_maker(f"mma.store.f32.{stored}", partial(store, "f32", stored))
