"""Buffers as MLIR types, and the types and attributes of dtypes, numbers and annotations."""

from collections.abc import Mapping, Sequence
from typing import cast

from xdsl.dialects.builtin import (
    AnyFloat,
    ArrayAttr,
    DenseArrayBase,
    DictionaryAttr,
    Float8E4M3FNType,
    Float8E5M2Type,
    FloatAttr,
    FloatData,
    IndexType,
    IntAttr,
    IntegerAttr,
    IntegerType,
    StringAttr,
    bf16,
    f16,
    f32,
    f64,
    i64,
)
from xdsl.ir import Attribute, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from ..sym import Expression, ExpressionAttr
from .program import Annotations, AnnotationValue, Buffer, Scope
from .scalars import INTEGER_BITS, Constant

_FLOATS: Mapping[str, AnyFloat] = {
    "f8E4M3FN": Float8E4M3FNType(),
    "f8E5M2": Float8E5M2Type(),
    "f16": f16,
    "bf16": bf16,
    "f32": f32,
    "f64": f64,
}
_INTEGERS: Mapping[str, IntegerType | IndexType] = {
    name: IndexType() if name == "index" else IntegerType(bits)
    for name, bits in INTEGER_BITS.items()
}
TYPES: Mapping[str, Attribute] = {**_INTEGERS, **_FLOATS}
_DTYPES: Mapping[Attribute, str] = {element: name for name, element in TYPES.items()}


def dtype_of(element: Attribute) -> str | None:
    """Returns the name of a scalar type, None for one that no nest computes with."""
    return _DTYPES.get(element)


def constant_attribute(
    constant: Constant,
) -> FloatAttr | IntegerAttr[IntegerType | IndexType]:
    """Returns the value of an `arith.constant`; a number is rounded as its dtype holds it."""
    if (element := _FLOATS.get(constant.dtype)) is not None:
        return FloatAttr(float(constant.value), element)
    return IntegerAttr(int(constant.value), _INTEGERS[constant.dtype])


def constant_of(attribute: Attribute) -> Constant | None:
    """Returns the number that an `arith.constant` holds, None for one that is no scalar."""
    match attribute:
        case FloatAttr(value=FloatData(data=value)):
            dtype = dtype_of(attribute.get_type())
        case IntegerAttr(value=IntAttr(data=value)):
            dtype = dtype_of(attribute.get_type())
            # MLIR's `true` is -1 in one bit; a nest's is 1.
            value = abs(value) if dtype == "i1" else value
        case _:
            return None
    return None if dtype is None else Constant(value, dtype)


def annotations_attribute(annotations: Annotations) -> DictionaryAttr:
    """Returns annotations as an attribute."""
    return DictionaryAttr({name: _annotation(value) for name, value in annotations.items()})


def _annotation(value: AnnotationValue) -> Attribute:
    match value:
        case str():
            return StringAttr(value)
        case int():
            return IntegerAttr(value, i64)
        case _ if all(isinstance(entry, int) for entry in value):
            return DenseArrayBase.from_list(i64, cast("tuple[int, ...]", value))
        case _:
            return ArrayAttr([StringAttr(entry) for entry in cast("tuple[str, ...]", value)])


def annotations_of(attribute: DictionaryAttr | None) -> Annotations:
    """Returns the annotations that an attribute says; raises VerifyException for other values."""
    if attribute is None:
        return {}
    return {name: _annotation_of(name, value) for name, value in attribute.data.items()}


def _annotation_of(name: str, value: Attribute) -> AnnotationValue:
    match value:
        case StringAttr(data=text):
            return text
        case IntegerAttr(value=IntAttr(data=number)):
            return number
        case DenseArrayBase():
            return cast(DenseArrayBase[IntegerType], value).get_values()
        case ArrayAttr(data=entries) if all(isinstance(entry, StringAttr) for entry in entries):
            return tuple(cast(StringAttr, entry).data for entry in entries)
        case _:
            raise VerifyException(
                f"expects the annotation '{name}' to be an integer, a string, or an array of "
                f"either, got {value}"
            )


def _expressions(values: Sequence[Expression]) -> ArrayAttr[ExpressionAttr]:
    return ArrayAttr([ExpressionAttr(value) for value in values])


