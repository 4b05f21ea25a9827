"""What an attention kernel is specialised on: the finite key of its compilation."""

from dataclasses import dataclass

from ..runtime.errors import ArgumentError
from .expression import LARGEST_F32, SMALLEST_F32, is_integer, is_real
from .kv_format import KVFormat, check_flags
from .latent_kv import LatentKV

TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_90a")
# What a work item's keys are: a range of those of its request; a list of tiles, of block masks; a
# range that many requests share, in a cascade.
WORK = ("ranges", "tile_lists", "cascade")
DTYPES = ("bf16", "f16")
LAYOUTS = ("NHD", "HND")
LARGEST_HEAD_DIM = 256


@dataclass(frozen=True)
class PagedKV:
    """
    Keys and values in pages of `page_size` tokens.

    An array of pages is [pages, page_size, heads, width] in layout "NHD", and
    [pages, heads, page_size, width] in layout "HND"; with `combined` keys and values are one array
    [pages, 2, ...]. `format` says how elements are stored, None as the queries are; a format with
    one scale has one for each KV head where `scale_per_head`. `strided` arrays have any strides of
    multiples of 16 bytes, 1 on the last axis. With `table_of_heads` each KV head has pages of its
    own: row `request * num_kv_heads + head` of the page table, as sparse decoding chooses them.

    Values of keys that some rows see and others hide may be NaN or infinite where `confined`: they
    then reach the rows that see them alone, which makes tiles that a mask cuts some slower. Without
    it they also reach rows of the same tile that hide them.
    """

    page_size: int
    layout: str = "NHD"
    format: KVFormat | None = None
    combined: bool = False
    strided: bool = False
    scale_per_head: bool = False
    table_of_heads: bool = False
    confined: bool = False

    def __post_init__(self) -> None:
        if not is_integer(self.page_size) or not 1 <= self.page_size <= 2**20:
            raise ArgumentError("page_size", "an integer from 1 to 2^20", repr(self.page_size))
        if self.layout not in LAYOUTS:
            raise ArgumentError("layout", "'NHD' or 'HND'", repr(self.layout))
        check_flags(self)
        _check_format(self.format, self.scale_per_head)

    @property
    def flags(self) -> tuple[str, ...]:
        """The properties of the storage that a kernel is specialised on, by name."""
        names = ("combined", "strided", "table_of_heads", "confined")
        return tuple(name for name in names if getattr(self, name))


@dataclass(frozen=True)
class RaggedKV:
    """
    Keys and values as rows of all requests, [nnz, heads, width] each: no page table.

    Those of request b are the rows `kv_indptr[b]` to before `kv_indptr[b + 1]`. See `PagedKV`.
    """

    format: KVFormat | None = None
    strided: bool = False
    scale_per_head: bool = False
    confined: bool = False

    def __post_init__(self) -> None:
        check_flags(self)
        _check_format(self.format, self.scale_per_head)

    @property
    def flags(self) -> tuple[str, ...]:
        """The properties of the storage that a kernel is specialised on, by name."""
        return ("ragged", *(name for name in ("strided", "confined") if getattr(self, name)))


@dataclass(frozen=True)
class BlockSparseKV:
    """
    Block-sparse attention of one sequence: rows of queries see listed blocks of key columns.

    Keys and values are [columns, heads, width]; a block has `block_columns` of them, 1 for
    vector-sparse. With `per_head` each KV head has a pattern of its own. See `BlockSparse` for the
    patterns, `PagedKV` for the rest.
    """

    block_columns: int
    format: KVFormat | None = None
    strided: bool = False
    scale_per_head: bool = False
    per_head: bool = False
    confined: bool = False

    def __post_init__(self) -> None:
        if not is_integer(self.block_columns) or not 1 <= self.block_columns <= 2**20:
            got = repr(self.block_columns)
            raise ArgumentError("block_columns", "an integer from 1 to 2^20", got)
        check_flags(self)
        _check_format(self.format, self.scale_per_head)

    @property
    def flags(self) -> tuple[str, ...]:
        """The properties of the storage that a kernel is specialised on, by name."""
        more = (
            ("strided", self.strided),
            ("table_of_heads", self.per_head),
            ("confined", self.confined),
        )
        return ("columns", *(name for name, wanted in more if wanted))


KVStorage = PagedKV | RaggedKV | BlockSparseKV


def _check_format(form: object, scale_per_head: bool) -> None:
    if form is None:
        if scale_per_head:
            raise ArgumentError("scale_per_head", "False without a format", "True")
        return
    if not isinstance(form, KVFormat):
        raise ArgumentError("format", "a KVFormat, or None", type(form).__name__)
    if form.dtype == "f32":
        raise ArgumentError("format", "a format of at most 16 bits an element", "f32")
    if scale_per_head and (form.has_blocks or not form.is_quantized):
        raise ArgumentError("scale_per_head", "False, the format has no single scale", "True")


