"""From a nest bound to threads to the kernels of the thread level."""

from dataclasses import dataclass, field
from functools import lru_cache

from xdsl.context import Context
from xdsl.dialects import gpu, llvm
from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseArrayBase,
    IntegerAttr,
    LocationAttr,
    ModuleOp,
    StringAttr,
    UnitAttr,
    UnknownLoc,
    i8,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, Region
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from ...dialects.diagnostic import DiagnosticError, nearest_location
from ...dialects.nest.function import FuncOp
from ...dialects.nest.program import Loop, Program, Scope
from ...dialects.sym import Ranges, symbol
from ...transforms.buffer_uses import axis_name, loop_ranges
from ..emitter import Emitter
from ..tile_to_thread.convert import GRID, PARAM_NAMES, SHARED_BYTES, SHARED_SYMBOL
from ..tile_to_thread.lanes import SHARED_SPACE, address, pointer_type
from .fragments import fragment_layouts
from .indices import Indices
from .intrinsics import SCRATCH_BYTES
from .kernels import SHARED_LIMITS, THREAD_AXES, WARP_SIZE, Kernel, kernels_of, reductions_of
from .scalars import PASSED_AS, passed_number
from .statements import lower_body
from .thread import LANE_PARTS, Thread, type_of

_ALIGNMENT = 16
# Swizzled buffers begin where the pattern does.
_SWIZZLE_ALIGNMENT = 1024
_DIMENSIONS = {
    "x": gpu.DimensionAttr(gpu.DimensionEnum.X),
    "y": gpu.DimensionAttr(gpu.DimensionEnum.Y),
    "z": gpu.DimensionAttr(gpu.DimensionEnum.Z),
}


@dataclass(frozen=True)
class ConvertNestToThreadPass(ModulePass):
    """Turns each `nest.func` without blocks, bound to threads, into a GPU module of its kernels."""

    name = "convert-nest-to-thread"

    target: str = field(default="sm_80", metadata={"doc": "the GPU that runs the kernels"})

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in [inside for inside in op.walk() if isinstance(inside, FuncOp)]:
            program, _ = function.read()
            location = nearest_location(function)
            try:
                module, _ = thread_module(program, self.target, location)
            except DiagnosticError as error:
                error.location = error.location or location
                raise
            if (container := function.parent_op()) is not None:
                container.attributes["gpu.container_module"] = UnitAttr()
            Rewriter.replace_op(function, module, [])


@dataclass(frozen=True)
class LoweredKernel:
    """A kernel, and the bytes of shared memory that a CTA of it needs."""

    kernel: Kernel
    shared_bytes: int


def thread_module(
    program: Program, target: str, location: LocationAttr | None = None
) -> tuple[gpu.ModuleOp, list[LoweredKernel]]:
    """
    Returns the GPU module of a program's kernels, and what each needs to be launched.

    Raises DiagnosticError for what a GPU of the target cannot run.
    """
    if target not in SHARED_LIMITS:
        known = ", ".join(SHARED_LIMITS)
        raise DiagnosticError(f"expected a target among {known}, got '{target}'")
    place = location or UnknownLoc()
    block = Block()
    shared = llvm.GlobalOp(
        llvm.LLVMArrayType(0, i8),
        SHARED_SYMBOL,
        "external",
        addr_space=SHARED_SPACE,
        alignment=_SWIZZLE_ALIGNMENT,
        body=Region(),
    )
    block.add_op(shared)
    lowered: list[LoweredKernel] = []
    for kernel in kernels_of(program):
        function, size = _function(kernel, target, place)
        block.add_op(function)
        lowered.append(LoweredKernel(kernel, size))
    module = gpu.ModuleOp.create(
        properties={"sym_name": StringAttr(program.name)}, regions=[Region(block)], location=place
    )
    return module, lowered


def _function(kernel: Kernel, target: str, location: LocationAttr) -> tuple[gpu.FuncOp, int]:
    types: list[Attribute] = [pointer_type(1) for _ in kernel.buffers]
    types += [type_of(PASSED_AS.get(number.dtype, number.dtype)) for number in kernel.numbers]
    types += [i32 for _ in kernel.symbols]
    names = [
        *(buffer.name for buffer in kernel.buffers),
        *(number.name for number in kernel.numbers),
        *kernel.symbols,
    ]
    block = Block(arg_types=types)
    for name, argument in zip(names, block.args, strict=True):
        argument.name_hint = name
    emit = Emitter(block, location)
    ranges = _with_lanes(loop_ranges(kernel.program))
    thread = Thread(kernel, emit, Indices(emit, ranges), ranges, target)
    thread.fragments = fragment_layouts(kernel.program)
    values = dict(zip(names, block.args, strict=True))
    thread.bases.update({buffer.name: values[buffer.name] for buffer in kernel.buffers})
    for number in kernel.numbers:
        thread.numbers[number.name] = passed_number(thread, number.dtype, values[number.name])
    for name in kernel.symbols:
        thread.indices.define(name, values[name])
    size = _allocate(thread)
    _bind(thread)
    lower_body(thread, kernel.body)
    emit.op(gpu.ReturnOp, [])
    return _finished(kernel, block, types, names, size, location), size


