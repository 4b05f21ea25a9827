"""Block masks from Python functions, from variants, and from the mask region of a variant."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilewright.attention import (
    Variant,
    alibi,
    block_mask,
    causal,
    full,
    maximum,
    sliding_window,
    where,
)
from tilewright.attention.mask_program import mask_program
from tilewright.attention.module import attention_module
from tilewright.attention.spec import AttentionSpec, PagedKV
from tilewright.dialects.attn import VariantOp
from tilewright.runtime.block_mask import Instruction, MaskProgram, bind, evaluate
from tilewright.runtime.errors import ArgumentError
from tilewright.test.attention.reference import MaskMod
from tilewright.test.attention.test_random_variants import Grower
from tilewright.test.runtime.block_mask.grammar import classified
from tilewright.transforms.mask_program import mask_instructions


def dense_of(mask_mod: MaskMod, q_len: int, kv_len: int, b: int = 0, h: int = 0) -> Any:
    """Returns a mask element by element; the last query stands at the last key."""
    q_idx = np.arange(kv_len - q_len, kv_len)[:, None]
    seen: Any = mask_mod(b, h, q_idx, np.arange(kv_len)[None, :])
    return np.broadcast_to(seen, (q_len, kv_len))


MASKS: dict[str, MaskMod] = {
    "causal": lambda b, h, q_idx, kv_idx: q_idx >= kv_idx,
    "window": lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) & (q_idx - kv_idx <= 100),
    "sinks": lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) & ((kv_idx < 4) | (q_idx < kv_idx + 64)),
    "prefix": lambda b, h, q_idx, kv_idx: (kv_idx < 130) | (q_idx >= kv_idx),
    "dilated": lambda b, h, q_idx, kv_idx: (q_idx - kv_idx) % 200 == 0,
    "blocks": lambda b, h, q_idx, kv_idx: q_idx // 96 == kv_idx // 96,
    "heads": lambda b, h, q_idx, kv_idx: q_idx - kv_idx < 50 * h + 20 * b,
    "anti-diagonal": lambda b, h, q_idx, kv_idx: abs(q_idx + kv_idx - 300) < 40,
}


@pytest.mark.parametrize("mask_mod", MASKS.values(), ids=MASKS.keys())
def test_a_mask_mod_has_the_tiles_of_brute_force(mask_mod: MaskMod) -> None:
    found = block_mask(mask_mod, 300, 420, (64, 32), batch=2, heads=3)
    for b in range(2):
        for h in range(3):
            expected = classified(dense_of(mask_mod, 300, 420, b, h), (64, 32))
            np.testing.assert_array_equal(found.dense(3 * b + h), expected)
    assert found.undecided == 0


def test_a_variant_gives_its_mask() -> None:
    expected = block_mask(causal(), 256, 256).dense()
    np.testing.assert_array_equal(block_mask(alibi(8), 256, 256).dense(), expected)


@pytest.mark.parametrize("variant", [None, full(), Variant()])
def test_a_variant_without_a_mask_has_full_tiles(variant: object) -> None:
    assert (block_mask(variant, 256, 384).dense() == 2).all()


def test_lengths_of_requests() -> None:
    found = block_mask(sliding_window(70), [100, 1, 64], [100, 333, 200], (64, 64))
    window = sliding_window(70).mask_mod
    assert window is not None
    for part, (q_len, kv_len) in enumerate([(100, 100), (1, 333), (64, 200)]):
        expected = classified(dense_of(window, q_len, kv_len), (64, 64))
        np.testing.assert_array_equal(found.dense(part), expected)


def test_the_first_query_can_be_placed() -> None:
    """FlexAttention counts queries from 0, however many keys there are."""
    got = block_mask(causal(), 256, 512, q_first=0).dense()
    np.testing.assert_array_equal(got, [[1, 0, 0, 0], [2, 1, 0, 0]])


def test_a_program_is_taken_as_it_is() -> None:
    rows = (Instruction("q_idx"), Instruction("scalar", (), "last"), Instruction("le", (0, 1)))
    found = block_mask(MaskProgram(rows), 512, 128, q_first=0, parameters={"last": 127})
    assert found.dense().reshape(-1).tolist() == [2, 0, 0, 0]


def test_why_names_the_line_of_the_function() -> None:
    def mask_mod(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        near = q_idx - kv_idx < 300
        return (q_idx >= kv_idx) & near

    line = mask_mod.__code__.co_firstlineno
    found = block_mask(mask_mod, 512, 512)
    assert found.why(0, 0) == [f"q_idx >= kv_idx  (test_block_mask.py:{line + 2})"]
    assert found.why(3, 1) == [f"(q_idx - kv_idx) < 300  (test_block_mask.py:{line + 1})"]


def test_comparisons_of_f32_keep_tiles_partial() -> None:
    variant = Variant(mask_mod=lambda b, h, q, k: (q / 2 > k) & (q >= k))
    found = block_mask(variant, 256, 256)
    np.testing.assert_array_equal(found.dense(), [[1, 0], [1, 1]])
    assert found.why(0, 0)[0].startswith("'gt' of f32, f32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": (128, 0)}, "'block': expected an integer from 1, got 0"),
        ({"block": 128}, "'block': expected the queries and the keys of a tile, got int"),
        ({"q_len": -1}, "'q_len': expected lengths from 0, got -1"),
        ({"q_len": [4, 5], "kv_len": [4, 5, 6]}, "as many lengths as requests"),
        ({"q_len": 2.5}, "'q_len': expected an integer, or one for each request"),
        ({"batch": 2, "q_len": [1, 2, 3]}, "as many lengths as requests"),
        ({"heads": 0}, "'heads': expected an integer from 1"),
        ({"budget": -1}, "'budget': expected an integer from 0"),
        ({"parameters": {"window": 5}}, "'window': expected parameters of the mask: none"),
    ],
)
def test_numbers_that_no_mask_can_have_are_refused(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"q_len": 64, "kv_len": 64, **arguments}
    with pytest.raises(ArgumentError, match=message):
        block_mask(causal(), **given)


def test_a_mask_that_tells_heads_apart_needs_their_number() -> None:
    with pytest.raises(ArgumentError, match="'heads': expected a number of them"):
        block_mask(Variant(mask_mod=lambda b, h, q, k: q >= k + h), 64, 64)


SPEC = AttentionSpec(4, 2, 64, PagedKV(16), "bf16", "sm_80", 0.125)


def program_of_region(variant: Variant) -> MaskProgram:
    """Returns the program that is read from the mask region of a variant's module."""
    operations = list(attention_module(SPEC, variant.traced).walk())
    [op] = [op for op in operations if isinstance(op, VariantOp)]
    return MaskProgram.from_json(mask_instructions(op.mask))


