"""
Merging attention states as nests: weights by the log-sum-exp, then a weighted sum of the values.

A state that is empty, with a log-sum-exp of -inf, has the weight 0 and its values are not read.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from ...dialects.nest.program import Program, Scope
from ...dialects.sym import Expression, ceildiv
from ...nest.builder import Array, Builder
from ...nest.values import (
    Value,
    cast,
    compare,
    exp,
    inside,
    log,
    maximum,
    select,
    value_of,
)
from .rows import GRID, LANE, LARGEST, VECTOR, RowTile, row_tile

Indices: TypeAlias = tuple[Expression | Value, ...]
_EMPTY = float("-inf")


def _finite(largest: Value) -> Value:
    """Returns what the exponents are taken from: 0 where every state is empty."""
    return select(largest.equals(_EMPTY), 0.0, largest)


def _inverse(total: Value) -> Value:
    """Returns one over the sum of weights: 0 where every state is empty, NaN stays NaN."""
    return select(total.equals(0.0), 0.0, 1.0 / total)


def merge_pair(*, head_dim: int, dtype: str, out_dtype: str, in_place: bool) -> Program:
    """
    Returns the merge of two states of each row, v [rows, head_dim] and s f32 [rows].

    The result is written to out and lse, or over the first state. Weights are computed by one
    thread of a row, and handed over in shared memory.
    """
    b = Builder("merge_state", f"rows in [0, {LARGEST}]")
    n = b.symbol("rows")
    v, s = b.buffer("v", [n, head_dim], dtype, output=in_place), _lse(b, "s", n, in_place)
    v_other, s_other = b.buffer("v_other", [n, head_dim], dtype), _lse(b, "s_other", n, False)
    out, lse = v, s
    if not in_place:
        out = b.buffer("out", [n, head_dim], out_dtype, output=True)
        lse = _lse(b, "lse", n, True)
    tile = row_tile(head_dim, dtype, out_dtype)
    weights = [b.temporary(name, [n], "f32", Scope.SHARED) for name in ("weight", "weight_other")]
    largest, total = (b.temporary(name, [n], "f32", Scope.LOCAL) for name in ("largest", "total"))
    acc = b.temporary("acc", [n, head_dim], "f32", Scope.LOCAL)
    with tile.on_grid(b, n) as first:
        with tile.one_lane.threads(b, "weigh", first, n) as (r, _, _):
            largest[r] = _finite(maximum(s[r], s_other[r]))
            for weight, state in zip(weights, (s, s_other), strict=True):
                weight[r] = exp(state[r] - largest[r])
            total[r] = weights[0][r] + weights[1][r]
            lse[r] = largest[r] + log(total[r])
            for weight in weights:
                weight[r] = weight[r] * _inverse(total[r])
        with tile.threads(b, "merge", first, n) as (i, _, t):
            begin = tile.vector * t
            with tile.neighbours(b, "zeroed") as e:
                acc[i, begin + e] = 0.0
            for weight, state in zip(weights, (v, v_other), strict=True):
                name = f"add_{state.buffer.name}"
                with b.when(_counts(weight[i])), tile.neighbours(b, name) as e:
                    term = cast(state[i, begin + e], "f32") * weight[i]
                    acc[i, begin + e] = term + acc[i, begin + e]
            with tile.neighbours(b, "stored") as e:
                out[i, begin + e] = cast(acc[i, begin + e], out_dtype)
    return b.build()


def _lse(b: Builder, name: str, rows: Expression, output: bool) -> Array:
    return b.buffer(name, [rows], "f32", output=output)


def _counts(weight: Value) -> Value:
    """Returns whether a state is read; it is where the weight is NaN."""
    return compare("!=", weight, 0.0)


def merge_many(*, heads: int, head_dim: int, dtype: str, out_dtype: str, ragged: bool) -> Program:
    """
    Returns the merge of any number of states of each row and head.

    They are v [rows, states, heads, head_dim] and s f32 [rows, states, heads]; ragged ones v
    [nnz, heads, head_dim] and s f32 [nnz, heads], where row i has those from indptr[i] up to
    indptr[i + 1], at most `states`. They are added in their order.
    """
    b = Builder("merge_states", f"rows in [0, {LARGEST}], states in [0, {LARGEST}]" + _NNZ[ragged])
    n = b.symbol("rows")
    entries = [b.symbol("nnz")] if ragged else [n, b.symbol("states")]
    tile = row_tile(head_dim, dtype, out_dtype)
    many = _Many(
        b,
        tile,
        b.buffer("v", [*entries, heads, head_dim], dtype),
        b.buffer("s", [*entries, heads], "f32"),
        b.buffer("indptr", [n + 1], "i32") if ragged else None,
        b.temporary("acc", [n, heads, head_dim], "f32", Scope.LOCAL),
        {
            name: b.temporary(name, [n, heads, tile.lanes], kind, Scope.LOCAL)
            for name, kind in _KEPT.items()
        },
    )
    out = b.buffer("out", [n, heads, head_dim], out_dtype, output=True)
    lse = b.buffer("lse", [n, heads], "f32", output=True)
    with tile.on_grid(b, n * heads) as first:
        with tile.threads(b, "merge", first, n, heads) as here:
            i, h, t = here
            many.add(here)
            inverse, largest, total = (many.kept[name] for name in ("weight", "largest", "total"))
            inverse[here] = _inverse(total[here])
            with tile.neighbours(b, "stored") as e:
                merged = many.acc[i, h, tile.vector * t + e] * inverse[here]
                out[i, h, tile.vector * t + e] = cast(merged, out_dtype)
            with b.when(compare("==", cast(value_of(t), "i32"), 0)):
                lse[i, h] = largest[here] + log(total[here])
    return b.build()


_KEPT = {"largest": "f32", "total": "f32", "weight": "f32", "begin": "i32", "end": "i32"}


@dataclass(frozen=True)
class _Many:
    """The states of a row, and what a thread keeps of them: sums of its neighbours and weights."""

    b: Builder
    tile: RowTile
    v: Array
    s: Array
    indptr: Array | None
    acc: Array
    kept: dict[str, Array]

    def add(self, here: tuple[Expression, Expression, Expression]) -> None:
        """Adds the weighted values of all states of a row, and their weights."""
        b, tile, acc, (i, h, t) = self.b, self.tile, self.acc, here
        largest, total, weight = (self.kept[name] for name in ("largest", "total", "weight"))
        if self.indptr is not None:
            self.kept["begin"][here] = self.indptr[i]
            self.kept["end"][here] = self.indptr[i + 1]
        largest[here] = _EMPTY
        with self._states("seen", here) as entry:
            largest[here] = maximum(largest[here], self.s[(*entry, h)])
        largest[here] = _finite(largest[here])
        total[here] = 0.0
        begin = tile.vector * t
        with tile.neighbours(b, "zeroed") as e:
            acc[i, h, begin + e] = 0.0
        with self._states("added", here) as entry:
            weight[here] = exp(self.s[(*entry, h)] - largest[here])
            total[here] = total[here] + weight[here]
            with b.when(_counts(weight[here])), tile.neighbours(b, "add") as e:
                term = cast(self.v[(*entry, h, begin + e)], "f32") * weight[here]
                acc[i, h, begin + e] = term + acc[i, h, begin + e]

    @contextmanager
    def _states(
        self, name: str, here: tuple[Expression, Expression, Expression]
    ) -> Generator[Indices]:
        """Visits the states of a row in order; yields the indices of one."""
        with self.b.loop(name, self.b.symbol("states")) as k:
            if self.indptr is None:
                yield (here[0], k)
                return
            begin, end = (cast(self.kept[bound][here], "index") for bound in ("begin", "end"))
            with self.b.when(compare("<", begin + k, end)):
                yield (begin + k,)


_NNZ = {False: "", True: f", nnz in [0, {LARGEST}]"}


def scale_lse(*, factor: float) -> Program:
    """Returns `out = factor * lse` of f32 arrays of n elements."""
    b = Builder("scale_lse", f"n in [0, {LARGEST}]")
    n = b.symbol("n")
    lse, out = b.buffer("lse", [n], "f32"), b.buffer("out", [n], "f32", output=True)
    with b.loop("group", ceildiv(n, 512), GRID) as group, b.loop("lane", 128, LANE) as lane:
        with b.loop("e", 4, VECTOR) as e:
            at = 512 * group + 4 * lane + e
            with b.block("scale", spatial={"i": (n, at)}, where=[inside(at, n)]) as (i,):
                out[i] = lse[i] * factor
    return b.build()
