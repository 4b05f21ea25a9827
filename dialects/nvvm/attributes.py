"""The attributes of the `nvvm` ops, spelled as upstream MLIR spells them."""

from __future__ import annotations

from typing import cast

from xdsl.dialects.builtin import IntAttr
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import Data, ParametrizedAttribute, SpacedOpaqueSyntaxAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.str_enum import StrEnum


class MMALayout(StrEnum):
    """How a matrix operand lies in memory."""

    ROW = "row"
    COL = "col"


class MMAType(StrEnum):
    """The element types that `mma.sync` multiplies."""

    F16 = "f16"
    F32 = "f32"
    TF32 = "tf32"
    BF16 = "bf16"
    S8 = "s8"
    U8 = "u8"
    S32 = "s32"
    S4 = "s4"
    U4 = "u4"
    B1 = "b1"
    F64 = "f64"
    E4M3 = "e4m3"
    E5M2 = "e5m2"
    E3M2 = "e3m2"
    E2M3 = "e2m3"
    E2M1 = "e2m1"


class MMAIntOverflow(StrEnum):
    """What an integer accumulator does beyond 32 bits."""

    WRAPPED = "wrapped"
    SATFINITE = "satfinite"


class LdStMatrixEltType(StrEnum):
    """The element types that `ldmatrix` and `stmatrix` move."""

    B16 = "b16"
    B8 = "b8"
    B8X16_B6X16_P32 = "b8x16.b6x16_p32"
    B8X16_B4X16_P64 = "b8x16.b4x16_p64"


class LoadCacheModifier(StrEnum):
    """Which caches a copy goes through: `ca` all levels, `cg` L2 only."""

    CA = "ca"
    CG = "cg"
    CS = "cs"
    LU = "lu"
    CV = "cv"


class ShflKind(StrEnum):
    """How `shfl.sync` finds the source lane."""

    BFLY = "bfly"
    UP = "up"
    DOWN = "down"
    IDX = "idx"


class VoteSyncKind(StrEnum):
    """What `vote.sync` computes from the predicates of a warp."""

    ANY = "any"
    ALL = "all"
    BALLOT = "ballot"
    UNI = "uni"


class ReductionKind(StrEnum):
    """The reductions of `redux.sync`."""

    ADD = "add"
    AND = "and"
    MAX = "max"
    MIN = "min"
    OR = "or"
    UMAX = "umax"
    UMIN = "umin"
    XOR = "xor"
    FMIN = "fmin"
    FMAX = "fmax"


class MemScope(StrEnum):
    """The threads to which a memory barrier makes writes visible."""

    CTA = "cta"
    CLUSTER = "cluster"
    GPU = "gpu"
    SYS = "sys"


class PrefetchCacheLevel(StrEnum):
    """The cache that a prefetch fills."""

    L1 = "L1"
    L2 = "L2"


class GridDepAction(StrEnum):
    """What a grid does about those before and behind it on its stream."""

    WAIT = "wait"
    LAUNCH_DEPENDENTS = "launch_dependents"


class FPRoundingMode(StrEnum):
    """How a conversion to a narrower float rounds."""

    NONE = "none"
    RN = "rn"
    RM = "rm"
    RP = "rp"
    RZ = "rz"
    RNA = "rna"
    RS = "rs"


class SaturationMode(StrEnum):
    """What a conversion does with numbers that are too large."""

    NONE = "none"
    SATFINITE = "satfinite"


class BracketedKeyword(Data[str]):
    """An attribute of one keyword in angle brackets, such as `#nvvm.mma_layout<row>`."""

    keywords: type[StrEnum]

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(self.data)

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> str:
        with parser.in_angle_brackets():
            start = parser.pos
            word = parser.parse_identifier(f" in {cls.name}")
            if word not in {keyword.value for keyword in cls.keywords}:
                known = ", ".join(keyword.value for keyword in cls.keywords)
                parser.raise_error(f"expected one of {known}", start, parser.pos)
            return word


@irdl_attr_definition
class MMALayoutAttr(BracketedKeyword):
    """The layout of a matrix operand: `#nvvm.mma_layout<row>`."""

    name = "nvvm.mma_layout"
    keywords = MMALayout


@irdl_attr_definition
class FPRoundingModeAttr(BracketedKeyword):
    """The rounding of a conversion: `#nvvm.fp_rnd_mode<rn>`."""

    name = "nvvm.fp_rnd_mode"
    keywords = FPRoundingMode


@irdl_attr_definition
class SaturationModeAttr(BracketedKeyword):
    """What becomes of numbers that are too large: `#nvvm.sat_mode<satfinite>`."""

    name = "nvvm.sat_mode"
    keywords = SaturationMode


