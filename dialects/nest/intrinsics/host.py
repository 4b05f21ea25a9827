"""Vector instructions of x86 CPUs: outer products that stay in registers, sums of four bytes."""

from functools import partial

from ..program import AccessMode, Scope
from ..scalars import DTYPE_BITS, Apply
from .descriptions import buffer, description, element, product_sum
from .model import ExecutionScope, Intrinsic, Requirement
from .registry import register_maker

ON_HOST = frozenset((Scope.GLOBAL, Scope.LOCAL))
# Rows and vectors of the outer products whose accumulators fill the 16 or 32 registers, less one
# for each vector of B and one for A.
TILES = {
    "avx2": (32, ((6, 2), (4, 3), (4, 2), (2, 4), (1, 8))),
    "avx512f": (64, ((14, 2), (12, 2), (8, 3), (6, 4), (1, 8))),
}
DTYPES = ("f32", "f64")


def outer_product(feature: str, dtype: str, rows: int, columns: int) -> Intrinsic:
    """Returns `C[i, j] += A[i] * B[j]`: one broadcast a row, one fused multiply-add a vector."""
    extents, axes = {"i": rows, "j": columns}, {"C": "ij", "A": "i", "B": "j"}
    if rows == 1:
        extents, axes = {"j": columns}, {"C": "j", "A": "", "B": "j"}
    c, a, b = (buffer(matrix, axes[matrix], extents, dtype) for matrix in "CAB")
    value = product_sum(*(element(matrix, axes[matrix.name]) for matrix in (c, a, b)))
    row_bytes = DTYPE_BITS[dtype] // 8
    return Intrinsic(
        f"{feature}.outer.{dtype}.{rows}x{columns}",
        description("outer", (c, a, b), axes, extents, c, value),
        (
            Requirement(AccessMode.UPDATE, ON_HOST, alignment=row_bytes),
            Requirement(AccessMode.READ, ON_HOST),
            Requirement(AccessMode.READ, ON_HOST, alignment=row_bytes),
        ),
        ExecutionScope.HOST,
        feature,
        "host.outer",
        parameters=(("rows", rows), ("columns", columns)),
    )


def byte_dot(feature: str, columns: int) -> Intrinsic:
    """Returns `C[j] += sum over k of A[k] * B[j, k]`, 4 bytes each: A unsigned, B signed."""
    extents, axes = {"j": columns, "k": 4}, {"C": "j", "A": "k", "B": "jk"}
    c = buffer("C", "j", extents, "i32")
    a, b = buffer("A", "k", extents, "i8"), buffer("B", "jk", extents, "i8")
    factors = (
        Apply("arith.extui", (element(a, "k"),), "i32"),
        Apply("arith.extsi", (element(b, "jk"),), "i32"),
    )
    value = Apply("arith.addi", (element(c, "j"), Apply("arith.muli", factors, "i32")), "i32")
    return Intrinsic(
        f"{feature}.dot.u8i8.{columns}x4",
        description("dot", (c, a, b), axes, extents, c, value),
        (
            Requirement(AccessMode.UPDATE, ON_HOST, alignment=4),
            Requirement(AccessMode.READ, ON_HOST, alignment=1),
            Requirement(AccessMode.READ, ON_HOST, alignment=1),
        ),
        ExecutionScope.HOST,
        feature,
        "host.dot",
        parameters=(("columns", columns),),
    )


def register_host_intrinsics() -> None:
    """Makes the intrinsics of this module known."""
    for feature, (vector_bytes, tiles) in TILES.items():
        for dtype in DTYPES:
            lanes = vector_bytes * 8 // DTYPE_BITS[dtype]
            for rows, vectors in tiles:
                name = f"{feature}.outer.{dtype}.{rows}x{vectors * lanes}"
                maker = partial(outer_product, feature, dtype, rows, vectors * lanes)
                register_maker(name, maker)
    register_maker("avx512vnni.dot.u8i8.16x4", partial(byte_dot, "avx512vnni", 16))
    register_maker("avxvnni.dot.u8i8.8x4", partial(byte_dot, "avxvnni", 8))
