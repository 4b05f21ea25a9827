"""
Measures how long a kernel takes to compile, level by level, in CPU time.

    python docs/benchmarks/compile_latency/measure.py [--runs 20]

The kernel is the demo's: causal attention, 32 query heads, 8 key heads, head_dim 128, bf16. The
budget is 150 ms from the op to PTX in a warm process, and 2 ms for a hit in the cache. Then
variants of a structure that is new to the process, from Python functions to PTX: 200 ms. `module`
is the tracing of the functions and the ops of attention, the others are the levels that follow.
The columns are ms of the run that took the least in all.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

import tilewright.attention as attention
from tilewright.attention.compiler import Clock, Levels, compile_attention, lower_attention
from tilewright.attention.module import attention_module
from tilewright.attention.spec import AttentionSpec, PagedKV
from tilewright.attention.variants import TracedVariant
from tilewright.lowering.pipelines.attention import LEVELS
from tilewright.runtime.ptxas import find_ptxas

BUDGET_MS, HIT_BUDGET_MS, VARIANT_BUDGET_MS = 150.0, 2.0, 200.0


def _spec(head_dim: int) -> AttentionSpec:
    return AttentionSpec(
        num_qo_heads=32,
        num_kv_heads=8,
        head_dim=head_dim,
        kv=PagedKV(16),
        dtype="bf16",
        target="sm_80",
        softmax_scale=head_dim**-0.5,
    )


def _levels(head_dim: int, runs: int) -> dict[str, float]:
    variant = attention.causal().traced
    compile_attention(_spec(head_dim), variant)
    return _least([_steps(_spec(head_dim), lambda: variant) for _ in range(runs)])


def _steps(spec: AttentionSpec, trace: Callable[[], TracedVariant]) -> dict[str, float]:
    """Returns the CPU seconds of each step from Python functions to PTX."""
    start = time.process_time()
    module = attention_module(spec, trace())
    seconds = {"module": time.process_time() - start}
    levels = Levels()
    lower_attention(module, spec, Clock(levels))
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


def _variant_steps(runs: int) -> dict[str, dict[str, float]]:
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in _variants(0)}
    for turn in range(runs):
        for name, found in samples.items():
            found.append(_steps(_spec(128), lambda: _variants(turn + 1)[name].traced))
    return {name: _least(found) for name, found in samples.items()}


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
    runs = parser.parse_args().runs
    ptxas = find_ptxas()
    steps = ("module", *LEVELS, "ptx")
    print(f"{'CPU ms':26} {'all':>7} {'budget':>7} " + " ".join(f"{step:>7}" for step in steps))
    for head_dim in (64, 128, 256):
        row = _row(f"causal, head_dim {head_dim}", _levels(head_dim, runs), BUDGET_MS)
        if ptxas is not None:
            ptx = compile_attention(_spec(head_dim), attention.causal().traced).ptx
            found = ptxas.assemble(ptx, "sm_80").resources["attend"]
            row += f"  {found.registers} registers, {found.spilled_bytes} bytes spilled"
        print(row, flush=True)
    for name, milliseconds in _variant_steps(runs).items():
        print(_row(f"new: {name}", milliseconds, VARIANT_BUDGET_MS), flush=True)
    hit = _hit_ms(runs)
    print(f"from the cache: {hit:.3f} ms, {hit / HIT_BUDGET_MS:.2f} of the budget")


if __name__ == "__main__":
    main()
