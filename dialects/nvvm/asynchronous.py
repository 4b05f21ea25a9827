"""The `nvvm` ops that copy from global to shared memory in the background."""

from __future__ import annotations

from typing import cast

from xdsl.dialects.builtin import IntAttr, IntegerAttr, i32
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    prop_def,
)
from xdsl.utils.exceptions import VerifyException

from .attributes import LoadCacheModifier, LoadCacheModifierAttr


@irdl_op_definition
class CpAsyncOp(IRDLOperation):
    """
    Starts a copy of 4, 8 or 16 bytes from global to shared memory (PTX ISA, "cp.async").

    With `cpSize` only that many bytes are read and the rest of the destination is set to zero;
    with 0 the source is not read at all. The modifier `cg` (L2 only) needs 16 bytes.

    ```mlir
    nvvm.cp.async.shared.global %to, %from, 16, cache = cg, %bytes
      : !llvm.ptr<3>, !llvm.ptr<1>, i32
    ```
    """

    name = "nvvm.cp.async.shared.global"

    dst = operand_def(LLVMPointerType)
    src = operand_def(LLVMPointerType)
    cpSize = opt_operand_def(i32)
    size = prop_def(IntegerAttr.constr(i32))
    modifier = prop_def(LoadCacheModifierAttr)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$dst `,` $src `,` $size `,` `cache` `=` $modifier (`,` $cpSize^)? attr-dict"
        " `:` type($dst) `,` type($src) (`,` type($cpSize)^)?"
    )

    def __init__(
        self,
        dst: SSAValue | Operation,
        src: SSAValue | Operation,
        size: int,
        modifier: LoadCacheModifier = LoadCacheModifier.CA,
        cp_size: SSAValue | Operation | None = None,
    ):
        super().__init__(
            operands=[dst, src, cp_size],
            properties={
                "size": IntegerAttr(size, i32),
                "modifier": LoadCacheModifierAttr(modifier),
            },
        )

    def verify_(self) -> None:
        for name, pointer, space in (("dst", self.dst, 3), ("src", self.src, 1)):
            if cast(LLVMPointerType, pointer.type).addr_space != IntAttr(space):
                raise VerifyException(f"expects {name} in memory space {space}, got {pointer.type}")
        size = self.size.value.data
        if size not in (4, 8, 16):
            raise VerifyException(f"expects a size of 4, 8 or 16 bytes, got {size}")
        modifier = self.modifier.data
        if modifier not in (LoadCacheModifier.CA, LoadCacheModifier.CG):
            raise VerifyException(f"expects cache modifier ca or cg, got {modifier}")
        if modifier == LoadCacheModifier.CG and size != 16:
            raise VerifyException(f"expects 16 bytes with cache modifier cg, got {size}")


@irdl_op_definition
class CpAsyncCommitGroupOp(IRDLOperation):
    """
    Makes a group of the copies started since the last group (PTX ISA, "cp.async.commit_group").

    ```mlir
    nvvm.cp.async.commit.group
    ```
    """

    name = "nvvm.cp.async.commit.group"

    assembly_format = "attr-dict"

    def __init__(self) -> None:
        super().__init__()


@irdl_op_definition
class CpAsyncWaitGroupOp(IRDLOperation):
    """
    Waits until at most `n` groups of copies are under way (PTX ISA, "cp.async.wait_group").

    ```mlir
    nvvm.cp.async.wait.group 1
    ```
    """

    name = "nvvm.cp.async.wait.group"

    n = prop_def(IntegerAttr.constr(i32))

    assembly_format = "$n attr-dict"

    def __init__(self, n: int):
        super().__init__(properties={"n": IntegerAttr(n, i32)})

    def verify_(self) -> None:
        n = self.n.value.data
        if n < 0:
            raise VerifyException(f"expects n of at least 0, got {n}")
