"""Multi-head latent attention in float64 NumPy from its definition, and random batches for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright import attention
from tilewright.attention import AttentionOp, KVFormat, LatentKV, Plan
from tilewright.runtime import simulator
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.attention.kv_case import FLOAT8, unpacked
from tilewright.test.attention.queues import Chunks, plan_work
from tilewright.test.attention.reference import (
    LSE_TOLERANCE,
    TOLERANCE,
    Array,
    Batch,
    Float64,
    average,
    exact,
    rounded,
)


@dataclass(frozen=True)
class Geometry:
    """The compile-time geometry of latent attention."""

    heads: int = 16
    page_size: int = 16
    ckv: int = 512
    kpe: int = 64
    combined: bool = False
    dtype: str = "bf16"
    codes: str | None = None
    confined: bool = False

    @property
    def kv(self) -> LatentKV:
        """The cache."""
        form = KVFormat(self.codes) if self.codes is not None else None
        return LatentKV(
            self.page_size, self.ckv, self.kpe, self.combined, form, confined=self.confined
        )

    @property
    def scale(self) -> float:
        """The scale of the scores of heads of 128 elements and those that carry positions."""
        return (128 + self.kpe) ** -0.5

    def compile(self, variant: object = None, **options: Any) -> AttentionOp:
        """Returns the operation of a variant."""
        return attention.compile_mla(
            num_heads=self.heads,
            kv=self.kv,
            softmax_scale=self.scale,
            variant=variant,
            dtype=self.dtype,
            **options,
        )


@dataclass(frozen=True)
class LatentBatch:
    """
    Requests with their queries and one row a token, [pages, page_size, ckv + kpe].

    `scales` are those of the two parts of rows of codes.
    """

    geometry: Geometry
    batch: Batch
    rows: Array
    scales: tuple[float, float] | None = None

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The arguments of `run_mla`."""
        ckv, q = self.geometry.ckv, self.batch.q
        parts = (q[..., :ckv], q[..., ckv:])
        cache = (self.rows[..., :ckv], self.rows[..., ckv:])
        if self.geometry.combined:
            cache = (self.rows,)
        return tuple(np.ascontiguousarray(array) for array in (*parts, *cache))

    def keys(self, request: int) -> Float64:
        """Returns the rows of a request, [kv_len, ckv + kpe]."""
        g, pages = self.geometry, self.batch.pages(request)
        last = int(self.batch.kv_last_page_len[request])
        kv_len = max(len(pages) - 1, 0) * g.page_size + last
        return self._stored(self.rows[pages]).reshape(-1, g.ckv + g.kpe)[:kv_len]

    def _stored(self, rows: Array) -> Float64:
        """Returns what rows of a cache stand for."""
        g = self.geometry
        if g.codes is None or self.scales is None:
            return exact(rows)
        factors = np.repeat(np.array(self.scales), (g.ckv, g.kpe))
        return exact(unpacked(rows, g.codes)) * factors

    def plan(self, op: AttentionOp, **options: Any) -> Plan:
        """Returns the plan of the batch."""
        return op.plan(*self.batch.tables, **options)

    def split(self, op: AttentionOp, chunks: Chunks, ctas: int, rng: np.random.Generator) -> Plan:
        """Returns a plan with the keys in chunks, dealt to the CTAs at random."""
        return Plan(op, plan_work(op, self.batch, chunks, ctas, rng))

    def run(self, plan: Plan, checks: str = "all", **options: Any) -> tuple[Array, Array]:
        """Runs a plan on the simulator."""
        if self.scales is not None:
            options |= dict(zip(("ckv_scale", "kpe_scale"), self.scales, strict=True))
        return plan.run_mla(*self.arrays, device=SimulatorDevice(checks=checks), **options)