def agree(variant: Variant) -> None:
    """Checks that both programs of a variant compute its mask on random positions."""
    rng = np.random.default_rng()
    at = [rng.integers(-40 * (i == 2), 40, 500, np.int32) for i in range(4)]
    assert variant.mask_mod is not None
    expected: Any = np.broadcast_to(variant.mask_mod(*at), 500)
    for program in (mask_program(variant.traced.mask), program_of_region(variant)):
        got = evaluate(program, bind(program, {}), *at)
        np.testing.assert_array_equal(got, expected)


def choose(condition: Any, yes: Any, no: Any) -> Any:
    """Returns NumPy's choice, of arrays or of traced values."""
    any_numpy: Any = np
    return any_numpy.where(condition, yes, no)


EXPRESSIONS: dict[str, MaskMod] = {
    **MASKS,
    "conditions": lambda b, h, q, k: ((q > k) == (h > 4)) ^ ~(q < 5),
    "unequal conditions": lambda b, h, q, k: (q > k) != (h > 4),
    "choice": lambda b, h, q, k: choose(h < 4, q >= k, choose(q > 3, k, q) < 9),
    "bits": lambda b, h, q, k: ((q ^ k) & 3 | 4) == 5,
    "extrema": lambda b, h, q, k: np.maximum(q - 5, 0) <= np.minimum(k, 20),
    "negative divisors": lambda b, h, q, k: (q // -7 + k) % -3 == -1,
}


@pytest.mark.parametrize("mask_mod", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_programs_of_function_and_region_compute_the_mask(mask_mod: MaskMod) -> None:
    agree(Variant(mask_mod=mask_mod))


@pytest.mark.parametrize("turn", range(20))
def test_programs_of_random_masks_compute_them(turn: int) -> None:
    condition = Grower(np.random.default_rng(turn)).condition(3)
    agree(Variant(mask_mod=lambda b, h, q, k: condition((None, b, h, q, k))))


def test_a_remainder_stays_one_in_the_region() -> None:
    program = program_of_region(Variant(mask_mod=lambda b, h, q, k: q % 7 == k % 7))
    assert program.text() == "(q_idx % 7) == (kv_idx % 7)"


def test_a_region_that_compares_f32_is_opaque() -> None:
    program = program_of_region(Variant(mask_mod=lambda b, h, q, k: (q / 2 > k) & (q >= k)))
    assert [i.value for i in program.instructions if i.op == "opaque"] == [
        "'arith.cmpf' of f32, f32"
    ]


def test_no_region_sees_every_key() -> None:
    program = MaskProgram.from_json(mask_instructions(None))
    assert evaluate(program, bind(program, {}), 0, 0, [1, 2], [5, 0]).tolist() == [True, True]


@pytest.mark.parametrize("function", [maximum, where])
def test_values_that_are_not_needed_leave_no_trace(function: Callable[..., Any]) -> None:
    def mask_mod(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        unused = function(q_idx > kv_idx, q_idx, 1) if function is where else function(q_idx, 1)
        del unused
        return q_idx >= kv_idx

    assert mask_program(Variant(mask_mod=mask_mod).traced.mask).text() == "q_idx >= kv_idx"
