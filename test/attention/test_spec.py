"""Numbers that no kernel can have are refused before anything is compiled."""

import math
from typing import Any

import pytest

import tilewright as tw
from tilewright.attention import AttentionSpec, PagedKV
from tilewright.attention import compiler as attention_compiler
from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.runtime.errors import ArgumentError

GOOD: dict[str, Any] = {
    "kv": PagedKV(16),
    "num_qo_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 64,
}
HEADS = "an integer from 1 to 65535"
HEAD_DIM = "a multiple of 16 from 16 to 256"
SCALE = "a positive number of type f32"
TARGETS = "one of sm_80, sm_86, sm_89, sm_90, sm_90a"

# For each number what is expected, and what is got.
BAD: list[tuple[str, str, Any]] = [
    ("num_qo_heads", HEADS, 0),
    ("num_qo_heads", HEADS, -4),
    ("num_qo_heads", HEADS, 65536),
    ("num_qo_heads", HEADS, 4.0),
    ("num_qo_heads", HEADS, True),
    ("num_kv_heads", HEADS, 0),
    ("num_kv_heads", HEADS, "2"),
    ("num_qo_heads", "a multiple of the 2 KV heads", 5),
    ("head_dim", HEAD_DIM, 72),
    ("head_dim", HEAD_DIM, 512),
    ("head_dim", HEAD_DIM, 8),
    ("head_dim", HEAD_DIM, 0),
    ("head_dim", HEAD_DIM, -16),
    ("head_dim", HEAD_DIM, 64.0),
    ("head_dim", HEAD_DIM, "64"),
    ("dtype", "'bf16' or 'f16'", "f32"),
    ("dtype", "'bf16' or 'f16'", None),
    ("target", TARGETS, "sm_75"),
    ("target", TARGETS, "sm_100a"),
    ("target", TARGETS, 80),
    ("softmax_scale", SCALE, 0.0),
    ("softmax_scale", SCALE, -0.125),
    ("softmax_scale", SCALE, math.nan),
    ("softmax_scale", SCALE, math.inf),
    ("softmax_scale", SCALE, 1e-60),
    ("softmax_scale", SCALE, 1e39),
    ("softmax_scale", SCALE, "0.125"),
    ("softmax_scale", SCALE, True),
    ("stages", "an integer from 2", 1),
    ("stages", "an integer from 2", 2.0),
    ("kv", "a PagedKV, RaggedKV or BlockSparseKV", 16),
]


def name_of(value: object) -> str:
    """Returns how a value is named in the list of tests."""
    return repr(value) if not isinstance(value, str) else value


@pytest.mark.parametrize(("name", "expected", "value"), BAD, ids=name_of)
def test_a_bad_number_is_refused(
    name: str, expected: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is left to compile with.
    monkeypatch.delattr(attention_compiler, "compile_attention")
    with pytest.raises(ArgumentError) as caught:
        tw.attention.compile(**{**GOOD, name: value})
    got = type(value).__name__ if name == "kv" else repr(value)
    assert str(caught.value) == f"argument '{name}': expected {expected}, got {got}"


@pytest.mark.parametrize("page_size", [0, -1, 2**20 + 1, 1.0, "16", True])
def test_a_bad_page_size_is_refused(page_size: Any) -> None:
    expected = f"argument 'page_size': expected an integer from 1 to 2\\^20, got {page_size!r}"
    with pytest.raises(ArgumentError, match=expected):
        PagedKV(page_size)


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(
        ArgumentError, match="argument 'layout': expected 'NHD' or 'HND', got 'DHN'"
    ):
        PagedKV(16, "DHN")


def test_more_stages_than_shared_memory_are_refused() -> None:
    with pytest.raises(DiagnosticError, match="bytes of shared memory, sm_80 has 166912"):
        tw.attention.compile(**GOOD, stages=64)


def test_the_scale_is_by_default_that_of_the_head_dim() -> None:
    assert tw.attention.compile(**GOOD).section.softmax_scale == 64**-0.5


def test_what_specialises_a_kernel_has_no_scale() -> None:
    numbers = (4, 2, 64, PagedKV(16), "bf16", "sm_80")
    one, other = (AttentionSpec(*numbers, softmax_scale=scale) for scale in (0.125, 0.5))
    assert one.kernel_numbers == other.kernel_numbers
