"""
The attention dialect: what is computed, on which keys, over which storage format.

A program says here which variant of attention is wanted and how queries and keys are stored, and
nothing of how a GPU computes it. Extents are symbolic integers.
"""

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    ArrayAttr,
    BFloat16Type,
    FlatSymbolRefAttr,
    Float16Type,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    f32,
    i1,
    i32,
)
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import (
    Attribute,
    Block,
    Dialect,
    ParametrizedAttribute,
    Region,
    SpacedOpaqueSyntaxAttribute,
    SSAValue,
    TypeAttribute,
)
from xdsl.irdl import (
    AttrSizedRegionSegments,
    IRDLOperation,
    attr_def,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_region_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.traits import (
    IsolatedFromAbove,
    IsTerminator,
    NoMemoryEffect,
    Pure,
    SymbolOpInterface,
    SymbolTable,
)
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from .sym import ExpressionAttr, parse_extent, print_extent


class PageLayout(StrEnum):
    """The order of a page's axes: token before head (NHD) or head before token (HND)."""

    NHD = "NHD"
    HND = "HND"


@irdl_attr_definition
class PageLayoutAttr(EnumAttribute[PageLayout], SpacedOpaqueSyntaxAttribute):
    """The order of the axes of a page: `NHD` or `HND`."""

    name = "attn.page_layout"


def _parse_extents(parser: AttrParser) -> ArrayAttr[ExpressionAttr]:
    return ArrayAttr(
        parser.parse_comma_separated_list(
            parser.Delimiter.SQUARE, lambda: ExpressionAttr(parse_extent(parser))
        )
    )


def _print_extents(printer: Printer, extents: ArrayAttr[ExpressionAttr]) -> None:
    printer.print_string("[")
    printer.print_list(extents, lambda extent: print_extent(printer, extent.data))
    printer.print_string("]")


def _verify_rank(extents: ArrayAttr[ExpressionAttr], ranks: Sequence[int], axes: str) -> None:
    if len(extents) not in ranks:
        raise VerifyException(f"expected extents {axes}, got {len(extents)} extents")
    for axis, extent in enumerate(extents):
        if (constant := extent.data.constant_value) is not None and constant < 1:
            raise VerifyException(f"axis {axis} has extent {constant}, expected at least 1")


@irdl_attr_definition
class RaggedType(ParametrizedAttribute, TypeAttribute):
    """
    Rows of all requests, one after the other: `!attn.ragged<[n, 32, 128], bf16>`.

    Axes: row, head, and for vectors the element of the head.
    """

    name = "attn.ragged"

    extents: ArrayAttr[ExpressionAttr]
    element_type: Attribute

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            extents = _parse_extents(parser)
            parser.parse_punctuation(",")
            return extents, parser.parse_type()

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_extents(printer, self.extents)
            printer.print_string(", ")
            printer.print_attribute(self.element_type)

    def verify(self) -> None:
        _verify_rank(self.extents, (2, 3), "[rows, heads] or [rows, heads, head_dim]")

    @property
    def rows(self) -> ExpressionAttr:
        """The number of rows of all requests."""
        return self.extents.data[0]

    @property
    def heads(self) -> ExpressionAttr:
        """The number of heads."""
        return self.extents.data[1]


@irdl_attr_definition
class PagedType(ParametrizedAttribute, TypeAttribute):
    """
    Keys and values in pages: `!attn.paged<[pages, 16, 8, 128], bf16, NHD>`.

    Extents: pages, tokens of a page, heads, elements of a head. Keys and values are two arrays of
    this type; in layout NHD stored as [pages, tokens, heads, elements], in HND as
    [pages, heads, tokens, elements].
    """

    name = "attn.paged"

    extents: ArrayAttr[ExpressionAttr]
    element_type: Attribute
    layout: PageLayoutAttr

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            extents = _parse_extents(parser)
            parser.parse_punctuation(",")
            element_type = parser.parse_type()
            parser.parse_punctuation(",")
            return extents, element_type, PageLayoutAttr(parser.parse_str_enum(PageLayout))

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_extents(printer, self.extents)
            printer.print_string(", ")
            printer.print_attribute(self.element_type)
            printer.print_string(f", {self.layout.data}")

    def verify(self) -> None:
        _verify_rank(self.extents, (4,), "[pages, tokens, heads, head_dim]")


@irdl_attr_definition
class BatchType(ParametrizedAttribute, TypeAttribute):
    """
    Which rows and which pages belong to which request: `!attn.batch<[b, nnz]>`.

    Extents: requests, entries of the page table. A value stands for four arrays of i32:
    `qo_indptr[b + 1]`, `kv_indptr[b + 1]`, `kv_indices[nnz]`, `kv_last_page_len[b]`.
    """

    name = "attn.batch"

    extents: ArrayAttr[ExpressionAttr]

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return (_parse_extents(parser),)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_extents(printer, self.extents)

    def verify(self) -> None:
        _verify_rank(self.extents, (2,), "[requests, page table entries]")


@irdl_op_definition
class YieldOp(IRDLOperation):
    """
    Ends a region of a variant.

    ```mlir
    attn.yield %visible : i1
    ```
    """

    name = "attn.yield"

    values = var_operand_def()

    traits = traits_def(IsTerminator(), NoMemoryEffect())
    assembly_format = "attr-dict ($values^ `:` type($values))?"

    def __init__(self, *values: SSAValue):
        super().__init__(operands=[values])


# The arguments of a variant's regions: request, query head, query position, key position.
POSITION_TYPES: tuple[Attribute, ...] = (i32, i32, i32, i32)


@irdl_op_definition
class VariantOp(IRDLOperation):
    """
    A variant of attention: what becomes of a score, and which keys a query sees.

    `score` gives from a scaled score (f32) the score that enters the softmax; `mask` tells whether
    the key is seen. Both know the request, the query head, and the positions of query and key in
    the request's sequence (i32): the last query of a request stands at its last key.

    ```mlir
    attn.variant @causal mask {
    ^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
      %seen = arith.cmpi sge, %q_idx, %kv_idx : i32
      attn.yield %seen : i1
    }
    ```
    """

    name = "attn.variant"

    sym_name = attr_def(SymbolNameConstraint())
    score = opt_region_def("single_block")
    mask = opt_region_def("single_block")

    irdl_options = (AttrSizedRegionSegments(as_property=True),)
    traits = traits_def(IsolatedFromAbove(), SymbolOpInterface())

    def __init__(self, name: str, score: Region | None, mask: Region | None):
        super().__init__(
            attributes={"sym_name": StringAttr(name)},
            regions=[[score] if score else [], [mask] if mask else []],
        )

    @classmethod
    def parse(cls, parser: Parser) -> "VariantOp":
        name = parser.parse_symbol_name()
        score = parser.parse_region() if parser.parse_optional_keyword("score") else None
        mask = parser.parse_region() if parser.parse_optional_keyword("mask") else None
        return cls(name.data, score, mask)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        for keyword, region in (("score", self.score), ("mask", self.mask)):
            if region is not None:
                printer.print_string(f" {keyword} ")
                printer.print_region(region)

    def verify_(self) -> None:
        _verify_region("score", self.score, (f32, *POSITION_TYPES), f32)
        _verify_region("mask", self.mask, POSITION_TYPES, i1)


def _verify_region(
    name: str, region: Region | None, arguments: Sequence[Attribute], result: Attribute
) -> None:
    if region is None:
        return
    if tuple(region.block.arg_types) != tuple(arguments):
        raise VerifyException(
            f"expects its {name} region to have arguments ({_types(arguments)}), "
            f"got ({_types(region.block.arg_types)})"
        )
    terminator = region.block.last_op
    got = list(terminator.operand_types) if isinstance(terminator, YieldOp) else []
    if got != [result]:
        raise VerifyException(
            f"expects its {name} region to yield {result}, got {_types(got) or 'nothing'}"
        )


def _types(types: Sequence[Attribute]) -> str:
    return ", ".join(str(kind) for kind in types)


def score_region() -> Region:
    """Returns an empty score region."""
    return Region(Block(arg_types=[f32, *POSITION_TYPES]))


def mask_region() -> Region:
    """Returns an empty mask region."""
    return Region(Block(arg_types=POSITION_TYPES))


@irdl_op_definition
class AttendOp(IRDLOperation):
    """
    Attention of each query row over the keys of its request.

    The scores are `scale * (q . k)` in f32, changed and masked by the variant. `out` is the average
    of the values by the softmax of the scores, `lse` the natural logarithm of the sum of their
    exponentials; a row that sees no key has `out = 0` and `lse = -inf`. Query heads share key heads
    in equal groups.

    ```mlir
    %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @causal
      : !attn.ragged<[n, 32, 128], bf16>, !attn.paged<[pages, 16, 8, 128], bf16, NHD>,
        !attn.batch<[b, nnz]> -> !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>
    ```
    """

    name = "attn.attend"

    query = operand_def(RaggedType)
    keys = operand_def(PagedType)
    values = operand_def(PagedType)
    batch = operand_def(BatchType)
    scale = operand_def(f32)
    variant = prop_def(FlatSymbolRefAttr)
    out = result_def(RaggedType)
    lse = result_def(RaggedType)

    traits = traits_def(Pure())

    def __init__(
        self,
        query: SSAValue,
        keys: SSAValue,
        values: SSAValue,
        batch: SSAValue,
        scale: SSAValue,
        variant: str | SymbolRefAttr,
    ):
        if not isinstance(query.type, RaggedType):
            raise VerifyException(f"expected a query of !attn.ragged, got {query.type}")
        rows = query.type.extents.data[:2]
        super().__init__(
            operands=[query, keys, values, batch, scale],
            properties={"variant": SymbolRefAttr(variant) if isinstance(variant, str) else variant},
            result_types=[query.type, RaggedType(ArrayAttr(rows), f32)],
        )

    assembly_format = (
        "$query `,` $keys `,` $values `over` $batch `scale` $scale `variant` $variant attr-dict "
        "`:` type($query) `,` type($keys) `,` type($values) `,` type($batch) "
        "`->` type($out) `,` type($lse)"
    )

    def verify_(self) -> None:
        query, keys = self.query.type, self.keys.type
        if not isinstance(query, RaggedType) or not isinstance(keys, PagedType):
            return
        if self.values.type != keys:
            raise VerifyException(
                f"expects values of the keys' type {keys}, got {self.values.type}"
            )
        if len(query.extents) != 3:
            raise VerifyException(f"expects a query [rows, heads, head_dim], got {query}")
        if query.element_type != keys.element_type or not isinstance(
            query.element_type, Float16Type | BFloat16Type
        ):
            raise VerifyException(
                "expects query, keys and values of one element type, f16 or bf16, "
                f"got {query.element_type} and {keys.element_type}"
            )
        self._verify_heads(query, keys)
        self._verify_results(query)
        self._verify_variant()

    def _verify_heads(self, query: RaggedType, keys: PagedType) -> None:
        if query.extents.data[2] != keys.extents.data[3]:
            raise VerifyException(
                f"expects keys of head_dim {query.extents.data[2].data}, "
                f"got {keys.extents.data[3].data}"
            )
        heads = query.heads.data.constant_value
        kv_heads = keys.extents.data[2].data.constant_value
        if heads is None or kv_heads is None:
            raise VerifyException("expects constant numbers of heads")
        if heads % kv_heads:
            raise VerifyException(
                f"expects a number of query heads that is a multiple of the {kv_heads} key heads, "
                f"got {heads}"
            )

    def _verify_results(self, query: RaggedType) -> None:
        lse = RaggedType(ArrayAttr(query.extents.data[:2]), f32)
        if self.out.type != query or self.lse.type != lse:
            raise VerifyException(
                f"expects results {query} and {lse}, got {self.out.type} and {self.lse.type}"
            )

    def _verify_variant(self) -> None:
        found = SymbolTable.lookup_symbol(self, self.variant)
        if found is not None and not isinstance(found, VariantOp):
            raise VerifyException(f"expects {self.variant} to be an attn.variant, got {found.name}")
        if found is None:
            raise VerifyException(f"expects a variant, got {self.variant}, which is not defined")


__all__ = [
    "POSITION_TYPES",
    "AttendOp",
    "Attn",
    "BatchType",
    "PageLayout",
    "PageLayoutAttr",
    "PagedType",
    "RaggedType",
    "VariantOp",
    "YieldOp",
    "mask_region",
    "score_region",
]

Attn = Dialect(
    "attn",
    [AttendOp, VariantOp, YieldOp],
    [BatchType, PagedType, PageLayoutAttr, RaggedType],
)