def _finished(
    kernel: Kernel,
    block: Block,
    types: list[Attribute],
    names: list[str],
    size: int,
    location: LocationAttr,
) -> gpu.FuncOp:
    function = gpu.FuncOp(
        kernel.name, (types, ()), Region(block), kernel=True, known_block_size=kernel.threads
    )
    function.location = location
    function.attributes["known_block_size"] = DenseArrayBase.from_list(i32, kernel.threads)
    function.attributes[SHARED_BYTES] = IntegerAttr(size, i64)
    function.attributes[GRID] = ArrayAttr([StringAttr(str(extent)) for extent in kernel.grid])
    function.attributes[PARAM_NAMES] = ArrayAttr([StringAttr(name) for name in names])
    return function


@lru_cache(maxsize=256)
def _with_lanes(ranges: Ranges) -> Ranges:
    """Returns ranges with those of the parts of a lane's number."""
    for name, (_, modulus) in LANE_PARTS.items():
        ranges = ranges.also(name, 0, modulus - 1)
    return ranges


def _bind(thread: Thread) -> None:
    """Gives loops bound to the grid and to threads their indices."""
    emit = thread.emit
    for loop in thread.kernel.blocks:
        dimension = _DIMENSIONS[loop.kind.value[-1]]
        index = emit.to_i32(emit.result(gpu.BlockIdOp, dimension))
        index.name_hint = loop.name
        thread.indices.define(loop.name, index)
    for axis, extent in zip("xyz", thread.kernel.threads, strict=True):
        if extent > 1:
            index = emit.to_i32(emit.result(gpu.ThreadIdOp, _DIMENSIONS[axis]))
        else:
            index = emit.integer(0)
        thread.threads[f"thread_{axis}_"] = index
    if thread.kernel.has_warps:
        lane = thread.threads[THREAD_AXES[0]]
        for name, (divisor, modulus) in LANE_PARTS.items():
            part = emit.divu(lane, divisor)
            whole = divisor * modulus == WARP_SIZE
            thread.indices.define(name, part if whole else emit.remu(part, modulus))
    for axis, index in thread.threads.items():
        thread.indices.define(axis, index)
    loops = (path[-1] for path in thread.kernel.program.places.values())
    bound = [loop for loop in loops if isinstance(loop, Loop) and loop.kind.is_thread]
    for loop in bound:
        thread.indices.define(loop.name, thread.threads[axis_name(loop)])
    thread.axes = {loop.name: symbol(axis_name(loop)) for loop in bound}


def _allocate(thread: Thread) -> int:
    """Gives buffers in shared memory their addresses, and local ones their registers."""
    emit, used = thread.emit, thread.kernel.written | thread.kernel.read
    shared = emit.result(llvm.AddressOfOp, SHARED_SYMBOL, pointer_type(SHARED_SPACE))
    shared.name_hint = SHARED_SYMBOL
    size = 0
    for buffer in thread.kernel.program.allocations:
        if buffer.name not in used:
            continue
        if buffer.scope is Scope.LOCAL or buffer.name in thread.fragments:
            thread.clear(buffer)
        elif buffer.scope is Scope.SHARED:
            alignment = _SWIZZLE_ALIGNMENT if buffer.swizzle else _ALIGNMENT
            size = -(-size // alignment) * alignment
            thread.bases[buffer.name] = address(emit, shared, size)
            thread.bases[buffer.name].name_hint = buffer.name
            strides = thread.strides(buffer)
            extent, stride = buffer.shape[0] if buffer.shape else None, strides[:1]
            count = 1 if extent is None else (extent * stride[0]).constant_value
            if count is None:
                raise DiagnosticError(
                    f"expected constant extents of the shared buffer '{buffer.name}', got "
                    f"[{', '.join(map(str, buffer.shape))}]"
                )
            period = max(1, buffer.swizzle)
            size += -(-count * buffer.element_bytes // period) * period
    for _ in reductions_of(thread.kernel.body):
        size = -(-size // _ALIGNMENT) * _ALIGNMENT
        thread.scratch.append(address(emit, shared, size))
        size += SCRATCH_BYTES
    limit = SHARED_LIMITS[thread.target]
    if size > limit:
        raise DiagnosticError(
            f"expected at most {limit} bytes of shared memory in a CTA on {thread.target}, got "
            f"{size}"
        )
    return size
