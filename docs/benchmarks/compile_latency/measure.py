"""
Measures how long a kernel takes to compile, level by level, in CPU time.

    python docs/benchmarks/compile_latency/measure.py [--runs 20] [--library] [--target sm_90]

The kernel is the demo's: causal attention, 32 query heads, 8 key heads, head_dim 128, bf16; with
the tiles that are chosen for the target. Those for sm_90 have two blocks of rows at head_dim 128
too, and half as many lines again. The budget is 150 ms from the op to PTX in a warm process, and
2 ms for a hit in the cache.

Then variants of a structure that is new to the process, from Python functions to PTX: 200 ms.
`module` is the tracing of the functions and the ops of attention, the others are the levels that
follow. The columns are ms of the run that took the least in all.

With `--library` follow all variants of the library, for each head_dim in the tiles of prefill and
of decoding, and all compositions of two: the slowest of these are measured again.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations

import tilewright.attention as attention
from tilewright.attention.compiler import Clock, Levels, compile_attention, lower_attention
from tilewright.attention.module import attention_module
from tilewright.attention.spec import TARGETS, AttentionSpec, PagedKV
from tilewright.attention.tiles import choose_tiles, registers_of
from tilewright.attention.variants import TracedVariant
from tilewright.lowering.pipelines.attention import LEVELS
from tilewright.runtime.ptxas import find_ptxas

# What numbers a kernel has for a variant.
SpecOf = Callable[[TracedVariant], AttentionSpec]

BUDGET_MS, HIT_BUDGET_MS, VARIANT_BUDGET_MS = 150.0, 2.0, 200.0
HEAD_DIMS = (64, 128, 256)
# Query rows that tiles are chosen for: any number in prefill, one in decoding.
PHASES: dict[str, int | None] = {"prefill": None, "decode": 1}
# Of the compositions of two those that are measured again.
SLOWEST = 8


def _spec(
    variant: TracedVariant, head_dim: int, target: str, query_len: int | None = None
) -> AttentionSpec:
    kv = PagedKV(16)
    needs = registers_of(variant, kv, "ranges")
    tiles = choose_tiles(head_dim, 4, query_len, target, None, needs)
    return AttentionSpec(
        num_qo_heads=32,
        num_kv_heads=8,
        head_dim=head_dim,
        kv=kv,
        dtype="bf16",
        target=target,
        softmax_scale=head_dim**-0.5,
        warps=tiles.warps,
        tile_rows=tiles.rows,
        kv_tile=tiles.kv_tile,
        stages=tiles.stages,
    )


def _levels(head_dim: int, target: str, runs: int) -> dict[str, float]:
    spec = partial(_spec, head_dim=head_dim, target=target)
    variant = attention.causal().traced
    compile_attention(spec(variant), variant)
    return _least([_steps(spec, lambda: variant) for _ in range(runs)])


def _steps(spec: SpecOf, trace: Callable[[], TracedVariant]) -> dict[str, float]:
    """Returns the CPU seconds of each step from Python functions to PTX."""
    start = time.process_time()
    variant = trace()
    numbers = spec(variant)
    module = attention_module(numbers, variant)
    seconds = {"module": time.process_time() - start}
    levels = Levels()
    lower_attention(module, numbers, Clock(levels))
    return seconds | levels.seconds


def _least(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the milliseconds of the run that took the least in all."""
    best = min(samples, key=lambda sample: sum(sample.values()))
    return {step: seconds * 1e3 for step, seconds in best.items()}


def _row(name: str, milliseconds: Mapping[str, float], budget: float) -> str:
    total = sum(milliseconds.values())
    steps = " ".join(f"{value:7.1f}" for value in milliseconds.values())
    return f"{name:26} {total:7.1f} {total / budget:7.2f} {steps}"


def _compile() -> attention.AttentionOp:
    return attention.compile(
        variant=attention.causal(),
        kv=attention.PagedKV(page_size=16),
        num_qo_heads=32,
        num_kv_heads=8,
        head_dim=128,
    )


