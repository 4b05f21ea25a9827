"""Block masks of named cases: overhang, documents, windows of requests, what is refused."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.runtime.block_mask import (
    DEFAULT_BUDGET,
    FULL,
    PARTIAL,
    BlockMask,
    Grid,
    Instruction,
    MaskProgram,
    derive,
    evaluate,
)
from tilewright.runtime.block_mask.evaluation import bind
from tilewright.runtime.errors import ArgumentError
from tilewright.test.runtime.block_mask.grammar import classified, one_slice

Parameters = Mapping[str, object]


def program(*rows: tuple[object, ...]) -> MaskProgram:
    """Returns the program of rows `(op, operand, ..., "=", value)`."""
    instructions: list[Instruction] = []
    for op, *rest in rows:
        value = rest.pop() if len(rest) > 1 and rest[-2] == "=" else None
        operands = [number for number in rest if isinstance(number, int)]
        assert isinstance(value, int | str | None)
        instructions.append(Instruction(str(op), tuple(operands), value))
    return MaskProgram(tuple(instructions))


Q_KV = (("q_idx",), ("kv_idx",))
ALL = program(("constant", "=", True))
CAUSAL = program(*Q_KV, ("ge", 0, 1))
DOCUMENTS = program(*Q_KV, ("load", 0, "=", "doc"), ("load", 1, "=", "doc"), ("eq", 2, 3))


def derived(
    mask: MaskProgram,
    q_len: int,
    kv_len: int,
    parameters: Parameters | None = None,
    block: tuple[int, int] = (128, 128),
    budget: int = DEFAULT_BUDGET,
) -> BlockMask:
    """Returns the block mask of one sequence."""
    grid = one_slice(q_len, kv_len, kv_len - q_len, block)
    return derive(mask, grid, parameters or {}, budget)


def test_a_tile_that_overhangs_is_partial_never_full() -> None:
    expected = np.full((3, 4), FULL)
    expected[-1, :] = expected[:, -1] = PARTIAL
    np.testing.assert_array_equal(derived(ALL, 300, 400).dense(), expected)


def test_a_masked_tile_that_overhangs_is_empty() -> None:
    np.testing.assert_array_equal(derived(CAUSAL, 130, 130).dense(), [[1, 0], [1, 1]])


def test_a_vertical_stripe_between_the_sampled_points_is_found() -> None:
    """Four corners and the middle of a tile see nothing of a stripe at column 30."""
    stripe = program(*Q_KV, ("constant", "=", 30), ("eq", 1, 2))
    corners = [(q, kv) for q in (0, 127) for kv in (0, 127)]
    sampled = evaluate(stripe, bind(stripe, {}), 0, 0, *np.transpose([*corners, (64, 64)]))
    assert not sampled.any()
    np.testing.assert_array_equal(derived(stripe, 256, 256, budget=0).dense(), [[1, 0], [1, 0]])


def test_documents_of_any_numbers_are_exact_without_search() -> None:
    rng = np.random.default_rng()
    lengths = rng.integers(1, 300, 12)
    doc = np.repeat(rng.permutation(12) * 1000 - 5000, lengths)
    size = len(doc)
    dense = doc[:, None] == doc[None, :]
    got = derived(DOCUMENTS, size, size, {"doc": doc}, (64, 32), budget=0)
    np.testing.assert_array_equal(got.dense(), classified(dense, (64, 32)))
    assert got.undecided == 0


def test_documents_that_come_back_are_exact_after_search() -> None:
    rng = np.random.default_rng()
    doc = np.repeat(rng.integers(0, 4, 20), 37)
    dense = doc[:, None] == doc[None, :]
    got = derived(DOCUMENTS, len(doc), len(doc), {"doc": doc}, (16, 16))
    np.testing.assert_array_equal(got.dense(), classified(dense, (16, 16)))


def windows_of_requests() -> tuple[MaskProgram, Grid, npt.NDArray[np.int32]]:
    """Returns a window for each request and head, over requests of several lengths."""
    mask = program(
        *Q_KV,
        ("b",),
        ("h",),
        ("load", 2, 3, "=", "window"),
        ("sub", 0, 1),
        ("lt", 5, 4),
        ("ge", 0, 1),
        ("and", 6, 7),
    )
    b, h = np.repeat(np.arange(3), 2), np.tile(np.arange(2), 3)
    q_len, kv_len = np.repeat([50, 300, 1], 2), np.repeat([700, 300, 513], 2)
    window = np.random.default_rng().integers(1, 600, (3, 2)).astype(np.int32)
    return mask, Grid(b, h, q_len, kv_len, kv_len - q_len, (64, 64)), window


@pytest.mark.parametrize("part", range(6))
def test_windows_of_requests_and_heads(part: int) -> None:
    mask, grid, window = windows_of_requests()
    found = derive(mask, grid, {"window": window}, 0)
    q_len, kv_len = int(grid.q_len[part]), int(grid.kv_len[part])
    distance = (kv_len - q_len + np.arange(q_len))[:, None] - np.arange(kv_len)
    dense = (distance >= 0) & (distance < window[part // 2, part % 2])
    np.testing.assert_array_equal(found.dense(part), classified(dense, (64, 64)))


def test_rows_of_slices_follow_one_another() -> None:
    mask, grid, window = windows_of_requests()
    found = derive(mask, grid, {"window": window}, 0)
    assert [len(found.rows_of(part)) for part in range(6)] == [1, 1, 5, 5, 1, 1]
    assert found.full.rows == found.partial.rows == 14


@pytest.mark.parametrize("kind", ["full", "partial"])
def test_csr_and_runs_are_the_same_tiles(kind: str) -> None:
    doc = np.repeat(np.arange(9), 119)
    found = derived(DOCUMENTS, len(doc), len(doc), {"doc": doc}, (16, 16))
    runs = found.full if kind == "full" else found.partial
    expected = [
        np.flatnonzero(row == (FULL if kind == "full" else PARTIAL)) for row in found.dense()
    ]
    for row, tiles in enumerate(expected):
        own = runs.tiles[runs.tile_indptr[row] : runs.tile_indptr[row + 1]]
        np.testing.assert_array_equal(own, tiles)
        np.testing.assert_array_equal(runs.row(row), tiles)
        assert runs.counts[row] == len(tiles)


def test_runs_of_a_row_never_touch() -> None:
    found = derived(CAUSAL, 4096, 4096)
    assert found.full.start.tolist() == [0] * 31
    assert found.full.stop.tolist() == list(range(1, 32))


@pytest.mark.parametrize(("q_len", "kv_len"), [(0, 0), (0, 100), (100, 0)])
def test_sequences_without_queries_or_keys_have_no_tiles(q_len: int, kv_len: int) -> None:
    found = derived(CAUSAL, q_len, kv_len)
    assert found.kept_tiles == found.tiles == 0


def test_queries_before_the_first_key_see_nothing() -> None:
    found = derived(CAUSAL, 256, 128)
    np.testing.assert_array_equal(found.dense(), [[0], [1]])


def test_arithmetic_that_wraps_is_never_called_empty_or_full() -> None:
    """In 32 bits q_idx * 65536 * 65536 is 0; the integers of mathematics are not."""
    wraps = program(*Q_KV, ("constant", "=", 65536), ("mul", 0, 2), ("mul", 3, 2), ("le", 4, 1))
    assert (derived(wraps, 256, 256, budget=0).dense() == PARTIAL).all()


def test_two_opaque_conditions_are_two_though_they_read_the_same() -> None:
    opaque = ("opaque", "=", "'gt' of f32")
    mask = program(opaque, opaque, ("not", 1), ("and", 0, 2))
    assert derived(mask, 64, 64).undecided == 1


def test_a_mask_that_cannot_be_evaluated_stays_partial_and_undecided() -> None:
    mask = program(*Q_KV, ("ge", 0, 1), ("opaque", "=", "'gt' of f32"), ("and", 2, 3))
    found = derived(mask, 256, 256)
    np.testing.assert_array_equal(found.dense(), [[1, 0], [1, 1]])
    assert found.undecided == 3


def test_what_the_budget_does_not_settle_is_partial_and_counted() -> None:
    doc = np.random.default_rng().integers(0, 3, 512)
    found = derived(DOCUMENTS, 512, 512, {"doc": doc}, budget=0)
    assert found.undecided == found.partial.counts.sum() == 16


def test_an_index_outside_of_a_tensor_reads_the_nearest_entry() -> None:
    mask = program(
        *Q_KV,
        ("constant", "=", 1),
        ("sub", 1, 2),
        ("load", 3, "=", "seen"),
        ("constant", "=", 0),
        ("ne", 4, 5),
    )
    seen = np.random.default_rng().integers(0, 2, 100)
    dense = np.broadcast_to(seen[np.maximum(np.arange(100) - 1, 0)] != 0, (100, 100))
    found = derived(mask, 100, 100, {"seen": seen}, (16, 16))
    np.testing.assert_array_equal(found.dense(), classified(dense, (16, 16)))


def test_a_position_outside_of_a_tensor_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'doc'.*indices from 0 to 98.*got 0 to 99"):
        derived(DOCUMENTS, 100, 100, {"doc": np.zeros(99, np.int32)})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "'doc': expected a value"),
        ({"doc": np.zeros((2, 50), np.int32)}, "an array of 1 dimensions, got 2"),
        ({"doc": np.zeros(100)}, "an array of integers, got dtype float64"),
        ({"doc": np.full(100, 2**40)}, "integers of 32 bits"),
        ({"doc": np.zeros(100, np.int32), "more": 1}, "'more'.*parameters of the mask: doc"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters: Parameters, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        derived(DOCUMENTS, 100, 100, parameters)


@pytest.mark.parametrize("value", [True, 2.0, 2**31, "many"])
def test_a_scalar_is_an_integer_of_32_bits(value: object) -> None:
    mask = program(*Q_KV, ("scalar", "=", "window"), ("lt", 1, 2))
    with pytest.raises(ArgumentError, match="'window': expected an integer of 32 bits"):
        derived(mask, 100, 100, {"window": value})


@pytest.mark.parametrize(
    "rows",
    [
        [("q_idx",)],
        [("q_idx",), ("ge", 0, 1)],
        [("q_idx",), ("constant", "=", True), ("ge", 0, 1)],
        [("constant", "=", True), ("not", 0, 0)],
        [("q_idx",), ("sqrt", 0), ("ge", 0, 1)],
    ],
)
def test_programs_that_are_not_well_formed_are_refused(rows: list[tuple[object, ...]]) -> None:
    with pytest.raises(ArgumentError, match="mask program"):
        program(*rows)


def test_why_names_the_comparison_that_splits_a_tile() -> None:
    mask = program(*Q_KV, ("constant", "=", 64), ("lt", 1, 2), ("ge", 0, 1), ("or", 3, 4))
    found = derived(mask, 512, 512)
    assert found.why(1, 1) == ["q_idx >= kv_idx"]
    assert found.why(0, 0) == ["kv_idx < 64", "q_idx >= kv_idx"]


def test_why_of_an_overhanging_tile_says_so() -> None:
    assert derived(ALL, 100, 100).why(0, 0) == ["the tile overhangs the sequence"]


def test_memory_grows_with_the_tiles_that_are_kept() -> None:
    """A window of one tile in a million by a million positions keeps two tiles a row."""
    size = 1 << 20
    window = program(
        *Q_KV, ("sub", 0, 1), ("constant", "=", 127), ("le", 2, 3), ("ge", 0, 1), ("and", 4, 5)
    )
    found = derived(window, size, size)
    assert found.kept_tiles == 2 * (size // 128) - 1
    assert found.nbytes <= 16 * found.kept_tiles


def test_documents_of_each_request_are_exact_without_search() -> None:
    rng = np.random.default_rng()
    doc = np.stack([np.repeat(rng.permutation(6), [70, 1, 90, 5, 130, 4]) for _ in range(3)])
    rows = (("load", 2, at, "=", "doc") for at in (0, 1))
    mask = program(*Q_KV, ("b",), *rows, ("ge", 0, 1), ("eq", 3, 4), ("and", 5, 6))
    lengths = [np.full(3, length) for length in (300, 300, 0)]
    grid = Grid(np.arange(3), np.zeros(3, np.int64), lengths[0], lengths[1], lengths[2], (32, 32))
    found = derive(mask, grid, {"doc": doc}, 0)
    for b in range(3):
        dense = (doc[b][:, None] == doc[b]) & np.tri(300, dtype=np.bool_)
        np.testing.assert_array_equal(found.dense(b), classified(dense, (32, 32)))


@pytest.mark.parametrize("tail", [7, 200])
def test_a_tree_of_drafts_in_bits_of_a_tensor(tail: int) -> None:
    """The last queries see the prompt, and of the drafts those of which their word has the bit."""
    prompt, drafts = tail, 31
    size = prompt + drafts
    rng = np.random.default_rng()
    words = rng.integers(0, 2**31, size)
    mask = program(
        *Q_KV,
        ("constant", "=", prompt),
        ("lt", 1, 2),
        ("load", 0, "=", "words"),
        ("sub", 1, 2),
        ("constant", "=", 0),
        ("maximum", 5, 6),
        ("shr", 4, 7),
        ("constant", "=", 1),
        ("and", 8, 9),
        ("eq", 10, 9),
        ("or", 3, 11),
    )
    q_idx, kv_idx = np.arange(size)[:, None], np.arange(size)
    seen = words[q_idx] >> np.maximum(kv_idx - prompt, 0) & 1 == 1
    found = derived(mask, size, size, {"words": words}, (16, 16))
    np.testing.assert_array_equal(found.dense(), classified((kv_idx < prompt) | seen, (16, 16)))


def test_a_table_of_blocks_chosen_by_both_positions() -> None:
    rng = np.random.default_rng()
    table = rng.integers(0, 2, (8, 8))
    mask = program(
        *Q_KV,
        ("constant", "=", 32),
        ("floordiv", 0, 2),
        ("floordiv", 1, 2),
        ("load", 3, 4, "=", "table"),
        ("constant", "=", 1),
        ("eq", 5, 6),
    )
    found = derived(mask, 256, 256, {"table": table}, (32, 32), budget=0)
    np.testing.assert_array_equal(found.dense(), 2 * table)


@pytest.mark.parametrize("turn", range(10))
def test_ranges_of_entries_that_neither_rise_nor_repeat(turn: int) -> None:
    """A tile is empty exactly if the largest entry of its keys is too small."""
    rng = np.random.default_rng(turn)
    size = int(rng.integers(1, 3000))
    limits = rng.integers(-(2**31), 2**31, size)
    shift = int(rng.integers(0, 50))
    mask = program(
        *Q_KV,
        ("constant", "=", shift),
        ("add", 1, 2),
        ("load", 3, "=", "limits"),
        ("constant", "=", int(rng.integers(2**30, 2**31 - 2**16))),
        ("gt", 4, 5),
    )
    chosen = limits[np.minimum(np.arange(size) + shift, size - 1)]
    bound = mask.instructions[5].value
    assert isinstance(bound, int)
    dense = np.broadcast_to(chosen > bound, (16, size))
    block = (16, int(rng.choice([1, 8, 100, 700])))
    found = derived(mask, 16, size, {"limits": limits}, block, budget=0)
    np.testing.assert_array_equal(found.dense(), classified(dense, block))


BITS = program(
    *Q_KV,
    ("q_row",),
    ("constant", "=", 5),
    ("shr", 1, 3),
    ("load", 2, 4, "=", "bits"),
    ("constant", "=", 31),
    ("and", 1, 6),
    ("shr", 5, 7),
    ("constant", "=", 1),
    ("and", 8, 9),
    ("eq", 10, 9),
)


def test_bits_of_each_query_row_are_exact_without_search() -> None:
    rng = np.random.default_rng()
    q_len, kv_len = np.asarray([90, 150]), np.asarray([90, 320])
    # Whole tiles of zeros, of ones, and of both.
    kinds = np.repeat(np.repeat(rng.integers(0, 3, (8, 10)), 30, axis=0), 32, axis=1)
    seen = np.where(kinds == 2, rng.integers(0, 2, kinds.shape), kinds)[:240]
    words = np.packbits(seen.astype(np.uint8), axis=1, bitorder="little").view(np.int32)
    zeros = np.zeros(2, np.int64)
    grid = Grid(np.arange(2), zeros, q_len, kv_len, kv_len - q_len, (30, 32))
    found = derive(BITS, grid, {"bits": words}, 0)
    for b, rows in enumerate((slice(0, 90), slice(90, 240))):
        dense = seen[rows, : kv_len[b]].astype(np.bool_)
        np.testing.assert_array_equal(found.dense(b), classified(dense, (30, 32)))


def test_rows_of_queries_are_needed_to_evaluate_a_mask_that_reads_them() -> None:
    bits = np.asarray([[6], [0]], np.int32)
    parameters = bind(BITS, {"bits": bits})
    assert evaluate(BITS, parameters, 0, 0, 5, [0, 1, 2, 3], 0).tolist() == [
        False,
        True,
        True,
        False,
    ]
    with pytest.raises(ArgumentError, match="'q_row'.*rows of the queries"):
        evaluate(BITS, parameters, 0, 0, 5, [0, 1, 2, 3])