@irdl_attr_definition
class BufferType(ParametrizedAttribute, TypeAttribute):
    """
    A dense array: `!nest.buffer<[n, 128], f16, shared, swizzle 128>`.

    Extents and strides are expressions over the symbols of the function. The scope is `global`
    where none is written, else `shared`, `fragment` or `local`. `strides [n, 1]` are in elements,
    row-major where they are left out. `swizzle` is a period in bytes, 32, 64 or 128. A `padding` is
    [axis, factor, offset]: the stride of that axis becomes `offset` modulo `factor`.
    """

    name = "nest.buffer"

    shape: ArrayAttr[ExpressionAttr]
    element_type: Attribute
    scope: StringAttr
    strides: ArrayAttr[ExpressionAttr]
    swizzle: IntAttr
    padding: ArrayAttr[ArrayAttr[IntAttr]]

    @classmethod
    def of(cls, buffer: Buffer) -> "BufferType":
        """Returns the type of a buffer of a program."""
        return cls(
            _expressions(buffer.shape),
            TYPES[buffer.dtype],
            StringAttr(buffer.scope.value),
            _expressions(buffer.strides or ()),
            IntAttr(buffer.swizzle),
            ArrayAttr([ArrayAttr([IntAttr(part) for part in entry]) for entry in buffer.padding]),
        )

    def buffer(self, name: str) -> Buffer:
        """Returns a buffer of this type."""
        return Buffer(
            name,
            tuple(extent.data for extent in self.shape),
            _DTYPES[self.element_type],
            Scope(self.scope.data),
            tuple(stride.data for stride in self.strides) or None,
            self.swizzle.data,
            tuple(
                (entry.data[0].data, entry.data[1].data, entry.data[2].data)
                for entry in self.padding
            ),
        )

    def verify(self) -> None:
        if self.element_type not in _DTYPES:
            raise VerifyException(
                f"expected an element type among {', '.join(_DTYPES.values())}, "
                f"got {self.element_type}"
            )
        if self.scope.data not in set(Scope):
            raise VerifyException(
                f"expected a scope among {', '.join(Scope)}, got {self.scope.data}"
            )
        rank = len(self.shape)
        if self.strides.data and len(self.strides) != rank:
            raise VerifyException(f"expected {rank} strides, got {len(self.strides)}")
        if self.swizzle.data not in (0, 32, 64, 128):
            raise VerifyException(f"expected a swizzle of 32, 64 or 128, got {self.swizzle.data}")
        for entry in self.padding:
            if len(entry) != 3 or not 0 <= entry.data[0].data < rank or entry.data[1].data < 1:
                raise VerifyException(
                    f"expected a padding [axis below {rank}, factor above 0, offset], "
                    f"got {[part.data for part in entry]}"
                )

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            shape = _parse_expressions(parser)
            parser.parse_punctuation(",")
            element = parser.parse_type()
            scope, swizzle = Scope.GLOBAL.value, 0
            strides: ArrayAttr[ExpressionAttr] = ArrayAttr(())
            padding: list[ArrayAttr[IntAttr]] = []
            while parser.parse_optional_punctuation(","):
                word = parser.parse_identifier(" that is a scope, strides, swizzle or padding")
                match word:
                    case "strides":
                        strides = _parse_expressions(parser)
                    case "swizzle":
                        swizzle = parser.parse_integer(allow_negative=False)
                    case "padding":
                        padding.append(_parse_integers(parser))
                    case _:
                        scope = word
        return shape, element, StringAttr(scope), strides, IntAttr(swizzle), ArrayAttr(padding)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(f"[{_text(self.shape)}], ")
            printer.print_attribute(self.element_type)
            if self.scope.data != Scope.GLOBAL.value:
                printer.print_string(f", {self.scope.data}")
            if self.strides.data:
                printer.print_string(f", strides [{_text(self.strides)}]")
            if self.swizzle.data:
                printer.print_string(f", swizzle {self.swizzle.data}")
            for entry in self.padding:
                printer.print_string(f", padding {[part.data for part in entry]}")


def _text(expressions: ArrayAttr[ExpressionAttr]) -> str:
    return ", ".join(str(entry.data) for entry in expressions)


def _parse_expressions(parser: AttrParser) -> ArrayAttr[ExpressionAttr]:
    return ArrayAttr(
        parser.parse_comma_separated_list(
            parser.Delimiter.SQUARE, lambda: ExpressionAttr.parse_bare(parser)
        )
    )


def _parse_integers(parser: AttrParser) -> ArrayAttr[IntAttr]:
    return ArrayAttr(
        parser.parse_comma_separated_list(
            parser.Delimiter.SQUARE, lambda: IntAttr(parser.parse_integer())
        )
    )