def _variants(turn: int) -> dict[str, attention.Variant]:
    """Returns variants whose structure no earlier turn had: the turn is a constant of them."""
    odd = attention.Variant(score_mod=lambda score, b, h, q_idx, kv_idx: score + turn)
    half, batch, i32 = (64,), ("batch", "length"), "i32"
    return {
        "soft cap": attention.causal() & attention.soft_cap(attention.scalar("cap")) & odd,
        "soft cap, window, alibi": attention.causal()
        & attention.soft_cap(attention.scalar("cap"))
        & attention.sliding_window(attention.scalar("window", i32))
        & attention.alibi(attention.tensor("slopes", (32,)))
        & odd,
        "alibi": attention.alibi(attention.tensor("slopes", (32,))) & odd,
        "documents": attention.document_mask(attention.tensor("ids", batch, i32)) & odd,
        "rope": attention.rope(attention.tensor("f", half), 128) & attention.causal() & odd,
        "QK-norm and rope": attention.qk_norm(
            attention.tensor("wq", (128,)), attention.tensor("wk", (128,)), 128
        )
        & attention.rope(attention.tensor("f", half), 128)
        & odd,
    }


def _variant_steps(target: str, runs: int) -> dict[str, dict[str, float]]:
    spec = partial(_spec, head_dim=128, target=target)
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in _variants(0)}
    for turn in range(runs):
        for name, found in samples.items():
            found.append(_steps(spec, lambda: _variants(turn + 1)[name].traced))
    return {name: _least(found) for name, found in samples.items()}


