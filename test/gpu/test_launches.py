"""What only a GPU shows: graphs, streams, dependent launches, and the driver's own assembler."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilewright.attention import (
    BatchLimits,
    PagedKV,
    PageTable,
    causal,
    plan_choice,
    plan_on_device,
    summarize_pages,
)
from tilewright.attention import compile as compile_attention
from tilewright.runtime.artifact import KernelArtifact
from tilewright.runtime.attention import AttentionOp, Plan
from tilewright.runtime.buffer import Buffer
from tilewright.runtime.cuda.device import CudaDevice
from tilewright.runtime.default_device import get_device
from tilewright.runtime.errors import DeviceError, DeviceUnavailable
from tilewright.test.attention.reference import (
    ROUNDED_LSE_TOLERANCE,
    TOLERANCE,
    Batch,
    Geometry,
    MaskMod,
    attend,
    exact,
    random_batch,
)

GEOMETRY = Geometry(group=4, num_kv_heads=2, head_dim=128)
DECODE = [(1, 700), (1, 33), (1, 1), (1, 260)]
LIMITS = BatchLimits(requests=4, query_rows=4, kv_len=1024, pages=200)


@pytest.fixture(scope="module")
def gpu() -> CudaDevice:
    try:
        device = get_device("cuda:0")
    except DeviceUnavailable as reason:
        pytest.skip(str(reason))
    assert isinstance(device, CudaDevice)
    return device


def causal_mask(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    return q_idx >= kv_idx


def assert_right(batch: Batch, out: Any, lse: Any, mask: MaskMod = causal_mask) -> None:
    wanted, wanted_lse = attend(GEOMETRY, batch, mask_mod=mask)
    error = np.linalg.norm(exact(np.asarray(out)) - wanted)
    assert error <= TOLERANCE[GEOMETRY.dtype] * np.linalg.norm(wanted)
    atol = ROUNDED_LSE_TOLERANCE[GEOMETRY.dtype]
    np.testing.assert_allclose(lse, wanted_lse, rtol=0, atol=atol)


def decode_op(target: str = "sm_90") -> AttentionOp:
    return GEOMETRY.compile(causal(), query_len=1, target=target)


class OnDevice:
    """A batch in the memory of a GPU, with results of NaN that a run fills."""

    def __init__(self, device: CudaDevice, batch: Batch) -> None:
        self.device, self.batch = device, batch
        self.arrays = [device.array(array) for array in batch.arrays]
        self.out: Buffer = device.empty(batch.q.shape, "f16", "out")
        self.lse: Buffer = device.empty(batch.q.shape[:2], "f32", "lse")
        self.clear()

    def clear(self, stream: object = None) -> None:
        for buffer in (self.out, self.lse):
            self.device.fill(buffer, 0xFF, stream)
        self.device.synchronize()

    def run(self, plan: Plan, **options: Any) -> None:
        plan.run(*self.arrays, out=self.out, lse=self.lse, device=self.device, **options)

    def results(self, stream: object = None) -> tuple[Any, Any]:
        to_numpy = self.device.to_numpy
        return to_numpy(self.out, None, stream), to_numpy(self.lse, None, stream)


def test_a_graph_is_replayed_after_steps_of_its_plan(gpu: CudaDevice) -> None:
    rng = np.random.default_rng()
    lengths = [(rows, keys + 3) for rows, keys in DECODE]
    there = OnDevice(gpu, random_batch(GEOMETRY, lengths, rng, garbage=0.0))
    tables = there.batch.tables
    # The same pages hold shorter requests at first: the last three tokens come with the steps.
    plan = decode_op().plan(*shortened(there.batch, 3), device=gpu, limits=LIMITS)
    stream = gpu.stream()
    plan.upload(gpu, stream)
    with gpu.capture(stream) as graph:
        there.run(plan, stream=stream)
    for left in (3, 2, 1, 0):
        there.clear(stream)
        graph.replay(stream)
        out, lse = there.results(stream)
        assert_right(with_tables(there.batch, shortened(there.batch, left)), out, lse)
        if left:
            plan.step(new_pages(tables, left), stream=stream)


CACHE_PAGES = 120


def sparse_op() -> AttentionOp:
    """Returns the kernel of decoding whose heads have pages of their own."""
    return compile_attention(
        kv=PagedKV(GEOMETRY.page_size, table_of_heads=True),
        num_qo_heads=GEOMETRY.num_qo_heads,
        num_kv_heads=GEOMETRY.num_kv_heads,
        head_dim=GEOMETRY.head_dim,
        dtype="f16",
        query_len=1,
    )


def table_of(rng: np.random.Generator, *lengths: int) -> PageTable:
    """Returns a table of requests whose pages lie anywhere in the cache."""
    counts = np.array([-(-length // GEOMETRY.page_size) for length in lengths])
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    chosen = rng.permutation(CACHE_PAGES)[: indptr[-1]].astype(np.int32)
    last = np.array(lengths) - (counts - 1) * GEOMETRY.page_size
    return PageTable(indptr, chosen, last.astype(np.int32), GEOMETRY.page_size)


def test_a_graph_is_replayed_after_updates_of_a_choice_of_pages(gpu: CudaDevice) -> None:
    rng, heads, budget = np.random.default_rng(), GEOMETRY.num_kv_heads, 5
    size, pages = GEOMETRY.page_size, CACHE_PAGES
    shape = (pages, size, heads, GEOMETRY.head_dim)
    k, v = (gpu.array(rng.standard_normal(shape).astype(np.float16)) for _ in range(2))
    q = gpu.array(rng.standard_normal((4, GEOMETRY.num_qo_heads, 128)).astype(np.float16))
    summaries = gpu.array(np.zeros((pages, 2, heads, GEOMETRY.head_dim), np.float16))
    whole = np.arange(pages, dtype=np.int32), np.full(pages, size, np.int32)
    summarize_pages(k, summaries, *whole, device=gpu)
    op, choice = sparse_op(), plan_choice(table_of(rng, 1), heads, budget=budget, limits=LIMITS)
    plan, stream = choice.plan(op, device=gpu), gpu.stream()
    chosen = gpu.array(np.zeros(choice.chosen, np.int32))
    out, lse = gpu.empty(q.shape, "f16", "out"), gpu.empty(q.shape[:2], "f32", "lse")
    choice.upload(gpu, stream)
    plan.upload(gpu, stream)
    with gpu.capture(stream) as graph:
        choice.run(q, summaries, out=chosen, device=gpu, stream=stream)
        plan.run(q, k, v, kv_indices=chosen, out=out, lse=lse, device=gpu, stream=stream)
    for lengths in ((700, 33, 1, 260), (300, 300), (16, 15, 800)):
        table = table_of(rng, *lengths)
        choice.update(table, stream=stream)
        plan.update(*choice.tables, stream=stream)
        graph.replay(stream)
        got = [gpu.to_numpy(one, None, stream)[: table.batch] for one in (out, lse)]
        once = plan_choice(table, heads, budget=budget)
        queries = gpu.to_numpy(q)[: table.batch]
        found = once.run(queries, gpu.to_numpy(summaries), device=gpu)
        wanted = once.plan(op, device=gpu).run(
            queries, gpu.to_numpy(k), gpu.to_numpy(v), kv_indices=found, device=gpu
        )
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one.astype(float), other.astype(float), atol=2e-3)


def shortened(batch: Batch, tokens: int) -> tuple[Any, Any, Any, Any]:
    """Returns the tables of requests that lack their last tokens, and the pages behind them."""
    size = GEOMETRY.page_size
    lengths = np.diff(batch.kv_indptr) * size - size + batch.kv_last_page_len - tokens
    pages = -(-lengths // size)
    kept = [batch.pages(request)[:count] for request, count in enumerate(pages)]
    indptr = np.concatenate([[0], np.cumsum(pages)]).astype(np.int32)
    last = (lengths - (pages - 1) * size).astype(np.int32)
    return batch.qo_indptr, indptr, np.concatenate(kept).astype(np.int32), last


def new_pages(tables: Any, left: int) -> Any:
    """Returns the pages that requests need for one more token, when `left` tokens are missing."""
    _, indptr, indices, last = tables
    lengths = np.diff(indptr) * GEOMETRY.page_size - GEOMETRY.page_size + last - left
    full = np.flatnonzero(lengths % GEOMETRY.page_size == 0)
    places = indptr[full] + lengths[full] // GEOMETRY.page_size
    return indices[places].astype(np.int32)


def with_tables(batch: Batch, tables: tuple[Any, Any, Any, Any]) -> Batch:
    return Batch(*tables, *batch.arrays)


def test_a_plan_on_another_stream_is_waited_for(gpu: CudaDevice) -> None:
    batch = random_batch(GEOMETRY, DECODE, np.random.default_rng())
    there, first, second = OnDevice(gpu, batch), gpu.stream(), gpu.stream()
    plan = decode_op().plan(*batch.tables, device=gpu)
    plan.upload(gpu, first)
    there.run(plan, stream=second)
    assert_right(batch, *there.results(second))


def test_dependent_launches_see_what_is_in_front(gpu: CudaDevice) -> None:
    batch = random_batch(GEOMETRY, DECODE, np.random.default_rng())
    there, stream = OnDevice(gpu, batch), gpu.stream()
    plan = decode_op().plan(*batch.tables, device=gpu)
    for _ in range(20):
        there.run(plan, stream=stream, programmatic=True)
    assert_right(batch, *there.results(stream))


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_the_driver_assembles_what_has_no_machine_code(gpu: CudaDevice, target: str) -> None:
    batch = random_batch(GEOMETRY, [(40, 300), (1, 17)], np.random.default_rng())
    artifact = GEOMETRY.compile(causal(), target=target).artifact
    without = KernelArtifact(artifact.ptx, artifact.contract)
    device = CudaDevice(0, gpu._driver)  # pyright: ignore[reportPrivateUsage]
    out, lse = (
        AttentionOp(without).plan(*batch.tables, device=device).run(*batch.arrays, device=device)
    )
    assert_right(batch, out, lse)
    assert device.load(without).resources.spilled_bytes == 0


def test_the_device_plans_as_the_host(gpu: CudaDevice) -> None:
    batch = random_batch(GEOMETRY, DECODE, np.random.default_rng())
    there = OnDevice(gpu, batch)
    # Fewer CTAs than units of work: then the plans are the same bit for bit.
    plan = decode_op().plan(*batch.tables, num_ctas=5, device=gpu, limits=LIMITS)
    buffers = plan.upload(gpu).buffers
    names = ("cta_indptr", "items", "item_merge")
    before = {name: gpu.to_numpy(buffers[name]) for name in names}
    planner = plan_on_device(plan, device=gpu)
    planner.run()
    there.run(plan)
    assert_right(batch, *there.results())
    used = int(before["cta_indptr"].reshape(-1)[-1])
    for name in names:
        after = gpu.to_numpy(buffers[name]).reshape(-1)
        count = used if name != "cta_indptr" else plan.ctas + 1
        np.testing.assert_array_equal(after[:count], before[name].reshape(-1)[:count])


def test_what_can_not_be_replayed_is_refused_while_captured(gpu: CudaDevice) -> None:
    batch, stream = random_batch(GEOMETRY, DECODE, np.random.default_rng()), gpu.stream()
    plan = decode_op().plan(*batch.tables, device=gpu)
    plan.upload(gpu, stream)
    with pytest.raises(DeviceError, match="host memory"), gpu.capture(stream):
        plan.run(*batch.arrays, device=gpu, stream=stream)
    there = OnDevice(gpu, batch)
    there.run(plan, stream=stream)
    assert_right(batch, *there.results(stream))


def test_tensors_of_torch_are_used_where_they_lie(gpu: CudaDevice) -> None:
    torch: Any = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    batch = random_batch(GEOMETRY, [(40, 300), (1, 17)], np.random.default_rng())
    tensors = [torch.from_numpy(array).cuda() for array in batch.arrays]
    plan = GEOMETRY.compile(causal(), target="sm_90").plan(*batch.tables, device=gpu)
    out, lse = plan.run(*tensors)
    assert out.is_cuda
    assert_right(batch, out.cpu().numpy(), lse.cpu().numpy())


def test_torch_captures_and_compiles_the_operator(gpu: CudaDevice) -> None:
    torch: Any = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    from tilewright.attention import torch_op

    batch = random_batch(GEOMETRY, DECODE, np.random.default_rng())
    q, k, v = (torch.from_numpy(array).cuda() for array in batch.arrays)
    plan = decode_op().plan(*batch.tables, device=gpu)
    layer: Callable[..., Any] = torch_op.bind(plan)
    plan.upload(gpu, torch.cuda.current_stream())
    layer(q, k, v)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out, lse = layer(q, k, v)
    out.fill_(float("nan"))
    graph.replay()
    torch.cuda.synchronize()
    assert_right(batch, out.cpu().numpy(), lse.cpu().numpy())
