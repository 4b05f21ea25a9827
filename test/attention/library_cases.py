"""The library of variants beside NumPy: each case computes what it means on whole matrices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

import tilewright.attention as attention
from tilewright.attention import Variant, scalar, tensor
from tilewright.test.attention.reference import Batch, Geometry, average, exact, gathered

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Params = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """A request and a head, with the positions of its queries [n, 1] and keys [1, m]."""

    request: int
    head: int
    kv_head: int
    rows: slice
    q: Array
    kv: Array


Change = Callable[[Float64, Place, Params], Array]


@dataclass(frozen=True)
class Case:
    """A variant, its parameters, and what it means for matrices of one head of one request."""

    variant: Callable[[Geometry], Variant]
    params: Callable[[np.random.Generator, Geometry, Batch], Params] = lambda rng, g, batch: {}
    query: Change | None = None
    key: Change | None = None
    value: Change | None = None
    score: Change | None = None
    mask: Callable[[Place, Params], Array] | None = None
    # Takes scores with -inf where nothing is seen, and the values.
    finish: Callable[[Float64, Float64, Place, Params], tuple[Array, Array]] = field(
        default=lambda scores, values, place, params: average(scores, values)
    )


def expected(
    case: Case, geometry: Geometry, batch: Batch, params: Params
) -> tuple[Float64, Float64]:
    """Returns (out, lse) of a case in float64."""
    q = exact(batch.q)
    out, lse = np.zeros(q.shape), np.full(q.shape[:2], -np.inf)
    for request in range(len(batch.kv_last_page_len)):
        rows = batch.rows(request)
        keys, values = (
            gathered(geometry, batch, pages, request) for pages in (batch.k_pages, batch.v_pages)
        )
        kv_idx = np.arange(len(keys))[None, :]
        q_idx = np.arange(len(keys) - batch.query_len(request), len(keys))[:, None]
        for head in range(geometry.num_qo_heads):
            kv_head = head // geometry.group
            place = Place(request, head, kv_head, rows, q_idx, kv_idx)
            query, k, v = q[rows, head], keys[:, kv_head], values[:, kv_head]
            query = case.query(query, place, params) if case.query else query
            k = case.key(k, place, params) if case.key else k
            v = case.value(v, place, params) if case.value else v
            scores = geometry.head_dim**-0.5 * query @ k.T
            scores = case.score(scores, place, params) if case.score else scores
            seen = case.mask(place, params) if case.mask else np.True_
            scores = np.where(np.broadcast_to(seen, scores.shape), scores, -np.inf)
            out[rows, head], lse[rows, head] = case.finish(scores, v, place, params)
    return out, lse


def rotated(x: Float64, positions: Array, frequencies: Array, interleaved: bool) -> Float64:
    """Returns rows [n, D] whose pairs are turned as complex numbers."""
    half = x.shape[1] // 2
    if interleaved:
        pairs = x[:, 0::2] + 1j * x[:, 1::2]
    else:
        pairs = x[:, :half] + 1j * x[:, half:]
    pairs = pairs * np.exp(1j * np.outer(positions, frequencies.astype(np.float64)))
    result = np.empty_like(x)
    if interleaved:
        result[:, 0::2], result[:, 1::2] = pairs.real, pairs.imag
    else:
        result[:, :half], result[:, half:] = pairs.real, pairs.imag
    return result


def causal(place: Place, params: Params) -> Array:
    return place.q >= place.kv


def normed(x: Float64, weight: Array) -> Float64:
    mean_square = (x * x).mean(axis=1, keepdims=True)
    return x / np.sqrt(mean_square + 1e-6) * weight.astype(np.float64)


def with_sink(
    scores: Float64, values: Float64, place: Place, params: Params
) -> tuple[Array, Array]:
    """The sink is one more key, whose value is zero."""
    sink = np.full((len(scores), 1), float(params["sinks"][place.head]))
    return average(np.hstack([scores, sink]), np.vstack([values, np.zeros((1, values.shape[1]))]))


def sigmoid_average(
    scores: Float64, values: Float64, place: Place, params: Params
) -> tuple[Array, Array]:
    weights = 1 / (1 + np.exp(-(scores + params["bias"])))
    with np.errstate(divide="ignore"):
        return weights @ values, np.log(weights.sum(axis=1))


def rope_case(
    interleaved: bool, frequencies: Callable[[int], Array] = attention.rope_frequencies
) -> Case:
    def turn(x: Float64, positions: Array, params: Params) -> Float64:
        return rotated(x, positions.ravel(), params["inv_freq"], interleaved)

    return Case(
        lambda g: (
            attention.rope(tensor("inv_freq", ("half",)), g.head_dim, interleaved=interleaved)
            & attention.causal()
        ),
        lambda rng, g, batch: {"inv_freq": frequencies(g.head_dim)},
        query=lambda x, place, params: turn(x, place.q, params),
        key=lambda x, place, params: turn(x, place.kv, params),
        mask=causal,
    )


def heads_of(rng: np.random.Generator, g: Geometry) -> Array:
    return rng.standard_normal(g.num_qo_heads).astype(np.float32)


def documents(rng: np.random.Generator, batch: Batch) -> Array:
    count = len(batch.kv_last_page_len)
    return np.sort(rng.integers(0, 5, (count, 90)), axis=1).astype(np.int32)


def lengths(rng: np.random.Generator, batch: Batch) -> Array:
    return rng.integers(0, 40, len(batch.kv_last_page_len)).astype(np.int32)


def bits_of(rng: np.random.Generator, batch: Batch, words: int) -> Array:
    return rng.integers(-(2**31), 2**31, (len(batch.q), words)).astype(np.int32)


def bit(bits: Array, place: Place, numbers: Array) -> Array:
    """Returns the bits of the request's rows for numbers [1, m]; negative ones have none."""
    unpacked = np.unpackbits(bits[place.rows].view(np.uint8), axis=1, bitorder="little")
    return unpacked[:, np.maximum(numbers.ravel(), 0)] == 1


