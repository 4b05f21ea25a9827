"""
Appending rows to a paged KV cache as a nest: RoPE, quantisation and the scatter in one pass.

A thread has neighbours of one row of one head in registers:

    load, rotate, largest magnitude --> (shared memory, barrier) --> scale, codes --> scatter
"""

from dataclasses import replace
from math import factorial, gcd, pi

from ...dialects.nest.program import Program, Scope
from ...dialects.sym import Expression, floordiv, mod
from ...nest.builder import Array, Builder
from ...nest.values import (
    Operand,
    Value,
    absolute,
    cast,
    compare,
    maximum,
    minimum,
    round_even,
    select,
    value_of,
)
from ..kv_format import LARGEST_CODE, KVFormat
from ..part import Part
from .rows import LARGEST, UNROLLED, VECTOR, RowTile, row_tile, stride_ranges

_FLOAT8 = {"e4m3": "f8E4M3FN", "e5m2": "f8E5M2"}
# An angle is a signed fraction of a turn in 32 bits.
_ANGLE = 2.0 * pi / 2.0**32


def append(
    *,
    parts: tuple[Part, ...],
    heads: int,
    dtype: str,
    format: KVFormat,  # noqa: A002 - the format of the cache
    page_size: int,
    layout: str,
) -> Program:
    """
    Returns the kernel that writes rows to the slots of pages that tables name.

    `page` and `slot`, i32 [nnz], say where a row goes; a row of page -1 goes nowhere. `position`,
    i32 [nnz], is the position for RoPE, `rotation`, i64 [dim / 2], the turns a position adds, in
    units of 2^-64.
    """
    b = Builder("append_kv", _ranges(parts, heads))
    rows = _Rows(b, parts, heads, dtype, format, page_size, layout)
    n = b.symbol("nnz")
    tile = RowTile(max(1, 128 // rows.lanes), rows.lanes, 0)
    with tile.on_grid(b, n * heads) as first:
        for phase in (rows.load, rows.store):
            for number, part in enumerate(parts):
                lanes = replace(tile, lanes=rows.tiles[number].lanes)
                name = f"{phase.__name__}_{part.name}"
                with lanes.threads(b, name, first, n, heads) as (i, h, t):
                    phase(number, i, h, t)
    return b.build()


def _ranges(parts: tuple[Part, ...], heads: int) -> str:
    ranges = f"nnz in [0, {LARGEST // heads}], pages in [0, {LARGEST}]"
    pages = {part.pages: part for part in parts}
    for part in parts:
        ranges += stride_ranges(part.name, 2, part.row_step)
    for name, part in pages.items():
        ranges += stride_ranges(name, 3 if part.which is None else 4, part.page_step)
    return ranges


def _cosine_and_sine(turn: Value) -> tuple[Value, Value]:
    """
    Returns the cosine and sine of a signed fraction of a turn, i32, in units of 2^-32.

    The quadrant is split off in integers, without an error; what is left is at most an eighth of a
    turn, where Taylor's polynomials err by less than 2e-9.
    """
    quadrant = (turn + (1 << 29)) >> 30
    x = cast(turn - (quadrant << 30), "f32") * _ANGLE
    square = x * x
    sine = _taylor(square, 1) * x
    cosine = _taylor(square, 0)
    is_swapped = compare("!=", quadrant & 1, 0)
    first, second = select(is_swapped, sine, cosine), select(is_swapped, cosine, sine)
    return (
        select(compare("!=", (quadrant + 1) & 2, 0), -first, first),
        select(compare("!=", quadrant & 2, 0), -second, second),
    )


def _taylor(square: Value, first: int) -> Value:
    """Returns the sum of `(-1)^k square^k / (2k + first)!` for k up to 4 or 5."""
    terms = [(-1.0) ** k / factorial(2 * k + first) for k in range(6 - first)]
    total: Operand = terms.pop()
    for term in reversed(terms):
        total = square * total + term
    return value_of(total, "f32")


class _Rows:
    """The buffers of the kernel, and what a thread does for its neighbours of a row."""

    def __init__(
        self,
        b: Builder,
        parts: tuple[Part, ...],
        heads: int,
        dtype: str,
        form: KVFormat,
        page_size: int,
        layout: str,
    ) -> None:
        self.b, self.parts, self.heads, self.form = b, parts, heads, form
        self.page_size, self.layout, self.dtype = page_size, layout, dtype
        n = b.symbol("nnz")
        self.tiles = [self._tile(part) for part in parts]
        self.lanes = max(tile.lanes for tile in self.tiles)
        self.inputs = [self._input(part) for part in parts]
        self.pages: dict[str, Array] = {}
        for part in parts:
            if part.pages not in self.pages:
                self.pages[part.pages] = self._pages(part)
        self.scales: dict[str, Array] = {}
        if form.has_blocks:
            for part in parts:
                if part.pages not in self.scales:
                    self.scales[part.pages] = self._scales(part)
        self.page, self.slot = b.buffer("page", [n], "i32"), b.buffer("slot", [n], "i32")
        rotated = [part.dim // 2 for part in parts if part.rope]
        self.position = b.buffer("position", [n], "i32") if rotated else None
        self.rotation = b.buffer("rotation", [rotated[0]], "i64") if rotated else None
        self.one_scale = form.is_quantized and not form.has_blocks
        self.inverse = [b.scalar(f"{p.name}_inverse", "f32") for p in parts if self.one_scale]
        self.kept = [self._local(p, "kept", p.dim) for p in parts]
        self.raw = [self._local(p, "raw", p.dim) for p in parts]
        self.other = [self._local(p, "other", p.dim) for p in parts]
        self.partial = [self._shared(number) for number in range(len(parts))]

    def _tile(self, part: Part) -> RowTile:
        half = part.dim // 2 if part.rope == "half" else part.dim
        vector = gcd(row_tile(half, self.dtype).vector, part.dim)
        if self.form.has_blocks:
            vector = gcd(vector, self.form.block_of(part.dim))
        return RowTile(0, part.dim // vector, vector)

    def _strides(self, name: str, step: int, axes: int) -> list[Expression | int] | None:
        if not step:
            return None
        return [*(self.b.symbol(f"{name}_stride_{axis}") for axis in range(axes)), 1]

    def _input(self, part: Part) -> Array:
        shape = [self.b.symbol("nnz"), self.heads, part.dim]
        strides = self._strides(part.name, part.row_step, 2)
        return self.b.buffer(part.name, shape, self.dtype, strides=strides)

    def _paged_shape(self, part: Part, width: int) -> list[Expression | int]:
        inner = [self.page_size, self.heads]
        if self.layout == "HND":
            inner.reverse()
        both = [] if part.which is None else [2]
        return [self.b.symbol("pages"), *both, *inner, width]

    def _pages(self, part: Part) -> Array:
        shape = self._paged_shape(part, self.form.width(part.dim))
        strides = self._strides(part.pages, part.page_step, len(shape) - 1)
        held = {"i4": "i8", **_FLOAT8}.get(self.form.dtype, self.form.dtype)
        return self.b.buffer(part.pages, shape, held, output=True, strides=strides)

    def _scales(self, part: Part) -> Array:
        shape = self._paged_shape(part, part.dim // self.form.block_of(part.dim))
        return self.b.buffer(f"{part.pages}_scales", shape, self.form.scale_dtype, output=True)

    def _local(self, part: Part, name: str, width: int) -> Array:
        shape = [self.b.symbol("nnz"), self.heads, width]
        return self.b.temporary(f"{part.name}_{name}", shape, "f32", Scope.LOCAL)

    def _shared(self, number: int) -> Array | None:
        if not self.form.has_blocks:
            return None
        shape = [self.b.symbol("nnz"), self.heads, self.tiles[number].lanes]
        name = f"{self.parts[number].name}_largest"
        return self.b.temporary(name, shape, "f32", Scope.SHARED)

    def load(self, number: int, i: Expression, h: Expression, t: Expression) -> None:
        """Loads neighbours, rotates them, and says how large they are."""
        part, tile, kept = self.parts[number], self.tiles[number], self.kept[number]
        b, source, begin = self.b, self.inputs[number], tile.vector * t
        raw = self.raw[number] if part.rope else kept
        with b.loop(f"{part.name}_e", tile.vector, VECTOR) as e:
            raw[i, h, begin + e] = cast(source[i, h, begin + e], "f32")
        if part.rope:
            self._rotate(number, i, h, t)
        shared = self.partial[number]
        if shared is not None:
            shared[i, h, t] = 0.0
            with b.loop(f"{part.name}_m", tile.vector, UNROLLED) as e:
                size = absolute(kept[i, h, begin + e])
                shared[i, h, t] = maximum(shared[i, h, t], size)

    def _rotate(self, number: int, i: Expression, h: Expression, t: Expression) -> None:
        part, tile, kept, raw = (
            self.parts[number],
            self.tiles[number],
            self.kept[number],
            self.raw[number],
        )
        b, vector, begin = self.b, tile.vector, tile.vector * t
        if part.rope == "interleaved":
            with b.loop(f"{part.name}_pair", vector // 2, UNROLLED) as pair:
                cosine, sine = self._angle(i, vector // 2 * t + pair)
                even, odd = (raw[i, h, begin + 2 * pair + side] for side in (0, 1))
                kept[i, h, begin + 2 * pair] = even * cosine - odd * sine
                kept[i, h, begin + 2 * pair + 1] = odd * cosine + even * sine
            return
        lanes, other = tile.lanes // 2, self.other[number]
        is_upper, within = floordiv(t, lanes), vector * mod(t, lanes)
        sign = cast(cast(value_of(2 * is_upper - 1), "i32"), "f32")
        across = (1 - is_upper) * (part.dim // 2) + within
        with b.loop(f"{part.name}_o", vector, VECTOR) as e:
            # The partners are kept where this thread has its own neighbours.
            partner = cast(self.inputs[number][i, h, across + e], "f32")
            other[i, h, begin + e] = partner
        with b.loop(f"{part.name}_r", vector, UNROLLED) as e:
            cosine, sine = self._angle(i, within + e)
            turned = sign * other[i, h, begin + e] * sine
            kept[i, h, begin + e] = raw[i, h, begin + e] * cosine + turned

    def _angle(self, i: Expression, pair: Expression) -> tuple[Value, Value]:
        """
        Returns the cosine and sine of the angle of a pair.

        Whole turns fall out of the product of 64 bits, so positions of any size are exact.
        """
        assert self.position is not None
        assert self.rotation is not None
        turns = cast(self.position[i], "i64") * self.rotation[pair]
        return _cosine_and_sine(cast(turns >> 32, "i32"))

    def store(self, number: int, i: Expression, h: Expression, t: Expression) -> None:
        """Stores neighbours, or their codes and the scale."""
        with self.b.when(compare(">=", self.page[i], 0)):
            if not self.form.is_quantized:
                self._store(number, i, h, t, 1.0)
            elif self.one_scale:
                self._store(number, i, h, t, self.inverse[number])
            else:
                self._store_block(number, i, h, t)

    def _store_block(self, number: int, i: Expression, h: Expression, t: Expression) -> None:
        part, tile, shared = self.parts[number], self.tiles[number], self.partial[number]
        assert shared is not None
        block = self.form.block_of(part.dim)
        lanes = block // tile.vector
        start = floordiv(t, lanes) * lanes
        largest: Value = shared[i, h, start]
        for lane in range(1, lanes):
            largest = maximum(largest, shared[i, h, start + lane])
        exact = largest * (1.0 / LARGEST_CODE[self.form.dtype])
        # What is stored is what the codes are made with.
        scale = cast(exact, self.form.scale_dtype)
        wide = cast(scale, "f32")
        inverse = self._local_scalar(number, i, h, t, select(wide.equals(0.0), 0.0, 1.0 / wide))
        self._store(number, i, h, t, inverse)
        with self.b.when(compare("==", cast(value_of(mod(t, lanes)), "i32"), 0)):
            place = self._place(part, i, h, floordiv(t, lanes))
            self.scales[part.pages][place] = scale

    def _local_scalar(
        self, number: int, i: Expression, h: Expression, t: Expression, value: Value
    ) -> Value:
        name = f"{self.parts[number].name}_factor"
        shape = [self.b.symbol("nnz"), self.heads, self.tiles[number].lanes]
        held = self.b.temporary(name, shape, "f32", Scope.LOCAL)
        held[i, h, t] = value
        return held[i, h, t]

    def _store(
        self, number: int, i: Expression, h: Expression, t: Expression, factor: Operand
    ) -> None:
        part, tile, kept = self.parts[number], self.tiles[number], self.kept[number]
        pages, begin, b = self.pages[part.pages], tile.vector * t, self.b
        is_packed = self.form.dtype == "i4"
        count = tile.vector // 2 if is_packed else tile.vector
        with b.loop(f"{part.name}_s", count, VECTOR) as e:
            place = self._place(part, i, h, count * t + e)
            if is_packed:
                low, high = (
                    self._code(kept[i, h, begin + 2 * e + side] * factor) for side in (0, 1)
                )
                pages[place] = cast((low & 15) | (high << 4), "i8")
            elif self.form.dtype == "i8":
                pages[place] = cast(self._code(kept[i, h, begin + e] * factor), "i8")
            elif self.form.is_quantized:
                scaled = kept[i, h, begin + e] * factor
                pages[place] = cast(scaled, _FLOAT8[self.form.dtype])
            else:
                pages[place] = cast(kept[i, h, begin + e], self.form.dtype)

    def _code(self, scaled: Value) -> Value:
        largest = LARGEST_CODE[self.form.dtype]
        return cast(round_even(maximum(minimum(scaled, largest), -largest)), "i32")

    def _place(
        self, part: Part, i: Expression, h: Expression, d: Expression
    ) -> tuple[Expression | Value, ...]:
        slot = cast(self.slot[i], "index")
        inner = (slot, h) if self.layout == "NHD" else (h, slot)
        both = () if part.which is None else (value_of(part.which, "index"),)
        return (cast(self.page[i], "index"), *both, *inner, d)
