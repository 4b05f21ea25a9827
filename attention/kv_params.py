"""What the contract of an attention kernel says of its keys and values, and of their tables."""

from collections.abc import Iterator

from ..runtime.contract import Param, PointerParam, ScalarParam, SymbolRange
from .latent_kv import LatentKV
from .spec import AttentionSpec, PagedKV, RaggedKV

# Kernels count the rows of an array, one for each head, in 32 bits.
LARGEST_ROWS = 2**31 - 1
LATENT_SCALES = ("ckv_scale", "kpe_scale")
STORED = {"e4m3": "u8", "e5m2": "u8", "i8": "i8", "i4": "u8"}


def kv_arrays(spec: AttentionSpec) -> tuple[str, ...]:
    """Returns the names of the arrays of keys and values."""
    if "combined" in spec.kv.flags:
        return ("kv_pages",)
    if isinstance(spec.kv, LatentKV):
        return ("ckv_pages", "kpe_pages")
    return ("k_pages", "v_pages") if isinstance(spec.kv, PagedKV) else ("k", "v")


def _has_batch(spec: AttentionSpec) -> bool:
    """Whether a page table has a row for each request, so that its tables bind their number."""
    paged = isinstance(spec.kv, PagedKV) and not spec.kv.table_of_heads
    return paged or isinstance(spec.kv, LatentKV)


def request_bounds(spec: AttentionSpec) -> str:
    """Returns how many entries the table of the query rows of requests has."""
    return "batch + 1" if _has_batch(spec) else "request_bounds"


def _shape(spec: AttentionSpec, width: int) -> tuple[str, ...]:
    """Returns the extents of an array of rows of a head of some width."""
    heads, kv = str(spec.num_kv_heads), spec.kv
    if not isinstance(kv, PagedKV):
        return ("kv_rows", heads, str(width))
    page = (str(kv.page_size), heads) if kv.layout == "NHD" else (heads, str(kv.page_size))
    return ("pages", *(("2",) if kv.combined else ()), *page, str(width))


def query_params(spec: AttentionSpec) -> Iterator[Param]:
    """Returns the arrays of queries."""
    kv, heads = spec.kv, str(spec.num_qo_heads)
    widths = {"q": spec.head_dim}
    if isinstance(kv, LatentKV):
        widths = {"q_nope": kv.head_dim_ckv, "q_pe": kv.head_dim_kpe}
    for name, width in widths.items():
        yield PointerParam(name, spec.dtype, ("n", heads, str(width)))


def _latent_params(spec: AttentionSpec, kv: LatentKV) -> Iterator[Param]:
    widths = (kv.row_elements,) if kv.combined else (kv.head_dim_ckv, kv.head_dim_kpe)
    dtype = STORED.get(spec.format.dtype, spec.dtype)
    for name, width in zip(kv_arrays(spec), widths, strict=True):
        yield PointerParam(name, dtype, ("pages", str(kv.page_size), str(width)))


def kv_params(spec: AttentionSpec) -> Iterator[Param]:
    """Returns the arrays of keys and values; those with strides are memory of one axis."""
    if isinstance(spec.kv, LatentKV):
        yield from _latent_params(spec, spec.kv)
        return
    shape = _shape(spec, spec.format.width(spec.head_dim))
    dtype = STORED.get(spec.format.dtype, spec.dtype)
    for name in kv_arrays(spec):
        strided = "strided" in spec.kv.flags
        yield PointerParam(name, dtype, (f"{name}_elements",) if strided else shape)


def table_params(spec: AttentionSpec) -> Iterator[Param]:
    """Returns the tables that tell which keys belong to which request."""
    rows = "batch" if _has_batch(spec) else "table_rows"
    if isinstance(spec.kv, RaggedKV):
        yield PointerParam("kv_indptr", "i32", ("request_bounds",), alignment=4)
    else:
        yield PointerParam("kv_indptr", "i32", (f"{rows} + 1",), alignment=4)
        yield PointerParam("kv_indices", "i32", ("nnz",), alignment=4)
        yield PointerParam("kv_last_page_len", "i32", (rows,), alignment=4)


def scale_params(spec: AttentionSpec) -> Iterator[Param]:
    """Returns the scales of keys and values that are stored as codes."""
    if spec.scales == "tensor":
        names = LATENT_SCALES if isinstance(spec.kv, LatentKV) else ("k_scale", "v_scale")
        yield from (ScalarParam(name, "f32") for name in names)
    elif spec.scales == "head":
        heads = (str(spec.num_kv_heads),)
        for name in ("k_scale", "v_scale"):
            yield PointerParam(name, "f32", heads, alignment=4)
    elif spec.scales == "block":
        blocks = spec.head_dim // spec.format.block_of(spec.head_dim)
        names = ("kv_scales",) if "combined" in spec.kv.flags else ("k_scales", "v_scales")
        size = {"f16": 2, "f32": 4}[spec.format.scale_dtype]
        for name in names:
            shape = _shape(spec, blocks)
            yield PointerParam(name, spec.format.scale_dtype, shape, alignment=size)


def stride_params(spec: AttentionSpec) -> Iterator[Param]:
    """Returns the strides of arrays that have them, bound by symbols of their names."""
    if "strided" in spec.kv.flags:
        axes = len(_shape(spec, 1)) - 1
        names = [f"{name}_stride_{axis}" for name in kv_arrays(spec) for axis in range(axes)]
        yield from (ScalarParam(name, "i64", name) for name in names)


def kv_symbols(spec: AttentionSpec) -> dict[str, SymbolRange]:
    """Returns the ranges of the symbols of keys and values, and of their tables."""
    symbols = {"nnz": SymbolRange(0)} if spec.page_size else {}
    if _has_batch(spec):
        symbols["batch"] = SymbolRange(0)
    else:
        symbols["request_bounds"] = SymbolRange(1)
        if spec.page_size:
            symbols["table_rows"] = SymbolRange(0)
    if "strided" in spec.kv.flags:
        names = [param.symbol for param in stride_params(spec) if isinstance(param, ScalarParam)]
        elements = [f"{name}_elements" for name in kv_arrays(spec)]
        symbols |= {name: SymbolRange(0) for name in (*elements, *names) if name is not None}
    if "strided" in spec.kv.flags and spec.scales != "block":
        return symbols
    if isinstance(spec.kv, LatentKV):
        return symbols | {"pages": SymbolRange(0, LARGEST_ROWS // spec.page_size)}
    if isinstance(spec.kv, PagedKV):
        rows = spec.page_size * spec.num_kv_heads * (2 if spec.kv.combined else 1)
        return symbols | {"pages": SymbolRange(0, LARGEST_ROWS // rows)}
    return symbols | {"kv_rows": SymbolRange(0, LARGEST_ROWS // spec.num_kv_heads)}