@dataclass(frozen=True)
class AttentionSpec:
    """
    The numbers of an attention kernel; raises `ArgumentError` for what no kernel can do.

    `softmax_scale` is the scale a plan uses where none is given; it is passed at run time and
    does not specialise the kernel. `tile_rows` counts the packed rows of a query tile, 0 gives each
    warp its own 16; `kv_tile` 0 chooses by head_dim. `work` says what the kernel's work items are.
    """

    num_qo_heads: int
    num_kv_heads: int
    head_dim: int
    kv: KVStorage | LatentKV
    dtype: str
    target: str
    softmax_scale: float
    warps: int = 4
    tile_rows: int = 0
    kv_tile: int = 0
    stages: int = 2
    work: str = "ranges"

    def __post_init__(self) -> None:
        if self.work not in WORK:
            raise ArgumentError("work", f"one of {', '.join(WORK)}", repr(self.work))
        for name in ("num_qo_heads", "num_kv_heads"):
            count = getattr(self, name)
            if not is_integer(count) or not 1 <= count <= 65535:
                raise ArgumentError(name, "an integer from 1 to 65535", repr(count))
        if self.num_qo_heads % self.num_kv_heads:
            multiple = f"a multiple of the {self.num_kv_heads} KV heads"
            raise ArgumentError("num_qo_heads", multiple, str(self.num_qo_heads))
        self._check_head_dim()
        if self.dtype not in DTYPES:
            raise ArgumentError("dtype", "'bf16' or 'f16'", repr(self.dtype))
        if self.target not in TARGETS:
            raise ArgumentError("target", "one of " + ", ".join(TARGETS), repr(self.target))
        self._check_options()
        self._check_kv()

    def _check_head_dim(self) -> None:
        head_dim, kv = self.head_dim, self.kv
        if isinstance(kv, LatentKV):
            if head_dim != kv.head_dim_ckv or self.num_kv_heads != 1:
                expected = f"{kv.head_dim_ckv} of 1 KV head, as the cache has"
                raise ArgumentError("head_dim", expected, f"{head_dim} of {self.num_kv_heads}")
        elif not is_integer(head_dim) or head_dim % 16 or not 16 <= head_dim <= LARGEST_HEAD_DIM:
            expected = f"a multiple of 16 from 16 to {LARGEST_HEAD_DIM}"
            raise ArgumentError("head_dim", expected, repr(head_dim))

    def _check_kv(self) -> None:
        form = self.format
        if not form.is_quantized:
            if form.dtype != self.dtype:
                expected = f"a quantised format, or that of the queries, {self.dtype}"
                raise ArgumentError("format", expected, form.dtype)
            return
        if form.width(self.head_dim) % 16:
            expected = f"rows of multiples of 16 elements, or 32 for i4, in format {form.dtype}"
            raise ArgumentError("head_dim", expected, str(self.head_dim))
        if form.has_blocks:
            form.block_of(self.head_dim)

    @property
    def format(self) -> KVFormat:
        """How elements of keys and values are stored."""
        return self.kv.format or KVFormat(self.dtype)

    @property
    def page_size(self) -> int:
        """The tokens of a page, or the columns of a block; 0 for ragged rows."""
        if isinstance(self.kv, PagedKV | LatentKV):
            return self.kv.page_size
        return self.kv.block_columns if isinstance(self.kv, BlockSparseKV) else 0

    @property
    def layout(self) -> str:
        """The order of the axes of a page, NHD for rows."""
        return self.kv.layout if isinstance(self.kv, PagedKV) else "NHD"

    @property
    def scales(self) -> str:
        """What has a scale: "tensor", "head" or "block"; "" for elements that have none."""
        if not self.format.is_quantized:
            return ""
        if self.format.has_blocks:
            return "block"
        return "head" if self.kv.scale_per_head else "tensor"

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
        latent = {"head_dim_kpe": self.kv.head_dim_kpe} if isinstance(self.kv, LatentKV) else {}
        return {
            **latent,
            "dtype": self.dtype,
            "head_dim": self.head_dim,
            "kv_dtype": self.format.dtype,
            "kv_scales": self._scales_text(),
            "kv_storage": " ".join(self.kv.flags),
            "kv_tile": self.kv_tile,
            "layout": self.layout,
            "num_kv_heads": self.num_kv_heads,
            "num_qo_heads": self.num_qo_heads,
            "page_size": self.page_size,
            "stages": self.stages,
            "target": self.target,
            "tile_rows": self.tile_rows,
            "warps": self.warps,
            "work": self.work,
        }

    def _scales_text(self) -> str:
        if self.scales != "block":
            return self.scales
        return f"block {self.format.block_of(self.head_dim)} {self.format.scale_dtype}"
