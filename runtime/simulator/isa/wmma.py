"""
wmma.load, wmma.mma and wmma.store (PTX ISA, "Warp Level Matrix Instructions: wmma").

The ISA leaves open which lane holds which element. Here the elements of a fragment lie in row
order over the lanes of the warp: each lane holds equally many that follow each other.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..placement import WARP
from ..ptx.syntax import Instruction, Operand, Vector
from ..scalars import Array, Lanes
from .forms import Fields, Table
from .fragments import decode, integers
from .memory import (
    load_generic,
    load_global,
    load_window,
    store_generic,
    store_global,
    store_window,
)
from .operations import lanes_of, require_warps

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group

# Type: bits of an element, bits of the pieces that are loaded and stored.
_WIDTHS = {
    **{"f16": (16, 16), "bf16": (16, 16), "tf32": (32, 32), "f32": (32, 32), "s32": (32, 32)},
    **{"s8": (8, 8), "u8": (8, 8), "s4": (4, 32), "u4": (4, 32), "b1": (1, 32), "f64": (64, 64)},
}
_LOADS = {"": load_generic, "global": load_global}
_STORES = {"": store_generic, "global": store_global}


class Tile(NamedTuple):
    """
    One fragment: rows and columns of a type, and whether columns lie one behind the other.

    A lane's registers have `bits` each; there are `copies` registers of each content. `flipped`
    says that the fragment holds the transpose.
    """

    rows: int
    columns: int
    type: str
    across: bool
    bits: int
    copies: int = 1
    flipped: bool = False

    def registers(self) -> int:
        """Returns the number of registers of a lane."""
        return self.rows * self.columns * _WIDTHS[self.type][0] // WARP // self.bits * self.copies

    def places(self) -> tuple[Array, Array]:
        """Returns row and column of the pieces of memory [pieces of a lane, lanes]."""
        width, piece = _WIDTHS[self.type]
        columns = self.columns * width // piece
        index = np.arange(self.rows * columns).reshape(WARP, -1).T
        return index // columns, index % columns


def _addresses(group: "Group", tile: Tile, stride: Lanes) -> list[Array]:
    """Returns what to add to a fragment's address, for each piece that a lane holds."""
    width, piece = _WIDTHS[tile.type]
    row, column = tile.places()
    major, minor = (column, row) if tile.across else (row, column)
    lane = group.lanes() % WARP
    step = stride.astype(np.int64) * width // 8
    return [major[i][lane] * step + minor[i][lane] * (piece // 8) for i in range(len(row))]


def load_tile(group: "Group", site: "Site", address: Lanes, stride: Lanes) -> Any:
    """Loads a fragment; `site.extra` is (tile, the load of one piece, its site)."""
    require_warps(group, site)
    tile, load, piece_site = site.extra
    base = lanes_of(group, address)
    kind = base.dtype.type
    pieces = [
        load(group, piece_site, base + offset.astype(kind))
        for offset in _addresses(group, tile, stride)
    ]
    joined = np.ascontiguousarray(np.stack([lanes_of(group, piece) for piece in pieces], axis=1))
    words = np.ascontiguousarray(joined.view(f"u{tile.bits // 8}").T)
    registers: tuple[Array, ...] = tuple(np.tile(words, (tile.copies, 1)))
    return registers[0] if len(registers) == 1 else registers


def store_tile(
    group: "Group", site: "Site", address: Lanes, stride: Lanes, *registers: Lanes
) -> None:
    """Stores a fragment; `site.extra` is (tile, the store of one piece, its site)."""
    require_warps(group, site)
    tile, store, piece_site = site.extra
    base = lanes_of(group, address)
    kind = base.dtype.type
    joined = _joined(group, registers)
    pieces = joined.view(piece_site.dtype).T
    for offset, piece in zip(_addresses(group, tile, stride), pieces, strict=True):
        store(group, piece_site, base + offset.astype(kind), np.ascontiguousarray(piece))


def _joined(group: "Group", registers: tuple[Lanes, ...]) -> Array:
    """Returns the registers of each lane behind each other."""
    return np.ascontiguousarray(np.stack([lanes_of(group, value) for value in registers], axis=1))


def _matrix(group: "Group", tile: Tile, registers: tuple[Lanes, ...]) -> Array:
    """Returns a fragment as [warps, rows, columns] of f32 or f64."""
    raw = _joined(group, registers[: len(registers) // tile.copies]).reshape(-1)
    if tile.type == "f64":
        values: Array = raw.view(np.float64)
    elif tile.type in ("f32", "s32"):
        values = raw.view(np.float32 if tile.type == "f32" else np.int32)
    else:
        values = decode(raw.view(np.complex128), tile.type)
    return values.reshape(group.n // WARP, tile.rows, tile.columns)


def multiply_tiles(
    group: "Group",
    site: "Site",
    left: tuple[Lanes, ...],
    right: tuple[Lanes, ...],
    *start: Lanes,
) -> tuple[Lanes, ...]:
    """Returns A B + C; `site.extra` is (tile of A, of B, of C, of D, saturated)."""
    require_warps(group, site)
    a_tile, b_tile, c_tile, d_tile, saturated = site.extra
    a, b = _matrix(group, a_tile, left), _matrix(group, b_tile, right)
    if b_tile.flipped:
        b = b.transpose(0, 2, 1)
    product = np.matmul(a, b)
    if a_tile.type == "xor":
        product = (a.shape[2] - product) / 2
    if d_tile.type == "s32":
        rows = np.ascontiguousarray(product.reshape(group.n, -1).T)
        return tuple(integers(rows, start, saturated))
    total = product + _matrix(group, c_tile, start)
    kind = {"f16": np.float16, "f32": np.float32, "f64": np.float64}[d_tile.type]
    code = {"f16": np.uint32}.get(d_tile.type, kind)
    rows: Array = np.ascontiguousarray(total.astype(kind).reshape(group.n, -1).view(code).T)
    return tuple(rows)


# Extents and the types of A: m, n and k.
_EXTENTS = {
    **{shape: ("f16", "bf16", "s8", "u8") for shape in ("m16n16k16", "m32n8k16", "m8n32k16")},
    "m16n16k8": ("tf32",),
    "m8n8k4": ("f64",),
    "m8n8k32": ("s4", "u4"),
    "m8n8k128": ("b1",),
}


def _extents(shape: str) -> tuple[int, int, int]:
    """Returns m, n and k of a shape."""
    m, rest = shape[1:].split("n")
    n, k = rest.split("k")
    return int(m), int(n), int(k)


def _tile(b: "BlockEmitter", shape: str, matrix: str, type: str, layout: str = "row") -> Tile:
    """Returns the fragment of A, B, C or D that a shape and a type mean."""
    m, n, k = _extents(shape)
    rows, columns = {"a": (m, k), "b": (k, n)}.get(matrix, (m, n))
    bits = 64 if type == "f64" else 32
    inputs = _EXTENTS[shape]
    results = {"f16": ("f16", "f32"), "f64": ("f64",)}.get(inputs[0], ("f32", "s32"))
    if inputs[0] == "f16":
        results = ("f16", "f32", "s32")
    if type not in (inputs if matrix in "ab" else results):
        raise b.error(f"has no fragment of .{type} for .{shape}")
    below = _WIDTHS[type][0] < 8
    if below and layout != {"a": "row", "b": "col"}.get(matrix, layout):
        raise b.error(f"has no .{layout} fragment of .{type}")
    # Sub-byte columns of B lie along k: the fragment is kept as its transpose.
    if below and matrix == "b":
        return Tile(columns, rows, type, False, bits, flipped=True)
    copies = 8 * WARP * 32 // (rows * columns * 16) if matrix in "ab" and type == "f16" else 1
    return Tile(rows, columns, type, layout == "col", bits, copies)


def _registers(b: "BlockEmitter", operand: Operand, tile: Tile) -> tuple[Operand, ...]:
    """Returns the registers of a fragment, of which there must be as many as its tile has."""
    items = operand.items if isinstance(operand, Vector) else (operand,)
    if len(items) != tile.registers():
        raise b.error(f"expects a vector of {tile.registers()} registers, got {len(items)}")
    return items


def _values(b: "BlockEmitter", operand: Operand, tile: Tile) -> list[str]:
    """Returns the names of a fragment's registers."""
    return [b.read(item, _register(tile)) for item in _registers(b, operand, tile)]


def _register(tile: Tile) -> str:
    """Returns the type as which a fragment's registers are read and written."""
    return tile.type if tile.type in ("f32", "f64", "s32") else "b32"


def _site(
    b: "BlockEmitter",
    fields: Fields,
    tile: Tile,
    offset: int,
    functions: dict[str, Callable[..., Any]],
    window: Callable[..., Any],
) -> str:
    """Returns the name of the site of a load or store of a fragment, piece by piece."""
    space = fields["space"].partition("::")[0]
    piece = _WIDTHS[tile.type][1] // 8
    kind = {"f32": np.float32, "f64": np.float64, "s32": np.int32}.get(tile.type)
    kind = kind or np.dtype(f"u{piece}").type
    inner = b.site_object(dtype=kind, size=piece, space=space, offset=offset)
    return b.site(extra=(tile, functions.get(space, window), inner))


def _stride(b: "BlockEmitter", rest: tuple[Operand, ...], tile: Tile) -> str:
    """Returns the name of the distance of rows or columns, in elements."""
    if rest:
        return b.read(rest[0], "u32")
    return b.scope.constant("u4", tile.rows if tile.across else tile.columns)


def _load(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits wmma.load."""
    d, address, *rest = b.operands(2, 3)
    tile = _tile(b, fields["shape"], fields["matrix"], fields["t"], fields["layout"])
    base, offset = b.address(address)
    site = _site(b, fields, tile, offset, _LOADS, load_window)
    code = f"u{tile.bits // 8}"
    targets = [(item, code) for item in _registers(b, d, tile)]
    b.call(load_tile, site, [base, _stride(b, tuple(rest), tile)], targets)


def _store(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits wmma.store."""
    address, s, *rest = b.operands(2, 3)
    tile = _tile(b, fields["shape"], "d", fields["t"], fields["layout"])
    base, offset = b.address(address)
    site = _site(b, fields, tile, offset, _STORES, store_window)
    b.call(store_tile, site, [base, _stride(b, tuple(rest), tile), *_values(b, s, tile)])


def _multiply(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits wmma.mma."""
    shape = fields["shape"]
    left, right = fields.get("a") or "f16", fields.get("b") or "f16"
    d, a, x, c = b.operands(4)
    tiles = [
        _tile(b, shape, matrix, type, layout)
        for matrix, type, layout in (
            ("a", left, fields.get("la") or "row"),
            ("b", right, fields.get("lb") or "col"),
            ("c", fields["c"], "row"),
            ("d", fields["d"], "row"),
        )
    ]
    names = [
        f"({', '.join(_values(b, operand, tile))},)"
        for operand, tile in zip((a, x), tiles, strict=False)
    ]
    bits = fields.get("bits")
    if bits:
        tiles[:2] = [tile._replace(type=bits) for tile in tiles[:2]]
    site = b.site(extra=(*tiles, bool(fields.get("satfinite"))))
    code = {"f32": "f4", "f64": "f8", "s32": "i4"}.get(fields["d"], "u4")
    targets = [(item, code) for item in _registers(b, d, tiles[3])]
    b.call(multiply_tiles, site, [*names, *_values(b, c, tiles[2])], targets)


_SHAPES = "<shape:m16n16k16|m32n8k16|m8n32k16>"
_ANY = f"<shape:{'|'.join(_EXTENTS)}>"
_SPACE = "[.<space:global|shared::cta|shared>]"
_WAYS = "<la:row|col>.<lb:row|col>"
_MMA = "wmma.mma.sync.aligned"
FORMS: Table = (
    (
        f"wmma.load.<matrix:a|b|c>.sync.aligned.<layout:row|col>.{_ANY}{_SPACE}"
        ".<t:f16|bf16|tf32|f32|f64|s32|s8|u8|s4|u4|b1>",
        _load,
    ),
    (
        f"wmma.store.d.sync.aligned.<layout:row|col>.{_ANY}{_SPACE}.<t:f16|f32|f64|s32>",
        _store,
    ),
    (f"{_MMA}.{_WAYS}.{_SHAPES}.<d:f16|f32>.<c:f16|f32>", _multiply),
    (f"{_MMA}.{_WAYS}.{_SHAPES}.<d:s32>.<a:s8|u8>.<b:s8|u8>.<c:s32>[.satfinite]", _multiply),
    (f"{_MMA}.{_WAYS}.{_SHAPES}.<d:f32>.<a:bf16>.<b:bf16>.<c:f32>", _multiply),
    (f"{_MMA}.{_WAYS}.<shape:m16n16k8>.<d:f32>.<a:tf32>.<b:tf32>.<c:f32>", _multiply),
    (f"{_MMA}.{_WAYS}.<shape:m8n8k4>[.rn].<d:f64>.<a:f64>.<b:f64>.<c:f64>", _multiply),
    (
        f"{_MMA}.row.col.<shape:m8n8k32>.<d:s32>.<a:s4|u4>.<b:s4|u4>.<c:s32>[.satfinite]",
        _multiply,
    ),
    (
        "wmma.mma.<bits:xor|and>.popc.sync.aligned.row.col.<shape:m8n8k128>"
        ".<d:s32>.<a:b1>.<b:b1>.<c:s32>",
        _multiply,
    ),
)
