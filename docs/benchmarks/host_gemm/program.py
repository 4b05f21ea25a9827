"""
A matrix product of f32 tuned by hand, with the structure of Goto and van de Geijn.

"Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008: panels of B packed once,
blocks of A packed into the second-level cache, and tiles of C that stay in registers.
"""

from dataclasses import dataclass

from tilewright.dialects.nest.program import LoopKind, Program, Scope
from tilewright.dialects.sym import Expression, ceildiv, constant
from tilewright.nest.builder import Array, Builder
from tilewright.nest.values import inside

VECTORIZED, UNROLLED, PARALLEL = LoopKind.VECTORIZED, LoopKind.UNROLLED, LoopKind.PARALLEL


@dataclass(frozen=True)
class Tiling:
    """A tile of `rows` by `columns` in registers, blocks of A of `block_rows` by `depth`."""

    rows: int = 6
    columns: int = 16
    block_rows: int = 96
    depth: int = 256


def gemm(m: int | None, n: int, k: int, tiling: Tiling | None = None) -> Program:
    """Returns C [m, n] = A [m, k] B [k, n]; the number of rows is a symbol where m is None."""
    return _Gemm(m, n, k, tiling or Tiling()).program()


class _Gemm:
    def __init__(self, m: int | None, n: int, k: int, tiling: Tiling) -> None:
        self.t, self.n, self.k = tiling, n, k
        self.b = Builder("gemm", "m in [1, 65536]" if m is None else "")
        self.m = self.b.symbol("m") if m is None else constant(m)
        self.blocks = ceildiv(self.m, tiling.block_rows)
        self.slices = k // tiling.depth
        self.a = self.b.buffer("A", [self.m, k], "f32")
        self.w = self.b.buffer("B", [k, n], "f32")
        self.c = self.b.buffer("C", [self.m, n], "f32", output=True)
        tiles = self.blocks * (tiling.block_rows // tiling.rows)
        self.packed_b = self.b.temporary("packedB", [n // tiling.columns, k, tiling.columns], "f32")
        self.packed_a = self.b.temporary("packedA", [tiles, k, tiling.rows], "f32")
        shape = [self.slices, self.blocks * tiling.block_rows, n]
        self.tile: Array = self.b.temporary("tile", shape, "f32", Scope.LOCAL)

    def program(self) -> Program:
        """Returns the program."""
        b, t = self.b, self.t
        self._pack_b()
        with b.loop("block", self.blocks, PARALLEL) as block, b.loop("slice", self.slices) as part:
            self._pack_a(block, part)
            with b.loop("column", self.n // t.columns) as column:
                with b.loop("row", t.block_rows // t.rows) as row:
                    first = block * t.block_rows + row * t.rows
                    self._tile(first, column, part)
        return b.build()

    def _pack_b(self) -> None:
        b, t = self.b, self.t
        panels = self.n // t.columns
        with b.loop("bp", panels, PARALLEL) as panel, b.loop("bk", self.k) as k:
            with b.loop("bj", t.columns, VECTORIZED) as j:
                axes = {"bvp": (panels, panel), "bvk": (self.k, k), "bvj": (t.columns, j)}
                with b.block("packB", spatial=axes) as (vp, vk, vj):
                    self.packed_b[vp, vk, vj] = self.w[vk, t.columns * vp + vj]

    def _pack_a(self, block: Expression, part: Expression) -> None:
        b, t = self.b, self.t
        per_block = t.block_rows // t.rows
        with b.loop("ap", per_block) as panel, b.loop("ak", t.depth) as k:
            with b.loop("ai", t.rows, UNROLLED) as i:
                place = block * per_block + panel
                axes = {
                    "avp": (self.blocks * per_block, place),
                    "avk": (self.k, part * t.depth + k),
                    "avi": (t.rows, i),
                }
                where = [inside(t.rows * place + i, self.m)]
                with b.block("packA", spatial=axes, where=where) as (vp, vk, vi):
                    self.packed_a[vp, vk, vi] = self.a[t.rows * vp + vi, vk]

    def _tile(self, first: Expression, column: Expression, part: Expression) -> None:
        b, t = self.b, self.t
        rows = self.blocks * t.block_rows

        def axes(
            name: str, i: Expression, j: Expression
        ) -> dict[str, tuple[Expression | int, Expression]]:
            return {
                f"{name}i": (rows, first + i),
                f"{name}j": (self.n, t.columns * column + j),
            }

        slices = (self.slices, part)
        with b.loop("zi", t.rows, UNROLLED) as i, b.loop("zj", t.columns, VECTORIZED) as j:
            with b.block("zero", spatial={"zp": slices, **axes("z_", i, j)}) as (vp, vi, vj):
                self.tile[vp, vi, vj] = 0.0
        with b.loop("k", t.depth) as k, b.loop("i", t.rows, UNROLLED) as i:
            with b.loop("j", t.columns, VECTORIZED) as j:
                spatial = {"vp": slices, **axes("v", i, j)}
                with b.block("sum", spatial=spatial, reduce={"vk": (t.depth, k)}) as (
                    vp,
                    vi,
                    vj,
                    vk,
                ):
                    left = self.packed_a[vi // t.rows, t.depth * vp + vk, vi % t.rows]
                    right = self.packed_b[vj // t.columns, t.depth * vp + vk, vj % t.columns]
                    self.tile[vp, vi, vj] = self.tile[vp, vi, vj] + left * right
        with b.loop("oi", t.rows, UNROLLED) as i, b.loop("oj", t.columns, VECTORIZED) as j:
            where = [inside(first + i, self.m)]
            out = {"o_p": slices}
            with b.block("out", spatial=axes("o_", i, j), reduce=out, where=where) as (vi, vj, vp):
                with b.init():
                    self.c[vi, vj] = 0.0
                self.c[vi, vj] = self.c[vi, vj] + self.tile[vp, vi, vj]
