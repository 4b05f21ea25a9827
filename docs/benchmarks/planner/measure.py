"""
Measures the planner: how even its loads are, what a plan takes, what it sends to the device.

    python docs/benchmarks/planner/measure.py

Balance is the mean load of a CTA over the largest, 1 at best. `cost` counts what the cost model
does: items, KV and partial results; `rows` counts KV rows alone, as for the planners that ship,
and `free` the same of a plan for which items and partial results cost nothing.
Times are the best of many, in us of CPU time, on one core. What NumPy needs for one call bounds
them from below, see docs/planner.md: `one addition` is one of 256 numbers, `in calls` the time of a
plan in these.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import shipped

from tilewright.runtime.attention_cascade import plan_shared
from tilewright.runtime.attention_plan import checked_tables
from tilewright.runtime.attention_planner import BatchLimits, BatchPlanner, FixedPlanner, Sharing
from tilewright.runtime.contract import AttentionContract
from tilewright.runtime.page_table import Int32Array, PageTable, last_page_lengths
from tilewright.runtime.planner import CostModel, KvBounds, PlanLimits, Planner, WorkPlan

Lengths = npt.NDArray[np.int64]
Loads = npt.NDArray[np.float64]
SMS = 132
BATCH = 16


def limits(ctas: int, kv_heads: int, requests: int) -> PlanLimits:
    """Returns limits of 32 query heads and requests of up to 32,768 KV rows."""
    return PlanLimits(ctas, 32, kv_heads, requests, requests, 32_768)


def batch_lengths(kind: str, seed: int) -> Lengths:
    """Returns the KV lengths of a batch of 16, with a mean of 1024, for uniform ones of 768."""
    rng = np.random.default_rng(seed)
    if kind == "constant":
        return np.full(BATCH, 1024)
    if kind == "uniform":
        return rng.integers(512, 1025, BATCH)
    weights = 1 / np.arange(1, BATCH + 1) ** 1.2
    return rng.permutation((1024 * BATCH * weights / weights.sum()).astype(np.int64))


def loads(planner: Planner, plan: WorkPlan, kv_len: Lengths) -> tuple[Loads, Loads]:
    """Returns the modelled cost and the KV rows of each CTA of a decode plan."""
    numbers, model = planner.limits, planner.cost
    height = model.tile_rows.index(numbers.tile_rows[0])
    request, _, _, begin, end, slot = plan.items.astype(np.int64).T
    rows = np.minimum(end, kv_len[request]) - begin
    cost = model.item[height] + model.kv_tile[height] * rows / numbers.kv_tile
    cost += (slot >= 0) * (model.partial + model.merge)
    cta = np.repeat(np.arange(numbers.num_ctas), np.diff(plan.cta_indptr))
    count = numbers.num_ctas
    cost, rows = np.bincount(cta, cost, count), np.bincount(cta, rows, count)
    return cost.astype(np.float64), rows.astype(np.float64)


def balance(load: Loads) -> float:
    """Returns the mean load over the largest."""
    return float(load.mean() / load.max())


def measure_balance(seeds: int = 20) -> None:
    """Prints balance of batches of 16, the mean over random batches and the worst of them."""
    print(
        f"{'decode, batch 16':24}{'cost':>7}{'worst':>7}{'rows':>7}{'free':>7}{'splits':>8}", end=""
    )
    print(f"{'FlashInfer persistent':>23}{'paged':>7}   (rows)")
    for kind in ("constant", "uniform", "zipf 1.2"):
        for kv_heads in (32, 8, 4):
            for ctas in (SMS, 2 * SMS):
                batches = [batch_lengths(kind.split()[0], seed) for seed in range(seeds)]
                _print_balance(f"{kind}, {kv_heads} heads, {ctas}", kv_heads, ctas, batches)


def _print_balance(name: str, kv_heads: int, ctas: int, batches: list[Lengths]) -> None:
    planner = Planner(limits(ctas, kv_heads, BATCH))
    nothing = (0.0,) * len(planner.cost.tile_rows)
    free = Planner(planner.limits, CostModel(item=nothing, partial=0, merge=0))
    found: list[tuple[float, ...]] = []
    for kv_len in batches:
        plan = planner.plan_decode(kv_len)
        cost, rows = loads(planner, plan, kv_len)
        splits = len(plan.merges)
        of_free = loads(free, free.plan_decode(kv_len), kv_len)[1]
        given = kv_len.tolist(), kv_heads, ctas
        others = shipped.persistent(*given), shipped.paged(*given)
        found.append((*map(balance, (cost, rows, of_free, *others)), splits))
    cost, rows, of_free, persistent, paged, splits = np.mean(found, axis=0)
    print(f"{name:24}{cost:7.3f}{min(found)[0]:7.3f}{rows:7.3f}{of_free:7.3f}{splits:8.0f}", end="")
    print(f"{persistent:23.2f}{paged:7.2f}")


def best(call: Callable[[], object], bursts: int = 1000, calls: int = 5) -> float:
    """Returns the CPU time of a call in us, the best of bursts."""
    times: list[float] = []
    for _ in range(bursts):
        start = time.process_time_ns()
        for _ in range(calls):
            call()
        times.append((time.process_time_ns() - start) / calls)
    return 1e-3 * min(times)


# FlashInfer's planners in C++ without their Python, 132 SMs, 8 KV heads, KV of 1024 rows, measured
# on a 2-core x86 machine: us and bytes of the persistent kernel's, us and bytes of the paged one's.
SHIPPED = {
    16: (81, 6_459_412, 2.4, 576),
    64: (131, 6_459_412, 4.5, 1_032),
    256: (307, 6_459_412, 28, 4_104),
    512: (448, 6_459_412, 39, 8_200),
}


def measure_plans() -> None:
    """Prints the time and the bytes of plans, and of steps."""
    one = np.arange(256)
    out = np.empty_like(one)
    addition = best(lambda: np.add(one, one, out=out), calls=100)
    print(f"one addition: {addition:.2f} us")
    print(f"\n{'decode, 264 CTAs':24}{'plan':>8}{'in calls':>10}{'step':>7}", end="")
    print(f"{'bytes':>9}{'items':>8}", end="")
    print(f"{'FlashInfer persistent':>23}{'paged':>20}")
    rng = np.random.default_rng(1)
    for kind in ("1024 rows", "512..1024"):
        for requests in (16, 64, 256, 512, 4096):
            kv_len = np.full(requests, 1024)
            if kind != "1024 rows":
                kv_len = rng.integers(512, 1025, requests)
            _print_plan(f"{kind}, batch {requests}", kv_len, addition)


def _print_plan(name: str, kv_len: Lengths, addition: float) -> None:
    planner = Planner(limits(264, 8, len(kv_len)))
    plan = planner.plan_decode(kv_len)
    taken = best(lambda: planner.plan_decode(kv_len))
    sent = sum(size for _, size in plan.transfers)
    planner.plan_decode(kv_len)
    # Fewer steps than there are to the next plan.
    step = best(planner.advance, bursts=10, calls=5)
    print(f"{name:24}{taken:8.1f}{taken / addition:10.0f}{step:7.1f}", end="")
    print(f"{sent:9}{len(plan.items):8}", end="")
    them = SHIPPED.get(len(kv_len)) if kv_len.min() == 1024 else None
    print(f"{them[0]:10} us {them[1]:9}{them[2]:11} us {them[3]:6}" if them else "")


def measure_mixed() -> None:
    """Prints the time of plans of other batches."""
    rng = np.random.default_rng(2)
    kv_len = rng.integers(512, 4097, 256)
    queries = np.where(np.arange(256) % 32 == 0, 512, 1)
    starts = np.concatenate(([0], np.cumsum(queries)))
    numbers = replace(limits(264, 8, 256), query_rows=int(starts[-1]))
    planner = Planner(numbers)
    plan = planner.plan(starts, kv_len, KvBounds.causal())
    taken = best(lambda: planner.plan(starts, kv_len, KvBounds.causal()))
    print(
        f"\n248 decodes and 8 causal prefills of 512 rows: {taken:.0f} us, {len(plan.items)} items"
    )
    fixed = Planner(replace(limits(264, 8, 256), batch_invariant=True, chunk=1024))
    plan = fixed.plan_decode(kv_len)
    taken = best(lambda: fixed.plan_decode(kv_len))
    print(f"256 decodes, batch-invariant, chunks of 1024 rows: {taken:.0f} us, ", end="")
    print(f"balance {balance(loads(fixed, plan, kv_len)[0]):.3f}")


def section(work: str = "ranges") -> AttentionContract:
    """Returns what planning knows of a kernel of 32 query heads and 8 KV heads of 128 elements."""
    return AttentionContract(
        num_qo_heads=32,
        num_kv_heads=8,
        head_dim=128,
        page_size=16,
        layout="NHD",
        dtype="bf16",
        tile_rows=64,
        softmax_scale=1.0,
        short_rows=16,
        kv_upper=((1, 0),),
        work=work,
    )


def measure_tables() -> None:
    """Prints what `op.plan` takes, and `update` and `step` of a plan with limits."""
    for requests in (16, 256, 4096):
        kv_len = np.random.default_rng(3).integers(512, 1025, requests)
        pages = -(-kv_len // 16)
        indptr = np.concatenate(([0], np.cumsum(pages))).astype(np.int32)
        numbers = np.random.default_rng(4).permutation(int(indptr[-1])).astype(np.int32)
        tables = np.arange(requests + 1, dtype=np.int32), indptr, numbers
        last = last_page_lengths(kv_len, 16)
        planner, sharing = BatchPlanner(section()), Sharing(264)
        fixed = FixedPlanner(section(), BatchLimits(requests, requests, 2048, 1 << 20), sharing)

        def checked() -> tuple[Int32Array, PageTable]:
            return checked_tables(section(), *tables, last)

        taken = best(lambda: planner.plan(*checked(), sharing), 100, 1)
        updated = best(lambda: fixed.plan(*checked()), 100, 1)
        changed = fixed.plan(*checked())
        sent = sum(array.nbytes for array in changed.values())
        fixed.plan(tables[0], PageTable(indptr, numbers, np.ones_like(last), 16))
        step = best(lambda: fixed.step(1, None, None), bursts=3, calls=5)
        print(
            f"tables of {requests} decodes: plan {taken:.0f} us, update {updated:.0f} us ", end=""
        )
        print(f"and {sent} bytes, step {step:.1f} us and {4 * requests} bytes")


def measure_cascade(requests: int = 64, shared: int = 32_768, own: int = 128) -> None:
    """Prints the KV rows that decodes with a common prefix read, and the least possible."""
    pages, common = (shared + own) // 16, np.arange(shared // 16)
    rows = [
        np.concatenate([common, shared + own * b + np.arange(own // 16)]) for b in range(requests)
    ]
    table = PageTable(
        np.arange(requests + 1, dtype=np.int32) * pages,
        np.concatenate(rows).astype(np.int32),
        np.full(requests, 16, np.int32),
        16,
    )
    starts = np.arange(requests + 1, dtype=np.int32)
    planner, sharing = BatchPlanner(section("cascade")), Sharing(264)
    plan = plan_shared(planner, starts, table, sharing, None)
    items = plan.tables["items"].astype(np.int64)
    read = int((np.minimum(items[:, 4], shared + own) - items[:, 3]).sum()) // 8
    least = requests * 4 // 64 * shared + requests * own
    taken = best(lambda: plan_shared(planner, starts, table, sharing, None), 10)
    print(f"\n{requests} decodes with {shared} KV rows in common and {own} of their own: ", end="")
    print(f"{read} rows read a KV head, least {least} for tiles of 64 rows, ", end="")
    print(f"{requests * (shared + own)} without sharing; {len(items)} items, {taken:.0f} us")


def main() -> None:
    """Measures and prints."""
    measure_balance()
    print()
    measure_plans()
    measure_tables()
    measure_mixed()
    measure_cascade()


if __name__ == "__main__":
    main()
