"""The regions of a variant beside score and mask: transforms, states, outputs, no softmax."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilewright.attention as attention
from tilewright.attention import Variant, VariantError, scalar, tensor
from tilewright.attention.interpreter import Batch as InterpreterBatch
from tilewright.attention.interpreter import attend
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.attention.reference import Batch, Geometry, exact, random_batch
from tilewright.test.attention.test_on_simulator import generator, random_lengths
from tilewright.test.spread import spread

# The kernel rounds transformed rows to 16 bits, the interpreter does not.
TOLERANCE = {"f16": 3e-3, "bf16": 2e-2}


def total(x: Any, term: Callable[[Any, Any], Any]) -> Any:
    """Returns the sum of a term over a row."""
    return x.sum(term)


def compare(
    geometry: Geometry, batch: Batch, variant: Variant, params: dict[str, Any] | None = None
) -> None:
    """Compares a kernel with the interpreter."""
    op = geometry.compile(variant)
    out, lse = op.plan(*batch.tables).run(
        *batch.arrays, params=params, device=SimulatorDevice("all")
    )
    wanted, wanted_lse = attend(
        variant.traced,
        InterpreterBatch(*batch.tables),
        *(exact(array) for array in batch.arrays),
        scale=geometry.head_dim**-0.5,
        layout=geometry.layout,
        params=params,
    )
    tolerance = TOLERANCE[geometry.dtype]
    assert np.linalg.norm(exact(out) - wanted) <= tolerance * np.linalg.norm(wanted)
    np.testing.assert_allclose(lse, wanted_lse, rtol=0, atol=4 * tolerance)


def reversed_row(x: Any, b: Any, h: Any, position: Any, d: Any) -> Any:
    return x[31 - d] * (1 + h + b) * 0.25 + position * 0.01


TRANSFORMS = {
    "query": Variant(query_transform=reversed_row),
    "key": Variant(key_transform=reversed_row),
    "value": Variant(value_transform=reversed_row),
    "all three": Variant(
        query_transform=reversed_row, key_transform=reversed_row, value_transform=reversed_row
    ),
    "centred": Variant(key_transform=lambda x, b, h, p, d: x[d] - x.sum() / 32),
    "variance": Variant(
        value_transform=lambda x, b, h, p, d: (
            x[d]
            * attention.rsqrt(
                total(x, lambda e, i: (e - x.sum() / 32) * (e - x.sum() / 32)) / 32 + 1
            )
        )
    ),
    "weighted sum": Variant(
        query_transform=lambda x, b, h, p, d: total(x, lambda e, i: e * i) / 100
    ),
    "outside of the head": Variant(key_transform=lambda x, b, h, p, d: x[d + 7] + x[d - 7]),
    "output": Variant(
        output_transform=lambda out, b, h, q, d: attention.tanh(out) * (h + 1) + d * 0.01 - q * 0.1
    ),
}


# Every transform without a mask, and every other one under one.
MASKED = [
    *((name, "full") for name in TRANSFORMS),
    *spread([(name, "causal") for name in TRANSFORMS], len(TRANSFORMS) // 2),
]


@pytest.mark.parametrize(("name", "mask"), MASKED)
def test_transform(name: str, mask: str) -> None:
    rng = generator("transform", name, mask)
    geometry = Geometry(3, 2, 32, 4)
    masks = {"full": attention.full(), "causal": attention.causal()}
    batch = random_batch(geometry, [(5, 21), (1, 9), (20, 70), (2, 0)], rng)
    compare(geometry, batch, TRANSFORMS[name] & masks[mask])


@pytest.mark.parametrize(
    ("head_dim", "dtype"),
    spread([(d, t) for d in (16, 80, 96, 128, 208, 256) for t in ("f16", "bf16")], 3),
)
def test_transforms_of_every_width(head_dim: int, dtype: str) -> None:
    """Rows that are no multiple of what a warp takes at a time."""
    rng = generator("width", head_dim, dtype)
    geometry = Geometry(
        int(rng.integers(1, 5)), 1, head_dim, 8, str(rng.choice(["NHD", "HND"])), dtype
    )
    weights = {name: rng.random(head_dim).astype(np.float32) for name in ("query", "key")}
    variant = attention.qk_norm(
        tensor("query", ("d",)), tensor("key", ("d",)), head_dim
    ) & attention.rope(tensor("inv_freq", ("half",)), head_dim, interleaved=True)
    params = {**weights, "inv_freq": attention.rope_frequencies(head_dim)}
    compare(geometry, random_batch(geometry, random_lengths(rng), rng), variant, params)


def test_rows_behind_the_last_key_stay_out_of_the_result() -> None:
    """A value transform makes NaN of a row of zeros."""
    geometry, rng = Geometry(2, 2, 32, 4), generator("zeros")
    variant = Variant(
        value_transform=lambda x, b, h, p, d: x[d] * attention.rsqrt(total(x, lambda e, i: e * e))
    )
    compare(geometry, random_batch(geometry, [(3, 21), (1, 5)], rng), variant)


def test_transforms_read_tensors_by_every_index() -> None:
    geometry, rng = Geometry(2, 2, 32, 4), generator("indices")
    batch = random_batch(geometry, [(5, 21), (1, 9)], rng)
    table = tensor("table", ("batch", 2, "length", 32))
    variant = Variant(
        key_transform=lambda x, b, h, p, d: x[d] * table[b, h, p, d],
        output_transform=lambda out, b, h, q, d: out + table[b, h, q, d],
    )
    params = {"table": rng.standard_normal((2, 2, 30, 32)).astype(np.float32)}
    with pytest.raises(ValueError, match="at least 4 entries along axis 1"):
        geometry.compile(variant).plan(*batch.tables).run(*batch.arrays, params=params)
    compare(geometry, batch, Variant(key_transform=variant.key_transform), params)


def test_a_state_can_be_updated_twice() -> None:
    geometry, rng = Geometry(2, 2, 32, 4), generator("two sinks")
    batch = random_batch(geometry, [(5, 21), (1, 9), (2, 0)], rng)
    variant = attention.attention_sinks(tensor("a", (4,))) & attention.attention_sinks(
        tensor("b", (4,))
    )
    params = {name: rng.standard_normal(4).astype(np.float32) for name in "ab"}
    compare(geometry, batch, variant & attention.causal(), params)


def test_a_row_that_sees_no_key_has_the_sink_as_its_lse() -> None:
    geometry, rng = Geometry(2, 2, 32, 4), generator("sink alone")
    batch = random_batch(geometry, [(3, 0)], rng)
    sinks = rng.standard_normal(4).astype(np.float32)
    op = geometry.compile(attention.attention_sinks(tensor("sinks", (4,))))
    out, lse = op.plan(*batch.tables).run(*batch.arrays, params={"sinks": sinks})
    assert not exact(out).any()
    np.testing.assert_allclose(lse, np.broadcast_to(sinks, (3, 4)), atol=1e-5)


def test_weights_without_a_softmax_and_without_a_score() -> None:
    geometry, rng = Geometry(2, 2, 32, 4), generator("linear")
    batch = random_batch(geometry, [(5, 21), (1, 9), (70, 70)], rng)
    op = geometry.compile(attention.causal() & Variant(softmax=False))
    out, _ = op.plan(*batch.tables).run(*batch.arrays)
    wanted, _ = attend(
        (attention.causal() & Variant(softmax=False)).traced,
        InterpreterBatch(*batch.tables),
        *(exact(array) for array in batch.arrays),
        scale=32**-0.5,
    )
    assert np.linalg.norm(exact(out) - wanted) <= 3e-3 * np.linalg.norm(wanted)


def test_masks_join() -> None:
    geometry, rng = Geometry(2, 2, 32, 4), generator("join")
    batch = random_batch(geometry, [(5, 21), (70, 90)], rng)
    first = Variant(mask_mod=lambda b, h, q, k: k < 4)
    variant = attention.causal() & (first | attention.sliding_window(scalar("w", "i32")))
    compare(geometry, batch, variant, {"w": 9})


def test_joining_more_than_masks_is_refused() -> None:
    with pytest.raises(VariantError, match="'|' expects two variants that are masks"):
        _ = attention.causal() | attention.soft_cap(3.0)
