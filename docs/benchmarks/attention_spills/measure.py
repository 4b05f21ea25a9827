"""
What ptxas says of every attention kernel that is shipped: registers, and spilled bytes.

The configurations are the variants of the library, head_dim 64, 128 and 256, the tiles of prefill
and of decode, each format of keys and values, ragged, paged and block-sparse, for sm_80 and sm_90.
One line is printed for each head_dim, format and kind of tiles, with the variant and the storage
that need the most; the process fails where a byte is spilled. A variant of each kind is compiled
for lists of tiles and for cascades too. All of them take an hour and more of CPU time.

    python docs/benchmarks/attention_spills/measure.py [--targets sm_80] [--head-dims 128] [--quick]
        [--confined] [--jobs 2] [--known FOLDER]

With `--confined` the storages are those whose NaN and infinities stay in the rows that see them.
With `--known` what ptxas said of a text is kept in a folder, and not asked for again.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

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
from tilewright.attention.spec import TARGETS
from tilewright.runtime.ptxas import find_ptxas

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
    "tile_lists": lambda form: PagedKV(16, format=form),
    "cascade": lambda form: PagedKV(16, format=form),
}
# What the items of a kernel's queue are, where they are no ranges of keys, and for which variants:
# cascades are for those that read nothing of the request.
WORK = {"tile_lists": QUICK, "cascade": tuple(name for name in QUICK if name != "document_mask")}


@dataclass(frozen=True)
class Group:
    """The kernels of one line: each variant over each storage."""

    target: str
    head_dim: int
    form: KVFormat | None
    query_len: int | None
    variants: Sequence[str]
    known: Path | None
    confined: bool

    @property
    def label(self) -> str:
        """What the line begins with."""
        what = "bf16" if self.form is None else f"{self.form.dtype} {self.form.block}"
        tiles = "prefill" if self.query_len is None else "decode"
        return f"{self.target:7} {self.head_dim:8} {what:16} {tiles:8}"


@dataclass(frozen=True)
class Found:
    """What ptxas says of one kernel."""

    name: str
    registers: int
    spilled_bytes: int


def measured(group: Group) -> list[Found]:
    """Compiles the kernels of a line, and returns what ptxas says of each."""
    return list(_found(group))


def _found(group: Group) -> Iterator[Found]:
    for variant, (storage, kv_of) in product(group.variants, STORAGES.items()):
        if variant not in WORK.get(storage, group.variants):
            continue
        op = attention.compile(
            variant=VARIANTS[variant](group.head_dim),
            kv=replace(kv_of(group.form), confined=group.confined),
            num_qo_heads=8 * GROUP,
            num_kv_heads=8,
            head_dim=group.head_dim,
            target=group.target,
            query_len=group.query_len,
            work=storage if storage in WORK else "ranges",
        )
        resources = _resources(op.ptx, op.contract.name, group)
        yield Found(f"{variant}, {storage}", *resources)


def _resources(ptx: str, name: str, group: Group) -> tuple[int, int]:
    """Returns the registers and the spilled bytes of a kernel, from what is known if it is."""
    ptxas = find_ptxas()
    assert ptxas is not None, "it was found before the groups were made"
    text = f"{ptxas.version} {group.target} {ptx}"
    place = group.known and group.known / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    if place is not None and place.exists():
        registers, spilled = json.loads(place.read_text())
        return registers, spilled
    resources = ptxas.assemble(ptx, group.target).resources[name]
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps([resources.registers, resources.spilled_bytes]))
    return resources.registers, resources.spilled_bytes


def main() -> int:
    """Prints the tables; returns 1 where anything is spilled."""
    parser = argparse.ArgumentParser(description="Registers and spilled bytes of kernels.")
    parser.add_argument("--targets", nargs="+", default=["sm_80", "sm_90"], choices=TARGETS)
    dims = range(32, 257, 32)
    parser.add_argument("--head-dims", nargs="+", type=int, default=[64, 128, 256], choices=dims)
    parser.add_argument("--quick", action="store_true", help="a variant of each kind alone")
    parser.add_argument("--confined", action="store_true", help="storages that are confined")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes compile")
    parser.add_argument("--known", type=Path, help="where answers of ptxas are kept")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"--jobs: expected an integer from 1, got {arguments.jobs}")
    if find_ptxas() is None:
        print("ptxas is not installed: extra cuda")
        return 2
    variants = list(QUICK if arguments.quick else VARIANTS)
    numbers = product(arguments.targets, arguments.head_dims, FORMATS, (None, 1))
    groups = [Group(*each, variants, arguments.known, arguments.confined) for each in numbers]
    kernels, spilled = 0, 0
    print(
        f"{'target':7} {'head_dim':8} {'format':16} {'tiles':8} most registers, of; spilled bytes"
    )
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for group, found in zip(groups, pool.map(measured, groups), strict=True):
            most = max(found, key=lambda one: (one.spilled_bytes, one.registers))
            row = f"{group.label} {most.registers:4} {most.name}; {most.spilled_bytes}"
            print(row, flush=True)
            kernels += len(found)
            spilled += sum(one.spilled_bytes > 0 for one in found)
    print(f"{kernels} kernels, {spilled} of them spill")
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
