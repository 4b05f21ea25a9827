"""The `nvvm` ops of the tensor cores: `ldmatrix`, `stmatrix` and `mma.sync`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from xdsl.dialects.builtin import (
    DenseArrayBase,
    IntAttr,
    IntegerAttr,
    VectorType,
    f16,
    f32,
    i32,
)
from xdsl.dialects.llvm import LLVMPointerType, LLVMStructType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    var_operand_def,
)
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from .attributes import (
    LdStMatrixEltType,
    LdStMatrixEltTypeAttr,
    LdStMatrixShapeAttr,
    MMAIntOverflow,
    MMAIntOverflowAttr,
    MMALayout,
    MMALayoutAttr,
    MMAShapeAttr,
    MMAType,
    MMATypeAttr,
)

_F16X2 = VectorType(f16, [2])


def _verify_matrices(
    pointer: SSAValue, shape: LdStMatrixShapeAttr, element: LdStMatrixEltTypeAttr, count: int
) -> None:
    space = cast(LLVMPointerType, pointer.type).addr_space
    if space != IntAttr(3):
        raise VerifyException(f"expects a pointer into memory space 3, got {pointer.type}")
    if shape.extents != (8, 8) or element.data != LdStMatrixEltType.B16:
        m, n = shape.extents
        raise VerifyException(f"expects matrices of 8x8 b16, got {m}x{n} {element.data}")
    if count not in (1, 2, 4):
        raise VerifyException(f"expects 1, 2 or 4 matrices, got {count}")


@irdl_op_definition
class LdMatrixOp(IRDLOperation):
    """
    Loads 1, 2 or 4 matrices of 8x8 16-bit elements from shared memory (PTX ISA, "ldmatrix").

    Lane `8 * i + r` gives the address of row `r` of matrix `i`; each lane receives two
    neighbouring elements of row `lane / 4` of each matrix, packed in an i32. The layout `col`
    transposes.

    ```mlir
    %0 = nvvm.ldmatrix %address {eltType = #nvvm.ld_st_matrix_elt_type<b16>,
      layout = #nvvm.mma_layout<row>, num = 4 : i32,
      shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>}
      : (!llvm.ptr<3>) -> !llvm.struct<(i32, i32, i32, i32)>
    ```
    """

    name = "nvvm.ldmatrix"

    ptr = operand_def(LLVMPointerType)
    res = result_def()
    num = prop_def(IntegerAttr.constr(i32))
    layout = prop_def(MMALayoutAttr)
    shape = prop_def(LdStMatrixShapeAttr)
    eltType = prop_def(LdStMatrixEltTypeAttr)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$ptr attr-dict `:` functional-type(operands, results)"

    def __init__(self, ptr: SSAValue | Operation, num: int, layout: MMALayout = MMALayout.ROW):
        result = i32 if num == 1 else LLVMStructType.from_type_list([i32] * num)
        super().__init__(
            operands=[ptr],
            result_types=[result],
            properties={
                "num": IntegerAttr(num, i32),
                "layout": MMALayoutAttr(layout.value),
                "shape": LdStMatrixShapeAttr(IntAttr(8), IntAttr(8)),
                "eltType": LdStMatrixEltTypeAttr(LdStMatrixEltType.B16.value),
            },
        )

    def verify_(self) -> None:
        count = self.num.value.data
        _verify_matrices(self.ptr, self.shape, self.eltType, count)
        expected = i32 if count == 1 else LLVMStructType.from_type_list([i32] * count)
        if self.res.type != expected:
            raise VerifyException(f"expects a result of type {expected}, got {self.res.type}")


@irdl_op_definition
class StMatrixOp(IRDLOperation):
    """
    Stores 1, 2 or 4 matrices of 8x8 16-bit elements to shared memory (PTX ISA, "stmatrix").

    The inverse of `nvvm.ldmatrix`, on sm_90 and later.

    ```mlir
    nvvm.stmatrix %address, %a, %b {eltType = #nvvm.ld_st_matrix_elt_type<b16>,
      layout = #nvvm.mma_layout<row>, shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>}
      : !llvm.ptr<3>, i32, i32
    ```
    """

    name = "nvvm.stmatrix"

    ptr = operand_def(LLVMPointerType)
    sources = var_operand_def(i32)
    layout = prop_def(MMALayoutAttr)
    shape = prop_def(LdStMatrixShapeAttr)
    eltType = prop_def(LdStMatrixEltTypeAttr)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$ptr `,` $sources attr-dict `:` type($ptr) `,` type($sources)"

    def __init__(
        self,
        ptr: SSAValue | Operation,
        sources: Sequence[SSAValue | Operation],
        layout: MMALayout = MMALayout.ROW,
    ):
        super().__init__(
            operands=[ptr, sources],
            properties={
                "layout": MMALayoutAttr(layout.value),
                "shape": LdStMatrixShapeAttr(IntAttr(8), IntAttr(8)),
                "eltType": LdStMatrixEltTypeAttr(LdStMatrixEltType.B16.value),
            },
        )

    def verify_(self) -> None:
        _verify_matrices(self.ptr, self.shape, self.eltType, len(self.sources))


class MMAForm(NamedTuple):
    """One form of `mma.sync`: multiplicand and accumulator registers of one lane."""

    operand: Attribute
    a: int
    b: int
    accumulators: tuple[tuple[Attribute, int], ...]


_FLOAT = ((f32, 4), (_F16X2, 2))
_INT = ((i32, 4),)

# PTX ISA, "Matrix Fragments for mma": multiplicand type and extents (m, n, k), then the
# registers of A and B and those of the accumulators C and D.
MMA_FORMS: dict[tuple[str, tuple[int, int, int]], MMAForm] = {
    (MMAType.F16, (16, 8, 8)): MMAForm(_F16X2, 2, 1, _FLOAT),
    (MMAType.F16, (16, 8, 16)): MMAForm(_F16X2, 4, 2, _FLOAT),
    (MMAType.BF16, (16, 8, 8)): MMAForm(i32, 2, 1, _FLOAT[:1]),
    (MMAType.BF16, (16, 8, 16)): MMAForm(i32, 4, 2, _FLOAT[:1]),
    (MMAType.TF32, (16, 8, 4)): MMAForm(i32, 2, 1, _FLOAT[:1]),
    (MMAType.TF32, (16, 8, 8)): MMAForm(i32, 4, 2, _FLOAT[:1]),
    (MMAType.S8, (16, 8, 16)): MMAForm(i32, 2, 1, _INT),
    (MMAType.S8, (16, 8, 32)): MMAForm(i32, 4, 2, _INT),
    (MMAType.U8, (16, 8, 16)): MMAForm(i32, 2, 1, _INT),
    (MMAType.U8, (16, 8, 32)): MMAForm(i32, 4, 2, _INT),
    (MMAType.E4M3, (16, 8, 32)): MMAForm(i32, 4, 2, _FLOAT[:1]),
    (MMAType.E5M2, (16, 8, 32)): MMAForm(i32, 4, 2, _FLOAT[:1]),
}


@irdl_op_definition
class MmaSyncOp(IRDLOperation):
    """
    Multiplies two matrices on the tensor cores of a warp: `D = A B + C` (PTX ISA, "mma").

    The registers of a lane are operands of their own: bf16, tf32 and 8-bit multiplicands
    packed in i32, f16 in `vector<2xf16>`; accumulators f32, i32 or `vector<2xf16>`. The result
    is a struct of the registers of D. `MMA_FORMS` lists the forms.

    ```mlir
    %d = nvvm.mma.sync A[%a0, %a1, %a2, %a3] B[%b0, %b1] C[%c0, %c1, %c2, %c3]
      {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>,
       multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>,
       shape = #nvvm.shape<m = 16, n = 8, k = 16>}
      : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
    ```
    """

    name = "nvvm.mma.sync"

    operandA = var_operand_def()
    operandB = var_operand_def()
    operandC = var_operand_def()
    res = result_def()
    shape = prop_def(MMAShapeAttr)
    layoutA = prop_def(MMALayoutAttr)
    layoutB = prop_def(MMALayoutAttr)
    multiplicandAPtxType = prop_def(MMATypeAttr)
    multiplicandBPtxType = prop_def(MMATypeAttr)
    intOverflowBehavior = opt_prop_def(MMAIntOverflowAttr)

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self,
        a: Sequence[SSAValue | Operation],
        b: Sequence[SSAValue | Operation],
        c: Sequence[SSAValue | Operation],
        shape: tuple[int, int, int],
        element: MMAType,
        overflow: MMAIntOverflow | None = None,
    ):
        accumulators = [SSAValue.get(value).type for value in c]
        super().__init__(
            operands=[a, b, c],
            result_types=[LLVMStructType.from_type_list(accumulators)],
            properties={
                "shape": MMAShapeAttr(*(IntAttr(extent) for extent in shape)),
                "layoutA": MMALayoutAttr(MMALayout.ROW.value),
                "layoutB": MMALayoutAttr(MMALayout.COL.value),
                "multiplicandAPtxType": MMATypeAttr(element.value),
                "multiplicandBPtxType": MMATypeAttr(element.value),
                "intOverflowBehavior": (
                    None if overflow is None else MMAIntOverflowAttr(overflow.value)
                ),
            },
        )

    def verify_(self) -> None:
        element, other = self.multiplicandAPtxType.data, self.multiplicandBPtxType.data
        if other != element:
            raise VerifyException(f"expects A and B of one type, got {element} and {other}")
        form = MMA_FORMS.get((element, self.shape.extents))
        if form is None:
            extents = "m{}n{}k{}".format(*self.shape.extents)
            known = ", ".join(
                "m{}n{}k{}".format(*shape) for name, shape in MMA_FORMS if name == element
            )
            raise VerifyException(
                f"expects a shape that {element} has ({known or 'none'}), got {extents}"
            )
        if (self.layoutA.data, self.layoutB.data) != (MMALayout.ROW, MMALayout.COL):
            raise VerifyException(
                f"expects layouts row and col, got {self.layoutA.data} and {self.layoutB.data}"
            )
        self._verify_registers(form)

    def _verify_registers(self, form: MMAForm) -> None:
        for name, values, count in (("A", self.operandA, form.a), ("B", self.operandB, form.b)):
            types = [value.type for value in values]
            if types != [form.operand] * count:
                got = ", ".join(map(str, types))
                raise VerifyException(f"expects {count} {form.operand} for {name}, got {got}")
        accumulators = [value.type for value in self.operandC]
        if accumulators not in [[kind] * count for kind, count in form.accumulators]:
            wanted = " or ".join(f"{count} {kind}" for kind, count in form.accumulators)
            got = ", ".join(map(str, accumulators))
            raise VerifyException(f"expects {wanted} for C, got {got}")
        expected = LLVMStructType.from_type_list(accumulators)
        if self.res.type != expected:
            raise VerifyException(f"expects a result of type {expected}, got {self.res.type}")

    def print(self, printer: Printer) -> None:
        groups = (("A", self.operandA), ("B", self.operandB), ("C", self.operandC))
        for name, values in groups:
            printer.print_string(f" {name}")
            with printer.in_square_brackets():
                printer.print_list(values, printer.print_ssa_value)
        hidden = {"operandSegmentSizes"}
        properties = {k: v for k, v in self.properties.items() if k not in hidden}
        printer.print_op_attributes({**properties, **self.attributes})
        printer.print_string(" : ")
        with printer.in_parens():
            printer.print_list([values[0].type for _, values in groups], printer.print_attribute)
        printer.print_string(" -> ")
        printer.print_attribute(self.res.type)

    @classmethod
    def parse(cls, parser: Parser) -> MmaSyncOp:
        groups: list[list[UnresolvedOperand]] = []
        for name in "ABC":
            parser.parse_keyword(name)
            groups.append(
                parser.parse_comma_separated_list(
                    Parser.Delimiter.SQUARE, parser.parse_unresolved_operand
                )
            )
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        start = parser.pos
        types = parser.parse_comma_separated_list(Parser.Delimiter.PAREN, parser.parse_type)
        if len(types) != 3:
            parser.raise_error("expected the types of A, B and C", start, parser.pos)
        parser.parse_punctuation("->")
        result = parser.parse_type()
        operands = [
            parser.resolve_operands(group, [kind] * len(group), parser.pos)
            for group, kind in zip(groups, types)
        ]
        for name in ("multiplicandAPtxType", "multiplicandBPtxType"):
            if name not in attributes:
                if types[0] != _F16X2:
                    message = f"expected {name}, since {types[0]} may hold several types"
                    parser.raise_error(message, start, parser.pos)
                attributes[name] = MMATypeAttr(MMAType.F16.value)
        declared = cls.get_irdl_definition().properties
        return cls.create(
            operands=[value for group in operands for value in group],
            result_types=[result],
            properties={
                **{k: v for k, v in attributes.items() if k in declared},
                "operandSegmentSizes": _segments(groups),
            },
            attributes={k: v for k, v in attributes.items() if k not in declared},
        )


def _segments(groups: Sequence[Sequence[object]]) -> Attribute:
    return DenseArrayBase.from_list(i32, [len(group) for group in groups])