@irdl_attr_definition
class MMATypeAttr(BracketedKeyword):
    """The PTX type of a multiplicand: `#nvvm.mma_type<bf16>`."""

    name = "nvvm.mma_type"
    keywords = MMAType


@irdl_attr_definition
class MMAIntOverflowAttr(BracketedKeyword):
    """The overflow behaviour of integer `mma.sync`: `#nvvm.mma_int_overflow<satfinite>`."""

    name = "nvvm.mma_int_overflow"
    keywords = MMAIntOverflow


@irdl_attr_definition
class LdStMatrixEltTypeAttr(BracketedKeyword):
    """The element type of `ldmatrix`: `#nvvm.ld_st_matrix_elt_type<b16>`."""

    name = "nvvm.ld_st_matrix_elt_type"
    keywords = LdStMatrixEltType


@irdl_attr_definition
class MemScopeAttr(BracketedKeyword):
    """The scope of a memory barrier: `#nvvm.mem_scope<gpu>`."""

    name = "nvvm.mem_scope"
    keywords = MemScope


@irdl_attr_definition
class LoadCacheModifierAttr(EnumAttribute[LoadCacheModifier], SpacedOpaqueSyntaxAttribute):
    """The cache modifier of a copy: `#nvvm<load_cache_modifier cg>`."""

    name = "nvvm.load_cache_modifier"


@irdl_attr_definition
class ShflKindAttr(EnumAttribute[ShflKind], SpacedOpaqueSyntaxAttribute):
    """The kind of a shuffle: `#nvvm<shfl_kind bfly>`."""

    name = "nvvm.shfl_kind"


@irdl_attr_definition
class VoteSyncKindAttr(EnumAttribute[VoteSyncKind], SpacedOpaqueSyntaxAttribute):
    """The kind of a vote: `#nvvm<vote_sync_kind ballot>`."""

    name = "nvvm.vote_sync_kind"


@irdl_attr_definition
class ReductionKindAttr(EnumAttribute[ReductionKind], SpacedOpaqueSyntaxAttribute):
    """The kind of a warp reduction: `#nvvm<reduction_kind add>`."""

    name = "nvvm.reduction_kind"


@irdl_attr_definition
class PrefetchCacheLevelAttr(EnumAttribute[PrefetchCacheLevel], SpacedOpaqueSyntaxAttribute):
    """The cache that a prefetch fills: `#nvvm<prefetch_cache_level L2>`."""

    name = "nvvm.prefetch_cache_level"


@irdl_attr_definition
class GridDepActionAttr(EnumAttribute[GridDepAction], SpacedOpaqueSyntaxAttribute):
    """What a grid does about those around it: `#nvvm<grid_dep_action wait>`."""

    name = "nvvm.grid_dep_action"


def _print_extents(printer: Printer, extents: tuple[tuple[str, IntAttr], ...]) -> None:
    with printer.in_angle_brackets():
        printer.print_string(", ".join(f"{axis} = {value.data}" for axis, value in extents))


def _parse_extents(parser: AttrParser, axes: str) -> tuple[IntAttr, ...]:
    extents: list[IntAttr] = []
    with parser.in_angle_brackets():
        for position, axis in enumerate(axes):
            if position:
                parser.parse_punctuation(",")
            parser.parse_keyword(axis)
            parser.parse_punctuation("=")
            extents.append(IntAttr(parser.parse_integer(allow_negative=False)))
    return tuple(extents)


@irdl_attr_definition
class MMAShapeAttr(ParametrizedAttribute):
    """The extents of one matrix product: `#nvvm.shape<m = 16, n = 8, k = 16>`."""

    name = "nvvm.shape"

    m: IntAttr
    n: IntAttr
    k: IntAttr

    @property
    def extents(self) -> tuple[int, int, int]:
        """The extents (m, n, k) in elements."""
        return self.m.data, self.n.data, self.k.data

    def print_parameters(self, printer: Printer) -> None:
        _print_extents(printer, (("m", self.m), ("n", self.n), ("k", self.k)))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> tuple[IntAttr, IntAttr, IntAttr]:
        return cast(tuple[IntAttr, IntAttr, IntAttr], _parse_extents(parser, "mnk"))


@irdl_attr_definition
class LdStMatrixShapeAttr(ParametrizedAttribute):
    """The extents of one matrix of `ldmatrix`: `#nvvm.ld_st_matrix_shape<m = 8, n = 8>`."""

    name = "nvvm.ld_st_matrix_shape"

    m: IntAttr
    n: IntAttr

    @property
    def extents(self) -> tuple[int, int]:
        """The extents (m, n) in elements."""
        return self.m.data, self.n.data

    def print_parameters(self, printer: Printer) -> None:
        _print_extents(printer, (("m", self.m), ("n", self.n)))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> tuple[IntAttr, IntAttr]:
        return cast(tuple[IntAttr, IntAttr], _parse_extents(parser, "mn"))
