"""
The attention dialect: what is computed, on which keys, over which storage format.

A program says here which variant of attention is wanted and how queries and keys are stored, and
nothing of how a GPU computes it. Extents are symbolic integers.
"""

from xdsl.ir import Dialect

from .attend import AttendOp, is_code
from .attend_latent import AttendLatentOp
from .reads import (
    ElementOp,
    PageOp,
    ParamAttr,
    ParamOp,
    QueryRowOp,
    RowSumOp,
    YieldOp,
    term_region,
)
from .types import (
    BatchType,
    PagedType,
    PageLayout,
    PageLayoutAttr,
    RaggedType,
    ScalesAttr,
    ScaleUnit,
)
from .variant import POSITION_TYPES, REGIONS, VariantOp, mask_region, variant_region, yielded

__all__ = [
    "POSITION_TYPES",
    "REGIONS",
    "AttendLatentOp",
    "AttendOp",
    "Attn",
    "BatchType",
    "ElementOp",
    "PageLayout",
    "PageLayoutAttr",
    "PageOp",
    "PagedType",
    "ParamAttr",
    "ParamOp",
    "QueryRowOp",
    "RaggedType",
    "RowSumOp",
    "ScaleUnit",
    "ScalesAttr",
    "VariantOp",
    "YieldOp",
    "is_code",
    "mask_region",
    "term_region",
    "variant_region",
    "yielded",
]

Attn = Dialect(
    "attn",
    [
        AttendLatentOp,
        AttendOp,
        ElementOp,
        PageOp,
        ParamOp,
        QueryRowOp,
        RowSumOp,
        VariantOp,
        YieldOp,
    ],
    [BatchType, PagedType, PageLayoutAttr, ParamAttr, RaggedType, ScalesAttr],
)
