"""A convolution on tensor cores: which of its axes are those of a product is found, not written."""

from ...dialects.nest.index_map import IndexMap
from ...dialects.nest.program import Program, Scope
from ...dialects.sym import constant, symbol
from ...transforms.auto_tensorize import propose
from ...transforms.schedule.matricize import AxisGroup
from ..schedule import BlockHandle, Schedule
from ..values import NestError
from .tensor_tile import DEPTH, TensorTile

TILE = TensorTile()


def conv2d_mma(program: Program, tile: TensorTile = TILE, stages: int = 3) -> Schedule:
    """
    Schedules the workload `conv2d` as a product of pixels and filters over taps and channels.

        for n, h, w, f, rh, rw, c:              for by: block.y, bx: block.x
            Y[n, h, w, f] +=                        c = 0                         fragments
                P[n, h+rh, w+rw, c]                 for k_0, in stages
                * W[rh, rw, c, f]            -->        P_m = P[64 pixels, 32 terms]
                                                        W_m = W[32 terms, 64 filters]
                                                        for k_1: c += mma(P_m, W_m)
                                                    Y_m = c                       shared memory
                                                    Y[64 pixels, 64 filters] = Y_m

    Copies run `stages` - 1 iterations ahead of their product: by cp.async where channels, or
    filters, fill vectors of 8 and no tile has a remainder, else by loads and stores. `tile` says
    what a CTA has of `Y`. Images and filters are f16 or bf16, `Y` is f32; any extents, one of the
    batch that is unknown too. What lies beyond is 0 in shared memory. Raises NestError for another
    program.
    """
    dtype = _checked(program)
    s = Schedule(program)
    left, right, result = _as_product(s, dtype, tile)
    for buffer in (left, right, result):
        s.set_scope(buffer, Scope.SHARED)
    (store,) = s.consumers("Y")
    _by_pixels(s, store)
    terms = tile.divide(s, "Y", (left, right, result), store)
    for buffer in (right, left):
        tile.by_all_threads(s, *s.compute_at(buffer, terms), copy=f"cp.async.16.{dtype}")
    tile.on_tensor_cores(s, left, right, dtype)
    tile.by_all_threads(s, "row", "column")
    s.software_pipeline(terms, (0, 0, stages - 1), (0, 1, 2), (0,))
    return s


def _as_product(s: Schedule, dtype: str, tile: TensorTile) -> tuple[str, str, str]:
    """Makes the product over padded axes; returns its matrices: image, filters, result."""
    image = "X" if s.program.block("P") is None else "P"
    best = propose(s.program, "Y", f"mma.m16n8k16.{dtype}.f32")[0]
    i, j, k = best.groups
    sizes = {i: tile.rows, j: tile.columns, k: DEPTH}
    groups = [AxisGroup(name, axes, sizes[name]) for name, axes in best.groups.items()]
    layouts = {image: (i, k), "W": (k, j), "Y": (i, j)}
    s.matricize("Y", groups, layouts, names=["rows", "columns", "terms"])
    if image == "P":
        s.compute_inline("P")
    return f"{image}_m", "W_m", "Y_m"


def _by_pixels(s: Schedule, store: BlockHandle) -> None:
    """Makes one axis of all pixels, as the product has it."""
    block = s.program.block(store.name)
    assert block is not None
    names = tuple(axis.name for axis in block.axes)
    pixel = constant(0)
    for axis in block.axes[:-1]:
        pixel = pixel * axis.extent + symbol(axis.name)
    s.transform_block_layout(store, IndexMap(names, (pixel, symbol(names[-1]))))


def _checked(program: Program) -> str:
    block = program.block("Y")
    if block is None or len(block.axes) != 7:
        raise NestError(f"expected a convolution 'Y' of images, got '{program.name}'")
    dtype = program.buffers["W"].dtype
    if dtype not in ("f16", "bf16"):
        raise NestError(f"expected images and filters of f16 or bf16, got {dtype}")
    return dtype
