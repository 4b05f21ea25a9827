"""
What a variant's functions read beside their arguments: parameters, pages, and rows of vectors.

Parameters are passed at run time, by name, to `Plan.run`. New values, and new extents where a
shape has symbols, never compile anything.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ..runtime.attention_params import KERNEL_NAMES, KERNEL_SYMBOLS
from .expression import (
    Parameter,
    ScalarType,
    Value,
    convert,
    depending_on,
    in_order,
    is_integer,
    lift,
    refuse,
    user_line,
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_DTYPES = {"f32": ScalarType.F32, "i32": ScalarType.I32}


def scalar(name: str, dtype: str = "f32") -> Value:
    """
    Returns a run-time scalar, to be used in the functions of a variant like a number.

    `dtype` is "f32" or "i32". Raises `VariantError`.
    """
    parameter = _parameter(name, dtype, ())
    return Value("scalar", (), parameter.dtype, place=user_line(), parameter=parameter)


def tensor(name: str, shape: tuple[int | str, ...], dtype: str = "f32") -> "Tensor":
    """
    Returns a run-time tensor, to be indexed in the functions of a variant by traced integers.

    `shape` holds for each axis an integer, or the name of a symbol for an extent that the array
    tells at run time; "batch" is the number of requests, "n" of query rows, "pages" of pages.
    `dtype` is "f32" or "i32". An axis that is indexed by a bare position must be long enough for
    every position of a batch, which `run` checks; any other index outside of the tensor reads the
    nearest element. Raises `VariantError`.
    """
    if not shape:
        refuse(f"parameter '{name}': expects a shape of at least one axis")
    return Tensor(_parameter(name, dtype, shape))


def _parameter(name: str, dtype: str, shape: tuple[int | str, ...]) -> Parameter:
    if not _NAME.fullmatch(name):
        refuse(f"expects an identifier as the name of a parameter, got {name!r}")
    if name in KERNEL_NAMES or name.startswith("extent_"):
        refuse(f"parameter '{name}': expects another name, the kernel has an argument '{name}'")
    if dtype not in _DTYPES:
        refuse(f"parameter '{name}': expects dtype 'f32' or 'i32', got {dtype!r}")
    for extent in shape:
        named = isinstance(extent, str) and _NAME.fullmatch(extent)
        if not named and not (is_integer(extent) and 1 <= int(extent) < 2**31):
            refuse(f"parameter '{name}': expects extents from 1 or names, got {extent!r}")
        if extent in KERNEL_SYMBOLS:
            refuse(f"parameter '{name}': expects another symbol, '{extent}' is the kernel's own")
    return Parameter(name, _DTYPES[dtype], shape)


@dataclass(frozen=True)
class Tensor:
    """A run-time tensor of a variant; `tensor[i, j]` reads one element."""

    parameter: Parameter

    def __getitem__(self, indices: Any) -> Value:
        places: tuple[object, ...] = (indices,)
        if isinstance(indices, tuple):
            places = cast("tuple[object, ...]", indices)
        shape, name = self.parameter.shape, self.parameter.name
        if len(places) != len(shape):
            refuse(f"'{name}' expects {len(shape)} indices, got {len(places)}")
        return Value(
            "load",
            tuple(_index(place, f"'{name}'") for place in places),
            self.parameter.dtype,
            place=user_line(),
            parameter=self.parameter,
        )

    def __iter__(self) -> Any:
        refuse(f"'{self.parameter.name}' is a tensor of unknown values and cannot be iterated over")


def _index(place: object, what: str) -> Value:
    value = lift(place)
    if value.dtype is not ScalarType.I32:
        refuse(f"{what} expects indices of i32, got {value.dtype}")
    return value


def page_of(kv_idx: object) -> Value:
    """Returns the number of the page that holds the key at a position of the request."""
    return Value("page", (_index(kv_idx, "'page_of'"),), ScalarType.I32, place=user_line())


def row_of(q_idx: object) -> Value:
    """Returns the row of a query in `q`, from its position in its request's sequence."""
    return Value("query_row", (_index(q_idx, "'row_of'"),), ScalarType.I32, place=user_line())


Reader = Callable[[Value], Value]
Term = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Vector:
    """
    A row that a transform works on: the head's elements of a query, key or value, as f32.

    `x[d]` is an element, `x[d ^ 1]` its neighbour; an index outside of the head reads the nearest
    element. `read` gives the element at an index.
    """

    read: Reader

    def __getitem__(self, index: Any) -> Value:
        return self.read(_index(index, "a row"))

    def sum(self, term: Term | None = None) -> Value:
        """
        Returns the sum of `term(element, index)` over the elements of the row, by default of them.

        The term must not depend on the index `d` of the transform: that would be a matrix product.
        """
        index = Value("index", (), ScalarType.I32)
        element = self[index]
        value = lift(element if term is None else term(element, index))
        if value.dtype is ScalarType.I1:
            refuse("a sum expects a term that is a number, got a condition")
        value = convert(value, ScalarType.F32)
        inner = depending_on(value, index)
        for node in in_order(value):
            if node.op == "row_sum" and id(node) in inner:
                refuse("a sum within the term of a sum cannot be expressed")
        return Value("row_sum", (value, index), ScalarType.F32, place=user_line())

    def __iter__(self) -> Any:
        refuse("a row has an unknown number of elements and cannot be iterated over")


def element_reader(row: Value) -> Reader:
    """Returns how a transform reads the row that it is given."""
    return lambda index: Value("element", (row, index), ScalarType.F32, place=user_line())
