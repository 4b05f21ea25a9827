"""Storage of queries, keys and values: ragged rows, pages, and which belong to which request."""

from collections.abc import Sequence

from xdsl.dialects.builtin import ArrayAttr, IntAttr, StringAttr, f16, f32
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import (
    Attribute,
    ParametrizedAttribute,
    SpacedOpaqueSyntaxAttribute,
    TypeAttribute,
)
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from ..sym import ExpressionAttr, parse_extent, print_extent


class PageLayout(StrEnum):
    """The order of a page's axes: token before head (NHD) or head before token (HND)."""

    NHD = "NHD"
    HND = "HND"


@irdl_attr_definition
class PageLayoutAttr(EnumAttribute[PageLayout], SpacedOpaqueSyntaxAttribute):
    """The order of the axes of a page: `NHD` or `HND`."""

    name = "attn.page_layout"


class ScaleUnit(StrEnum):
    """What has a scale of its own: all keys or values, each head, or each block of a row."""

    TENSOR = "tensor"
    HEAD = "head"
    BLOCK = "block"


@irdl_attr_definition
class ScalesAttr(ParametrizedAttribute):
    """
    The scales of keys and values that are stored as codes; an element is its code times a scale.

    `#attn.scales<tensor>` is one f32 for all keys and one for all values, `#attn.scales<head>` one
    f32 a key head. `#attn.scales<block 32, f16>` has one for each 32 neighbours of a row of a head,
    in arrays that are stored as keys and values are. docs/kv_cache.md defines the formats.
    """

    name = "attn.scales"

    unit: StringAttr
    block: IntAttr
    element_type: Attribute

    def __init__(self, unit: ScaleUnit, block: int = 0, element_type: Attribute = f32):
        super().__init__(StringAttr(unit), IntAttr(block), element_type)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            unit = parser.parse_str_enum(ScaleUnit)
            if unit is not ScaleUnit.BLOCK:
                return StringAttr(unit), IntAttr(0), f32
            block = parser.parse_integer()
            parser.parse_punctuation(",")
            return StringAttr(unit), IntAttr(block), parser.parse_type()

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(self.unit.data)
            if self.unit.data == ScaleUnit.BLOCK:
                printer.print_string(f" {self.block.data}, ")
                printer.print_attribute(self.element_type)

    def verify(self) -> None:
        if self.unit.data == ScaleUnit.BLOCK and self.block.data < 1:
            raise VerifyException(f"expected a block of at least 1, got {self.block.data}")
        if self.element_type not in (f16, f32):
            raise VerifyException(f"expected scales of f16 or f32, got {self.element_type}")


def parse_extents(parser: AttrParser, opened: bool = False) -> ArrayAttr[ExpressionAttr]:
    """Parses extents between square brackets, the first of which may have been read already."""

    def extent() -> ExpressionAttr:
        return ExpressionAttr(parse_extent(parser))

    if not opened:
        return ArrayAttr(parser.parse_comma_separated_list(parser.Delimiter.SQUARE, extent))
    extents = [extent()]
    while parser.parse_optional_punctuation(",") is not None:
        extents.append(extent())
    parser.parse_punctuation("]")
    return ArrayAttr(extents)


def print_extents(printer: Printer, extents: ArrayAttr[ExpressionAttr]) -> None:
    """Prints extents between square brackets."""
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
            extents = parse_extents(parser)
            parser.parse_punctuation(",")
            return extents, parser.parse_type()

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            print_extents(printer, self.extents)
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
            extents = parse_extents(parser)
            parser.parse_punctuation(",")
            element_type = parser.parse_type()
            parser.parse_punctuation(",")
            return extents, element_type, PageLayoutAttr(parser.parse_str_enum(PageLayout))

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            print_extents(printer, self.extents)
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
            return (parse_extents(parser),)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            print_extents(printer, self.extents)

    def verify(self) -> None:
        _verify_rank(self.extents, (2,), "[requests, page table entries]")
