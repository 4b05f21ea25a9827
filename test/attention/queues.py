"""A planner of work queues from the definition, to run the kernel with any split of the work."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilewright.attention import AttentionOp, Plan
from tilewright.runtime import simulator
from tilewright.runtime.attention_plan import PlanArrays
from tilewright.test.attention.reference import Array, Batch, Int32

# The ends of the chunks of a request's keys, the last being their number: (request, kv_len) -> ends
Chunks = Callable[[int, int], Sequence[int]]


@dataclass
class Work:
    """The items of a plan while it is made: one row of `items` and one of `item_merge` each."""

    items: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])
    item_merge: list[int] = field(default_factory=list[int])
    merges: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    slots: int = 0

    def add_tile(self, request: int, row: int, head: int, ends: Sequence[int]) -> None:
        """Adds a query tile for one head, with an item for each chunk of its keys."""
        split = len(ends) > 1
        for begin, end in zip((0, *ends[:-1]), ends, strict=True):
            self.items.append((request, row, head, begin, end, self.slots if split else -1))
            self.item_merge.append(len(self.merges) if split else -1)
            self.slots += split
        if split:
            self.merges.append((self.slots - len(ends), len(ends)))


def even_chunks(count: int) -> Chunks:
    """Returns chunks of even lengths; keys too few for them leave some empty."""
    return lambda _, kv_len: [kv_len * (part + 1) // count for part in range(count)]


def chunks_of(length: int) -> Chunks:
    """Returns chunks of a fixed length, the last one shorter."""
    return lambda _, kv_len: [*range(length, kv_len, length), kv_len]


def plan_work(
    op: AttentionOp, batch: Batch, chunks: Chunks, ctas: int, rng: np.random.Generator
) -> PlanArrays:
    """Returns a plan that deals the items of a batch to the CTAs at random, in a random order."""
    section, work = op.section, Work()
    for request in range(len(batch.kv_last_page_len)):
        kv_len = kv_length(batch, request, section.page_size)
        packed = batch.query_len(request) * section.group
        for row in range(0, packed, section.tile_rows):
            for head in range(section.num_kv_heads):
                work.add_tile(request, row, head, chunks(request, kv_len))
    order = rng.permutation(len(work.items))
    owner = np.sort(rng.integers(0, ctas, len(work.items)))
    return PlanArrays(
        {
            "qo_indptr": batch.qo_indptr,
            "kv_indptr": batch.kv_indptr,
            "kv_indices": batch.kv_indices,
            "kv_last_page_len": batch.kv_last_page_len,
            "cta_indptr": np.searchsorted(owner, np.arange(ctas + 1)).astype(np.int32),
            "items": _table(work.items, 6)[order],
            "item_merge": np.array(work.item_merge, np.int32)[order],
            "merges": _table(work.merges, 2),
            "counters": np.zeros(len(work.merges), np.int32),
        },
        rows=int(batch.qo_indptr[-1]),
        largest_page=int(batch.kv_indices.max(initial=-1)),
        slots=work.slots,
    )


def _table(rows: Sequence[tuple[int, ...]], columns: int) -> Int32:
    return np.array(rows, np.int32).reshape(-1, columns)


def kv_length(batch: Batch, request: int, page_size: int) -> int:
    """Returns the number of KV rows of a request."""
    pages = len(batch.pages(request))
    return (pages - 1) * page_size + int(batch.kv_last_page_len[request]) if pages else 0


@dataclass
class Launcher:
    """A kernel with a plan and a batch in the memory of a simulator, to be launched repeatedly."""

    op: AttentionOp
    plan: Plan
    batch: Batch
    checks: str = "all"

    def __post_init__(self) -> None:
        device = simulator.Device(checks=self.checks)
        contract, batch = self.op.contract, self.batch
        self.kernel = device.load(self.op.ptx)[contract.name]
        slots = self.plan.arrays.slots
        rows = 1 if self.op.section.work == "cascade" else self.op.section.tile_rows
        q = batch.q
        arrays: dict[str, Any] = {
            **self.plan.arrays.tables,
            "q": q,
            "k_pages": batch.k_pages,
            "v_pages": batch.v_pages,
        }
        self.buffers = {name: device.array(array, name=name) for name, array in arrays.items()}
        kind = "f16" if q.dtype == np.float16 else "u16"
        empty = {
            "out": (q.shape, kind),
            "lse": (q.shape[:2], "f32"),
            "partial_out": ((slots, rows, q.shape[2]), "f32"),
            "partial_lse": ((slots, rows), "f32"),
        }
        self.buffers |= {name: device.empty(*made, name) for name, made in empty.items()}

    def launch(self, seed: int | None = None, perturb: int | None = None) -> tuple[Array, Array]:
        """
        Launches once; returns out and lse.

        Sums of products are cut off as in tensor cores: their bits depend on nothing else, while
        NumPy's depend on how many threads the simulator takes at a time.
        """
        self.run(seed=seed, perturb=perturb, accumulate="truncating")
        return self.buffers["out"].numpy(), self.buffers["lse"].numpy()

    def run(self, **options: Any) -> simulator.Report:
        """Launches once with options of the simulator; returns its report."""
        contract = self.op.contract
        scale = self.op.section.softmax_scale
        arguments = [self.buffers.get(param.name, scale) for param in contract.params]
        shared = contract.dynamic_shared_bytes
        grid = (self.plan.ctas, 1, 1)
        return self.kernel.launch(grid, contract.block, arguments, shared, **options)
