"""
The contract of one kernel: what a caller must pass, and what the kernel needs to run.

A contract is plain data. It is written as JSON beside the PTX and read back strictly: an unknown,
missing or wrong field is one ContractError that names the JSON path.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .errors import ContractError
from .extent import Extent, ExtentError, parse_extent

VERSION = 1

JsonScalar: TypeAlias = str | int | float | bool | None
Access: TypeAlias = Literal["read", "write", "read_write"]

POINTER_BYTES = 8
# A boolean takes a byte; u8 are the bits of 8-bit floats.
_INTEGER_BYTES = {"i1": 1, "i8": 1, "u8": 1, "i16": 2, "i32": 4, "i64": 8}
POSITIONS = ("b", "h", "kv_head", "q_idx", "kv_idx", "d", "page", "query_row")
DTYPE_BYTES = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8} | _INTEGER_BYTES
SCALAR_BYTES = {"i32": 4, "i64": 8, "f32": 4, "f64": 8}
HOST = "host"
ACCESSES = ("read", "write", "read_write")
LAYOUTS = ("NHD", "HND")

_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_TARGET = re.compile(r"sm_([0-9]{1,2})([0-9])(a?)", re.ASCII)


@dataclass(frozen=True)
class Target:
    """A target such as sm_80 or sm_90a; `specific` ones run on that very capability alone."""

    major: int
    minor: int
    specific: bool

    def runs_on(self, capability: tuple[int, int]) -> bool:
        """Says whether a GPU of compute `capability` runs it (PTX ISA, .target directive)."""
        own = (self.major, self.minor)
        return capability == own if self.specific else capability >= own


def parse_target(text: str) -> Target | None:
    """Returns the target that `text` names, or None where it names none."""
    match = _TARGET.fullmatch(text)
    if match is None:
        return None
    return Target(int(match[1]), int(match[2]), bool(match[3]))


@dataclass(frozen=True)
class PointerParam:
    """
    A pointer to global memory, passed as 64 bits.

    `shape` holds one extent's text per dimension, in row-major order without gaps; `alignment` is
    what the kernel assumes of the address, in bytes.
    """

    name: str
    dtype: str
    shape: tuple[str, ...]
    access: Access = "read"
    alignment: int = 16

    @property
    def extents(self) -> tuple[Extent, ...]:
        """The dimensions as parsed extents."""
        return tuple(parse_extent(text) for text in self.shape)


@dataclass(frozen=True)
class ScalarParam:
    """A scalar; where `symbol` is given its value is that symbol's, and the caller passes none."""

    name: str
    dtype: str
    symbol: str | None = None


Param: TypeAlias = PointerParam | ScalarParam


@dataclass(frozen=True)
class SymbolRange:
    """The multiples of `multiple` a symbol may be, both ends included; an open end is None."""

    minimum: int = 0
    maximum: int | None = None
    multiple: int = 1


@dataclass(frozen=True)
class Resources:
    """What the assembler reports of a kernel: registers a thread, bytes spilled a thread."""

    registers: int
    spilled_bytes: int


@dataclass(frozen=True)
class ParamReach:
    """
    An axis of a variant's tensor that is indexed by a bare position, and so must hold them all.

    `position` is "b", "h", "kv_head", "q_idx", "kv_idx", "d", "page" or "query_row".
    """

    param: str
    axis: int
    position: str


