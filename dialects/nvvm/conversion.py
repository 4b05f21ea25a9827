"""The `nvvm` ops that convert pairs of 8-bit floats."""

from __future__ import annotations

from xdsl.dialects.builtin import (
    BoolAttr,
    Float8E4M3FNType,
    Float8E5M2Type,
    IntegerType,
    VectorType,
    f16,
    f32,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from .attributes import FPRoundingModeAttr, SaturationModeAttr

F16X2 = VectorType(f16, [2])
I8X2 = VectorType(IntegerType(8), [2])


def _verify_eight(of: Attribute) -> None:
    if not isinstance(of, Float8E4M3FNType | Float8E5M2Type):
        raise VerifyException(f"expects f8E4M3FN or f8E5M2, got {of}")


@irdl_op_definition
class ConvertF32x2ToF8x2Op(IRDLOperation):
    """
    Rounds two f32 to 8-bit floats, `b` to element 0, `a` to element 1 (PTX ISA, "cvt").

    Rounds to nearest even; what is too large becomes the largest number. `dstTy` is f8E4M3FN or
    f8E5M2. With `relu` what is negative becomes 0. It needs sm_89.

    ```mlir
    %0 = nvvm.convert.f32x2.to.f8x2 %a, %b {rnd = #nvvm.fp_rnd_mode<rn>,
      sat = #nvvm.sat_mode<satfinite>, relu = false} : vector<2xi8>(f8E4M3FN)
    ```
    """

    name = "nvvm.convert.f32x2.to.f8x2"

    a = operand_def(f32)
    b = operand_def(f32)
    dst = result_def(I8X2)
    rnd = prop_def(FPRoundingModeAttr)
    sat = prop_def(SaturationModeAttr)
    relu = prop_def(BoolAttr)
    dstTy = prop_def(Attribute)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$a `,` $b attr-dict `:` type($dst) `(` $dstTy `)`"

    traits = traits_def(Pure())

    def __init__(self, a: SSAValue | Operation, b: SSAValue | Operation, to: Attribute):
        properties: dict[str, Attribute] = {
            "rnd": FPRoundingModeAttr("rn"),
            "sat": SaturationModeAttr("satfinite"),
            "relu": BoolAttr.from_bool(False),
            "dstTy": to,
        }
        super().__init__(operands=[a, b], result_types=[I8X2], properties=properties)

    def verify_(self) -> None:
        _verify_eight(self.dstTy)
        if (self.rnd.data, self.sat.data) != ("rn", "satfinite"):
            raise VerifyException(
                f"expects rnd rn and sat satfinite, got {self.rnd.data} and {self.sat.data}"
            )


@irdl_op_definition
class ConvertF8x2ToF16x2Op(IRDLOperation):
    """
    Widens two 8-bit floats to f16, exactly (PTX ISA, "cvt").

    `srcType` is f8E4M3FN or f8E5M2. With `relu` what is negative becomes 0. It needs sm_89.

    ```mlir
    %0 = nvvm.convert.f8x2.to.f16x2 %pair {relu = false}
      : vector<2xi8>(f8E5M2) -> vector<2xf16>
    ```
    """

    name = "nvvm.convert.f8x2.to.f16x2"

    src = operand_def(I8X2)
    dst = result_def(F16X2)
    relu = prop_def(BoolAttr)
    srcType = prop_def(Attribute)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$src attr-dict `:` type($src) `(` $srcType `)` `->` type($dst)"

    traits = traits_def(Pure())

    def __init__(self, src: SSAValue | Operation, of: Attribute):
        properties: dict[str, Attribute] = {"relu": BoolAttr.from_bool(False), "srcType": of}
        super().__init__(operands=[src], result_types=[F16X2], properties=properties)

    def verify_(self) -> None:
        _verify_eight(self.srcType)
