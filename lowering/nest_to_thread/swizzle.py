"""
Addresses in swizzled buffers: 16-byte chunks of a period are exchanged by the row they lie in.

The address is a sum of parts. Parts that are multiples of all that the exchange looks at are added
behind it. Where parts occupy bits of their own, the exchange of their sum is that of each: so it is
computed where the outer parts are known, and inner loops flip bits of its result.
"""

from collections.abc import Callable

from xdsl.dialects.builtin import i8
from xdsl.ir import SSAValue

from ...dialects.nest.program import Buffer
from ...dialects.sym import Expression, Ranges, interval
from ..emitter import Emitter
from .indices import Indices

_CHUNK_BYTES = 16
# The rows of a buffer that the exchange counts are no shorter than a pass over all banks.
_LEAST_ROW_BYTES = 128


def row_bytes(buffer: Buffer) -> int:
    """
    Returns the bytes of the rows that a swizzle counts: those of the buffer, but at least 128.

    So with rows of up to 128 bytes the pattern is that of TMA and wgmma. Rows whose size is no
    power of two are counted as 128 bytes.
    """
    extent = buffer.shape[-1].constant_value if buffer.shape else None
    size = (extent or 0) * buffer.element_bytes
    return size if size > _LEAST_ROW_BYTES and not size & (size - 1) else _LEAST_ROW_BYTES


def swizzled_address(
    emit: Emitter,
    indices: Indices,
    buffer: Buffer,
    offset: Expression,
    pointer: Callable[[Expression], SSAValue],
) -> SSAValue:
    """
    Returns the address of the element at an offset in elements.

    `pointer` gives the address at an offset that no exchange moves.
    """
    period, row = buffer.swizzle, row_bytes(buffer)
    whole_bytes = row * (period // _CHUNK_BYTES)
    size = buffer.element_bytes
    whole = Expression({m: f for m, f in offset.terms.items() if f * size % whole_bytes == 0})
    place = (offset - whole) * size
    exchange = _Exchange(emit, indices, (period - _CHUNK_BYTES) * (row // _CHUNK_BYTES), row)
    depth = indices.depth(place)
    # Constants are left to the instruction, so that accesses share the rest.
    near = Expression({m: f for m, f in whole.terms.items() if m and indices.reaches(m, depth)})
    start = pointer(near)
    with indices.at(max(depth, indices.depth(near))) as known:
        key = (f"{buffer.name} exchanged", near * size + place)
        if key not in known:
            moved = exchange.value(place)
            known[key] = emit.pointer(start, moved, i8)
    rest = whole - near
    if not rest.terms:
        return known[key]
    number = rest.constant_value
    distance = (rest * size).constant_value if number is not None else None
    by = distance if distance is not None else indices.value(rest * size)
    return emit.pointer(known[key], by, i8)


class _Exchange:
    """Appends `place ^ (row of place)`, by parts where these occupy bits of their own."""

    def __init__(self, emit: Emitter, indices: Indices, row_bits: int, row: int) -> None:
        self._emit = emit
        self._indices = indices
        self._row_bits = row_bits
        self._down = (row // _CHUNK_BYTES).bit_length() - 1

    def value(self, place: Expression) -> SSAValue:
        """Returns the exchanged place in bytes."""
        outer, inner = self._indices.parts(place)
        with self._indices.at(self._indices.depth(place)) as known:
            key = (f"exchange {self._row_bits} by {self._down}", place)
            if key not in known:
                known[key] = self._computed(place, outer, inner)
            return known[key]

    def _computed(self, place: Expression, outer: Expression, inner: Expression) -> SSAValue:
        emit, indices = self._emit, self._indices
        if outer.terms and inner.terms and self._is_apart(outer, inner):
            return emit.binary("xor", self.value(outer), indices.value(inner))
        plain = indices.value(place)
        bits = emit.binary("and", plain, self._row_bits)
        down = emit.binary("shru", bits, self._down)
        return emit.binary("xor", plain, down)

    def _is_apart(self, outer: Expression, inner: Expression) -> bool:
        """Whether the inner part has bits of its own, none of which names a row."""
        ranges = self._indices.ranges
        one, two = _bits(outer, ranges), _bits(inner, ranges)
        return one is not None and two is not None and not two & (one | self._row_bits)


def _bits(value: Expression, ranges: Ranges) -> int | None:
    """Returns the bits that a sum may occupy, None where its parts may carry into one another."""
    taken = 0
    for monomial, factor in value.terms.items():
        low, high = interval(Expression({monomial: 1}), ranges)
        if low is None or high is None or low < 0 or factor < 1 or factor & (factor - 1):
            return None
        bits = ((1 << high.bit_length()) - 1) * factor
        if bits & taken:
            return None
        taken |= bits
    return taken