@dataclass(frozen=True)
class AttentionContract:
    """
    What the attention wrapper must know of its kernel.

    `tile_rows` counts packed rows a CTA, where packed row r of a request is query row r // group of
    head r % group; a request of at most `short_rows` takes a tile of so many, 0 where there is
    none. `kv_tile` is the number of KV rows that the kernel takes at a time. `kv_lower` and
    `kv_upper` bound the KV rows that a query at a position sees, from the largest
    `slope * position + offset` of pairs (slope, offset) to the least one, both included.
    `work` says what its work items are: "ranges", "tile_lists" or "cascade".
    `params` names the parameters of the variant, passed by the caller at run; `reaches` tells
    which of their axes must be how long. `kv` says how keys and
    values are stored: "ragged" rows, else pages; "combined" in one array; "strided", with strides
    known at run time; "packed", two codes in a byte; "table_of_heads", each KV head with a row of
    its own in the page table; "columns", where the number of a page tells the positions of its
    keys; "latent", rows of multi-head latent attention, `head_dim` elements of which are values.
    """

    num_qo_heads: int
    num_kv_heads: int
    head_dim: int
    page_size: int
    layout: str
    dtype: str
    tile_rows: int
    softmax_scale: float
    params: tuple[str, ...] = ()
    reaches: tuple[ParamReach, ...] = ()
    short_rows: int = 0
    kv_tile: int = 64
    kv_lower: tuple[tuple[int, int], ...] = ()
    kv_upper: tuple[tuple[int, int], ...] = ()
    work: str = "ranges"
    kv: tuple[str, ...] = ()

    @property
    def query_arrays(self) -> tuple[str, ...]:
        """The names of the arrays of queries; the first has the shape of the output."""
        return ("q_nope", "q_pe") if "latent" in self.kv else ("q",)

    @property
    def kv_arrays(self) -> tuple[str, ...]:
        """The names of the arrays of keys and values."""
        if "combined" in self.kv:
            return ("kv_pages",)
        if "latent" in self.kv:
            return ("ckv_pages", "kpe_pages")
        rows = "ragged" in self.kv or "columns" in self.kv
        return ("k", "v") if rows else ("k_pages", "v_pages")

    @property
    def tile_heights(self) -> tuple[int, ...]:
        """The packed rows of the kernel's query tiles, ascending."""
        return (self.short_rows, self.tile_rows) if self.short_rows else (self.tile_rows,)

    @property
    def group(self) -> int:
        """Query heads that share one KV head."""
        return self.num_qo_heads // self.num_kv_heads


@dataclass(frozen=True)
class KernelContract:
    """
    The contract of one kernel.

    `grid` holds three extents in CTAs, `block` three counts of threads, the two `*_shared_bytes`
    the bytes of shared memory a CTA. `compile_key` says what the kernel was specialised on.
    Raises ContractError where the parts do not agree.
    """

    name: str
    target: str
    params: tuple[Param, ...]
    grid: tuple[str, str, str]
    block: tuple[int, int, int]
    static_shared_bytes: int = 0
    dynamic_shared_bytes: int = 0
    symbols: Mapping[str, SymbolRange] = field(default_factory=dict[str, SymbolRange])
    compile_key: Mapping[str, JsonScalar] = field(default_factory=dict[str, JsonScalar])
    resources: Resources | None = None
    attention: AttentionContract | None = None

    def __post_init__(self) -> None:
        _check_kernel(self)
        _check_params(self)
        _check_symbols(self)
        if self.attention is not None:
            _check_attention(self.attention, {param.name for param in self.params})

    @property
    def pointers(self) -> tuple[PointerParam, ...]:
        """The pointer parameters, in order."""
        return tuple(param for param in self.params if isinstance(param, PointerParam))

    @property
    def scalars(self) -> tuple[ScalarParam, ...]:
        """The scalar parameters, in order."""
        return tuple(param for param in self.params if isinstance(param, ScalarParam))


def _require(condition: bool, path: str, message: str) -> None:
    if not condition:
        raise ContractError(path, message)


def _extent(text: str, path: str) -> Extent:
    try:
        return parse_extent(text)
    except ExtentError as error:
        raise ContractError(path, str(error)) from None


def _check_kernel(contract: KernelContract) -> None:
    name, target = contract.name, contract.target
    _require(bool(_NAME.fullmatch(name)), "name", f"expected a PTX identifier, got {name!r}")
    known = target == HOST or parse_target(target) is not None
    _require(known, "target", f"expected a target such as sm_80, sm_90a or host, got {target!r}")
    for index, count in enumerate(contract.block):
        _require(count >= 1, f"block[{index}]", f"expected at least 1 thread, got {count}")
    x, y, z = contract.block
    _require(x * y * z <= 1024, "block", f"expected at most 1024 threads, got {x * y * z}")
    for kind in ("static", "dynamic"):
        size = contract.static_shared_bytes if kind == "static" else contract.dynamic_shared_bytes
        _require(size >= 0, f"shared_bytes.{kind}", f"expected at least 0, got {size}")


