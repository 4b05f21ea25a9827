"""The `nvvm` ops by which the threads of a warp or CTA exchange values and wait for each other."""

from __future__ import annotations

from xdsl.dialects.builtin import BoolAttr, UnitAttr, f32, i1, i32
from xdsl.dialects.llvm import LLVMPointerType, LLVMStructType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from .attributes import (
    MemScope,
    MemScopeAttr,
    PrefetchCacheLevel,
    PrefetchCacheLevelAttr,
    ReductionKind,
    ReductionKindAttr,
    ShflKind,
    ShflKindAttr,
    VoteSyncKind,
    VoteSyncKindAttr,
)


@irdl_op_definition
class ShflSyncOp(IRDLOperation):
    """
    Moves a 32-bit value between the lanes of a warp (PTX ISA, "shfl.sync").

    `mask_and_clamp` packs the segment mask (bits 8 to 12) and the last lane of a segment
    (bits 0 to 4): 31 for whole warps in the kinds `bfly`, `down` and `idx`, 0 for `up`.

    ```mlir
    %0 = nvvm.shfl.sync bfly %mask, %value, %offset, %clamp : f32 -> f32
    ```
    """

    name = "nvvm.shfl.sync"

    thread_mask = operand_def(i32)
    val = operand_def()
    offset = operand_def(i32)
    mask_and_clamp = operand_def(i32)
    res = result_def()
    kind = prop_def(ShflKindAttr)
    return_value_and_is_valid = opt_prop_def(UnitAttr)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$kind $thread_mask `,` $val `,` $offset `,` $mask_and_clamp attr-dict"
        " `:` type($val) `->` type($res)"
    )

    def __init__(
        self,
        kind: ShflKind,
        thread_mask: SSAValue | Operation,
        val: SSAValue | Operation,
        offset: SSAValue | Operation,
        mask_and_clamp: SSAValue | Operation,
        with_predicate: bool = False,
    ):
        result_type = SSAValue.get(val).type
        if with_predicate:
            result_type = LLVMStructType.from_type_list([result_type, i1])
        super().__init__(
            operands=[thread_mask, val, offset, mask_and_clamp],
            result_types=[result_type],
            properties={
                "kind": ShflKindAttr(kind),
                "return_value_and_is_valid": UnitAttr() if with_predicate else None,
            },
        )

    def verify_(self) -> None:
        value: Attribute = self.val.type
        if value not in (i32, f32):
            raise VerifyException(f"expects a value of type i32 or f32, got {value}")
        if self.return_value_and_is_valid is not None:
            value = LLVMStructType.from_type_list([value, i1])
        if self.res.type != value:
            raise VerifyException(f"expects a result of type {value}, got {self.res.type}")


@irdl_op_definition
class VoteSyncOp(IRDLOperation):
    """
    Combines one predicate of each lane of a warp (PTX ISA, "vote.sync").

    ```mlir
    %0 = nvvm.vote.sync ballot %mask, %predicate -> i32
    %1 = nvvm.vote.sync any %mask, %predicate -> i1
    ```
    """

    name = "nvvm.vote.sync"

    mask = operand_def(i32)
    pred = operand_def(i1)
    res = result_def()
    kind = prop_def(VoteSyncKindAttr)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$kind $mask `,` $pred attr-dict `->` type($res)"

    def __init__(self, kind: VoteSyncKind, mask: SSAValue | Operation, pred: SSAValue | Operation):
        super().__init__(
            operands=[mask, pred],
            result_types=[i32 if kind == VoteSyncKind.BALLOT else i1],
            properties={"kind": VoteSyncKindAttr(kind)},
        )

    def verify_(self) -> None:
        expected = i32 if self.kind.data == VoteSyncKind.BALLOT else i1
        if self.res.type != expected:
            raise VerifyException(
                f"of kind {self.kind.data} expects a result of type {expected}, got {self.res.type}"
            )


@irdl_op_definition
class ReduxSyncOp(IRDLOperation):
    """
    Reduces a 32-bit integer over the lanes of a warp (PTX ISA, "redux.sync").

    ```mlir
    %0 = nvvm.redux.sync add %value, %mask : i32 -> i32
    ```
    """

    name = "nvvm.redux.sync"

    val = operand_def()
    mask_and_clamp = operand_def(i32)
    res = result_def()
    kind = prop_def(ReductionKindAttr)
    abs = prop_def(BoolAttr, default_value=BoolAttr.from_bool(False))
    nan = prop_def(BoolAttr, default_value=BoolAttr.from_bool(False))

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$kind $val `,` $mask_and_clamp attr-dict `:` type($val) `->` type($res)"

    def __init__(self, kind: ReductionKind, val: SSAValue | Operation, mask: SSAValue | Operation):
        super().__init__(
            operands=[val, mask],
            result_types=[SSAValue.get(val).type],
            properties={"kind": ReductionKindAttr(kind)},
        )

    def verify_(self) -> None:
        is_float = self.kind.data in (ReductionKind.FMIN, ReductionKind.FMAX)
        expected = f32 if is_float else i32
        if self.val.type != expected or self.res.type != expected:
            raise VerifyException(
                f"of kind {self.kind.data} expects {expected}, got {self.val.type}"
                f" and result {self.res.type}"
            )
        if not is_float and (self.abs.value.data or self.nan.value.data):
            raise VerifyException("expects abs and nan only with kinds fmin and fmax")


