"""
What ptxas says of every attention kernel that is shipped: registers, and spilled bytes.

The configurations are the variants of the library, head_dim 64, 128 and 256, the tiles of prefill
and of decode, each format of keys and values, ragged, paged and block-sparse, for sm_80 and sm_90.
One line is printed for each head_dim, format and kind of tiles, with the variant and the storage
that need the most; the process fails where a byte is spilled.

    python docs/benchmarks/attention_spills/measure.py [--targets sm_80] [--head-dims 128] [--quick]
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import tilewright.attention as attention
from tilewright.attention import (
    BlockSparseKV,
    KVFormat,
    KVStorage,
    PagedKV,
    RaggedKV,
    Variant,
    scalar,
    tensor,
)
from tilewright.runtime.ptxas import Ptxas, find_ptxas

FORMATS: tuple[KVFormat | None, ...] = (
    None,
    KVFormat("e4m3"),
    KVFormat("e5m2"),
    KVFormat("i8"),
    KVFormat("i8", 0),
    KVFormat("i4", 32, "f16"),
)
HEADS, GROUP = "heads", 4
VARIANTS: dict[str, Callable[[int], Variant]] = {
    "full": lambda d: attention.full(),
    "causal": lambda d: attention.causal(),
    "sliding_window": lambda d: attention.sliding_window(scalar("window", "i32")),
    "soft_cap": lambda d: attention.soft_cap(scalar("cap"), attention.causal().mask_mod),
    "temperature": lambda d: attention.temperature(scalar("t")) & attention.causal(),
    "alibi": lambda d: attention.alibi(tensor("slopes", (HEADS,))),
    "relative_bias": lambda d: attention.relative_bias(tensor("bias", (HEADS, 65)), 32),
    "sigmoid_attention": lambda d: attention.sigmoid_attention(scalar("bias")),
    "attention_sinks": lambda d: (
        attention.attention_sinks(tensor("sinks", (HEADS,))) & attention.causal()
    ),
    "prefix_lm": lambda d: attention.prefix_lm(tensor("prefix", ("b",), "i32")),
    "document_mask": lambda d: attention.document_mask(tensor("documents", ("b", "l"), "i32")),
    "multi_item_scoring": lambda d: attention.multi_item_scoring(
        tensor("prefix", ("b",), "i32"), tensor("items_of", ("b", "l"), "i32")
    ),
    "bit_mask": lambda d: attention.bit_mask(tensor("bits", ("r", "words"), "i32")),
    "tree_mask": lambda d: attention.tree_mask(
        tensor("bits", ("r", "words"), "i32"), tensor("begin", ("b",), "i32")
    ),
    "rope": lambda d: attention.rope(tensor("inv_freq", (d // 2,)), d) & attention.causal(),
    "qk_norm": lambda d: attention.qk_norm(tensor("qw", (d,)), tensor("kw", (d,)), d),
    "differential": lambda d: attention.differential(
        tensor("first", ("r", HEADS, d)), tensor("weight", (HEADS,))
    ),
}
# A variant of each kind: a mask, scores, a state, keys that are rewritten.
QUICK = ("causal", "alibi", "attention_sinks", "rope", "document_mask")
STORAGES: dict[str, Callable[[KVFormat | None], KVStorage]] = {
    "paged": lambda form: PagedKV(16, format=form),
    "ragged": lambda form: RaggedKV(form),
    "block-sparse": lambda form: BlockSparseKV(64, form),
}


@dataclass(frozen=True)
class Found:
    """What ptxas says of one kernel."""

    name: str
    registers: int
    spilled_bytes: int


def found_of(
    ptxas: Ptxas,
    target: str,
    head_dim: int,
    form: KVFormat | None,
    query_len: int | None,
    variants: list[str],
) -> Iterator[Found]:
    """Compiles each variant over each storage, and yields what ptxas says."""
    for variant in variants:
        for storage, kv_of in STORAGES.items():
            op = attention.compile(
                variant=VARIANTS[variant](head_dim),
                kv=kv_of(form),
                num_qo_heads=8 * GROUP,
                num_kv_heads=8,
                head_dim=head_dim,
                target=target,
                query_len=query_len,
            )
            resources = ptxas.assemble(op.ptx, target).resources[op.contract.name]
            yield Found(f"{variant}, {storage}", resources.registers, resources.spilled_bytes)


def main() -> int:
    """Prints the tables; returns 1 where anything is spilled."""
    parser = argparse.ArgumentParser(description="Registers and spilled bytes of kernels.")
    parser.add_argument("--targets", nargs="+", default=["sm_80", "sm_90"])
    parser.add_argument("--head-dims", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--quick", action="store_true", help="a variant of each kind alone")
    arguments = parser.parse_args()
    ptxas = find_ptxas()
    if ptxas is None:
        print("ptxas is not installed: extra cuda")
        return 2
    variants = list(QUICK if arguments.quick else VARIANTS)
    kernels, spilled = 0, 0
    print(
        f"{'target':7} {'head_dim':8} {'format':16} {'tiles':8} most registers, of; spilled bytes"
    )
    for target in arguments.targets:
        for head_dim in arguments.head_dims:
            for form in FORMATS:
                for query_len in (None, 1):
                    found = list(found_of(ptxas, target, head_dim, form, query_len, variants))
                    most = max(found, key=lambda one: (one.spilled_bytes, one.registers))
                    what = "bf16" if form is None else f"{form.dtype} {form.block}"
                    tiles = "prefill" if query_len is None else "decode"
                    row = f"{target:7} {head_dim:8} {what:16} {tiles:8}"
                    print(f"{row} {most.registers:4} {most.name}; {most.spilled_bytes}", flush=True)
                    kernels += len(found)
                    spilled += sum(one.spilled_bytes > 0 for one in found)
    print(f"{kernels} kernels, {spilled} of them spill")
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
