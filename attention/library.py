"""
The variants that come with tilewright, each in a few lines of what a user could write.

Numbers are part of a kernel where they are given as Python numbers; where they are given by
`scalar(...)` or `tensor(...)` they are passed to `Plan.run`, and new ones compile nothing.
"""

from typing import Any

from .expression import (
    LARGEST_F32,
    SMALLEST_F32,
    Number,
    ScalarType,
    Value,
    VariantError,
    is_integer,
    is_real,
    where,
)
from .functions import cos, exp, exp2, maximum, minimum, rsqrt, sigmoid, sin, tanh
from .parameters import Tensor, row_of
from .variants import MaskMod, Transform, Variant


def full() -> Variant:
    """Every query sees every key of its request."""
    return Variant()


def causal() -> Variant:
    """A query sees the keys up to its own position."""
    return Variant(mask_mod=lambda b, h, q_idx, kv_idx: q_idx >= kv_idx)


def sliding_window(window: int | Value) -> Variant:
    """A query sees itself and the `window` keys before it; an i32 scalar is passed at run time."""
    if not isinstance(window, Value) and not (is_integer(window) and 0 <= window < 2**31):
        raise VariantError(f"argument 'window': expected an integer from 0, got {window!r}")
    return Variant(
        mask_mod=lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) & (q_idx - kv_idx <= window)
    )


def soft_cap(cap: float | Value, mask_mod: MaskMod | None = None) -> Variant:
    """Scores are bent into (-cap, cap): `cap * tanh(score / cap)`, cap 2^-126 or more (Gemma 2)."""
    _check_positive("cap", cap)

    # One division for all scores.
    def bend(score: Value, b: Value, h: Value, q_idx: Value, kv_idx: Value) -> Value:
        return cap * tanh(score * (1 / cap))

    return Variant(score_mod=bend, mask_mod=mask_mod)


def temperature(value: float | Value) -> Variant:
    """Scores are divided by a temperature, 2^-126 or more: above 1 the weights are more even."""
    _check_positive("value", value)
    # One division for all scores.
    return Variant(score_mod=lambda score, b, h, q_idx, kv_idx: score * (1 / value))


def _check_positive(name: str, value: Number | Value) -> None:
    if isinstance(value, Value):
        if value.dtype is not ScalarType.F32:
            raise VariantError(f"argument '{name}': expected a scalar of f32, got {value.dtype}")
    elif not is_real(value) or not SMALLEST_F32 <= value <= LARGEST_F32:
        raise VariantError(
            f"argument '{name}': expected a number from 2^-126 to the largest of type f32, "
            f"got {value!r}"
        )


