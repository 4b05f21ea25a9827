"""
Measures how long a kernel takes to compile, level by level, in CPU time.

    python docs/benchmarks/compile_latency/measure.py [--runs 20]

The kernel is the demo's: causal attention, 32 query heads, 8 key heads, head_dim 128, bf16. The
budget is 150 ms from the op to PTX in a warm process, and 2 ms for a hit in the cache. Then
variants of a structure that is new to the process, from Python functions to PTX: 200 ms.
"""

import argparse
import os
import statistics
import tempfile
import time

import tilewright.attention as attention
from tilewright.attention.compiler import Levels, compile_attention
from tilewright.attention.spec import AttentionSpec, PagedKV
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
    samples: list[dict[str, float]] = []
    for _ in range(runs):
        levels = Levels()
        compile_attention(_spec(head_dim), variant, levels)
        samples.append(levels.seconds)
    return {level: statistics.median(s[level] for s in samples) * 1e3 for level in samples[0]}


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
        "alibi": attention.alibi(attention.tensor("slopes", (32,))) & odd,
        "documents": attention.document_mask(attention.tensor("ids", batch, i32)) & odd,
        "rope": attention.rope(attention.tensor("f", half), 128) & attention.causal() & odd,
        "QK-norm and rope": attention.qk_norm(
            attention.tensor("wq", (128,)), attention.tensor("wk", (128,)), 128
        )
        & attention.rope(attention.tensor("f", half), 128)
        & odd,
    }


def _variant_ms(runs: int) -> dict[str, float]:
    samples: dict[str, list[float]] = {name: [] for name in _variants(0)}
    for turn in range(runs):
        for name in samples:
            start = time.process_time()
            compile_attention(_spec(128), _variants(turn + 1)[name].traced)
            samples[name].append(time.process_time() - start)
    return {name: statistics.median(times) * 1e3 for name, times in samples.items()}


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
    for head_dim in (64, 128, 256):
        milliseconds = _levels(head_dim, runs)
        total = sum(milliseconds.values())
        steps = ", ".join(f"{level} {value:.1f}" for level, value in milliseconds.items())
        share = total / BUDGET_MS
        print(f"head_dim {head_dim}: {total:.1f} ms ({steps}), {share:.2f} of the budget")
        if ptxas is not None:
            ptx = compile_attention(_spec(head_dim), attention.causal().traced).ptx
            found = ptxas.assemble(ptx, "sm_80").resources["attend"]
            print(f"  ptxas: {found.registers} registers, {found.spilled_bytes} bytes spilled")
    for name, milliseconds in _variant_ms(runs).items():
        share = milliseconds / VARIANT_BUDGET_MS
        print(f"variant '{name}', new structure: {milliseconds:.1f} ms, {share:.2f} of the budget")
    hit = _hit_ms(runs)
    print(f"from the cache: {hit:.3f} ms, {hit / HIT_BUDGET_MS:.2f} of the budget")


if __name__ == "__main__":
    main()
