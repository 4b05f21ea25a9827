"""
How a thread holds its part of a fragment, as a vector.

| fragment                 | vector                | element                                    |
|--------------------------|-----------------------|--------------------------------------------|
| `[M, N]` mma_c           | `vector<N/8 x 4 x T>` | [n, e]: row g + 8*(e/2), column 8n + 2t + e%2 |
| `[M, K]` mma_a, 16 bits  | `vector<K/8 x 2 x i32>` | [k, e]: row g + 8*e, columns 8k + 2t, +1  |
| `[K, N]` mma_b, 16 bits  | `vector<N/8 x 2 x i32>` | [n, e]: rows 8e + 2t, +1, column 8n + g    |
| `[M]` row, row_partial   | `vector<2 x T>`       | [e]: row g + 8*e                           |

Lane `l` has g = l / 4 and t = l % 4. Source: PTX ISA, matrix fragments for mma.m16n8k16.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

from xdsl.dialects import vector
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, VectorType, f32, i32
from xdsl.ir import Attribute, SSAValue

from ...dialects.tile import FragmentLayout, FragmentType
from ..emitter import Emitter, integers_attr, vector_type


def vector_of(fragment: FragmentType) -> VectorType:
    """Returns the type of a thread's part of a fragment."""
    match fragment.layout.data:
        case FragmentLayout.MMA_C:
            return vector_type(fragment.element_type, (fragment.extents[1] // 8, 4))
        case FragmentLayout.MMA_A | FragmentLayout.MMA_B:
            return vector_type(i32, (fragment.extents[1] // 8, 2))
        case FragmentLayout.ROW | FragmentLayout.ROW_PARTIAL:
            return vector_type(fragment.element_type, (2,))


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """Returns the shape of a vector, () for a scalar."""
    kind = value.type
    return kind.get_shape() if isinstance(kind, VectorType) else ()


def element_of(value: SSAValue) -> Attribute:
    """Returns the element type of a vector, or the type of a scalar."""
    kind = value.type
    return kind.element_type if type(kind) is VectorType else kind


def extract(emit: Emitter, source: SSAValue, *positions: SSAValue | int) -> SSAValue:
    """Appends the extraction of an element or of a part of a vector."""
    rest = shape_of(source)[len(positions) :]
    element = element_of(source)
    kind = vector_type(element, rest) if rest else element
    return emit.extract(source, kind, *positions)


def insert(emit: Emitter, part: SSAValue, into: SSAValue, *positions: SSAValue | int) -> SSAValue:
    """Appends the insertion of an element or of a part into a vector."""
    return emit.insert(part, into, *positions)


def broadcast(emit: Emitter, source: SSAValue, shape: Sequence[int]) -> SSAValue:
    """Appends a broadcast to a shape, unless the value has it."""
    if shape_of(source) == tuple(shape):
        return source
    kind = vector_type(element_of(source), tuple(shape))
    return emit.result(vector.BroadcastOp, source, kind)


def shuffle(emit: Emitter, source: SSAValue, mask: Sequence[int]) -> SSAValue:
    """Appends a choice of elements of a vector of one axis."""
    kind = vector_type(element_of(source), (len(mask),))
    properties = {"mask": integers_attr(tuple(mask))}
    return emit.create(vector.ShuffleOp, (source, source), kind, properties)


def spread_rows(emit: Emitter, rows: SSAValue, shape: Sequence[int]) -> SSAValue:
    """Appends the spread of one value a row over the elements of an accumulator."""
    if shape_of(rows) == tuple(shape):
        return rows
    return broadcast(emit, shuffle(emit, rows, (0, 0, 1, 1)), shape)


def zeros(emit: Emitter, kind: VectorType) -> SSAValue:
    """Returns a vector of zeros, of integers or f32, to insert into."""
    return emit.constant(_zeros(kind))


@lru_cache(maxsize=256)
def _zeros(kind: VectorType[Any]) -> DenseIntOrFPElementsAttr[Any]:
    zero = 0.0 if kind.element_type == f32 else 0
    return DenseIntOrFPElementsAttr.from_list(kind, [zero] * prod(kind.get_shape()))
