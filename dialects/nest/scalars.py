"""
What one point of a nest computes: scalar expressions over loads, constants and indices.

Nodes are immutable. A node that several others hold is computed once. Ops bear the names of
upstream MLIR (`arith.addf`), so that reading and writing a program changes no word.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ..sym import Expression

INTEGER_BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "index": 64}
FLOAT_BITS = {"f8E4M3FN": 8, "f8E5M2": 8, "f16": 16, "bf16": 16, "f32": 32, "f64": 64}
DTYPE_BITS = INTEGER_BITS | FLOAT_BITS


@dataclass(frozen=True, slots=True)
class Constant:
    """A number of a dtype."""

    value: int | float
    dtype: str


@dataclass(frozen=True, slots=True)
class Index:
    """An index expression over loops, axes and symbols, as a scalar of dtype `index`."""

    expression: Expression

    @property
    def dtype(self) -> str:
        """Always `index`."""
        return "index"


@dataclass(frozen=True, slots=True)
class Variable:
    """A scalar parameter of the program."""

    name: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Load:
    """
    One element of a buffer.

    An index is an expression over loops, axes and symbols, or a scalar of dtype `index` where it
    depends on data, as in a gather.
    """

    buffer: str
    indices: "tuple[Subscript, ...]"
    dtype: str


@dataclass(frozen=True, slots=True)
class Apply:
    """
    An op of `arith` or `math` on scalars: `Apply("arith.addf", (a, b), "f32")`.

    `predicate` is that of a comparison: `olt` for floats, `slt` for integers, as MLIR names them.
    """

    op: str
    operands: "tuple[Scalar, ...]"
    dtype: str
    predicate: str = ""


Scalar: TypeAlias = Constant | Index | Variable | Load | Apply
Subscript: TypeAlias = Expression | Constant | Index | Variable | Load | Apply


def is_float(dtype: str) -> bool:
    """Whether a dtype is one of floating-point numbers."""
    return dtype in FLOAT_BITS


def parts_of(scalar: Scalar) -> tuple[Scalar, ...]:
    """Returns the scalars that a scalar is made of directly; of a load those in its indices."""
    if isinstance(scalar, Apply):
        return scalar.operands
    if isinstance(scalar, Load):
        return tuple(index for index in scalar.indices if not isinstance(index, Expression))
    return ()


def walk_scalar(scalar: Scalar) -> Iterator[Scalar]:
    """Yields a scalar and all it is made of, a shared part once, outer before inner."""
    pending, seen = [scalar], set[int]()
    while pending:
        node = pending.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            pending.extend(reversed(parts_of(node)))


def loads_of(scalar: Scalar) -> Iterator[Load]:
    """Yields every load of a scalar, also those inside the indices of others."""
    for node in walk_scalar(scalar):
        if isinstance(node, Load):
            yield node


class ScalarMap:
    """
    Rebuilds scalars with changed loads, variables and index expressions; sharing is kept.

    `of_expression` changes index expressions, and `of_leaf` may answer for a load or variable (its
    indices are changed already) with another scalar, or None to keep it.
    """

    def __init__(
        self,
        of_expression: Callable[[Expression], Expression] | None = None,
        of_leaf: Callable[[Load | Variable], Scalar | None] | None = None,
    ) -> None:
        self._of_expression = of_expression
        self._of_leaf = of_leaf
        # The nodes are kept with their images, so that their identities stay theirs.
        self._known: dict[int, tuple[Scalar, Scalar]] = {}

    def __call__(self, scalar: Scalar) -> Scalar:
        """Returns the scalar with what it is made of changed."""
        known = self._known.get(id(scalar))
        if known is None:
            known = self._known[id(scalar)] = (scalar, self._image(scalar))
        return known[1]

    def subscript(self, index: Subscript) -> Subscript:
        """Returns one index of an access, changed; a scalar that became an index is unwrapped."""
        if isinstance(index, Expression):
            return index if self._of_expression is None else self._of_expression(index)
        image = self(index)
        return image.expression if isinstance(image, Index) else image

    def _image(self, scalar: Scalar) -> Scalar:
        match scalar:
            case Apply(op, operands, dtype, predicate):
                images = tuple(map(self, operands))
                if all(new is old for new, old in zip(images, operands, strict=True)):
                    return scalar
                return Apply(op, images, dtype, predicate)
            case Load(buffer, indices, dtype):
                changed = tuple(map(self.subscript, indices))
                same = all(new is old for new, old in zip(changed, indices, strict=True))
                return self._leaf(scalar if same else Load(buffer, changed, dtype))
            case Index(expression):
                if self._of_expression is None:
                    return scalar
                image = self._of_expression(expression)
                return scalar if image is expression else Index(image)
            case Variable():
                return self._leaf(scalar)
            case Constant():
                return scalar

    def _leaf(self, leaf: Load | Variable) -> Scalar:
        image = None if self._of_leaf is None else self._of_leaf(leaf)
        return leaf if image is None else image
