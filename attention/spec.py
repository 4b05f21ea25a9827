"""What an attention kernel is specialised on: the finite key of its compilation."""

from dataclasses import dataclass

from ..runtime.errors import ArgumentError
from .expression import LARGEST_F32, is_integer, is_real

TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_90a")
DTYPES = ("bf16", "f16")
LAYOUTS = ("NHD", "HND")
LARGEST_HEAD_DIM = 256
# Of the numbers that f32 holds with full precision.
SMALLEST_F32 = 2.0**-126


@dataclass(frozen=True)
class PagedKV:
    """
    Keys and values in pages of `page_size` tokens.

    An array of pages is [pages, page_size, heads, head_dim] in layout "NHD", and
    [pages, heads, page_size, head_dim] in layout "HND".
    """

    page_size: int
    layout: str = "NHD"

    def __post_init__(self) -> None:
        if not is_integer(self.page_size) or not 1 <= self.page_size <= 2**20:
            raise ArgumentError("page_size", "an integer from 1 to 2^20", repr(self.page_size))
        if self.layout not in LAYOUTS:
            raise ArgumentError("layout", "'NHD' or 'HND'", repr(self.layout))


@dataclass(frozen=True)
class AttentionSpec:
    """
    The numbers of an attention kernel; raises `ArgumentError` for what no kernel can do.

    `softmax_scale` is the scale a plan uses where none is given; it is passed at run time and
    does not specialise the kernel. `tile_rows` counts the packed rows of a query tile, 0 gives each
    warp its own 16; `kv_tile` 0 chooses by head_dim.
    """

    num_qo_heads: int
    num_kv_heads: int
    head_dim: int
    page_size: int
    layout: str
    dtype: str
    target: str
    softmax_scale: float
    warps: int = 4
    tile_rows: int = 0
    kv_tile: int = 0
    stages: int = 2

    def __post_init__(self) -> None:
        PagedKV(self.page_size, self.layout)  # checks both
        for name in ("num_qo_heads", "num_kv_heads"):
            count = getattr(self, name)
            if not is_integer(count) or not 1 <= count <= 65535:
                raise ArgumentError(name, "an integer from 1 to 65535", repr(count))
        if self.num_qo_heads % self.num_kv_heads:
            multiple = f"a multiple of the {self.num_kv_heads} KV heads"
            raise ArgumentError("num_qo_heads", multiple, str(self.num_qo_heads))
        head_dim = self.head_dim
        if not is_integer(head_dim) or head_dim % 16 or not 16 <= head_dim <= LARGEST_HEAD_DIM:
            expected = f"a multiple of 16 from 16 to {LARGEST_HEAD_DIM}"
            raise ArgumentError("head_dim", expected, repr(head_dim))
        if self.dtype not in DTYPES:
            raise ArgumentError("dtype", "'bf16' or 'f16'", repr(self.dtype))
        if self.target not in TARGETS:
            raise ArgumentError("target", "one of " + ", ".join(TARGETS), repr(self.target))
        self._check_options()

    def _check_options(self) -> None:
        # The kernel multiplies by the scale after it has found the greatest product, so it is
        # positive; smaller numbers than these are zero on the GPU.
        scale = self.softmax_scale
        if not is_real(scale) or not SMALLEST_F32 <= scale <= LARGEST_F32:
            raise ArgumentError("softmax_scale", "a positive number of type f32", repr(scale))
        if not is_integer(self.stages) or self.stages < 2:
            raise ArgumentError("stages", "an integer from 2", repr(self.stages))

    @property
    def kernel_numbers(self) -> dict[str, str | int]:
        """What the kernel is specialised on, by name; the scale is not among it."""
        return {
            "dtype": self.dtype,
            "head_dim": self.head_dim,
            "kv_tile": self.kv_tile,
            "layout": self.layout,
            "num_kv_heads": self.num_kv_heads,
            "num_qo_heads": self.num_qo_heads,
            "page_size": self.page_size,
            "stages": self.stages,
            "target": self.target,
            "tile_rows": self.tile_rows,
            "warps": self.warps,
        }
