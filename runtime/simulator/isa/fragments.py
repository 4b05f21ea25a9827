"""
Fragments of matrices over the lanes of a group, and their product.

In every mma layout used here (PTX ISA, "Matrix fragments for mma.m16n8k16" and its kin) one
32-bit register holds, over a warp, an 8-row block with 16 bytes a row: lane 4r+c has bytes 4c to
4c+3 of row r. Such a block is kept as 8 complex128 elements a warp: 16 bytes that move at once.
"""

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from ..access import window_access
from ..placement import WARP
from ..scalars import Array, Lanes
from .accumulation import accumulate
from .eight import TABLES
from .operations import lanes_of, require_warps

if TYPE_CHECKING:
    from ..compiler.program import Site
    from ..machine import Group

_HIGH = np.uint32(0xFFFF0000)
_SIXTEEN = np.uint32(16)
_THREADED = 4 * 65536  # m*n*k up to which OpenBLAS starts no threads
_CACHED = 8  # operands of mma that a batch keeps in decoded form


class Form(NamedTuple):
    """
    What an mma.sync multiplies: `left` and `right` are the types of A and B, `total` that of C.

    `halves` is the number of 8-row blocks of A. The type of bits is "xor" or "and", as their
    products are.
    """

    left: str
    right: str
    total: str
    halves: int = 2
    saturated: bool = False


class Fragment:
    """
    What ldmatrix loaded: `raw[i, w]` holds the 8 rows of matrix i, as they lie in memory.

    `raw` has one entry for each warp, or for each CTA where all its warps loaded the same.
    """

    __slots__ = ("_registers", "raw", "repeat", "transposed")

    def __init__(self, raw: Array, repeat: int, transposed: bool) -> None:
        self.raw = raw
        self.repeat = repeat
        self.transposed = transposed
        self._registers: dict[int, Array] = {}

    def register(self, index: int) -> Array:
        """Returns one destination register as u32 lanes."""
        known = self._registers.get(index)
        if known is not None:
            return known
        block = self.raw[index]
        if self.transposed:
            halves = block.view(np.uint16).reshape(-1, 8, 8)
            block = np.ascontiguousarray(halves.transpose(0, 2, 1)).reshape(-1, 64)
        words = block.view(np.uint32).reshape(-1, WARP)
        if self.repeat > 1:
            words = np.repeat(words, self.repeat, axis=0)
        known = self._registers[index] = words.reshape(-1)
        return known


# A register that mma reads: lanes of u32, or a fragment and the number of its register.
Operand: TypeAlias = "Array | tuple[Fragment, int]"


def load_matrices(group: "Group", site: "Site", address: Lanes) -> Fragment:
    """
    Loads 1, 2 or 4 matrices of 8 rows of 16 bytes from shared memory (ldmatrix).

    Lane 8*i+r of each warp gives the address of row r of matrix i. Where all warps of a CTA give
    the same addresses, the rows are loaded once for the CTA.
    """
    machine = group.machine
    count, transposed = site.extra
    require_warps(group, site)
    key = id(address), count, "rows"
    known = group.places.get(key)
    if known is None:
        known = _Rows(address, *_row_addresses(group, lanes_of(group, address), count))
        group.remember(key, known)
    view, index = window_access(known.source, site, machine.shared, known.addresses, False)
    rows = view.take(index).reshape(-1, count, 8)
    return Fragment(rows.transpose(1, 0, 2), known.repeat, transposed)


class _Rows(NamedTuple):
    """Who reads the rows of matrices, and where; `address` is kept, so that its id stays its."""

    address: Lanes
    source: "Group"
    addresses: Array
    repeat: int


