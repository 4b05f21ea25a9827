"""
What a case should give: rows of its result in float64, from the definition of attention.

Of large results a sample is computed: rows of several requests for one query head of each KV head
that is chosen, the first and the last row of a request among them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..attention.interpreter import Reads, evaluate
from ..attention.variants import TracedVariant
from .data import Data
from .variants import VARIANTS

Float64 = npt.NDArray[np.float64]
# Relative error of a row of a head (Euclidean norm), by the dtype of the result.
LARGEST_ERROR = {"f16": 4e-3, "bf16": 2e-2}
LARGEST_LSE_ERROR = 2e-3
REQUESTS, ROWS = 4, 6


class Sample(NamedTuple):
    """Rows of one request, counted in the request, for one query head."""

    request: int
    rows: npt.NDArray[np.int64]
    head: int


class Verdict(NamedTuple):
    """How far a result is from the expected one, and of how many rows."""

    right: bool
    error: float
    lse_error: float | None
    rows: int


def samples_of(data: Data) -> list[Sample]:
    """Returns what is computed: every request and head of a small case, some of a large one."""
    case, rng = data.case, np.random.default_rng(len(data.case.requests))
    count = len(case.requests)
    requests = sorted({0, count - 1, *rng.integers(0, count, REQUESTS - 2).tolist()})
    heads = case.kernel.num_qo_heads
    found: list[Sample] = []
    for request in requests:
        rows, _ = case.requests[request]
        if not rows:
            continue
        chosen = np.unique([0, rows - 1, *rng.integers(0, rows, ROWS - 2)])
        for head in sorted({0, heads - 1, int(rng.integers(heads))}):
            found.append(Sample(request, chosen, head))
    return found


def expected(data: Data, sample: Sample) -> tuple[Float64, Float64]:
    """Returns (out [rows, D], lse [rows]) of a sample in float64."""
    case, kernel = data.case, data.case.kernel
    variant = VARIANTS[kernel.variant].make(kernel.num_qo_heads, kernel.head_dim).traced
    qo_indptr, kv_indptr, kv_indices, _ = data.tables
    rows, keys = case.requests[sample.request]
    pages = kv_indices[kv_indptr[sample.request] : kv_indptr[sample.request + 1]]
    token = np.arange(keys)
    place = pages.astype(np.int64)[token // kernel.page_size] * kernel.page_size
    place = (place + token % kernel.page_size) * kernel.num_kv_heads
    place += sample.head // kernel.group
    query_rows = (int(qo_indptr[sample.request]) + sample.rows) * kernel.num_qo_heads + sample.head
    positions = keys - rows + sample.rows
    reads = Reads(dict(data.params), pages, kernel.page_size, 0)
    one = _Head(variant, reads, sample.request, sample.head, sample.head // kernel.group)
    query = one.transformed("query", data.query(query_rows), positions)
    key = one.transformed("key", data.key(place), token)
    value = one.transformed("value", data.value(place), token)
    return one.attend(query, key, value, positions, kernel.scale)


@dataclass(frozen=True)
class _Head:
    """One query head of one request, and the variant that it has."""

    variant: TracedVariant
    reads: Reads
    request: int
    head: int
    kv_head: int

    def transformed(self, kind: str, rows: Float64, position: npt.NDArray[np.int64]) -> Float64:
        """Returns rows [n, D] as a region of the variant changes them."""
        roots = self.variant.regions.get(kind)
        if roots is None:
            return rows
        reads = Reads(self.reads.params, self.reads.pages, self.reads.page_size, 0, rows)
        arguments: dict[str, Any] = {
            "x": rows,
            "b": np.asarray(self.request),
            "h": np.asarray(self.head if kind == "query" else self.kv_head),
            "q_idx" if kind == "query" else "kv_idx": position[:, None],
            "d": np.arange(rows.shape[1])[None, :],
        }
        return np.broadcast_to(evaluate(roots[0], arguments, reads), rows.shape)

    def attend(
        self,
        query: Float64,
        key: Float64,
        value: Float64,
        positions: npt.NDArray[np.int64],
        scale: float,
    ) -> tuple[Float64, Float64]:
        """Returns the average of the values by the softmax of the scores, and its lse."""
        places: dict[str, Any] = {
            "b": np.asarray(self.request),
            "h": np.asarray(self.head),
            "q_idx": positions[:, None],
            "kv_idx": np.arange(len(key))[None, :],
        }
        scores: Float64 = scale * (query @ key.T)
        if self.variant.score is not None:
            scores = evaluate(self.variant.score, {"score": scores, **places}, self.reads)
        if self.variant.mask is not None:
            seen = evaluate(self.variant.mask, places, self.reads)
            scores = np.where(seen, scores, -np.inf)
        scores = np.broadcast_to(scores, (len(query), len(key)))
        highest: Float64 = scores.max(axis=1, initial=-np.inf)
        reference = np.where(np.isneginf(highest), 0.0, highest)
        weights = np.exp(scores - reference[:, None])
        total = weights.sum(axis=1)
        weighted = weights @ value
        with np.errstate(divide="ignore", invalid="ignore"):
            most, sums = self._state(highest, total, positions)
            base = np.where(np.isneginf(most), 0.0, most)
            out = weighted * (np.exp(reference - base) / sums)[:, None]
            return np.where((total == 0.0)[:, None], 0.0, out), np.log(sums) + base

    def _state(
        self, highest: Float64, total: Float64, positions: npt.NDArray[np.int64]
    ) -> tuple[Float64, Float64]:
        roots = self.variant.regions.get("state")
        if roots is None:
            return highest, total
        arguments: dict[str, Any] = {
            "m": highest,
            "total": total,
            "b": np.asarray(self.request),
            "h": np.asarray(self.head),
            "q_idx": positions,
        }
        first, second = (evaluate(root, arguments, self.reads) for root in roots)
        return np.broadcast_to(first, total.shape), np.broadcast_to(second, total.shape)


@dataclass(frozen=True)
class Oracle:
    """The expected rows of a case, computed once for all engines."""

    data: Data
    samples: Sequence[Sample]
    rows: Sequence[tuple[Float64, Float64]]

    @staticmethod
    def of(data: Data) -> "Oracle":
        """Computes the sample of a case."""
        samples = samples_of(data)
        return Oracle(data, samples, [expected(data, sample) for sample in samples])

    def judge(self, out: npt.NDArray[Any], lse: npt.NDArray[Any] | None) -> Verdict:
        """Compares out [n, Hq, D] and lse [n, Hq] with the sample; the worst row counts."""
        errors: list[float] = []
        for (rows, head), (want, _) in zip(self._places(), self.rows, strict=True):
            size = np.linalg.norm(want, axis=1)
            away = np.linalg.norm(out[rows, head].astype(np.float64) - want, axis=1)
            errors.append(float((away / np.where(size == 0.0, 1.0, size)).max()))
        error = float(np.max(errors))  # NaN where one is
        lse_error = None if lse is None else self._lse_error(lse)
        right = error <= LARGEST_ERROR[self.data.case.kernel.dtype]
        right = right and (lse_error is None or lse_error <= LARGEST_LSE_ERROR)
        return Verdict(right, error, lse_error, sum(len(sample.rows) for sample in self.samples))

    def _places(self) -> Iterator[tuple[npt.NDArray[np.int64], int]]:
        starts = self.data.tables[0]
        for sample in self.samples:
            yield int(starts[sample.request]) + sample.rows, sample.head

    def _lse_error(self, lse: npt.NDArray[Any]) -> float:
        got = np.concatenate([lse[rows, head] for rows, head in self._places()]).astype(np.float64)
        want = np.concatenate([values for _, values in self.rows])
        equal = got == want  # infinities too
        with np.errstate(invalid="ignore"):
            return float(np.where(equal, 0.0, np.abs(got - want)).max(initial=0.0))


def describe(verdict: Verdict) -> Mapping[str, float | int | None]:
    """Returns a verdict as the results hold it."""
    return {"relative": verdict.error, "lse": verdict.lse_error, "rows": verdict.rows}
