"""
Measures the kernels beside attention: what they move against the least there is to move.

    python docs/benchmarks/kv_cache/measure.py [--only NAME]

`bytes` are those that threads ask of global memory, counted by the simulator, over the least:
every value read and written once. `sectors` is the same of pieces of 32 bytes, which accesses that
are not wide or not aligned raise; what comes twice from a cache counts twice in both. `instr` are
thread instructions for each value. `compile` is the CPU time of a kernel that no cache has.
Registers and spilled bytes are ptxas' for sm_80 and sm_90, where it is installed.

An H100 moves some 15 bytes a cycle and SM, and has 128 lanes there: for values of 4 bytes in all, 2
read and 2 written, the memory is the limit up to 34 instructions a value.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright import attention
from tilewright.attention import compiled_kernels
from tilewright.attention.kv_format import KVFormat
from tilewright.nest import gpu
from tilewright.runtime import simulator
from tilewright.runtime.artifact import KernelArtifact
from tilewright.runtime.ptxas import find_ptxas
from tilewright.runtime.simulator_device import SimulatorDevice

Array = npt.NDArray[Any]
HEADS, DIM, PAGE = 8, 128, 16
ROWS = 512
ROTATION = attention.Rotation(10000.0 ** (-np.arange(0, DIM, 2) / DIM))
# Name, what runs it, the least number of bytes, the number of values that it makes.
Case = tuple[str, Callable[[], object], int, int]


def states(*shape: int, dtype: Any) -> tuple[Array, Array]:
    """Returns random states."""
    generator = np.random.default_rng(0)
    v = generator.normal(size=(*shape, DIM)).astype(dtype)
    return v, generator.normal(size=shape).astype(np.float32)


def merges(device: SimulatorDevice) -> Iterator[Case]:
    """Yields merges of 2 states, of 8, and of 1 to 15 a row."""
    count = ROWS * HEADS
    for name, dtype in (("f32", np.float32), ("f16", np.float16)):
        v, s = states(ROWS, HEADS, dtype=dtype)
        others = states(ROWS, HEADS, dtype=dtype)
        least = 3 * (v.nbytes + s.nbytes)
        yield (
            f"merge 2, {name}",
            lambda v=v, s=s, o=others: attention.merge_state(v, s, *o, device=device),
            least,
            count * DIM,
        )
    v, s = states(ROWS // 8, 8, HEADS, dtype=np.float32)
    out = count // 8 * (2 * DIM + 4)
    yield (
        "merge 8, f32 to f16",
        lambda v=v, s=s: attention.merge_states(v, s, dtype="f16", device=device),
        v.nbytes + s.nbytes + out,
        count // 8 * DIM,
    )
    counts = np.random.default_rng(0).integers(1, 16, 64)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    v, s = states(int(indptr[-1]), HEADS, dtype=np.float32)
    out = 64 * HEADS * (2 * DIM + 4)
    yield (
        "merge 1 to 15, f32 to f16",
        lambda v=v, s=s, p=indptr: attention.merge_states_ragged(
            v, s, p, dtype="f16", device=device
        ),
        v.nbytes + s.nbytes + out,
        64 * HEADS * DIM,
    )


def table() -> attention.PageTable:
    """Returns the table of 4 requests whose tokens are all new."""
    pages = ROWS // PAGE
    order = np.random.default_rng(0).permutation(pages).astype(np.int32)
    indptr = np.arange(0, pages + 1, pages // 4, dtype=np.int32)
    return attention.PageTable(indptr, order, np.full(4, PAGE, np.int32), PAGE)


FORMATS = (
    ("f16", KVFormat("f16"), None),
    ("f16, RoPE", KVFormat("f16"), ROTATION),
    ("e4m3, RoPE", KVFormat("e4m3"), ROTATION),
    ("i8 a row, RoPE", KVFormat("i8", 0), ROTATION),
    ("i4 of 32, RoPE", KVFormat("i4", 32, "f16"), ROTATION),
)


def appends(device: SimulatorDevice) -> Iterator[Case]:
    """Yields appends of keys and values of f16 in each format."""
    plan = attention.plan_append(table(), np.arange(0, ROWS + 1, ROWS // 4, dtype=np.int32))
    k, _ = states(ROWS, HEADS, dtype=np.float16)
    for name, form, rotation in FORMATS:
        held = {"f16": np.float16, "i8": np.int8}.get(form.dtype, np.uint8)
        shape = (ROWS // PAGE, PAGE, HEADS)
        pages = [np.zeros((*shape, form.width(DIM)), held) for _ in range(2)]
        scales = None
        if form.has_blocks:
            kind = {"f16": np.float16, "f32": np.float32}[form.scale_dtype]
            blocks = DIM // form.block_of(DIM)
            scales = tuple(np.zeros((*shape, blocks), kind) for _ in range(2))
        cache = attention.KVCache(tuple(pages), form, scales=scales)
        least = 2 * k.nbytes + sum(p.nbytes for p in (*pages, *(scales or ())))
        yield (
            f"append, {name}",
            lambda c=cache, r=rotation: attention.append_kv(
                c, plan, k, k, rotation=r, device=device
            ),
            least,
            2 * k.size,
        )


def sparse(device: SimulatorDevice) -> Iterator[Case]:
    """Yields summaries of pages, and bounds of their scores for groups of 4 queries."""
    pages = ROWS // PAGE
    keys = np.random.default_rng(0).normal(size=(pages, PAGE, HEADS, DIM)).astype(np.float16)
    summaries = np.zeros((pages, 2, HEADS, DIM), np.float16)
    listed = attention.changed_pages(table(), table().lengths)
    yield (
        "summaries",
        lambda: attention.summarize_pages(keys, summaries, *listed, device=device),
        keys.nbytes + summaries.nbytes,
        keys.size,
    )
    choice = attention.plan_choice(table(), HEADS, budget=4)
    q = np.random.default_rng(1).normal(size=(4, 4 * HEADS, DIM)).astype(np.float16)
    scores = np.zeros((pages, HEADS), np.float32)
    least = summaries.nbytes + q.nbytes + scores.nbytes
    yield (
        "bounds of scores",
        lambda: choice.scores(q, summaries, out=scores, device=device),
        least,
        4 * summaries.size // 2,
    )
    count, small = 2048, 16
    indptr, last = np.array([0, count], np.int32), np.array([PAGE], np.int32)
    long = attention.PageTable(indptr, np.arange(count, dtype=np.int32), last, PAGE)
    choice_of_long = attention.plan_choice(long, HEADS, budget=64)
    ends = np.random.default_rng(2).normal(size=(count, 2, HEADS, small)).astype(np.float16)
    yield (
        "choice of 64 of 2,048 pages",
        lambda: choice_of_long.run(q[:1, :, :small].copy(), ends, device=device),
        4 * HEADS * (count + 64),
        HEADS * count,
    )


class Recorder:
    """Keeps the profile of each launch, and each kernel that is compiled with its CPU time."""

    def __init__(self) -> None:
        self.reports: list[simulator.Report] = []
        self.compiled: list[tuple[KernelArtifact, float]] = []
        launch, compile_kernels = simulator.Kernel.launch, gpu.gpu_kernels

        def profiled(kernel: simulator.Kernel, **options: Any) -> simulator.Report:
            options["profile"] = True
            self.reports.append(launch(kernel, **options))
            return self.reports[-1]

        def timed(program: Any, target: str) -> Any:
            start = time.process_time()
            plain, kernels = compile_kernels(program, target)
            self.compiled.append((kernels[0].artifact, time.process_time() - start))
            return plain, kernels

        simulator.Kernel.launch = profiled  # pyright: ignore[reportAttributeAccessIssue]
        gpu.gpu_kernels = timed


class NoCache:
    """A cache that has nothing."""

    def get(self, key: str) -> None:
        """Returns nothing."""

    def put(self, key: str, artifact: KernelArtifact) -> None:
        """Keeps nothing."""


def resources(artifact: KernelArtifact) -> str:
    """Returns registers and spilled bytes for sm_80 and sm_90."""
    ptxas = find_ptxas()
    if ptxas is None:
        return "no ptxas"
    found = [ptxas.assemble(artifact.ptx, target).resources for target in ("sm_80", "sm_90")]
    uses = [use[artifact.contract.name] for use in found]
    return "  ".join(f"{use.registers} / {use.spilled_bytes}" for use in uses)


def main() -> None:
    """Prints one line for each kernel."""
    parser = argparse.ArgumentParser(description="What the kernels beside attention move.")
    parser.add_argument("--only", default="", help="kernels whose names begin so")
    only = parser.parse_args().only
    recorder = Recorder()
    compiled_kernels.default_cache = NoCache  # pyright: ignore[reportAttributeAccessIssue]
    attention.lse_to_base2(np.zeros(1, np.float32), device="simulator")  # imports the compiler
    device = SimulatorDevice(checks="none")
    titles = ("kernel", "bytes", "sectors", "instr", "compile ms", "registers / spilled")
    print(f"{titles[0]:28}{titles[1]:>7}{titles[2]:>9}{titles[3]:>7}{titles[4]:>12}  {titles[5]}")
    for name, run, least, values in (*merges(device), *appends(device), *sparse(device)):
        if not name.startswith(only):
            continue
        run()
        lines = recorder.reports[-1].profile.lines
        asked = sum(line.global_bytes for line in lines) / least
        sectors = 32 * sum(line.sectors for line in lines) / least
        instructions = sum(line.executed for line in lines) / values
        artifact, seconds = recorder.compiled[-1]
        numbers = f"{asked:7.2f}{sectors:9.2f}{instructions:7.1f}{seconds * 1e3:12.0f}"
        print(f"{name:28}{numbers}  {resources(artifact)}")


if __name__ == "__main__":
    main()
