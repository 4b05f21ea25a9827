"""The pass from tiles to threads."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from xdsl.context import Context
from xdsl.dialects import gpu, llvm, scf
from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseArrayBase,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    UnitAttr,
    i8,
    i32,
    i64,
)
from xdsl.ir import Block, Region
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from ...dialects import nvvm
from ...dialects.tile import RING_ALIGNMENT, FragmentType, KernelOp, pending_groups
from ..creation import ops_of
from ..emitter import Emitter
from ..garbage import take_apart
from .control import lower_block
from .fragments import vector_of
from .lanes import SHARED_SPACE, Lanes, pointer_type
from .thread import Thread

SHARED_SYMBOL = "smem"
# What the contract of a kernel takes from its function.
SHARED_BYTES = "tilewright.shared_bytes"
GRID = "tilewright.grid"
PARAM_NAMES = "tilewright.param_names"
# What loops may carry of fragments, in elements of a thread, before there is no room for its lane.
ROOM_FOR_LANES = 136


@dataclass(frozen=True)
class ConvertTileToThreadPass(ModulePass):
    """Turns each kernel on tiles into a GPU module whose function says what one thread does."""

    name = "convert-tile-to-thread"

    programmatic: bool = field(
        default=False,
        metadata={"doc": "kernels may be launched before those in front of them end; needs sm_90"},
    )

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for kernel in list(_kernels(op)):
            if (container := kernel.parent_op()) is not None:
                container.attributes["gpu.container_module"] = UnitAttr()
            Rewriter.insert_op(_gpu_module(kernel, self.programmatic), InsertPoint.before(kernel))
            kernel.detach()
            take_apart(kernel)


def _kernels(module: ModuleOp) -> Iterator[KernelOp]:
    for op in module.ops:
        if isinstance(op, KernelOp):
            yield op
        elif isinstance(op, ModuleOp):
            yield from _kernels(op)


def _gpu_module(kernel: KernelOp, programmatic: bool) -> gpu.ModuleOp:
    block = Block()
    shared = llvm.GlobalOp(
        llvm.LLVMArrayType(0, i8),
        SHARED_SYMBOL,
        "external",
        addr_space=SHARED_SPACE,
        alignment=RING_ALIGNMENT,
        body=Region(),
    )
    block.add_ops([shared, _gpu_function(kernel, programmatic)])
    # Made by hand: the constructor takes a reference where upstream has a name.
    return gpu.ModuleOp.create(
        properties={"sym_name": kernel.sym_name}, regions=[Region(block)], location=kernel.location
    )


def _most_carried(block: Block) -> int:
    """Returns how many elements of fragments a thread holds in a loop that carries the most."""
    most = 0
    for op in ops_of(block):
        if type(op) is scf.ForOp:
            kinds = [kind for kind in op.iter_args.types if isinstance(kind, FragmentType)]
            most = max(most, sum(prod(vector_of(kind).get_shape()) for kind in kinds))
        if type(op) in (scf.ForOp, scf.IfOp, scf.WhileOp):
            inner = [part for region in op.regions for part in region.blocks]
            most = max(most, *map(_most_carried, inner))
    return most


def _gpu_function(kernel: KernelOp, programmatic: bool) -> gpu.FuncOp:
    types = kernel.function_type.inputs.data
    block = Block(arg_types=types)
    for source, argument in zip(kernel.body.block.args, block.args, strict=True):
        argument.name_hint = source.name_hint
    emit = Emitter(block, kernel.location)
    if programmatic:
        # The next grid waits as this one does, so it may come as soon as this one is there.
        emit.op(nvvm.GridDepControlOp, nvvm.GridDepAction.WAIT)
        emit.op(nvvm.GridDepControlOp, nvvm.GridDepAction.LAUNCH_DEPENDENTS)
    shared = emit.result(llvm.AddressOfOp, SHARED_SYMBOL, pointer_type(SHARED_SPACE))
    shared.name_hint = SHARED_SYMBOL
    lanes = Lanes(emit, kernel.threads, _most_carried(kernel.body.block) > ROOM_FOR_LANES)
    thread = Thread(emit, lanes, shared, pending_groups(kernel))
    thread.values.update(zip(kernel.body.block.args, block.args, strict=True))
    lower_block(thread, kernel.body.block)
    emit.op(gpu.ReturnOp, [])
    function = gpu.FuncOp(
        kernel.sym_name.data,
        (types, ()),
        Region(block),
        kernel=True,
        known_block_size=(kernel.threads, 1, 1),
    )
    function.location = kernel.location
    function.attributes["known_block_size"] = DenseArrayBase.from_list(i32, [kernel.threads, 1, 1])
    # Left to itself, the assembler spills a few registers to have one more CTA on an SM.
    function.attributes["nvvm.minctasm"] = IntegerAttr(1, i32)
    function.attributes[SHARED_BYTES] = IntegerAttr(thread.shared_bytes, i64)
    function.attributes[GRID] = ArrayAttr([StringAttr(str(axis.data)) for axis in kernel.grid])
    function.attributes[PARAM_NAMES] = kernel.param_names
    return function
