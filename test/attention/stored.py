"""Random keys and values of requests, put into any storage that attention reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np

from tilewright.attention import BlockSparse, BlockSparseKV, KVFormat, KVStorage, PagedKV, RaggedKV
from tilewright.test.attention.kv_case import FLOAT8, LARGEST, quantized, unpacked
from tilewright.test.attention.library_cases import Case, Params, Place
from tilewright.test.attention.reference import Array, Float64, Geometry, Int32, exact, rounded

FLOATS = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}


@dataclass(frozen=True)
class Stored:
    """
    What `plan` and `run` take, and what it stands for.

    `keys` and `values` are float64 [n, heads, head_dim] for each request; `seen`, bool
    [heads or 1, rows, n], is what a block-sparse pattern leaves of the only request.
    """

    tables: tuple[Int32, ...]
    arrays: tuple[Array, ...]
    scales: Mapping[str, Any]
    qo_indptr: Int32
    keys: Sequence[Float64]
    values: Sequence[Float64]
    seen: Array | None = None

    @property
    def kv_last_page_len(self) -> Sequence[int]:
        """One entry for each request, as parameters of variants are made for."""
        return [0] * len(self.keys)


@dataclass(frozen=True)
class Rows:
    """Rows [n, heads, width] as they are stored, their scales, and what they stand for."""

    stored: Array
    exact: Float64
    scale: float | Array = 1.0
    scales: Array | None = None


def random_rows(
    shape: tuple[int, int, int], form: KVFormat, per_head: bool, rng: np.random.Generator
) -> Rows:
    """Returns random rows in a format."""
    x = rng.standard_normal(shape)
    if not form.is_quantized:
        stored = rounded(x, form.dtype)
        return Rows(stored, exact(stored))
    if form.has_blocks:
        block = form.block_of(shape[2])
        codes, scales = quantized(x, form.dtype, block, form.scale_dtype)
        stored = _packed(codes, form.dtype)
        return Rows(stored, unpacked(stored, form.dtype) * np.repeat(scales, block, 2), 1.0, scales)
    scale = np.float32(rng.uniform(0.5, 2)) * 4 / LARGEST[form.dtype]
    given: float | Array = float(scale)
    if per_head:
        given = (scale * rng.uniform(0.5, 2, shape[1])).astype(np.float32)
        scale = given[:, None]
    stored = _packed(np.clip(x / scale, -LARGEST[form.dtype], LARGEST[form.dtype]), form.dtype)
    return Rows(stored, unpacked(stored, form.dtype) * np.float64(scale), given)


def _packed(codes: Array, dtype: str) -> Array:
    if dtype in FLOAT8:
        return codes.astype(FLOAT8[dtype]).view(np.uint8)
    whole = np.rint(codes).astype(np.int8)
    if dtype == "i8":
        return whole
    return ((whole[..., 0::2] & 15) | (whole[..., 1::2] << 4)).astype(np.uint8)


@dataclass
class Storing:
    """
    Puts the rows of requests of `lengths` (query rows, keys) into a storage.

    A share `unclean` of the elements of values is NaN or, where the format has them, infinite.
    """

    geometry: Geometry
    kv: KVStorage
    lengths: Sequence[tuple[int, int]]
    rng: np.random.Generator
    unclean: float = 0.0
    rows: list[Rows] = field(default_factory=list[Rows])

    def store(self) -> Stored:
        """Returns random keys and values in the storage."""
        g, form = self.geometry, self.kv.format or KVFormat(self.geometry.dtype)
        total = sum(kv for _, kv in self.lengths)
        shape = (total, g.num_kv_heads, g.head_dim)
        per_head = self.kv.scale_per_head
        self.rows = [random_rows(shape, form, per_head, self.rng) for _ in range(2)]
        if self.unclean:
            self.rows[1] = self._spoiled(self.rows[1], form)
        starts = np.cumsum([0, *(kv for _, kv in self.lengths)])
        keys, values = (
            [rows.exact[a:b] for a, b in zip(starts, starts[1:], strict=False)]
            for rows in self.rows
        )
        qo_indptr = np.cumsum([0, *(q for q, _ in self.lengths)]).astype(np.int32)
        if isinstance(self.kv, PagedKV):
            tables, arrays, scales = self._paged(self.kv, qo_indptr)
            return Stored(tables, arrays, scales, qo_indptr, keys, values)
        arrays = tuple(self._with_gaps(rows.stored) for rows in self.rows)
        scales = self._scales(*(rows.scales for rows in self.rows if rows.scales is not None))
        if isinstance(self.kv, RaggedKV):
            tables = (qo_indptr, starts.astype(np.int32))
            return Stored(tables, arrays, scales, qo_indptr, keys, values)
        pattern, seen = self._pattern(self.kv, int(qo_indptr[-1]), total)
        return Stored(pattern.tables, arrays, scales, qo_indptr, keys, values, seen=seen)

    def _spoiled(self, rows: Rows, form: KVFormat) -> Rows:
        """Returns rows of which some elements are no numbers: codes of NaN, or any of the three."""
        exact_rows, stored = rows.exact.copy(), rows.stored.copy()
        chosen = self.rng.random(stored.shape) < self.unclean
        if form.is_quantized:
            stored[chosen] = {"e4m3": 0x7F, "e5m2": 0x7E}[form.dtype]
            exact_rows[chosen] = np.nan
        else:
            others = self.rng.choice([np.nan, np.inf, -np.inf], int(chosen.sum()))
            stored[chosen], exact_rows[chosen] = rounded(others, form.dtype), others
        return replace(rows, stored=stored, exact=exact_rows)

    def _scales(self, *blocks: Array) -> Mapping[str, Any]:
        form = self.kv.format
        if form is None or not form.is_quantized:
            return {}
        if form.has_blocks:
            names = ("kv_scales",) if len(blocks) == 1 else ("k_scales", "v_scales")
            return dict(zip(names, blocks, strict=True))
        return {"k_scale": self.rows[0].scale, "v_scale": self.rows[1].scale}

    def _with_gaps(self, array: Array) -> Array:
        """Returns an array in a larger one, with strides that are not its own."""
        if not self.kv.strided:
            return array
        wide = np.zeros((array.shape[0], *(n + 1 for n in array.shape[1:-1]), 64), array.dtype)
        assert array.shape[-1] <= 64
        view = wide[tuple(slice(0, n) for n in array.shape)]
        view[...] = array
        return view

    def _paged(
        self, kv: PagedKV, qo_indptr: Int32
    ) -> tuple[tuple[Int32, ...], tuple[Array, ...], Mapping[str, Any]]:
        size, heads = kv.page_size, self.geometry.num_kv_heads
        counts = np.array([-(-n // size) for _, n in self.lengths], np.int64)
        total = int(counts.sum()) + 2
        order = self.rng.permutation(total)[: total - 2].astype(np.int32)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        lengths = np.array([n for _, n in self.lengths], np.int64)
        last = np.where(lengths > 0, lengths - (counts - 1) * size, 0).astype(np.int32)
        places = np.zeros(int(lengths.sum()), np.int64)
        begins = np.cumsum([0, *lengths])
        for b, count in enumerate(lengths):
            slots = np.arange(int(count), dtype=np.int64)
            pages = order[indptr[b] + slots // size].astype(np.int64)
            places[begins[b] : begins[b + 1]] = pages * size + slots % size

        def paged(rows: Array) -> Array:
            # What belongs to no key is full of ones: codes of NaN, or large numbers.
            full = np.full((total * size, *rows.shape[1:]), 1, rows.dtype)
            full.view(np.uint8)[...] = 0x7F
            full[places] = rows
            pages = full.reshape(total, size, *rows.shape[1:])
            return pages if kv.layout == "NHD" else np.ascontiguousarray(pages.swapaxes(1, 2))

        arrays = [paged(rows.stored) for rows in self.rows]
        blocks = [None if rows.scales is None else paged(rows.scales) for rows in self.rows]
        if kv.combined:
            arrays = [np.stack(arrays, axis=1)]
            blocks = [
                None if blocks[0] is None else np.stack([x for x in blocks if x is not None], 1)
            ]
        if kv.table_of_heads:
            requests = range(len(self.lengths))
            lists = [order[indptr[b] : indptr[b + 1]] for b in requests for _ in range(heads)]
            order = np.concatenate(lists)
            indptr = np.concatenate([[0], np.cumsum(np.repeat(counts, heads))]).astype(np.int32)
            last = np.repeat(last, heads)
        tables = (qo_indptr, indptr, order, last)
        return (
            tables,
            tuple(self._with_gaps(array) for array in arrays),
            self._scales(*(found for found in blocks if found is not None)),
        )

    def _pattern(self, kv: BlockSparseKV, rows: int, columns: int) -> tuple[BlockSparse, Array]:
        """Returns a random pattern whose block rows are the lengths of queries, and its mask."""
        starts = np.cumsum([0, *(q for q, _ in self.lengths)]).astype(np.int32)
        blocks, heads = -(-columns // kv.block_columns), self.geometry.num_kv_heads
        chosen = self.rng.random((len(self.lengths), heads if kv.per_head else 1, blocks)) < 0.6
        lists = [np.flatnonzero(row) for rows_of_heads in chosen for row in rows_of_heads]
        indptr = np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int32)
        indices = np.concatenate(lists).astype(np.int32)
        pattern = BlockSparse(
            starts, indptr, indices, columns, kv.block_columns, heads if kv.per_head else None
        )
        wide = np.repeat(chosen, kv.block_columns, axis=2)[:, :, :columns]
        seen = np.repeat(wide, np.diff(starts), axis=0).swapaxes(0, 1)
        return pattern, seen


def expected(
    case: Case, geometry: Geometry, q: Array, stored: Stored, params: Params
) -> tuple[Float64, Float64]:
    """Returns (out, lse) of a case in float64; block-sparse keys are those of one sequence."""
    queries = exact(q)
    out, lse = np.zeros(queries.shape), np.full(queries.shape[:2], -np.inf)
    sparse = stored.seen is not None
    requests = [0] if sparse else range(len(stored.keys))
    keys = [np.concatenate(stored.keys)] if sparse else stored.keys
    values = [np.concatenate(stored.values)] if sparse else stored.values
    for request in requests:
        begin, end = stored.qo_indptr[request], stored.qo_indptr[request + 1]
        rows = slice(0, len(q)) if sparse else slice(int(begin), int(end))
        count = len(keys[request])
        first = 0 if sparse else count - (rows.stop - rows.start)
        q_idx = np.arange(first, first + rows.stop - rows.start)[:, None]
        for head in range(geometry.num_qo_heads):
            kv_head = head // geometry.group
            place = Place(request, head, kv_head, rows, q_idx, np.arange(count)[None, :])
            query, k, v = (
                queries[rows, head],
                keys[request][:, kv_head],
                values[request][:, kv_head],
            )
            query = case.query(query, place, params) if case.query else query
            k = case.key(k, place, params) if case.key else k
            v = case.value(v, place, params) if case.value else v
            scores = geometry.head_dim**-0.5 * query @ k.T
            scores = case.score(scores, place, params) if case.score else scores
            seen = np.asarray(case.mask(place, params) if case.mask else np.True_)
            if stored.seen is not None:
                seen = seen & stored.seen[kv_head if len(stored.seen) > 1 else 0]
            scores = np.where(np.broadcast_to(seen, scores.shape), scores, -np.inf)
            out[rows, head], lse[rows, head] = case.finish(scores, v, place, params)
    return out, lse
