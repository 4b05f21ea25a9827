"""Compiles attention down to PTX, and writes the contract of the kernel."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from xdsl.context import Context
from xdsl.dialects import gpu
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, IntegerAttr, ModuleOp, StringAttr
from xdsl.ir import Operation
from xdsl.utils.hints import isa

from ..dialects.diagnostic import DiagnosticError
from ..dialects.tile import ROWS_PER_WARP
from ..dialects.verification import verify_module
from ..lowering.attn_to_tile.geometry import Work
from ..lowering.garbage import paused_collection, take_apart
from ..lowering.pipelines.attention import LEVELS, attention_to_thread
from ..lowering.ptx import print_ptx
from ..lowering.tile_to_thread.convert import GRID, SHARED_BYTES
from ..runtime.artifact import KernelArtifact
from ..runtime.contract import (
    AttentionContract,
    KernelContract,
    Param,
    PointerParam,
    ScalarParam,
    SymbolRange,
)
from .kv_params import (
    LARGEST_ROWS,
    kv_params,
    kv_symbols,
    query_params,
    request_bounds,
    scale_params,
    stride_params,
    table_params,
)
from .module import attention_module
from .plan_contract import PlanContract, plan_contract
from .spec import AttentionSpec
from .variant_contract import VariantContract, variant_contract
from .variants import TracedVariant

LARGEST_I32 = 2**31 - 1
_WORK_TABLES: dict[Work, dict[str, tuple[str, ...]]] = {
    Work.RANGES: {},
    Work.TILE_LISTS: {"kv_tiles": ("listed",)},
    Work.CASCADE: {"query_rows": ("n", "2"), "parts": ("parts",)},
}
_WORK_SYMBOLS: dict[Work, dict[str, SymbolRange]] = {
    Work.RANGES: {},
    Work.TILE_LISTS: {"listed": SymbolRange(1, LARGEST_I32)},
    Work.CASCADE: {"parts": SymbolRange(0, LARGEST_I32)},
}


@dataclass
class Levels:
    """
    A kernel at every level, and the CPU seconds that each step took.

    `texts` maps the level's name to its text; it is filled only where texts are wanted.
    """

    texts: dict[str, str] = field(default_factory=dict[str, str])
    seconds: dict[str, float] = field(default_factory=dict[str, float])


def compile_attention(
    spec: AttentionSpec, variant: TracedVariant, levels: Levels | None = None
) -> KernelArtifact:
    """
    Returns the kernel of a variant of attention; raises `DiagnosticError`.

    With `levels` the text of each level is kept beside the time of each step.
    """
    clock = Clock(levels)
    return lower_attention(attention_module(spec, variant), spec, clock)


class Clock:
    """Notes the CPU time of each step, and the text of its result where levels are kept."""

    def __init__(self, levels: Levels | None):
        self.levels = levels
        self.start = time.process_time()

    def lap(self, level: str, result: ModuleOp | str) -> None:
        """Ends a step."""
        if self.levels is None:
            return
        self.levels.seconds[level] = time.process_time() - self.start
        self.levels.texts[level] = str(result)
        self.start = time.process_time()


def lower_attention(
    module: ModuleOp, spec: AttentionSpec, clock: Clock | None = None
) -> KernelArtifact:
    """Lowers a module that holds one attention function, level by level, and uses it up."""
    clock = clock or Clock(None)
    with paused_collection():
        verify_module(module)
        variant, tiles = variant_contract(module), plan_contract(module, spec)
        context = Context()
        numbers = (spec.warps, spec.tile_rows, spec.kv_tile, spec.stages)
        passes = attention_to_thread(spec.target, *numbers, spec.work)
        for level, step in zip(LEVELS, passes, strict=True):
            step.apply(context, module)
            clock.lap(level, module)
        function = _kernel_function(module)
        text = print_ptx(module, spec.target)
        contract = kernel_contract(spec, function, variant, tiles)
        take_apart(module)
        clock.lap("ptx", text)
        return KernelArtifact(text, contract)


def _kernel_function(module: ModuleOp) -> gpu.FuncOp:
    devices = (op for op in module.ops if isinstance(op, gpu.ModuleOp))
    found = (op for device in devices for op in device.body.block.ops)
    functions = [op for op in found if isinstance(op, gpu.FuncOp)]
    if len(functions) != 1:
        raise DiagnosticError(f"expected one kernel, got {len(functions)}")
    return functions[0]


def kernel_contract(
    spec: AttentionSpec, function: gpu.FuncOp, variant: VariantContract, tiles: PlanContract
) -> KernelContract:
    """Returns the contract of an attention kernel, from its function and what it was made for."""
    block = function.attributes["gpu.known_block_size"]
    if not isinstance(block, DenseArrayBase):
        raise TypeError(f"expected the block size of a kernel, got {block}")
    threads, *_ = (int(extent) for extent in block.iter_values())
    x, y, z = _texts(function, GRID)
    shared_bytes = function.attributes[SHARED_BYTES]
    if not isinstance(shared_bytes, IntegerAttr):
        raise TypeError(f"expected the bytes of shared memory, got {shared_bytes}")
    return KernelContract(
        name=function.sym_name.data,
        target=spec.target,
        params=(*_params(spec), *variant.params),
        grid=(x, y, z),
        block=(threads, 1, 1),
        dynamic_shared_bytes=shared_bytes.value.data,
        symbols=_symbols(spec, variant),
        compile_key=spec.kernel_numbers,
        attention=_section(spec, variant, tiles),
    )


def _symbols(spec: AttentionSpec, variant: VariantContract) -> Mapping[str, SymbolRange]:
    symbols = {
        "n": SymbolRange(0, LARGEST_ROWS // spec.num_qo_heads),
        "cta_bounds": SymbolRange(1),
        "items": SymbolRange(0, LARGEST_ROWS // Work(spec.work).item_fields),
        "merges": SymbolRange(0, LARGEST_ROWS // Work(spec.work).merge_fields),
        "slots": SymbolRange(0, LARGEST_ROWS // slot_rows(spec)),
        **kv_symbols(spec),
        **_WORK_SYMBOLS[Work(spec.work)],
    }
    # A tensor is never empty: what is outside of it reads the nearest element.
    for symbol in variant.symbols:
        known = symbols.get(symbol, SymbolRange(1, LARGEST_I32))
        symbols[symbol] = replace(known, minimum=1)
    return symbols


def _texts(op: Operation, name: str) -> list[str]:
    attribute = op.attributes[name]
    if not isa(attribute, ArrayAttr[StringAttr]):
        raise TypeError(f"expected an array of texts in {name}, got {attribute}")
    return [text.data for text in attribute]


def tile_rows(spec: AttentionSpec) -> int:
    """Returns the packed rows of a query tile."""
    return spec.tile_rows or ROWS_PER_WARP * spec.warps


def slot_rows(spec: AttentionSpec) -> int:
    """Returns the rows of a slot of partial results: in a cascade each row is one."""
    return 1 if Work(spec.work) is Work.CASCADE else tile_rows(spec)


def _section(
    spec: AttentionSpec, variant: VariantContract, tiles: PlanContract
) -> AttentionContract:
    return AttentionContract(
        num_qo_heads=spec.num_qo_heads,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        page_size=spec.page_size or 1,
        layout=spec.layout,
        dtype=spec.dtype,
        tile_rows=tile_rows(spec),
        softmax_scale=spec.softmax_scale,
        params=variant.names,
        reaches=variant.reaches,
        **vars(tiles),
        kv=(*spec.kv.flags, *(("packed",) if spec.format.dtype == "i4" else ())),
    )


def _params(spec: AttentionSpec) -> tuple[Param, ...]:
    heads, head_dim = str(spec.num_qo_heads), str(spec.head_dim)
    rows, work = str(slot_rows(spec)), Work(spec.work)

    def table(name: str, *extents: str) -> PointerParam:
        return PointerParam(name, "i32", extents, alignment=4)

    return (
        *query_params(spec),
        *kv_params(spec),
        table("qo_indptr", request_bounds(spec)),
        *table_params(spec),
        table("cta_indptr", "cta_bounds"),
        table("items", "items", str(work.item_fields)),
        table("item_merge", "items", *(("2",) if work is Work.CASCADE else ())),
        table("merges", "merges", str(work.merge_fields)),
        PointerParam("counters", "i32", ("merges",), "read_write", alignment=4),
        PointerParam("partial_out", "f32", ("slots", rows, head_dim), "read_write", alignment=8),
        PointerParam("partial_lse", "f32", ("slots", rows), "read_write", alignment=4),
        *(table(name, *extents) for name, extents in _WORK_TABLES[work].items()),
        PointerParam("out", spec.dtype, ("n", heads, head_dim), "write"),
        PointerParam("lse", "f32", ("n", heads), "write", alignment=4),
        ScalarParam("softmax_scale", "f32"),
        *scale_params(spec),
        *stride_params(spec),
    )