def _check_params(contract: KernelContract) -> None:
    seen: set[str] = set()
    for index, param in enumerate(contract.params):
        path = f"params[{index}]"
        named = bool(_SYMBOL.fullmatch(param.name))
        _require(named, f"{path}.name", f"expected an identifier, got {param.name!r}")
        _require(param.name not in seen, f"{path}.name", f"'{param.name}' is declared twice")
        seen.add(param.name)
        is_any = contract.target == HOST or isinstance(param, PointerParam)
        dtypes = DTYPE_BYTES if is_any else SCALAR_BYTES
        expected = f"expected one of {', '.join(dtypes)}, got {param.dtype!r}"
        _require(param.dtype in dtypes, f"{path}.dtype", expected)
        if isinstance(param, PointerParam):
            _check_pointer(param, path)


def _check_pointer(param: PointerParam, path: str) -> None:
    expected = f"expected one of {', '.join(ACCESSES)}, got {param.access!r}"
    _require(param.access in ACCESSES, f"{path}.access", expected)
    alignment = param.alignment
    power = alignment >= 1 and alignment & (alignment - 1) == 0
    _require(power, f"{path}.alignment", f"expected a power of two, got {alignment}")


def _check_symbols(contract: KernelContract) -> None:
    bindable = {param.symbol for param in contract.scalars if param.symbol}
    used: dict[str, str] = {name: f"symbols.{name}" for name in contract.symbols}
    texts = {f"grid[{index}]": text for index, text in enumerate(contract.grid)}
    for index, param in enumerate(contract.params):
        if isinstance(param, PointerParam):
            texts |= {f"params[{index}].shape[{i}]": text for i, text in enumerate(param.shape)}
        elif param.symbol is not None:
            used.setdefault(param.symbol, f"params[{index}].symbol")
    for path, text in texts.items():
        extent = _extent(text, path)
        if extent.name and path.startswith("params"):
            bindable.add(extent.name)
        for name in sorted(extent.symbols):
            used.setdefault(name, path)
    for name, path in used.items():
        declared = name in contract.symbols
        _require(declared, path, f"symbol '{name}' has no range in 'symbols'")
        message = f"no shape or scalar binds symbol '{name}'"
        _require(name in bindable, path, message)
    for name, span in contract.symbols.items():
        _require(bool(_SYMBOL.fullmatch(name)), "symbols", f"{name!r} is not an identifier")
        ordered = span.maximum is None or span.minimum <= span.maximum
        _require(ordered, f"symbols.{name}", f"[{span.minimum}, {span.maximum}] holds no value")
        message = f"expected a multiple of at least 1, got {span.multiple}"
        _require(span.multiple >= 1, f"symbols.{name}", message)


def _check_attention(section: AttentionContract, params: set[str]) -> None:
    counts = ("num_qo_heads", "num_kv_heads", "head_dim", "page_size", "tile_rows", "kv_tile")
    for name in counts:
        value: int = getattr(section, name)
        _require(value >= 1, f"attention.{name}", f"expected at least 1, got {value}")
    lower = f"expected 0 to {section.tile_rows - 1}, got {section.short_rows}"
    _require(0 <= section.short_rows < section.tile_rows, "attention.short_rows", lower)
    heads = f"expected a multiple of num_kv_heads = {section.num_kv_heads}"
    divides = section.num_qo_heads % section.num_kv_heads == 0
    _require(divides, "attention.num_qo_heads", f"{heads}, got {section.num_qo_heads}")
    layouts = f"expected one of {', '.join(LAYOUTS)}, got {section.layout!r}"
    _require(section.layout in LAYOUTS, "attention.layout", layouts)
    _require(
        section.dtype in ("f16", "bf16"),
        "attention.dtype",
        f"expected f16 or bf16, got {section.dtype!r}",
    )
    finite = abs(section.softmax_scale) < float("inf")
    _require(finite, "attention.softmax_scale", f"expected a number, got {section.softmax_scale}")
    for index, name in enumerate(section.params):
        message = f"'{name}' is no parameter of the kernel"
        _require(name in params, f"attention.params[{index}]", message)
    for index, reach in enumerate(section.reaches):
        path = f"attention.reaches[{index}]"
        _require(reach.param in section.params, path, f"'{reach.param}' is no parameter")
        _require(reach.axis >= 0, path, f"expected an axis from 0, got {reach.axis}")
        expected = f"expected one of {', '.join(POSITIONS)}, got {reach.position!r}"
        _require(reach.position in POSITIONS, path, expected)
