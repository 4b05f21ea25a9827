"""Launches of the corpus's kernels on fresh random inputs, each with what NumPy says in float64."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.runtime import simulator

Array = npt.NDArray[Any]
CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Outcome:
    """What a launch found, what it computed, and what it should have computed."""

    findings: tuple[simulator.Finding, ...]
    got: Array
    want: Array

    @property
    def error(self) -> float:
        """The largest difference."""
        return float(np.abs(self.got.astype("f8") - self.want.astype("f8")).max())


@dataclass(frozen=True)
class Case:
    """A kernel of a file of the corpus, and what launches a text of it."""

    file: str
    entry: str
    run: Callable[[str], Outcome]
    tolerance: float = 0

    @property
    def text(self) -> str:
        """The PTX of the file."""
        return (CORPUS / self.file).read_text()


def whole(*shape: int, low: int = -3, high: int = 4) -> Array:
    """Returns random whole numbers: products of small ones add up exactly in f32."""
    return np.random.default_rng().integers(low, high, shape)


def ceil(total: int, part: int) -> int:
    """Returns how many parts hold the total."""
    return -(-total // part)


def matmul(text: str) -> Outcome:
    """Runs the tiled product of simt.cu over three tiles."""
    device = simulator.Device("all")
    a, b = whole(2, 48, 48)
    out = device.empty((48, 48), "f32")
    arguments = [device.array(a.astype("f4")), device.array(b.astype("f4")), out, 48, 48, 48]
    report = device.load(text)["matmul"].launch((3, 3), (16, 16), arguments)
    return Outcome(report.findings, out.numpy(), a @ b)


def bfloat(values: Array) -> tuple[Array, Array]:
    """Returns values cut to bf16: their bits, and the values in float64."""
    bits = (values.astype("f4").view("u4") >> 16).astype("u2")
    return bits, (bits.astype("u4") << 16).view("f4").astype("f8")


def attention(text: str) -> Outcome:
    """Runs attention.cu: two heads of 256 rows, four tiles of keys for each CTA."""
    device = simulator.Device("all")
    bits, values = bfloat(np.random.default_rng().standard_normal((3, 2, 256, 128)))
    q, k, v = values
    out = device.empty((2, 256, 128), "bf16")
    scale = 128**-0.5
    buffers = [device.array(part, "bf16") for part in bits]
    arguments = [*buffers, out, 256, float(scale * np.log2(np.e))]
    kernel = device.load(text)["attention"]
    report = kernel.launch((4, 2), 128, arguments, shared_bytes=5 * 64 * 256)
    weights = np.exp(q @ k.transpose(0, 2, 1) * scale)
    want = weights / weights.sum(-1, keepdims=True) @ v
    got = (out.numpy().astype("u4") << 16).view("f4")
    return Outcome(report.findings, got, want)


def gemm_sm80(text: str, m: int = 64, n: int = 72, k: int = 136) -> Outcome:
    """Runs gemm_sm80.cu; the sizes of its own leave rests of all tiles but of the rows."""
    device = simulator.Device("all")
    a, b = whole(m, k), whole(k, n)
    out = device.empty((m, n), "f32")
    arguments = [device.array(a.astype("f2")), device.array(b.astype("f2")), out, m, n, k]
    grid = (ceil(n, 64), ceil(m, 64))
    report = device.load(text)["gemm"].launch(grid, 128, arguments)
    return Outcome(report.findings, out.numpy(), a @ b)


def _rows(
    device: simulator.Device, buffer: simulator.Buffer, box: tuple[int, int], swizzle: str
) -> bytes:
    """Returns the tensor map of a matrix of contiguous rows."""
    rows, columns = buffer.shape
    size = buffer.nbytes // (rows * columns)
    return device.tensor_map(
        buffer, buffer.dtype, (columns, rows), (size * columns,), box, swizzle=swizzle
    )


def gemm_sm90(entry: str, text: str, m: int = 128, n: int = 64, k: int = 704) -> Outcome:
    """Runs a kernel of gemm_sm90.cu; eleven steps go through every copy of the unrolled loops."""
    device = simulator.Device("all")
    a, b = whole(m, k), whole(n, k)
    x, y, out = (
        device.array(a.astype("f2")),
        device.array(b.astype("f2")),
        device.empty((m, n), "f32"),
    )
    maps = [_rows(device, x, (64, 128), "128B"), _rows(device, y, (64, 64), "128B")]
    grid = (ceil(n, 64), ceil(m, 128))
    kernel = device.load(text)[entry]
    report = kernel.launch(grid, 384, [*maps, out, m, n, k], shared_bytes=3 * 24576)
    return Outcome(report.findings, out.numpy(), a @ b.T)


def gemm_store(text: str, m: int = 200, n: int = 136, k: int = 200, ctas: int = 2) -> Outcome:
    """Runs gemm_store_sm90.cu: six tiles for two CTAs, four steps each, rests on all sides."""
    device = simulator.Device("all")
    a, b = whole(m, k, low=-1, high=2), whole(n, k)
    x, y, out = (
        device.array(a.astype("f2")),
        device.array(b.astype("f2")),
        device.empty((m, n), "f16"),
    )
    boxes = ((x, (64, 128)), (y, (64, 64)), (out, (64, 64)))
    maps = [_rows(device, buffer, box, "128B") for buffer, box in boxes]
    kernel = device.load(text)["gemm"]
    report = kernel.launch(ctas, 384, [*maps, m, n, k], shared_bytes=3 * 24576 + 16384)
    return Outcome(report.findings, out.numpy(), a @ b.T)


def tile_sum(entry: str, text: str) -> Outcome:
    """Runs bulk_sum or copied_sum of pipeline.cu: seven tiles through two stages, in three CTAs."""
    device = simulator.Device("all")
    x = whole(3, 7, 128, low=-100, high=100)
    out = device.empty((3, 128), "f32")
    report = device.load(text)[entry].launch(3, 160, [device.array(x.astype("f4")), out, 7])
    want = (x * np.arange(1, 8)[:, None]).sum(1)
    return Outcome(report.findings, out.numpy(), want)


def turns(text: str) -> Outcome:
    """Runs the kernel of pipeline.cu whose warpgroups take turns: five rounds in two CTAs."""
    device = simulator.Device("all")
    x = whole(2, 5, 2, 128, low=0, high=1 << 20)
    out = device.empty((2, 128), "u32")
    report = device.load(text)["turns"].launch(2, 256, [device.array(x.astype("u4")), out, 5])
    want = np.zeros((2, 128), np.int64)
    for i in range(5):
        want = ((3 * want + x[:, i, 0]) % 2**32) ^ x[:, i, 1]
    return Outcome(report.findings, out.numpy(), want)


def stream_k(text: str, m: int = 30, n: int = 33, k: int = 70, ctas: int = 5) -> Outcome:
    """Runs stream_k.cu; its own sizes give six tiles of five steps to five CTAs of six steps."""
    device = simulator.Device("all")
    a, b = whole(m, k), whole(k, n)
    out, workspace = device.empty((m, n), "f32"), device.empty((ctas, 256), "f32")
    flags = device.array(np.zeros(ctas, "u4"))
    buffers = [device.array(a.astype("f4")), device.array(b.astype("f4")), out, workspace, flags]
    report = device.load(text)["stream_k"].launch(ctas, (16, 16), [*buffers, m, n, k])
    return Outcome(report.findings, out.numpy(), a @ b)


def grid_rounds(text: str, ctas: int = 5, threads: int = 64) -> Outcome:
    """Runs the rounds of stream_k.cu with a barrier of the whole grid between them: three."""
    device = simulator.Device("all")
    values = whole(ctas * threads, low=0, high=1 << 20)
    buffer = device.array(np.stack([values, np.zeros_like(values)]).astype("u4"))
    counter = device.array(np.zeros(1, "u4"))
    report = device.load(text)["grid_rounds"].launch(ctas, threads, [buffer, counter, 3])
    for _ in range(3):
        values = (np.roll(values, 1) + np.roll(values, -1)) % 2**32
    return Outcome(report.findings, buffer.numpy()[1], values)


def compact(text: str) -> Outcome:
    """Runs the compaction of warp.cu over 21 rows; the last CTA has warps without a row."""
    device = simulator.Device("all")
    x = whole(21, 32, low=-9, high=10)
    out, counts = device.array(np.zeros((21, 32), "i4")), device.empty(21, "i32")
    arguments = [device.array(x.astype("i4")), out, counts, 21]
    report = device.load(text)["compact"].launch(6, 128, arguments)
    kept = [row[row > 0].tolist() for row in x]
    want = [[len(row), *row, *[0] * (32 - len(row))] for row in kept]
    got = np.concatenate([counts.numpy()[:, None], out.numpy()], 1)
    return Outcome(report.findings, got, np.array(want))


def scan(text: str, n: int = 20) -> Outcome:
    """Runs the scan of warp.cu over rows of `n` values; the other lanes have left."""
    device = simulator.Device("all")
    x = whole(8, n, low=-1000, high=1000)
    sums, totals = device.empty((8, n), "i32"), device.empty((8, 4), "i32")
    arguments = [device.array(x.astype("i4")), sums, totals, n]
    report = device.load(text)["scan"].launch(2, 128, arguments)
    folded = [x.sum(1), x.min(1), x.max(1), np.bitwise_or.reduce(x, 1)]
    want = np.concatenate([x.cumsum(1), np.stack(folded, 1)], 1)
    return Outcome(report.findings, np.concatenate([sums.numpy(), totals.numpy()], 1), want)


def count(text: str) -> Outcome:
    """Runs the counting of warp.cu: 300 keys, so ten warps have one, the last of them in part."""
    device = simulator.Device("all")
    keys = whole(300, low=0, high=7)
    counts, warps = device.array(np.zeros(7, "u4")), device.array(np.zeros(1, "u4"))
    arguments = [device.array(keys.astype("u4")), counts, warps, 300]
    report = device.load(text)["count"].launch(3, 128, arguments)
    want = np.append(np.bincount(keys, minlength=7), 10)
    return Outcome(report.findings, np.append(counts.numpy(), warps.numpy()), want)


def block_scan(text: str, n: int = 200) -> Outcome:
    """Runs the scan of warp.cu over blocks of 256 threads, of which `n` have a value."""
    device = simulator.Device("all")
    x = whole(3, n, low=0, high=1000)
    out = device.empty((3, n), "u32")
    arguments = [device.array(x.astype("u4")), out, n]
    report = device.load(text)["block_scan"].launch(3, 256, arguments)
    return Outcome(report.findings, out.numpy(), x.cumsum(1))


def transpose(text: str) -> Outcome:
    """Runs the transpose of warp.cu: three tiles down, two across, rests on both sides."""
    device = simulator.Device("all")
    x = np.random.default_rng().normal(size=(75, 50)).astype("f4")
    out = device.empty((50, 75), "f32")
    report = device.load(text)["transpose"].launch(2, (32, 8), [device.array(x), out, 75, 50])
    return Outcome(report.findings, out.numpy(), x.T)


def histogram(text: str) -> Outcome:
    """Runs the histogram of warp.cu: three CTAs of 128 threads, 1000 bytes."""
    device = simulator.Device("all")
    x = whole(1000, low=0, high=256)
    counts = device.array(np.zeros(256, "u4"))
    arguments = [device.array(x.astype("u1")), counts, 1000]
    report = device.load(text)["histogram"].launch(3, 128, arguments)
    return Outcome(report.findings, counts.numpy(), np.bincount(x, minlength=256))


def layer_norm(text: str) -> Outcome:
    """Runs the layer norm of warp.cu over rows of 512 values."""
    device = simulator.Device("all")
    x, scale, shift = np.split(np.random.default_rng().normal(size=(9, 512)).astype("f4"), (7, 8))
    out = device.empty((7, 512), "f32")
    buffers = [device.array(x), device.array(scale), device.array(shift), out]
    report = device.load(text)["layer_norm"].launch(7, 128, [*buffers, 1e-5])
    wide = x.astype("f8")
    mean, variance = wide.mean(1, keepdims=True), wide.var(1, keepdims=True)
    want = (wide - mean) / np.sqrt(variance + 1e-5) * scale + shift
    return Outcome(report.findings, out.numpy(), want)


def cluster_histogram(text: str) -> Outcome:
    """Runs the histogram of cluster.cu: two clusters of two CTAs, twenty counters in each CTA."""
    device = simulator.Device("all")
    x = whole(1000, low=0, high=40)
    counts = device.array(np.zeros(40, "u4"))
    arguments = [device.array(x.astype("u4")), counts, 1000, 20]
    report = device.load(text)["histogram"].launch(4, 128, arguments, cluster=(2, 1, 1))
    return Outcome(report.findings, counts.numpy(), np.bincount(x, minlength=40))


def cluster_sums(text: str) -> Outcome:
    """Runs the sums of cluster.cu: two clusters of three CTAs, every CTA has its cluster's sum."""
    device = simulator.Device("all")
    x = whole(6, 32, low=0, high=1000)
    out = device.empty(6, "u32")
    arguments = [device.array(x.astype("u4")), out]
    report = device.load(text)["sums"].launch(6, 32, arguments, cluster=(3, 1, 1))
    return Outcome(report.findings, out.numpy(), x.reshape(2, 96).sum(1).repeat(3))


