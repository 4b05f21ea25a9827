"""
Narrow elements brought to 16 bits, for one thread: a chunk of 16 bytes at a time.

Codes become f16 numbers by arithmetic on bits, four or eight in a register at once. A byte of e5m2
is the upper byte of an f16. One of e4m3, moved by one bit, has the exponent of an f16 too low by 8,
which is 2^-8; its NaN, the one code that overflows when 1 is added, gets the exponent of a NaN.
Integers are put behind the bits of 1024, where f16 numbers count them. None of this rounds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from xdsl.dialects import arith, gpu, llvm, vector
from xdsl.dialects.builtin import (
    DenseArrayBase,
    Float8E4M3FNType,
    Float8E5M2Type,
    Float16Type,
    FloatAttr,
    VectorType,
    f16,
    f32,
    i8,
    i32,
    i64,
)
from xdsl.ir import Attribute, Operation, Region, SSAValue

from ...dialects import nvvm, tile
from ...dialects.tile import InflightType, RingType, element_bits
from ..emitter import Emitter
from .fragments import broadcast, element_of, extract, insert, shape_of
from .lanes import CHUNK_BYTES, address, chunk_offset, load_element
from .memory import Share, row_at, share_of
from .rules import Rule
from .thread import Thread

WORDS = 4
# Elements of 16 bits in a chunk, which are converted at a time.
PART = 8
# More scales than these, or those of longer rows, are not loaded ahead; longer rows are taken one
# after the other, and their places computed for each tile: all this took registers from the output.
MOST_EARLY_SCALES = 4
LARGEST_SHORT_COLUMNS = 128
# The bits of the f16 number 1024: from it on to 2047 the last bit counts 1.
COUNTING = 0x6400
E4M3_LIFT = 2.0**8


@dataclass(frozen=True)
class Widening:
    """The lowering of one `tile.widen`: its types, and the share of it that a thread has."""

    thread: Thread
    op: tile.WidenOp
    narrow: InflightType
    wide: RingType
    share: Share

    @property
    def emit(self) -> Emitter:
        """Where ops are appended."""
        return self.thread.emit

    @property
    def elements(self) -> int:
        """The elements of a chunk."""
        return 8 * CHUNK_BYTES // element_bits(self.narrow.element_type)

    @property
    def block(self) -> int | None:
        """How many neighbours of a row share a scale in an array of scales."""
        return None if self.op.block is None else self.op.block.value.data

    @property
    def scales_of_chunk(self) -> int:
        """How many scales a chunk has."""
        return 1 if self.block is None else max(1, self.elements // self.block)

    def emit_all(self) -> None:
        """Appends the loads of scales, the wait, the rows, and the barrier."""
        emit = self.emit
        scales = self._block_scales() if self._scales_early else None
        emit.op(nvvm.CpAsyncWaitGroupOp, self.thread.pending[self.op])
        places = self._places()

        def row(step: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            def chunks() -> None:
                emit.unrolled(
                    self.share.column_steps,
                    (),
                    lambda column, _: self._chunk(step, column, places, scales),
                )

            self._if_within(step, chunks)
            return ()

        bounds = emit.index(0), emit.index(self.share.row_steps)
        emit.loop(bounds, (), row, unroll=self._unrolled)
        emit.op(gpu.BarrierOp)

    def _if_within(self, step: SSAValue, body: Callable[[], None]) -> None:
        if not self.share.partial:
            body()
            return
        emit = self.emit
        within = emit.compare("slt", row_at(emit, self.share, step), self.narrow.rows)
        emit.when(within, body)

    def _places(self) -> Sequence[SSAValue]:
        """Returns the thread's first place in the narrow stage, and those in the wide one."""
        emit, share = self.emit, self.share
        each = self.elements // PART
        with emit.into(emit.shared if self._short else emit.block):
            source = chunk_offset(emit, self.narrow, share.row, share.chunk)
            first = emit.mul(share.chunk, each)
            targets = [
                chunk_offset(emit, self.wide, share.row, emit.add(first, number))
                for number in range(each)
            ]
        stages = (self.thread[self.op.stage_in_flight], *[self.thread[self.op.ring]] * each)
        pairs = zip(stages, (source, *targets), strict=True)
        return [address(emit, stage, offset) for stage, offset in pairs]

    def _chunk(
        self,
        step: SSAValue,
        column: SSAValue,
        places: Sequence[SSAValue],
        scales: SSAValue | None,
    ) -> Sequence[SSAValue]:
        """Appends the conversion of one chunk; steps are of whole periods of the layouts."""
        emit, share = self.emit, self.share
        step_32, column_32 = emit.to_i32(step), emit.to_i32(column)

        def distance(kind: InflightType | RingType, chunks: int) -> SSAValue:
            rows = emit.mul(step_32, share.rows_apart * kind.row_bytes)
            return emit.add(rows, emit.mul(column_32, chunks * share.chunks_apart * CHUNK_BYTES))

        source, *targets = places
        place = address(emit, source, distance(self.narrow, 1))
        words = emit.result(llvm.LoadOp, place, VectorType(i32, (WORDS,)), CHUNK_BYTES)
        apart, each = distance(self.wide, len(targets)), WORDS // len(targets)
        for number, target in enumerate(targets):
            wide = self._rounded(
                self._decoded(_slice(emit, words, each * number, each)),
                self._scale_of(scales, step, column, number),
            )
            emit.op(llvm.StoreOp, wide, address(emit, target, apart), CHUNK_BYTES)
        return ()

    def _decoded(self, words: SSAValue) -> SSAValue:
        if self.op.convert is not None:
            return converted(self.emit, words, self.narrow.element_type)
        return decoded(self.emit, words, self.narrow.element_type)

    def _scale_of(
        self, scales: SSAValue | None, step: SSAValue, column: SSAValue, part: int
    ) -> SSAValue | None:
        """Returns the scale of the elements of a part of a chunk, in f32, None for no scale."""
        if self.op.scales is None:
            return None
        if self.block is None:
            return self._lifted(self.thread[self.op.scales])
        number = part * PART // (self.elements // self.scales_of_chunk)
        if scales is not None:
            return extract(self.emit, scales, step, column, number)
        return self._load_valid(*self._row_scales(step), column, number)

    def _lifted(self, scale: SSAValue) -> SSAValue:
        if not isinstance(self.narrow.element_type, Float8E4M3FNType) or self.op.convert:
            return scale
        return self.emit.binary("mulf", scale, self.emit.float32(E4M3_LIFT))

    def _rounded(self, numbers: SSAValue, scale: SSAValue | None) -> SSAValue:
        """Returns numbers of f16, times their scale, in the type of the ring: pairs in words."""
        emit, count, element = self.emit, PART, self.wide.element_type
        if scale is not None or not isinstance(element, Float16Type):
            numbers = emit.result(arith.ExtFOp, numbers, VectorType(f32, (count,)))
            if scale is not None:
                numbers = emit.binary("mulf", numbers, broadcast(emit, scale, (count,)))
            numbers = emit.result(arith.TruncFOp, numbers, VectorType(element, (count,)))
        return emit.result(vector.BitcastOp, numbers, VectorType(i32, (count // 2,)))

    def _block_scales(self) -> SSAValue:
        """Appends the loads of the scales of all chunks: they are under way during the wait."""
        emit, share, count = self.emit, self.share, self.scales_of_chunk
        shape = (share.row_steps, share.column_steps, count)
        zero = emit.float32(0.0)

        def row(step: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            first, valid = self._row_scales(step)

            def chunk(column: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
                (found,) = carried
                for number in range(count):
                    loaded = self._load_valid(first, valid, column, number)
                    found = insert(emit, loaded, found, step, column, number)
                return (found,)

            return emit.unrolled(share.column_steps, carried, chunk)

        return emit.unrolled(share.row_steps, (broadcast(emit, zero, shape),), row)[0]

    @property
    def _unrolled(self) -> bool:
        """Whether rows are taken in one piece of code, many at a time."""
        return self._short and (self.block is None or self._scales_early)

    @property
    def _short(self) -> bool:
        return self.narrow.columns <= LARGEST_SHORT_COLUMNS

    @property
    def _scales_early(self) -> bool:
        """Whether scales are loaded before the wait, so that their latency is hidden."""
        if self.block is None or not self._short:
            return False
        chunks = self.share.row_steps * self.share.column_steps
        return chunks * self.scales_of_chunk <= MOST_EARLY_SCALES

    def _row_scales(self, step: SSAValue) -> tuple[SSAValue, SSAValue]:
        """Returns the offset of the first scale of a row, and whether the row is valid."""
        row = row_at(self.emit, self.share, step)
        first, valid = self.thread.inline(self._rows(), (row,))
        return first, valid

    def _load_valid(
        self, first: SSAValue, valid: SSAValue, column: SSAValue, number: int
    ) -> SSAValue:
        """Appends the load of a scale of a chunk, 0 in a row that is not valid."""
        emit = self.emit
        place = emit.add(first, emit.to_i64(self._scale_index(column, number)))
        return emit.select(valid, self._lifted(self._load_scale(place)), emit.float32(0.0))

    def _rows(self) -> Region:
        rows = self.op.rows
        assert rows is not None, "verified: an array of scales has rows"
        return rows

    def _scale_index(self, column: SSAValue, number: int) -> SSAValue:
        """Returns the index of a scale of a chunk in its row."""
        emit, block = self.emit, self.block or 1
        apart = emit.mul(emit.to_i32(column), self.share.chunks_apart)
        first = emit.mul(emit.add(self.share.chunk, apart), self.elements)
        return emit.add(emit.divu(first, block), number)

    def _load_scale(self, place: SSAValue) -> SSAValue:
        kind, scales = self.op.scale_type, self.op.scales
        assert kind is not None, "verified: an array of scales has a type"
        assert scales is not None, "verified: a block has scales"
        loaded = load_element(self.emit, self.thread[scales], place, kind)
        return loaded if kind == f32 else self.emit.result(arith.ExtFOp, loaded, f32)


def lower_widen(thread: Thread, op: tile.WidenOp) -> None:
    """Each thread converts the chunks that it copied, once they have landed."""
    narrow, wide = op.stage_in_flight.type, op.ring.type
    if not isinstance(narrow, InflightType) or not isinstance(wide, RingType):
        raise TypeError(f"expected a stage in flight and a ring, got {narrow} and {wide}")
    Widening(thread, op, narrow, wide, share_of(thread, op, narrow)).emit_all()
    thread.set(op.stage, thread[op.ring])


def decoded(emit: Emitter, words: SSAValue, element: Attribute) -> SSAValue:
    """Returns the elements of 32-bit words as f16, in order: codes, of e4m3 times 2^-8."""
    return _decoder_of(element)(Bits(emit, words))


def converted(emit: Emitter, words: SSAValue, element: Attribute) -> SSAValue:
    """Returns the 8-bit floats of 32-bit words as f16, by the instruction of sm_89."""
    count = 4 * shape_of(words)[0]
    codes = emit.value(vector.BitcastOp(words, VectorType(i8, (count,))))
    pairs = [
        emit.value(nvvm.ConvertF8x2ToF16x2Op(_slice(emit, codes, first, 2), element))
        for first in range(0, count, 2)
    ]
    while len(pairs) > 1:
        pairs = [_joined(emit, *pairs[at : at + 2]) for at in range(0, len(pairs), 2)]
    return pairs[0]


@dataclass(frozen=True)
class Bits:
    """Words of codes, `vector<n x i32>`, and what is computed of them."""

    emit: Emitter
    words: SSAValue

    def op(self, name: str, number: int) -> "Bits":
        """Appends an operation of each word and a number."""
        return Bits(self.emit, self.emit.binary(name, self.words, self._splat(number)))

    def __or__(self, other: "Bits") -> "Bits":
        return Bits(self.emit, self.emit.binary("or", self.words, other.words))

    def _splat(self, number: int) -> SSAValue:
        (count,) = shape_of(self.words)
        signed = number - (1 << 32) if number >> 31 else number
        return self.emit.dense(VectorType(i32, (count,)), [signed] * count)

    def halves(self) -> SSAValue:
        """Reads the words as pairs of f16."""
        (count,) = shape_of(self.words)
        return self.emit.result(vector.BitcastOp, self.words, VectorType(f16, (2 * count,)))


def _e4m3(bits: Bits) -> SSAValue:
    def upper(bits: Bits) -> Bits:
        size = bits.op("shru", 1).op("and", 0x3F803F80)
        nan = size.op("add", 0x00800080).op("and", 0x40004000)
        return size | nan | bits.op("and", 0x80008000)

    return _interleaved([upper(bits.op("shl", 8)), upper(bits)])


def _e5m2(bits: Bits) -> SSAValue:
    return _interleaved([part.op("and", 0xFF00FF00) for part in (bits.op("shl", 8), bits)])


def _i8(bits: Bits) -> SSAValue:
    return _integers(bits.op("xor", 0x80808080), 8)


def _i4(bits: Bits) -> SSAValue:
    return _integers(bits.op("xor", 0x88888888), 4)


def _integers(bits: Bits, width: int) -> SSAValue:
    """Returns integers whose upper bit was turned over, `width` bits each."""
    emit, mask = bits.emit, (1 << width) - 1
    parts = [
        (bits.op("shru", shift) if shift else bits).op("and", mask * 0x10001)
        for shift in range(0, 16, width)
    ]
    parts = [part.op("or", COUNTING * 0x10001) for part in parts]
    counted = _interleaved(parts)
    zero = emit.constant(FloatAttr(1024.0 + (1 << width - 1), f16))
    return emit.binary("subf", counted, broadcast(emit, zero, shape_of(counted)))


def _interleaved(parts: Sequence[Bits]) -> SSAValue:
    """Returns the f16 of parts of the same words: element k of a word from part k mod n."""
    emit, count = parts[0].emit, len(parts)
    halves = [part.halves() for part in parts]
    whole = halves[0]
    if count == 2:
        whole = _joined(emit, *halves)
    if count == 4:
        whole = _joined(emit, _joined(emit, *halves[:2]), _joined(emit, *halves[2:]))
    (size,) = shape_of(halves[0])
    order = [
        part * size + 2 * word + half
        for word in range(size // 2)
        for half in range(2)
        for part in range(count)
    ]
    return _shuffled(emit, whole, order)


def _joined(emit: Emitter, first: SSAValue, second: SSAValue) -> SSAValue:
    (count,) = shape_of(first)
    return _shuffle(emit, first, second, range(2 * count))


def _shuffled(emit: Emitter, whole: SSAValue, order: Sequence[int]) -> SSAValue:
    return _shuffle(emit, whole, whole, order)


def _shuffle(emit: Emitter, first: SSAValue, second: SSAValue, order: Sequence[int]) -> SSAValue:
    result = VectorType(element_of(first), (len(order),))
    mask = DenseArrayBase.from_list(i64, order)
    return emit.value(vector.ShuffleOp(first, second, mask, result_type=result))


def _slice(emit: Emitter, whole: SSAValue, begin: int, count: int) -> SSAValue:
    return _shuffled(emit, whole, range(begin, begin + count))


def _decoder_of(element: Attribute) -> Callable[[Bits], SSAValue]:
    if isinstance(element, Float8E4M3FNType):
        return _e4m3
    if isinstance(element, Float8E5M2Type):
        return _e5m2
    return {8: _i8, 4: _i4}[element_bits(element)]


WIDEN_RULES: Mapping[type[Operation], Rule] = {tile.WidenOp: lower_widen}
