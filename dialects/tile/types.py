"""
What a CTA holds: rings of stages in shared memory, stages, and fragments in registers.

A fragment is a tile that the threads of a CTA hold together. Warp `w` of `W` owns the 16 rows
`16*w .. 16*w + 15`; within a warp, lane `l` has group `g = l // 4` and place `t = l % 4`. A
fragment of `16*W/n` rows is held by each of `n` teams of `W/n` neighbouring warps, each with
elements of its own.

| layout        | tile    | what one thread holds, in order                              |
|---------------|---------|--------------------------------------------------------------|
| `mma_c`       | [M, N]  | for each 8 columns `n`: (g, 8n+2t), (g, 8n+2t+1), (g+8, ..)  |
| `mma_a`       | [M, K]  | for each 16 columns: 4 registers of two 16-bit elements      |
| `mma_b`       | [K, N]  | for each 8 columns: 2 registers of two 16-bit elements       |
| `row`         | [M]     | rows g and g+8, the same in the 4 lanes of a quad            |
| `row_partial` | [M]     | as `row`, but each lane of a quad has the part of its columns |

Source: PTX ISA, matrix fragments for mma.m16n8k16 with floating-point type.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from xdsl.dialects.builtin import (
    AnyFloat,
    ArrayAttr,
    BFloat16Type,
    Float8E4M3FNType,
    Float8E5M2Type,
    Float16Type,
    IntAttr,
    IntegerType,
)
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
from xdsl.utils.hints import isa
from xdsl.utils.str_enum import StrEnum

ROWS_PER_WARP = 16
# Rings begin at multiples of this many bytes, where every layout of shared memory may begin.
RING_ALIGNMENT = 1024


class FragmentLayout(StrEnum):
    """How the elements of a fragment are spread over the threads of a CTA."""

    MMA_A = "mma_a"
    MMA_B = "mma_b"
    MMA_C = "mma_c"
    ROW = "row"
    ROW_PARTIAL = "row_partial"


class SharedLayout(StrEnum):
    """
    Where the elements of a shared-memory tile lie.

    `swizzle128` exchanges the 16-byte chunks of each 128 bytes by `chunk ^ (row % 8)`;
    `padded16` adds 16 bytes to each row. Both let ldmatrix read 8 rows without a bank conflict.
    """

    SWIZZLE_128 = "swizzle128"
    PADDED_16 = "padded16"


@irdl_attr_definition
class FragmentLayoutAttr(EnumAttribute[FragmentLayout], SpacedOpaqueSyntaxAttribute):
    """The layout of a fragment: `#tile<fragment_layout mma_c>`."""

    name = "tile.fragment_layout"


@irdl_attr_definition
class SharedLayoutAttr(EnumAttribute[SharedLayout], SpacedOpaqueSyntaxAttribute):
    """The layout of a shared-memory tile: `#tile<shared_layout swizzle128>`."""

    name = "tile.shared_layout"


class ReduceKind(StrEnum):
    """What a row reduction computes."""

    MAX = "max"
    SUM = "sum"


@irdl_attr_definition
class ReduceKindAttr(EnumAttribute[ReduceKind], SpacedOpaqueSyntaxAttribute):
    """The kind of a row reduction: `max` or `sum`."""

    name = "tile.reduce_kind"


def element_bits(element_type: Attribute) -> int:
    """Returns the size in bits of an element of a shared-memory tile."""
    # Attributes are of an abstract class: to ask for the very class is many times faster.
    of = type(element_type)
    if of in (Float16Type, BFloat16Type):
        return 16
    if of in (Float8E4M3FNType, Float8E5M2Type):
        return 8
    for width in (4, 8):
        if element_type == IntegerType(width):
            return width
    raise VerifyException(
        f"expected element type f16, bf16, f8E4M3FN, f8E5M2, i8 or i4, got {element_type}"
    )


def _parse_shape(parser: AttrParser) -> ArrayAttr[IntAttr]:
    extents = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
    return ArrayAttr([IntAttr(extent) for extent in extents])


def _print_shape(printer: Printer, shape: ArrayAttr[IntAttr]) -> None:
    printer.print_string("[" + ", ".join(str(extent.data) for extent in shape) + "]")


def _shape_attr(shape: Sequence[int] | ArrayAttr[IntAttr]) -> ArrayAttr[IntAttr]:
    if isinstance(shape, ArrayAttr):
        return shape
    return ArrayAttr([IntAttr(extent) for extent in shape])


# Only the fields of data classes take part in comparisons.
@dataclass(frozen=True, init=False)
class _SharedTile(ParametrizedAttribute, TypeAttribute):
    """A two-dimensional tile in shared memory: its shape, elements and layout."""

    shape: ArrayAttr[IntAttr]
    element_type: Attribute
    layout: SharedLayoutAttr

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.shape.data[0].data

    @property
    def columns(self) -> int:
        """The number of elements of a row."""
        return self.shape.data[1].data

    @property
    def payload_bytes(self) -> int:
        """The bytes of the elements of a row."""
        return self.columns * element_bits(self.element_type) // 8

    @property
    def row_bytes(self) -> int:
        """The distance in bytes from one row to the next."""
        payload = self.payload_bytes
        return payload + 16 if self.layout.data is SharedLayout.PADDED_16 else payload

    @property
    def stage_bytes(self) -> int:
        """The size of one stage in bytes."""
        return self.rows * self.row_bytes

    @property
    def chunks(self) -> int:
        """The number of 16-byte chunks of a row."""
        return self.payload_bytes // 16

    def verify(self) -> None:
        if len(self.shape) != 2:
            raise VerifyException(f"expected a shape of 2 extents, got {len(self.shape)}")
        if self.rows < 1 or self.rows % 8:
            raise VerifyException(f"expected a positive multiple of 8 rows, got {self.rows}")
        payload = self.payload_bytes
        if payload < 16 or payload % 16:
            raise VerifyException(f"expected rows of a multiple of 16 bytes, got {payload}")
        if self.layout.data is SharedLayout.SWIZZLE_128 and payload % 128:
            raise VerifyException(f"swizzle128 expects rows of 128 bytes, got {payload}")


def _parse_shared(
    parser: AttrParser,
) -> tuple[ArrayAttr[IntAttr], Attribute, SharedLayoutAttr]:
    shape = _parse_shape(parser)
    parser.parse_punctuation(",")
    element_type = parser.parse_type()
    parser.parse_punctuation(",")
    return shape, element_type, SharedLayoutAttr(parser.parse_str_enum(SharedLayout))


def _print_shared(printer: Printer, tile: _SharedTile) -> None:
    _print_shape(printer, tile.shape)
    printer.print_string(", ")
    printer.print_attribute(tile.element_type)
    printer.print_string(f", {tile.layout.data}")


@irdl_attr_definition
class SharedType(_SharedTile):
    """A stage of shared memory that may be read: `!tile.shared<[64, 128], bf16, swizzle128>`."""

    name = "tile.shared"

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return _parse_shared(parser)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_shared(printer, self)


@irdl_attr_definition
class InflightType(_SharedTile):
    """
    A stage whose data are still under way: `!tile.inflight<[64, 128], bf16, swizzle128>`.

    A value of this type is linear: exactly one op waits for it.
    """

    name = "tile.inflight"

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return _parse_shared(parser)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_shared(printer, self)

    def landed(self) -> SharedType:
        """Returns the type of the stage once its data have arrived."""
        return SharedType.new((self.shape, self.element_type, self.layout))


@irdl_attr_definition
class RingType(_SharedTile):
    """A ring of stages in shared memory: `!tile.ring<2 x [64, 128], bf16, swizzle128>`."""

    name = "tile.ring"

    stages: IntAttr

    def __init__(
        self,
        stages: int,
        shape: Sequence[int],
        element_type: Attribute,
        layout: SharedLayout,
    ):
        super().__init__(
            _shape_attr(shape), element_type, SharedLayoutAttr(layout), IntAttr(stages)
        )

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            stages = parser.parse_integer()
            parser.parse_characters("x")
            return *_parse_shared(parser), IntAttr(stages)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(f"{self.stages.data} x ")
            _print_shared(printer, self)

    def verify(self) -> None:
        super().verify()
        if self.stages.data < 1:
            raise VerifyException(f"expected at least 1 stage, got {self.stages.data}")

    @property
    def rows_of_all(self) -> int:
        """The number of rows of all stages."""
        return self.stages.data * self.rows

    def inflight(self) -> InflightType:
        """Returns the type of a stage of this ring while its data are under way."""
        return InflightType.new((self.shape, self.element_type, self.layout))

    def landed(self) -> SharedType:
        """Returns the type of a stage of this ring that may be read."""
        return SharedType.new((self.shape, self.element_type, self.layout))


_ROW_LAYOUTS = (FragmentLayout.ROW, FragmentLayout.ROW_PARTIAL)
# The multiples that the extents of a fragment must have.
_GRANULES = {
    FragmentLayout.MMA_A: (ROWS_PER_WARP, 16),
    FragmentLayout.MMA_B: (16, 8),
    FragmentLayout.MMA_C: (ROWS_PER_WARP, 8),
    FragmentLayout.ROW: (ROWS_PER_WARP,),
    FragmentLayout.ROW_PARTIAL: (ROWS_PER_WARP,),
}


@irdl_attr_definition
class FragmentType(ParametrizedAttribute, TypeAttribute):
    """A tile in the registers of a CTA: `!tile.frag<[64, 128], f32, mma_c>`."""

    name = "tile.frag"

    shape: ArrayAttr[IntAttr]
    element_type: Attribute
    layout: FragmentLayoutAttr

    def __init__(
        self,
        shape: Sequence[int] | ArrayAttr[IntAttr],
        element_type: Attribute,
        layout: FragmentLayout | FragmentLayoutAttr,
    ):
        if isinstance(layout, FragmentLayout):
            layout = FragmentLayoutAttr(layout)
        super().__init__(_shape_attr(shape), element_type, layout)

    @property
    def extents(self) -> tuple[int, ...]:
        """The extents of the tile."""
        return tuple(extent.data for extent in self.shape)

    @property
    def is_row(self) -> bool:
        """Whether the fragment holds one value for each row."""
        return self.layout.data in _ROW_LAYOUTS

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            shape = _parse_shape(parser)
            parser.parse_punctuation(",")
            element_type = parser.parse_type()
            parser.parse_punctuation(",")
            layout = FragmentLayoutAttr(parser.parse_str_enum(FragmentLayout))
        return shape, element_type, layout

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            _print_shape(printer, self.shape)
            printer.print_string(", ")
            printer.print_attribute(self.element_type)
            printer.print_string(f", {self.layout.data}")

    def verify(self) -> None:
        if not isinstance(self.element_type, IntegerType) and not isa(self.element_type, AnyFloat):
            raise VerifyException(f"expected elements that are numbers, got {self.element_type}")
        granules = _GRANULES[self.layout.data]
        if len(self.shape) != len(granules):
            raise VerifyException(
                f"layout {self.layout.data} expects {len(granules)} extents, got {len(self.shape)}"
            )
        for axis, (extent, granule) in enumerate(zip(self.extents, granules, strict=True)):
            if extent < granule or extent % granule:
                raise VerifyException(
                    f"layout {self.layout.data} expects axis {axis} to be a multiple of "
                    f"{granule}, got {extent}"
                )


@lru_cache(maxsize=1024)
def fragment_type(
    shape: tuple[int, ...], element_type: Attribute, layout: FragmentLayout
) -> FragmentType:
    """Returns the type of a fragment, the same object each time."""
    return FragmentType(shape, element_type, layout)


@lru_cache(maxsize=256)
def ring_type(
    stages: int, shape: tuple[int, ...], element_type: Attribute, layout: SharedLayout
) -> RingType:
    """Returns the type of a ring, the same object each time."""
    return RingType(stages, shape, element_type, layout)