def multicast(text: str) -> Outcome:
    """Runs the multicast of cluster.cu: two clusters of two CTAs, five tiles."""
    device = simulator.Device("all")
    x = whole(5, 32, 32, low=-100, high=100)
    buffer, out = device.array(x.astype("f4").reshape(160, 32)), device.empty((4, 32, 32), "f32")
    arguments = [_rows(device, buffer, (32, 16), "none"), out, 5]
    report = device.load(text)["multicast"].launch(4, 256, arguments, cluster=(2, 1, 1))
    want = x.sum(0) * np.array([1, 2, 1, 2])[:, None, None]
    return Outcome(report.findings, out.numpy(), want)


def ring(text: str, size: int = 3) -> Outcome:
    """Runs the ring of cluster.cu in two clusters of `size` CTAs."""
    device = simulator.Device("all")
    own = whole(2, size, 64, low=0, high=1 << 20)
    out = device.empty((2, size, 64), "u32")
    arguments = [device.array(own.astype("u4")), out]
    report = device.load(text)["ring"].launch(2 * size, 64, arguments, cluster=(size, 1, 1))
    want = own
    for _ in range(size):
        want = (3 * np.roll(want, 1, 1) + own) % 2**32
    return Outcome(report.findings, out.numpy(), want)


CASES = {
    "matmul": Case("simt.ptx", "matmul", matmul),
    "attention": Case("attention.ptx", "attention", attention, 0.02),
    "gemm_sm80": Case("gemm_sm80.ptx", "gemm", gemm_sm80),
    "gemm_ss": Case("gemm_sm90.ptx", "gemm_ss", lambda text: gemm_sm90("gemm_ss", text)),
    "gemm_rs": Case("gemm_sm90.ptx", "gemm_rs", lambda text: gemm_sm90("gemm_rs", text)),
    "gemm_store": Case("gemm_store_sm90.ptx", "gemm", gemm_store),
    "bulk_sum": Case("pipeline.ptx", "bulk_sum", lambda text: tile_sum("bulk_sum", text)),
    "copied_sum": Case("pipeline.ptx", "copied_sum", lambda text: tile_sum("copied_sum", text)),
    "turns": Case("pipeline.ptx", "turns", turns),
    "stream_k": Case("stream_k.ptx", "stream_k", stream_k),
    "grid_rounds": Case("stream_k.ptx", "grid_rounds", grid_rounds),
    "compact": Case("warp.ptx", "compact", compact),
    "scan": Case("warp.ptx", "scan", scan),
    "count": Case("warp.ptx", "count", count),
    "block_scan": Case("warp.ptx", "block_scan", block_scan),
    "transpose": Case("warp.ptx", "transpose", transpose),
    "histogram": Case("warp.ptx", "histogram", histogram),
    "layer_norm": Case("warp.ptx", "layer_norm", layer_norm, 1e-4),
    "cluster_histogram": Case("cluster.ptx", "histogram", cluster_histogram),
    "cluster_sums": Case("cluster.ptx", "sums", cluster_sums),
    "multicast": Case("cluster.ptx", "multicast", multicast),
    "ring": Case("cluster.ptx", "ring", ring),
}