def _row_addresses(group: "Group", address: Array, count: int) -> tuple["Group", Array, int]:
    """Returns the lanes that give rows, their addresses, and how many warps share each."""
    machine, source, repeat = group.machine, group, 1
    # A race is found only if every warp that reads is known to.
    leaders = group.first_warps() if machine.shared.races is None else None
    if leaders is not None:
        rows = address.reshape(-1, machine.padded // WARP, WARP)
        if (rows == rows[:, :1]).all():
            address = np.ascontiguousarray(rows[:, 0]).reshape(-1)
            source, repeat = leaders, machine.padded // WARP
    if count < 4:
        keep = np.flatnonzero(np.arange(source.n) % WARP < 8 * count)
        address, source = address[keep], source.at(keep)
    return source, address, repeat


def store_matrices(group: "Group", site: "Site", address: Lanes, *values: Lanes) -> None:
    """Stores 1, 2 or 4 matrices to shared memory (stmatrix); see load_matrices."""
    count, transposed = site.extra
    require_warps(group, site)
    blocks = [lanes_of(group, value).view(np.uint16).reshape(-1, 8, 8) for value in values]
    if transposed:
        blocks = [block.transpose(0, 2, 1) for block in blocks]
    rows = np.ascontiguousarray(np.stack(blocks, axis=1)).reshape(-1, 8).view(np.complex128)
    address = lanes_of(group, address)
    target = group
    if count < 4:
        keep = np.flatnonzero(np.arange(group.n) % WARP < 8 * count)
        address, target = address[keep], group.at(keep)
    view, index = window_access(target, site, group.machine.shared, address, True)
    view[index] = rows.reshape(-1)


def _nibbles(raw: Array, kind: str) -> Array:
    """Returns s4 or u4 elements of blocks of 16 bytes as f32, the lower half of a byte first."""
    bytes_ = raw.view(np.uint8)
    out = np.empty((*bytes_.shape, 2), np.uint8)
    np.bitwise_and(bytes_, np.uint8(15), out=out[..., 0])
    np.right_shift(bytes_, np.uint8(4), out=out[..., 1])
    values = out.reshape(*bytes_.shape[:-1], -1).astype(np.float32)
    return np.where(values > 7, values - 16, values) if kind == "s4" else values


def decode(raw: Array, kind: str) -> Array:
    """Returns blocks of 16 bytes as f32 elements; bits to be xored as 1 and -1."""
    if kind == "f16":
        return raw.view(np.float16).astype(np.float32)
    if kind in ("s8", "u8"):
        return raw.view(np.int8 if kind == "s8" else np.uint8).astype(np.float32)
    if kind in TABLES:
        return TABLES[kind][raw.view(np.uint8)]
    if kind in ("s4", "u4"):
        return _nibbles(raw, kind)
    if kind in ("xor", "and"):
        bits = np.unpackbits(raw.view(np.uint8), axis=-1, bitorder="little").astype(np.float32)
        return bits if kind == "and" else np.float32(1) - np.float32(2) * bits
    words = raw.view(np.uint32)
    if kind == "tf32":
        return (words & np.uint32(0xFFFFE000)).view(np.float32)
    out = np.empty((*words.shape, 2), np.uint32)
    np.left_shift(words, _SIXTEEN, out=out[..., 0])
    np.bitwise_and(words, _HIGH, out=out[..., 1])
    return out.view(np.float32).reshape(*words.shape[:-1], -1)


def _block(group: "Group", operand: Operand) -> Array:
    """Returns one register as 8 rows of 16 bytes a warp."""
    value: Lanes = operand[0].register(operand[1]) if isinstance(operand, tuple) else operand
    flat = np.ascontiguousarray(lanes_of(group, value))
    return flat.view(np.complex128).reshape(-1, 8)


def _left(
    group: "Group", kind: str, halves: int, steps: int, operands: tuple[Operand, ...]
) -> Array:
    """Returns A as f32 [warps, rows, k]; operands come by k step, then as the ISA numbers them."""
    key = (kind, *(id(o[0]) * 8 + o[1] if isinstance(o, tuple) else id(o) for o in operands))
    cache = group.machine.fragments
    known = cache.get(key)
    if known is not None:
        return known[1]
    each = len(operands) // steps  # registers: the halves of rows vary first, then those of k
    columns = each // halves
    raw = np.empty((group.n // WARP, halves, 8, steps * columns), np.complex128)
    for number, operand in enumerate(operands):
        step, place = divmod(number, each)
        raw[:, place % halves, :, step * columns + place // halves] = _block(group, operand)
    matrix = decode(raw, kind).reshape(group.n // WARP, 8 * halves, -1)
    while len(cache) >= _CACHED:
        del cache[next(iter(cache))]
    cache[key] = (operands, matrix)  # the operands too: their ids must stay theirs
    return matrix


def _right(
    group: "Group", kind: str, tiles: int, operands: tuple[Operand, ...]
) -> tuple[Array, int]:
    """
    Returns B as f32 [warps or CTAs, k, n] and how many warps share an entry.

    Operands come by n tile, then k. Blocks of 16-bit elements that ldmatrix read with .trans are
    rows of k, all others are rows of n.
    """
    each = len(operands) // tiles
    loaded = [operand for operand in operands if isinstance(operand, tuple)]
    ways = {(fragment.repeat, fragment.transposed) for fragment, _ in loaded}
    whole = len(loaded) == len(operands) and len(ways) == 1
    if whole and (kind in ("f16", "bf16") or not loaded[0][0].transposed):
        repeat, transposed = ways.pop()
        blocks: list[Array] = [fragment.raw[index] for fragment, index in loaded]
    else:
        repeat, transposed = 1, False
        blocks = [_block(group, operand) for operand in operands]
    count = blocks[0].shape[0]
    if transposed:
        raw = np.empty((count, each, 8, tiles), np.complex128)
        for number, block in enumerate(blocks):
            raw[:, number % each, :, number // each] = block
        return decode(raw, kind).reshape(count, each * 8, -1), repeat
    raw = np.empty((count, tiles, 8, each), np.complex128)
    for number, block in enumerate(blocks):
        raw[:, number // each, :, number % each] = block
    return decode(raw, kind).reshape(count, tiles * 8, -1).transpose(0, 2, 1), repeat


def _product(a: Array, b: Array, repeat: int) -> Array:
    """
    Returns A B over all warps; `repeat` warps share an entry of B.

    Each single product stays below the size from which BLAS would start threads for it.
    """
    inner, columns = b.shape[1], b.shape[2]
    fitting = [n for n in range(1, repeat + 1) if repeat % n == 0 and _fits(n, inner, columns)]
    together = max(fitting, default=1)
    a = a.reshape(b.shape[0], repeat // together, together * a.shape[1], inner)
    b = b[:, None]
    width = columns
    while width > 8 and not _fits(1, inner, width):
        width //= 2
    if width == columns:
        return np.matmul(a, b)
    parts = [np.matmul(a, b[..., at : at + width]) for at in range(0, columns, width)]
    return np.concatenate(parts, axis=-1)


def _fits(warps: int, inner: int, columns: int) -> bool:
    """Says whether BLAS computes the product for some warps on one thread."""
    return warps * 16 * inner * columns <= _THREADED


def multiply(
    group: "Group",
    site: "Site",
    left: tuple[Operand, ...],
    right: tuple[Operand, ...],
    start: tuple[Lanes, ...],
) -> list[Array]:
    """
    Returns C + A B for chains of mma.sync that share A, one after the other along k.

    `site.extra` is (form, k steps, n tiles). `left` holds the registers of A by k step, `right`
    those of B by n tile and k step, `start` those of C by n tile. Products are exact, sums are
    f32 in an order of their own, as on a GPU; those of integers are exact.
    """
    form, steps, tiles = site.extra
    require_warps(group, site)
    a = _left(group, form.left, form.halves, steps, left)
    b, repeat = _right(group, form.right, tiles, right)
    warps = group.n // WARP
    model = group.machine.launch.truncation
    if model is not None and form.total == "f32":
        kinds, shared = (form.left, form.right), np.repeat(b, repeat, axis=0)
        held = _held(group, start, tiles, form.halves)
        product = accumulate(model, kinds, a, shared, held, steps)
        start = (np.float32(0),) * len(start)  # it is in the sums
    else:
        product = _product(a, b, repeat)
    product = product.reshape(warps, form.halves, 8, tiles, 4, 2)
    rows = np.ascontiguousarray(product.transpose(3, 1, 5, 0, 2, 4)).reshape(-1, group.n)
    if form.total == "s32":
        if form.left == "xor":
            rows = (a.shape[2] - rows) / 2  # each pair of bits that differ counts -1, not 1
        return integers(rows, start, form.saturated)
    if form.total == "f32":
        for row, former in zip(rows, start, strict=True):
            if former.ndim or former:
                np.add(row, former, out=row)
        return list(rows)
    return _halves(group, rows, start)


def _held(group: "Group", start: tuple[Lanes, ...], tiles: int, halves: int) -> Array:
    """Returns the f32 registers of C as [warps, rows, columns], tile after tile."""
    held = np.stack([lanes_of(group, former) for former in start])
    warps = group.n // WARP
    held = held.reshape(tiles, halves, 2, warps, 8, 4).transpose(3, 1, 4, 0, 5, 2)
    return held.reshape(warps, 8 * halves, -1)


def integers(rows: Array, start: tuple[Lanes, ...], saturated: bool) -> list[Array]:
    """Returns s32 accumulators: exact sums of products added, wrapped or clamped."""
    limits = np.iinfo(np.int32)
    out: list[Array] = []
    for row, former in zip(rows, start, strict=True):
        total = row.astype(np.int64) + former
        if saturated:
            total = np.clip(total, limits.min, limits.max)
        out.append(total.astype(np.int32))
    return out


def _halves(group: "Group", rows: Array, start: tuple[Lanes, ...]) -> list[Array]:
    """Returns f16 accumulators, two a register, rounded once from the f32 sum."""
    out: list[Array] = []
    for number, former in enumerate(start):
        pair = lanes_of(group, former).view(np.float16).reshape(-1, 2)
        words = np.empty((group.n, 2), np.float16)
        words[:, 0] = rows[2 * number] + pair[:, 0].astype(np.float32)
        words[:, 1] = rows[2 * number + 1] + pair[:, 1].astype(np.float32)
        out.append(words.view(np.uint32).reshape(-1))
    return out
