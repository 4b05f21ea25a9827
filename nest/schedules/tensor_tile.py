"""What schedules of products on the tensor cores of sm_80 share: tiles of a CTA, and the calls."""

from dataclasses import dataclass

from ...dialects.nest.program import Scope
from ...transforms.schedule.primitive import ScheduleError
from ...transforms.schedule.swizzle import SetSwizzle
from ..schedule import LoopHandle, Schedule
from ..schedule.state import BlockLike, LoopLike

ARCH = "sm_80"
WARP_SIZE = 32
VECTOR = 8
# Terms that are in shared memory at once, for each stage.
DEPTH = 32


@dataclass(frozen=True)
class TensorTile:
    """
    The part of the result that a CTA has: `warps` by rows and columns, each with products of 16x8.

    A warp has `products` by rows and columns; those by columns are an even number, as one load of
    the right operand serves two.
    """

    warps: tuple[int, int] = (2, 2)
    products: tuple[int, int] = (2, 4)

    @property
    def rows(self) -> int:
        """The rows of a CTA."""
        return 16 * self.warps[0] * self.products[0]

    @property
    def columns(self) -> int:
        """The columns of a CTA."""
        return 8 * self.warps[1] * self.products[1]

    @property
    def threads(self) -> int:
        """The threads of a CTA."""
        return self.warps[0] * self.warps[1] * WARP_SIZE

    def by_all_threads(
        self, s: Schedule, row: LoopLike, column: LoopLike, copy: str = "", vector: int = VECTOR
    ) -> None:
        """
        Divides a tile among the threads of the CTA, neighbours by neighbouring ones.

        `vector` elements of a thread are moved by the intrinsic `copy`, where one is named and it
        does what the block does; else by loads and stores.
        """
        whole = s.fuse(row, column)
        step, *threads, inner = s.split(whole, [None, *self.warps, WARP_SIZE, vector])
        if not copy or not _is_copied(s, inner, copy):
            s.vectorize(inner)
        for loop, axis in zip(threads, "zyx", strict=True):
            s.bind(loop, f"thread.{axis}")
        counted = s.program.loop(s.loop_name(step))
        # A result of fewer rows than a tile is stored in as many steps as it has.
        if counted is not None and counted.extent.constant_value is not None:
            s.unroll(step)

    def divide(
        self, s: Schedule, block: str, matrices: tuple[str, str, str], store: BlockLike
    ) -> LoopHandle:
        """
        Gives warps their products of a block, in fragments, and the CTA its part of the result.

        `matrices` are left, right and result in shared memory, of which `store` makes the outputs.
        Returns the loop over the terms that are in shared memory at once.
        """
        left, right, result = matrices
        s.cache_write(block, result, Scope.FRAGMENT, cache="c")
        s.cache_read(block, left, Scope.FRAGMENT, cache="a")
        s.cache_read(block, right, Scope.FRAGMENT, cache="b")
        i, j, k = s.loops(block)
        (wz, wy), (ti, tj) = self.warps, self.products
        s.split(i, [None, wz, ti, 16], exact=True, names=["by", "wz", "ti", "ii"])
        cta, *_ = s.split(j, [None, wy, tj, 8], exact=True, names=["bx", "wy", "tj", "ji"])
        terms, step, _ = s.split(k, [None, DEPTH // 16, 16], exact=True, names=["k_0", "k_1", "ki"])
        s.reorder("by", "bx", terms, "wz", "wy", step, "ti", "tj", "ii", "ji", "ki")
        s.reverse_compute_at("c", cta, names=["c_row", "c_column"])
        s.reverse_compute_at(store, cta, names=["row", "column"])
        s.decompose_reduction(block, terms, names=[f"{block}_zero"])
        s.bind("by", "block.y")
        s.bind("bx", "block.x")
        for loop, axis in (("wz", "z"), ("wy", "y"), ("wz_1", "z"), ("wy_1", "y")):
            s.bind(loop, f"thread.{axis}")
        s.compute_at("a", step, names=["a_row", "a_column"])
        s.compute_at("b", step, names=["b_row", "b_column"])
        return terms

    def on_tensor_cores(self, s: Schedule, left: str, right: str, dtype: str) -> None:
        """Hands tiles to ldmatrix and mma.sync, and the sums to shared memory."""
        s.step(SetSwizzle(left, 64))
        s.step(SetSwizzle(right, 128))
        a_step, a_row = s.split("a_row", [None, 16])
        s.tensorize(a_row, f"ldmatrix.a.row.x4.{dtype}", arch=ARCH)
        b_step, b_column = s.split("b_column", [None, 16])
        s.reorder(b_step, "b_row", b_column)
        s.tensorize("b_row", f"ldmatrix.b.row.x4.{dtype}", arch=ARCH)
        s.tensorize("ii", f"mma.m16n8k16.{dtype}.f32", arch=ARCH)
        s.tensorize("ii_1", "mma.fill.f32", arch=ARCH)
        wz, ti, ii = s.split("c_row", [self.warps[0], self.products[0], 16], exact=True)
        wy, tj, ji = s.split("c_column", [self.warps[1], self.products[1], 8], exact=True)
        s.reorder(wz, wy, ti, tj, ii, ji)
        s.tensorize(ii, "mma.store.f32.f32", arch=ARCH)
        s.bind(wz, "thread.z")
        s.bind(wy, "thread.y")
        for loop in (a_step, b_step, "k_1", "ti", "tj", "ti_1", "tj_1", ti, tj):
            s.unroll(loop)


def _is_copied(s: Schedule, loop: LoopHandle, copy: str) -> bool:
    """Whether a loop is a copy of neighbours that are aligned; then an intrinsic makes it."""
    try:
        s.tensorize(loop, copy, arch=ARCH)
    except ScheduleError:
        return False
    return True