@irdl_op_definition
class BarrierOp(IRDLOperation):
    """
    Waits until the threads of the CTA have arrived (PTX ISA, "bar, barrier").

    Barrier 0 where no id is given, and all threads where no `number_of_threads` (a multiple of 32)
    is. `aligned = false` allows warps that have diverged.

    ```mlir
    nvvm.barrier
    nvvm.barrier id = %id number_of_threads = %threads
    ```
    """

    name = "nvvm.barrier"

    barrierId = opt_operand_def(i32)
    numberOfThreads = opt_operand_def(i32)
    aligned = prop_def(BoolAttr, default_value=BoolAttr.from_bool(True))

    irdl_options = (AttrSizedOperandSegments(as_property=True), ParsePropInAttrDict())
    assembly_format = (
        "(`id` `=` $barrierId^)? (`number_of_threads` `=` $numberOfThreads^)? attr-dict"
    )

    def __init__(
        self,
        barrier_id: SSAValue | Operation | None = None,
        number_of_threads: SSAValue | Operation | None = None,
        aligned: bool = True,
    ):
        super().__init__(
            operands=[barrier_id, number_of_threads],
            properties={"aligned": BoolAttr.from_bool(aligned)},
        )


@irdl_op_definition
class BarrierArriveOp(IRDLOperation):
    """
    Arrives at a barrier without waiting for it (PTX ISA, "bar, barrier").

    ```mlir
    nvvm.barrier.arrive id = %id number_of_threads = %threads
    ```
    """

    name = "nvvm.barrier.arrive"

    barrierId = opt_operand_def(i32)
    numberOfThreads = operand_def(i32)
    aligned = prop_def(BoolAttr, default_value=BoolAttr.from_bool(True))

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "(`id` `=` $barrierId^)? `number_of_threads` `=` $numberOfThreads attr-dict"

    def __init__(
        self,
        number_of_threads: SSAValue | Operation,
        barrier_id: SSAValue | Operation | None = None,
        aligned: bool = True,
    ):
        super().__init__(
            operands=[barrier_id, number_of_threads],
            properties={"aligned": BoolAttr.from_bool(aligned)},
        )


@irdl_op_definition
class SyncWarpOp(IRDLOperation):
    """
    Waits for the lanes of `mask` and orders their memory accesses (PTX ISA, "bar.warp.sync").

    ```mlir
    nvvm.bar.warp.sync %mask : i32
    ```
    """

    name = "nvvm.bar.warp.sync"

    mask = operand_def(i32)

    assembly_format = "$mask attr-dict `:` type($mask)"

    def __init__(self, mask: SSAValue | Operation):
        super().__init__(operands=[mask])


@irdl_op_definition
class MemoryBarrierOp(IRDLOperation):
    """
    Orders this thread's memory accesses for the threads of a scope (PTX ISA, "membar, fence").

    ```mlir
    nvvm.memory.barrier #nvvm.mem_scope<gpu>
    ```
    """

    name = "nvvm.memory.barrier"

    scope = prop_def(MemScopeAttr)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "qualified($scope) attr-dict"

    def __init__(self, scope: MemScope):
        super().__init__(properties={"scope": MemScopeAttr(scope.value)})


@irdl_op_definition
class PrefetchOp(IRDLOperation):
    """
    Asks for a line of global memory to be brought into a cache (PTX ISA, "prefetch").

    ```mlir
    nvvm.prefetch level = L2, %address : !llvm.ptr<1>
    ```
    """

    name = "nvvm.prefetch"

    addr = operand_def(LLVMPointerType)
    cacheLevel = prop_def(PrefetchCacheLevelAttr)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "`level` `=` $cacheLevel `,` $addr attr-dict `:` type($addr)"

    def __init__(self, addr: SSAValue | Operation, level: PrefetchCacheLevel):
        super().__init__(operands=[addr], properties={"cacheLevel": PrefetchCacheLevelAttr(level)})


@irdl_op_definition
class RcpApproxFtzOp(IRDLOperation):
    """
    Computes an approximate reciprocal, flushing subnormals (PTX ISA, "rcp.approx.ftz.f32").

    The largest relative error is 2^-23.

    ```mlir
    %0 = nvvm.rcp.approx.ftz.f %x : f32
    ```
    """

    name = "nvvm.rcp.approx.ftz.f"

    arg = operand_def(f32)
    res = result_def(f32)

    traits = traits_def(Pure())
    assembly_format = "$arg attr-dict `:` type($res)"

    def __init__(self, arg: SSAValue | Operation):
        super().__init__(operands=[arg], result_types=[f32])


@irdl_op_definition
class Ex2Op(IRDLOperation):
    """
    Computes an approximate power of two (PTX ISA, "ex2.approx").

    The largest relative error is 2^-22. `ftz` flushes subnormal inputs and results to zero.

    ```mlir
    %0 = nvvm.ex2 %x {ftz = true} : f32
    ```
    """

    name = "nvvm.ex2"

    src = operand_def(f32)
    res = result_def(f32)
    ftz = prop_def(BoolAttr, default_value=BoolAttr.from_bool(False))

    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$src attr-dict `:` type($res)"

    def __init__(self, src: SSAValue | Operation, ftz: bool = False):
        super().__init__(
            operands=[src], result_types=[f32], properties={"ftz": BoolAttr.from_bool(ftz)}
        )