def norm_weights(rng: np.random.Generator, g: Geometry, batch: Batch) -> Params:
    names = ("query_weight", "key_weight")
    return {name: (rng.random(g.head_dim) + 0.5).astype(np.float32) for name in names}


def items_mask(place: Place, params: Params) -> Array:
    items = params["item_of"][place.request]
    own = items[np.maximum(place.q, 0)] == items[place.kv]
    return causal(place, params) & ((place.kv < params["prefix"][place.request]) | own)


def tree(place: Place, params: Params) -> Array:
    begin = params["begin"][place.request]
    return (place.kv < begin) | bit(params["bits"], place, place.kv - begin)


def capped(cap: float, scores: Float64) -> Float64:
    return cap * np.tanh(scores / cap)


I32 = "i32"
CASES: dict[str, Case] = {
    "full": Case(lambda g: attention.full()),
    "causal": Case(lambda g: attention.causal(), mask=causal),
    "window": Case(
        lambda g: attention.sliding_window(scalar("window", I32)),
        lambda rng, g, batch: {"window": int(rng.integers(0, 30))},
        mask=lambda place, p: causal(place, p) & (place.q - place.kv <= p["window"]),
    ),
    "soft cap": Case(
        lambda g: attention.soft_cap(scalar("cap")),
        lambda rng, g, batch: {"cap": float(rng.uniform(0.5, 3))},
        score=lambda scores, place, p: capped(p["cap"], scores),
    ),
    "temperature": Case(
        lambda g: attention.temperature(scalar("t")),
        lambda rng, g, batch: {"t": float(rng.uniform(0.3, 3))},
        score=lambda scores, place, p: scores / p["t"],
    ),
    "alibi": Case(
        lambda g: attention.alibi(tensor("slopes", (g.num_qo_heads,))),
        lambda rng, g, batch: {"slopes": heads_of(rng, g)},
        score=lambda scores, place, p: scores - p["slopes"][place.head] * (place.q - place.kv),
        mask=causal,
    ),
    "alibi, causal, soft cap": Case(
        lambda g: (
            attention.alibi(tensor("slopes", ("heads",)))
            & attention.causal()
            & attention.soft_cap(scalar("cap"))
        ),
        lambda rng, g, batch: {"slopes": heads_of(rng, g), "cap": 2.5},
        score=lambda scores, place, p: capped(
            2.5, scores - p["slopes"][place.head] * (place.q - place.kv)
        ),
        mask=causal,
    ),
    "rope": rope_case(interleaved=False),
    "rope, interleaved": rope_case(interleaved=True),
    "rope of LLaMA 3.1": rope_case(False, attention.llama31_frequencies),
    "QK-norm": Case(
        lambda g: attention.qk_norm(
            tensor("query_weight", (g.head_dim,)), tensor("key_weight", ("d",)), g.head_dim
        ),
        norm_weights,
        query=lambda x, place, p: normed(x, p["query_weight"]),
        key=lambda x, place, p: normed(x, p["key_weight"]),
    ),
    "QK-norm, then rope": Case(
        lambda g: (
            attention.qk_norm(
                tensor("query_weight", (g.head_dim,)), tensor("key_weight", ("d",)), g.head_dim
            )
            & attention.rope(tensor("inv_freq", ("half",)), g.head_dim)
        ),
        lambda rng, g, batch: {
            **norm_weights(rng, g, batch),
            "inv_freq": attention.rope_frequencies(g.head_dim),
        },
        query=lambda x, place, p: rotated(
            normed(x, p["query_weight"]), place.q.ravel(), p["inv_freq"], False
        ),
        key=lambda x, place, p: rotated(
            normed(x, p["key_weight"]), place.kv.ravel(), p["inv_freq"], False
        ),
    ),
    "sigmoid": Case(
        lambda g: attention.sigmoid_attention(scalar("bias")) & attention.causal(),
        lambda rng, g, batch: {"bias": float(rng.uniform(-3, 0))},
        mask=causal,
        finish=sigmoid_average,
    ),
    "sinks": Case(
        lambda g: attention.attention_sinks(tensor("sinks", ("heads",))) & attention.causal(),
        lambda rng, g, batch: {"sinks": heads_of(rng, g)},
        mask=causal,
        finish=with_sink,
    ),
    "prefix LM": Case(
        lambda g: attention.prefix_lm(tensor("prefix", ("batch",), I32)),
        lambda rng, g, batch: {"prefix": lengths(rng, batch)},
        mask=lambda place, p: causal(place, p) | (place.kv < p["prefix"][place.request]),
    ),
    "documents": Case(
        lambda g: attention.document_mask(tensor("documents", ("batch", "length"), I32)),
        lambda rng, g, batch: {"documents": documents(rng, batch)},
        mask=lambda place, p: (
            p["documents"][place.request][np.maximum(place.q, 0)]
            == p["documents"][place.request][place.kv]
        ),
    ),
    "multi-item scoring": Case(
        lambda g: attention.multi_item_scoring(
            tensor("prefix", ("batch",), I32), tensor("item_of", ("batch", "length"), I32)
        ),
        lambda rng, g, batch: {
            "prefix": lengths(rng, batch),
            "item_of": documents(rng, batch),
        },
        mask=items_mask,
    ),
    "bit mask": Case(
        lambda g: attention.bit_mask(tensor("bits", ("n", "words"), I32)),
        lambda rng, g, batch: {"bits": bits_of(rng, batch, 3)},
        mask=lambda place, p: bit(p["bits"], place, place.kv),
    ),
    "tree": Case(
        lambda g: attention.tree_mask(
            tensor("bits", ("n", "words"), I32), tensor("begin", ("batch",), I32)
        ),
        lambda rng, g, batch: {
            "bits": bits_of(rng, batch, 3),
            "begin": lengths(rng, batch),
        },
        mask=tree,
    ),
    "relative bias": Case(
        lambda g: attention.relative_bias(tensor("bias", (g.num_qo_heads, 17)), 8),
        lambda rng, g, batch: {"bias": rng.standard_normal((g.num_qo_heads, 17)).astype("f")},
        score=lambda scores, place, p: (
            scores + p["bias"][place.head][np.clip(place.kv - place.q, -8, 8) + 8]
        ),
    ),
}