def _library(head_dim: int) -> dict[str, attention.Variant]:
    """Returns each variant of the library, with parameters that are passed at run time."""
    tensor, scalar, i32 = attention.tensor, attention.scalar, "i32"
    frequencies = tensor("f", (head_dim // 2,))
    weights = tensor("wq", (head_dim,)), tensor("wk", (head_dim,))
    return {
        "full": attention.full(),
        "causal": attention.causal(),
        "window": attention.sliding_window(scalar("window", i32)),
        "soft cap": attention.soft_cap(scalar("cap")),
        "temperature": attention.temperature(scalar("t")),
        "alibi": attention.alibi(tensor("slopes", (32,))),
        "relative bias": attention.relative_bias(tensor("bias", (32, 17)), 8),
        "QK-norm": attention.qk_norm(*weights, head_dim),
        "rope": attention.rope(frequencies, head_dim),
        "rope, interleaved": attention.rope(frequencies, head_dim, interleaved=True),
        "sigmoid": attention.sigmoid_attention(scalar("b")),
        "sinks": attention.attention_sinks(tensor("sinks", (32,))),
        "prefix LM": attention.prefix_lm(tensor("prefix", ("batch",), i32)),
        "documents": attention.document_mask(tensor("ids", ("batch", "length"), i32)),
        "items": attention.multi_item_scoring(
            tensor("own_prefix", ("batch",), i32), tensor("item_of", ("batch", "length"), i32)
        ),
        "bit mask": attention.bit_mask(tensor("bits", ("n", "words"), i32)),
        "tree": attention.tree_mask(
            tensor("tree", ("n", "tree_words"), i32), tensor("begin", ("batch",), i32)
        ),
        "differential": attention.differential(
            tensor("first", ("n", 32, head_dim)), tensor("weight", (32,))
        ),
    }


def _new(variant: attention.Variant, turn: int) -> attention.Variant:
    """Returns a variant of a structure that no earlier turn had, with one more addition."""
    return variant & attention.Variant(score_mod=lambda score, b, h, q_idx, kv_idx: score + turn)


def _least_total(spec: SpecOf, variant: attention.Variant, runs: int) -> float:
    """Returns the milliseconds from Python functions to PTX, of the fastest run."""
    steps = [_steps(spec, lambda: _new(variant, turn).traced) for turn in range(1, runs + 2)]
    return sum(_least(steps[1:]).values())


def _print_library(target: str, runs: int) -> None:
    cases = [(head_dim, phase) for head_dim in HEAD_DIMS for phase in PHASES]
    names = "".join(f"{f'{phase} {head_dim}':>13}" for head_dim, phase in cases)
    print(f"{'new structures, CPU ms':26}{names}")
    largest = dict.fromkeys(cases, 0.0)
    for name in _library(HEAD_DIMS[0]):
        row: list[float] = []
        for head_dim, phase in cases:
            numbers = {"head_dim": head_dim, "target": target, "query_len": PHASES[phase]}
            spec = partial(_spec, **numbers)
            row.append(_least_total(spec, _library(head_dim)[name], runs))
            largest[head_dim, phase] = max(largest[head_dim, phase], row[-1])
        print(f"{name:26}" + "".join(f"{value:13.1f}" for value in row), flush=True)
    print(f"{'the slowest':26}" + "".join(f"{value:13.1f}" for value in largest.values()))


def _compositions(head_dim: int) -> dict[str, attention.Variant]:
    """Returns the compositions of two variants of the library that can be composed."""
    found: dict[str, attention.Variant] = {}
    for (one, first), (other, second) in combinations(_library(head_dim).items(), 2):
        both = first & second
        try:
            _ = both.traced
        except attention.VariantError:
            continue
        found[f"{one} & {other}"] = both
    return found


def _print_compositions(head_dim: int, target: str, runs: int) -> None:
    spec = partial(_spec, head_dim=head_dim, target=target)
    compositions = _compositions(head_dim)
    once = {name: _least_total(spec, variant, 2) for name, variant in compositions.items()}
    slowest: list[str] = []
    # Until the largest is one that was measured well.
    while len(slowest) < SLOWEST or max(once, key=lambda name: once[name]) not in slowest:
        name = max(once.keys() - set(slowest), key=lambda name: once[name])
        once[name] = min(once[name], _least_total(spec, compositions[name], 2 * runs))
        slowest.append(name)
    values = sorted(once.values())
    middle, largest = values[len(values) // 2], values[-1]
    print(f"{len(values)} compositions of two, head_dim {head_dim}: median {middle:.1f}, largest")
    print(f"{largest:.1f} ms, {largest / VARIANT_BUDGET_MS:.2f} of the budget; the slowest:")
    for name in sorted(slowest, key=lambda name: -once[name]):
        print(f"    {name:36} {once[name]:7.1f}")


def _hit_ms(runs: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TILEWRIGHT_CACHE_DIR"] = folder
        _compile()
        samples: list[float] = []
        for _ in range(runs):
            start = time.process_time()
            _compile()
            samples.append(time.process_time() - start)
    return statistics.median(samples) * 1e3


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--library", action="store_true")
    parser.add_argument("--target", default="sm_90", choices=TARGETS)
    arguments = parser.parse_args()
    target, runs = arguments.target, arguments.runs
    if runs < 1:
        parser.error(f"--runs: expected an integer from 1, got {runs}")
    ptxas = find_ptxas()
    steps = ("module", *LEVELS, "ptx")
    print(f"{'CPU ms':26} {'all':>7} {'budget':>7} " + " ".join(f"{step:>7}" for step in steps))
    for head_dim in HEAD_DIMS:
        row = _row(f"causal, head_dim {head_dim}", _levels(head_dim, target, runs), BUDGET_MS)
        if ptxas is not None:
            variant = attention.causal().traced
            ptx = compile_attention(_spec(variant, head_dim, target), variant).ptx
            found = ptxas.assemble(ptx, target).resources["attend"]
            row += f"  {found.registers} registers, {found.spilled_bytes} bytes spilled"
        print(row, flush=True)
    for name, milliseconds in _variant_steps(target, runs).items():
        print(_row(f"new: {name}", milliseconds, VARIANT_BUDGET_MS), flush=True)
    if arguments.library:
        _print_library(target, runs)
        for head_dim in HEAD_DIMS[1:]:
            _print_compositions(head_dim, target, runs)
    hit = _hit_ms(runs)
    print(f"from the cache: {hit:.3f} ms, {hit / HIT_BUDGET_MS:.2f} of the budget")


if __name__ == "__main__":
    main()
