"""
Tensor maps: the 128 bytes that tell the TMA unit of a tensor in global memory.

A real one comes from cuTensorMapEncodeTiled (CUDA driver API, "Tensor Map Object Management") or
from tensormap.replace, and is opaque; this one holds the same fields in an order of its own.
Dimension 0 varies fastest. All fields of zeroed memory are 0: the rank counts from there.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import LaunchError

_MAGIC = 0x70616D74
_FORM = struct.Struct("<IBBBBQ5Q4Q5H5H")
BYTES = 128
# Fields that can be replaced: place of the first, bytes of each, how many there are.
FIELDS = {
    "elemtype": (4, 1, 1),
    "rank": (5, 1, 1),
    "swizzle_mode": (6, 1, 1),
    "fill_mode": (7, 1, 1),
    "global_address": (8, 8, 1),
    "global_dim": (16, 8, 5),
    "global_stride": (56, 8, 4),
    "box_dim": (88, 2, 5),
    "element_stride": (98, 2, 5),
}
# Names of element types: size in bytes.
SIZES = {
    "u8": 1,
    "u16": 2,
    "f16": 2,
    "bf16": 2,
    "u32": 4,
    "i32": 4,
    "f32": 4,
    "u64": 8,
    "i64": 8,
    "f64": 8,
}
NAMES = tuple(SIZES)
SWIZZLES = {"none": 0, "32B": 32, "64B": 64, "128B": 128}
_FILLS = ("zeros", "nan")


@dataclass(frozen=True)
class TensorMap:
    """
    A tensor in global memory and the box that one copy moves; dimension 0 varies fastest.

    `strides` are in bytes, of dimensions 1 and up. `swizzle` is 0, 32, 64 or 128 bytes. The first
    of `element_strides` has no effect: TMA can't skip elements of dimension 0.
    """

    address: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    element_strides: tuple[int, ...]
    swizzle: int = 0
    nan_fill: bool = False

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return SIZES[self.dtype]

    @property
    def steps(self) -> tuple[int, ...]:
        """Element strides as TMA takes them: those of a map without interleave begin with 1."""
        return (1, *self.element_strides[1:])

    @property
    def extents(self) -> tuple[int, ...]:
        """Elements that a box holds in shared memory: every steps-th one of it."""
        pairs = zip(self.box, self.steps, strict=True)
        return tuple(-(-extent // step) for extent, step in pairs)

    def check(self) -> None:
        """Raises LaunchError for what cuTensorMapEncodeTiled refuses."""
        rank = len(self.shape)
        if not 1 <= rank <= 5:
            raise LaunchError(f"a tensor map has 1 to 5 dimensions, got {rank}")
        if not len(self.strides) == rank - 1 or not (
            len(self.box) == len(self.element_strides) == rank
        ):
            raise LaunchError("shape, strides, box and element_strides differ in their lengths")
        for name, values, low, high in (
            ("shape", self.shape, 1, 1 << 32),
            ("box", self.box, 1, 256),
            ("element_strides", self.element_strides, 1, 8),
            ("strides", self.strides, 16, (1 << 40) - 1),
        ):
            if any(not low <= value <= high for value in values):
                raise LaunchError(f"{name} {values} is outside {low}..{high}")
        if self.address % 16 or any(stride % 16 for stride in self.strides):
            raise LaunchError("address and strides are multiples of 16 bytes")
        if self.nan_fill and self.dtype not in ("f16", "bf16", "f32", "f64"):
            raise LaunchError(f"fill 'nan' needs a floating-point type, got {self.dtype}")
        self._check_row()

    def _check_row(self) -> None:
        """Raises LaunchError where the innermost extent of the box doesn't fit."""
        row = self.box[0] * self.size
        if row % 16:
            raise LaunchError(f"a row of the box has {row} bytes, expected a multiple of 16")
        if self.swizzle and row != self.swizzle:
            span = f"exactly the swizzle's {self.swizzle}"
            raise LaunchError(f"a row of the box takes {row} bytes, covered is {span}")

    def encode(self) -> bytes:
        """Returns the 128 bytes; raises LaunchError for what a GPU's driver refuses."""
        self.check()
        rank = len(self.shape)

        def full(values: Sequence[int], count: int) -> tuple[int, ...]:
            return (*values, *[0] * (count - len(values)))

        data = _FORM.pack(
            _MAGIC,
            NAMES.index(self.dtype),
            rank - 1,
            self.swizzle,
            self.nan_fill,
            self.address,
            *full(self.shape, 5),
            *full(self.strides, 4),
            *full(self.box, 5),
            *full(self.element_strides, 5),
        )
        return data.ljust(BYTES, b"\0")


def decode(data: bytes) -> TensorMap:
    """
    Returns the tensor map that 128 bytes hold.

    Raises LaunchError where they hold none, or one that cuTensorMapEncodeTiled refuses.
    """
    fields: tuple[int, ...] = _FORM.unpack_from(data)
    magic, kind, last, swizzle, nan, address, *rest = fields
    if magic != _MAGIC:
        raise LaunchError("there is no tensor map")
    rank = last + 1
    if rank > 5:
        raise LaunchError(f"a tensor map has 1 to 5 dimensions, got {rank}")
    shape, strides, box, steps = rest[:5], rest[5:9], rest[9:14], rest[14:19]
    found = TensorMap(
        address,
        NAMES[kind],
        tuple(shape[:rank]),
        tuple(strides[: rank - 1]),
        tuple(box[:rank]),
        tuple(steps[:rank]),
        swizzle,
        bool(nan),
    )
    found.check()
    return found


def replace(data: bytes, name: str, place: int, value: int) -> bytes:
    """
    Returns a tensor map with one of FIELDS replaced; zeroed memory becomes one.

    `place` counts dimensions from 0. A value that its field can't hold becomes the largest that it
    can, which no valid tensor map has. Raises LaunchError where the bytes are neither.
    """
    head = struct.pack("<I", _MAGIC)
    if data[:4] != head and any(data):
        raise LaunchError("there is neither a tensor map nor zeroed memory")
    start, size, _ = FIELDS[name]
    start += place * size
    number = min(value, (1 << 8 * size) - 1)
    filled = head + data[4:]
    return filled[:start] + number.to_bytes(size, "little") + filled[start + size :]


def tensor_map(
    address: int,
    dtype: str,
    shape: Sequence[int],
    strides: Sequence[int],
    box: Sequence[int],
    element_strides: Sequence[int] | None = None,
    swizzle: str = "none",
    fill: str = "zeros",
) -> bytes:
    """Returns a tensor map; see Device.tensor_map."""
    for name, value, known in (
        ("dtype", dtype, SIZES),
        ("swizzle", swizzle, SWIZZLES),
        ("fill", fill, _FILLS),
    ):
        if value not in known:
            raise LaunchError(f"unknown {name} {value!r}; there are {', '.join(known)}")
    steps = tuple(element_strides) if element_strides is not None else (1,) * len(shape)
    return TensorMap(
        address,
        dtype,
        tuple(shape),
        tuple(strides),
        tuple(box),
        steps,
        SWIZZLES[swizzle],
        fill == "nan",
    ).encode()
