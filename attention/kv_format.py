"""
How the elements of a KV cache are stored: as floats, or as small numbers with scales.

docs/kv_cache.md defines the formats to the bit.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ..runtime.errors import ArgumentError

FLOATS = ("f16", "bf16", "f32")
# The largest magnitude of a code.
LARGEST_CODE = {"e4m3": 448.0, "e5m2": 57344.0, "i8": 127.0, "i4": 7.0}
SCALE_DTYPES = ("f16", "f32")
BLOCKS = (16, 32)


if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def check_flags(storage: "DataclassInstance") -> None:
    """Refuses flags of a storage that are neither True nor False: raises ArgumentError."""
    for field in fields(storage):
        if isinstance(field.default, bool):
            value = getattr(storage, field.name)
            if not isinstance(value, bool):
                raise ArgumentError(field.name, "True or False", repr(value))


@dataclass(frozen=True)
class KVFormat:
    """
    The format of a cache: `dtype` f16, bf16 or f32, or codes e4m3, e5m2, i8 or i4 with scales.

    An element is `code * scale`. `block` neighbours along head_dim have a scale of their own, of
    `scale_dtype`: 16, 32, or 0 for the whole row of a head; None is one scale for all, which the
    caller chooses. i4 is packed two to a byte. Raises ArgumentError.
    """

    dtype: str
    block: int | None = None
    scale_dtype: str = "f32"

    def __post_init__(self) -> None:
        if self.dtype not in (*FLOATS, *LARGEST_CODE):
            known = ", ".join((*FLOATS, *LARGEST_CODE))
            raise ArgumentError("dtype", f"one of {known}", repr(self.dtype))
        if self.block not in (None, 0, *BLOCKS):
            raise ArgumentError("block", "None, 0, 16 or 32", repr(self.block))
        if self.block is not None and not self.is_quantized:
            raise ArgumentError("block", f"None, {self.dtype} has no scales", str(self.block))
        if self.scale_dtype not in SCALE_DTYPES:
            raise ArgumentError("scale_dtype", "'f16' or 'f32'", repr(self.scale_dtype))

    @property
    def is_quantized(self) -> bool:
        """Whether elements are codes with scales."""
        return self.dtype in LARGEST_CODE

    @property
    def has_blocks(self) -> bool:
        """Whether scales are stored beside the codes."""
        return self.block is not None

    def block_of(self, head_dim: int) -> int:
        """Returns how many elements of a row share a scale; raises ArgumentError."""
        block = self.block or head_dim
        if head_dim % block:
            raise ArgumentError("block", f"a divisor of head_dim {head_dim}", str(block))
        return block

    def width(self, head_dim: int) -> int:
        """Returns the extent of a stored row of a head; raises ArgumentError."""
        if self.dtype != "i4":
            return head_dim
        if head_dim % 2:
            raise ArgumentError("head_dim", "an even number, for i4", str(head_dim))
        return head_dim // 2

    @property
    def stored(self) -> tuple[str, ...]:
        """The dtypes of an array of stored rows."""
        return _STORED.get(self.dtype, (self.dtype,))


_STORED = {"e4m3": ("uint8",), "e5m2": ("uint8",), "i8": ("i8",), "i4": ("uint8",)}
