"""Programs bound to the threads of a GPU, written by hand."""

from tilewright.dialects.nest.program import LoopKind, Program, Scope
from tilewright.dialects.sym import ceildiv
from tilewright.nest.builder import Builder
from tilewright.nest.values import cast, inside

BLOCK_X, BLOCK_Y = LoopKind.BLOCK_X, LoopKind.BLOCK_Y
THREAD_X, THREAD_Y = LoopKind.THREAD_X, LoopKind.THREAD_Y
VECTOR, UNROLLED = LoopKind.VECTORIZED, LoopKind.UNROLLED


def gemm(dtype: str = "f32", columns: int = 48, depth: int = 40) -> Program:
    """
    `C[n, columns] = A[n, depth] @ B[depth, columns]`, n symbolic, accumulated in f32 or i32.

    A CTA of 8x8 threads has a tile of 32x16; both operands are staged in shared memory 8 deep,
    and a thread holds 4x2 sums in registers.
    """
    total = "i32" if dtype in ("i8", "i32") else "f32"
    b = Builder("gemm", "n in [1, 4096]")
    n = b.symbol("n")
    left, right = b.buffer("A", [n, depth], dtype), b.buffer("B", [depth, columns], dtype)
    out = b.buffer("C", [n, columns], total, output=True)
    staged_left = b.temporary("A_shared", [n, depth], dtype, Scope.SHARED)
    staged_right = b.temporary("B_shared", [depth, columns], dtype, Scope.SHARED)
    sums = b.temporary("C_local", [n, columns], total, Scope.LOCAL)
    with b.loop("by", ceildiv(n, 32), BLOCK_Y) as by, b.loop("bx", columns // 16, BLOCK_X) as bx:
        with b.loop("k0", depth // 8) as k0:
            with b.loop("ty_a", 8, THREAD_Y) as ty, b.loop("tx_a", 8, THREAD_X) as tx:
                with b.loop("a", 4, VECTOR) as a:
                    row, column = 4 * ty + (tx // 2), 4 * (tx % 2) + a
                    with b.block(
                        "A_shared",
                        spatial={"ai": (n, 32 * by + row), "ak": (depth, 8 * k0 + column)},
                        where=[inside(32 * by + row, n)],
                    ) as (ai, ak):
                        staged_left[ai, ak] = left[ai, ak]
            with b.loop("ty_b", 8, THREAD_Y) as ty, b.loop("tx_b", 8, THREAD_X) as tx:
                with b.loop("b", 2, VECTOR) as v:
                    with b.block(
                        "B_shared",
                        spatial={
                            "bk": (depth, 8 * k0 + ty),
                            "bj": (columns, 16 * bx + 2 * tx + v),
                        },
                    ) as (bk, bj):
                        staged_right[bk, bj] = right[bk, bj]
            with b.loop("ty", 8, THREAD_Y) as ty, b.loop("tx", 8, THREAD_X) as tx:
                with b.loop("k1", 8, UNROLLED) as k1:
                    with b.loop("i", 4, UNROLLED) as i, b.loop("j", 2, UNROLLED) as j:
                        with b.block(
                            "C_local",
                            spatial={
                                "vi": (n, 32 * by + 4 * ty + i),
                                "vj": (columns, 16 * bx + 2 * tx + j),
                            },
                            reduce={"vk": (depth, 8 * k0 + k1)},
                            where=[inside(32 * by + 4 * ty + i, n)],
                        ) as (vi, vj, vk):
                            with b.init():
                                sums[vi, vj] = 0
                            sums[vi, vj] = sums[vi, vj] + cast(staged_left[vi, vk], total) * cast(
                                staged_right[vk, vj], total
                            )
        with b.loop("ty_c", 8, THREAD_Y) as ty, b.loop("tx_c", 8, THREAD_X) as tx:
            with b.loop("i_c", 4, UNROLLED) as i, b.loop("j_c", 2, VECTOR) as j:
                with b.block(
                    "C",
                    spatial={
                        "ci": (n, 32 * by + 4 * ty + i),
                        "cj": (columns, 16 * bx + 2 * tx + j),
                    },
                    where=[inside(32 * by + 4 * ty + i, n)],
                ) as (ci, cj):
                    out[ci, cj] = sums[ci, cj]
    return b.build()