def alibi(slopes: int | Tensor) -> Variant:
    """
    Causal attention with a penalty that grows with the distance (Press et al., ALiBi, section 3).

    `slopes` is a tensor f32 [num_heads], or the number of heads: then the slope of head h is
    `2^(-8 (h + 1) / num_heads)`.
    """
    if not isinstance(slopes, Tensor) and (not is_integer(slopes) or slopes < 1):
        raise VariantError(f"argument 'num_heads': expected an integer from 1, got {slopes!r}")

    def penalise(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        if isinstance(slopes, Tensor):
            return score - slopes[h] * (q_idx - kv_idx)
        return score - exp2((h + 1) * (-8.0 / slopes)) * (q_idx - kv_idx)

    return Variant(score_mod=penalise, mask_mod=causal().mask_mod)


def relative_bias(bias: Tensor, largest_distance: int) -> Variant:
    """
    Adds to the scores a number for each head and distance (Raffel et al., T5, section 2.1).

    `bias` is f32 [heads, 2 * largest_distance + 1]; its middle is the distance 0, and keys before
    the query stand before it. Distances beyond `largest_distance` have the number of that.
    """
    if not is_integer(largest_distance) or not 0 <= largest_distance < 2**29:
        raise VariantError(
            f"argument 'largest_distance': expected an integer from 0, got {largest_distance!r}"
        )

    def add_bias(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        distance = maximum(minimum(kv_idx - q_idx, largest_distance), -largest_distance)
        return score + bias[h, distance + largest_distance]

    return Variant(score_mod=add_bias)


def sigmoid_attention(bias: float | Value = 0.0) -> Variant:
    """
    Weighs each value by `sigmoid(score + bias)`, with no softmax (Ramapuram et al., section 3).

    A bias of `-log(length)` keeps the sum of the weights of a sequence near 1.
    """
    return Variant(
        score_mod=lambda score, b, h, q_idx, kv_idx: sigmoid(score + bias), softmax=False
    )


def attention_sinks(sinks: Tensor) -> Variant:
    """
    Each head has one more score, of no key, that takes its part of the weights.

    `sinks` is f32 [heads], finite. A row that sees no key has out 0 and the sink as its lse.
    Source: Xiao et al., "Efficient streaming language models with attention sinks", equation 2.
    """

    def add_sink(m: Any, total: Any, b: Any, h: Any, q_idx: Any) -> Any:
        highest = maximum(m, sinks[h])
        return highest, total * exp(m - highest) + exp(sinks[h] - highest)

    return Variant(state_update=add_sink)


def prefix_lm(prefix_len: Tensor) -> Variant:
    """
    A query sees the prefix of its request, and behind it the keys up to its own position.

    `prefix_len` is i32 [batch] (Raffel et al., T5, section 3.2.1).
    """
    return Variant(
        mask_mod=lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) | (kv_idx < prefix_len[b])
    )


def document_mask(documents: Tensor) -> Variant:
    """
    A query sees the keys of its own document, of several that are packed into a request.

    `documents` is i32 [batch, length], the number of the document at each position.
    """
    return Variant(mask_mod=lambda b, h, q_idx, kv_idx: documents[b, q_idx] == documents[b, kv_idx])


def multi_item_scoring(prefix_len: Tensor, items: Tensor) -> Variant:
    """
    Several items behind one prefix, each scored as if it were alone behind it.

    A query sees the prefix and the keys of its own item up to its own position. `prefix_len` is
    i32 [batch]; `items` is i32 [batch, length], the number of the item at each position.
    """

    def mask(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        own = (kv_idx < prefix_len[b]) | (items[b, q_idx] == items[b, kv_idx])
        return (q_idx >= kv_idx) & own

    return Variant(mask_mod=mask)


def bit_mask(bits: Tensor) -> Variant:
    """
    A query sees the keys whose bit is set.

    `bits` is i32 [n, words], a row for each row of q: the bit of key k is bit `k % 32` of word
    `k // 32`.
    """
    return Variant(mask_mod=lambda b, h, q_idx, kv_idx: _bit(bits, row_of(q_idx), kv_idx))


def tree_mask(bits: Tensor, tree_begin: Tensor) -> Variant:
    """
    A query of a tree of tokens sees what is before the tree, and in the tree its own ancestors.

    `tree_begin` is i32 [batch], the position of the first token of the tree; `bits` is
    i32 [n, words], where bit `j % 32` of word `j // 32` of a row of q tells whether it sees the
    token j of the tree (Miao et al., SpecInfer, section 4.2).
    """

    def mask(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        in_tree = kv_idx - tree_begin[b]
        return (in_tree < 0) | _bit(bits, row_of(q_idx), in_tree)

    return Variant(mask_mod=mask)


def _bit(bits: Tensor, row: Value, number: Any) -> Value:
    return (bits[row, number >> 5] >> (number & 31)) & 1 == 1


def rope(inverse_frequencies: Tensor, head_dim: int, *, interleaved: bool = False) -> Variant:
    """
    Turns queries and keys by angles that grow with their positions (Su et al., RoFormer, 3.2).

    `inverse_frequencies` is f32 [head_dim / 2]: pair i is turned by `position * f[i]`. The pairs
    are (i, i + head_dim / 2) as in LLaMA, or neighbours where `interleaved`. See
    `rope_frequencies` for what to pass. Results are rounded to the kernel's dtype.
    """
    if not is_integer(head_dim) or head_dim < 2 or head_dim % 2:
        raise VariantError(f"argument 'head_dim': expected an even integer, got {head_dim!r}")
    half = head_dim // 2

    def turn(x: Any, b: Any, h: Any, position: Any, d: Any) -> Any:
        pair = d >> 1 if interleaved else where(d < half, d, d - half)
        first = (d & 1) == 0 if interleaved else d < half
        partner = x[d ^ 1] if interleaved else x[where(d < half, d + half, d - half)]
        angle = position * inverse_frequencies[pair]
        return x[d] * cos(angle) + where(first, -partner, partner) * sin(angle)

    return Variant(query_transform=turn, key_transform=turn)


def qk_norm(query_weight: Tensor, key_weight: Tensor, head_dim: int, eps: float = 1e-6) -> Variant:
    """
    Divides queries and keys by their root mean square, and scales their elements by weights.

    The weights are f32 [head_dim] (Henry et al., "Query-key normalization for transformers";
    in the form of Qwen 3). Compose it before RoPE: `qk_norm(...) & rope(...)`.
    """

    def norm(weight: Tensor) -> Transform:
        def transform(x: Any, b: Any, h: Any, position: Any, d: Any) -> Any:
            mean_square = x.sum(_square) / head_dim
            return x[d] * rsqrt(mean_square + eps) * weight[d]

        return transform

    return Variant(query_transform=norm(query_weight), key_transform=norm(key_weight))


def differential(first: Tensor, weight: Tensor) -> Variant:
    """
    The second of two attentions, whose weighted result is taken off that of the first.

    `first` is f32 [n, heads, head_dim], the result of the attention of the other queries and keys
    over the same values; `weight` is f32 [heads]: `out = first - weight * out`. So differential
    attention is two runs (Ye et al., "Differential Transformer", section 2.1).
    """

    def subtract(out: Any, b: Any, h: Any, q_idx: Any, d: Any) -> Any:
        return first[row_of(q_idx), h, d] - weight[h] * out

    return Variant(output_transform=subtract)


def _square(element: Any, index: Any) -> Any:
    return element * element
