"""The cache of multi-head latent attention, as kernels are specialised on it."""

from dataclasses import dataclass
from typing import ClassVar

from ..runtime.errors import ArgumentError
from .expression import is_integer
from .kv_format import KVFormat, check_flags

LATENT_DIMS = (256, 512)
LARGEST_KPE_DIM = 64
# What rows are stored as beside the dtype of the queries: codes of a byte.
LATENT_FORMATS = ("e4m3", "e5m2", "i8")


@dataclass(frozen=True)
class LatentKV:
    """
    One latent row a token, in pages of `page_size` tokens (DeepSeek-V2, section 2.1).

    A row has `head_dim_ckv` latent elements, which are keys and values at once, and `head_dim_kpe`
    that carry the position and belong to the key alone. They are two arrays, ckv_pages
    [pages, page_size, head_dim_ckv] and kpe_pages [pages, page_size, head_dim_kpe], as `append_mla`
    writes them; with `combined` one, [pages, page_size, head_dim_ckv + head_dim_kpe]. Elements are
    of the queries' dtype, or codes of `format`, with one scale for the latent elements and one for
    the others. For `confined` see `PagedKV`. Raises ArgumentError.
    """

    page_size: int
    head_dim_ckv: int = 512
    head_dim_kpe: int = 64
    combined: bool = False
    format: KVFormat | None = None
    confined: bool = False

    scale_per_head: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not is_integer(self.page_size) or not 1 <= self.page_size <= 2**20:
            raise ArgumentError("page_size", "an integer from 1 to 2^20", repr(self.page_size))
        if not is_integer(self.head_dim_ckv) or self.head_dim_ckv not in LATENT_DIMS:
            expected = " or ".join(map(str, LATENT_DIMS))
            raise ArgumentError("head_dim_ckv", expected, repr(self.head_dim_ckv))
        kpe = self.head_dim_kpe
        if not is_integer(kpe) or kpe % 16 or not 16 <= kpe <= LARGEST_KPE_DIM:
            expected = f"a multiple of 16 from 16 to {LARGEST_KPE_DIM}"
            raise ArgumentError("head_dim_kpe", expected, repr(kpe))
        check_flags(self)
        check_latent_format(self.format)

    @property
    def flags(self) -> tuple[str, ...]:
        """The properties of the storage that a kernel is specialised on, by name."""
        return ("latent", *(name for name in ("combined", "confined") if getattr(self, name)))

    @property
    def row_elements(self) -> int:
        """The elements of a row of a token."""
        return self.head_dim_ckv + self.head_dim_kpe


def check_latent_format(form: object) -> None:
    """Refuses formats in which no latent rows are stored: raises ArgumentError."""
    if form is None:
        return
    if not isinstance(form, KVFormat):
        raise ArgumentError("format", "a KVFormat, or None", type(form).__name__)
    if form.is_quantized and (form.dtype not in LATENT_FORMATS or form.has_blocks):
        known = " or ".join(LATENT_FORMATS)
        got = form.dtype if form.block is None else f"{form.dtype} in blocks"
        raise ArgumentError("format", f"{known}, without scales of blocks", got)