def latent_batch(
    geometry: Geometry, lengths: Sequence[tuple[int, int]], rng: np.random.Generator
) -> LatentBatch:
    """
    Returns a batch of requests of (query rows, KV rows) on shuffled pages.

    Page slots behind the end of a request, and pages of no request, hold NaN.
    """
    g = geometry
    kv_len = np.array([kv for _, kv in lengths], np.int64)
    counts = -(-kv_len // g.page_size)
    total = int(counts.sum()) + 2
    indices = rng.permutation(total)[: total - 2].astype(np.int32)
    content = np.full((total, g.page_size, g.ckv + g.kpe), np.nan)
    begin = 0
    for length, count in zip(kv_len, counts, strict=True):
        for token in range(length):
            row = rng.standard_normal(g.ckv + g.kpe)
            content[indices[begin + token // g.page_size], token % g.page_size] = row
        begin += count
    rows, scales = rounded(content, g.dtype), None
    if g.codes is not None:
        rows, scales = codes_of(content, g.codes), (0.04, 0.015)
    n = sum(q for q, _ in lengths)
    batch = Batch(
        qo_indptr=np.cumsum([0, *(q for q, _ in lengths)], dtype=np.int32),
        kv_indptr=np.cumsum([0, *counts], dtype=np.int32),
        kv_indices=indices,
        kv_last_page_len=(kv_len - np.maximum(counts - 1, 0) * g.page_size).astype(np.int32),
        q=rounded(rng.standard_normal((n, g.heads, g.ckv + g.kpe)), g.dtype),
        k_pages=rows,
        v_pages=rows,
    )
    return LatentBatch(geometry, batch, rows, scales)


def codes_of(content: Float64, dtype: str) -> Array:
    """Returns the codes of a byte whose products with 0.03 are about `content`; NaN is kept."""
    if dtype == "i8":
        return np.nan_to_num(np.clip(np.rint(content / 0.03), -127, 127), nan=127).astype(np.int8)
    return (content / 0.03).astype(FLOAT8[dtype]).view(np.uint8)


def attend_latent(
    case: LatentBatch, causal: bool = True, scale: float | None = None
) -> tuple[Float64, Float64]:
    """Returns (out [n, H, ckv], lse [n, H]) in float64; a row without keys has 0 and -inf."""
    g, batch, q = case.geometry, case.batch, exact(case.batch.q)
    out, lse = np.zeros((*q.shape[:2], g.ckv)), np.full(q.shape[:2], -np.inf)
    for request in range(len(batch.kv_last_page_len)):
        keys, n = case.keys(request), batch.query_len(request)
        count = len(keys)
        hidden = np.arange(count)[None, :] > np.arange(count - n, count)[:, None]
        for head in range(g.heads):
            factor = g.scale if scale is None else scale
            scores = factor * (q[batch.rows(request), head] @ keys.T)
            if causal:
                scores = np.where(hidden, -np.inf, scores)
            found = average(scores, keys[:, : g.ckv])
            out[batch.rows(request), head], lse[batch.rows(request), head] = found
    return out, lse


def check_latent(
    case: LatentBatch, got: tuple[Array, Array], expected: tuple[Float64, Float64]
) -> None:
    """Compares (out, lse) with the reference, within the errors of 16-bit inputs and results."""
    out, lse = exact(got[0]), got[1].astype(np.float64)
    error = np.linalg.norm(out - expected[0])
    assert error <= TOLERANCE[case.geometry.dtype] * np.linalg.norm(expected[0])
    np.testing.assert_allclose(lse, expected[1], rtol=0, atol=LSE_TOLERANCE)


@dataclass(frozen=True)
class LatentLaunch:
    """A kernel with a plan and a batch in the memory of a simulator, to be launched repeatedly."""

    kernel: simulator.Kernel
    shape: tuple[Any, ...]
    results: tuple[simulator.Buffer, simulator.Buffer]

    def run(self, **options: Any) -> simulator.Report:
        """Launches once with options of the simulator; returns its report."""
        return self.kernel.launch(*self.shape, **options)

    def redundant_barriers(self) -> set[int]:
        """Returns the lines of PTX whose barriers the launch doesn't need."""
        grid, block, arguments, shared = self.shape
        found = self.kernel.redundant_barriers(grid, block, arguments, shared_bytes=shared)
        return {item.line for item in found}


def latent_launch(op: AttentionOp, plan: Plan, case: LatentBatch) -> LatentLaunch:
    """Puts a kernel, a plan and a batch on a simulator with all checks."""
    device, contract, g = simulator.Device(checks="all"), op.contract, case.geometry
    names = (*op.section.query_arrays, *op.section.kv_arrays)
    given = {**plan.arrays.tables, **dict(zip(names, case.arrays, strict=True))}
    buffers = {name: device.array(array, name=name) for name, array in given.items()}
    slots, rows, n = plan.arrays.slots, op.section.tile_rows, len(case.batch.q)
    for name, shape, kind in (
        ("out", (n, g.heads, g.ckv), "u16" if g.dtype == "bf16" else "f16"),
        ("lse", (n, g.heads), "f32"),
        ("partial_out", (slots, rows, g.ckv), "f32"),
        ("partial_lse", (slots, rows), "f32"),
    ):
        buffers[name] = device.empty(shape, kind, name)
    arguments = [buffers.get(param.name, g.scale) for param in contract.params]
    shape = ((plan.ctas, 1, 1), contract.block, arguments, contract.dynamic_shared_bytes)
    kernel = device.load(op.ptx)[contract.name]
    return LatentLaunch(kernel, shape, (buffers["out"], buffers["lse"]))
