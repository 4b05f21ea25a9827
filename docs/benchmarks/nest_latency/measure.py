"""
Measures the CPU time from a scheduled nest to PTX, step by step, and to code of this CPU.

    python docs/benchmarks/nest_latency/measure.py [--rounds 12]

The matrix products are those of the schedules by hand: on tensor cores, on CUDA cores, with extents
known and as symbols. Each round compiles a program of other extents, or of symbols of other names,
so that no proof of one helps the next. The columns are ms of the round that took the least in all;
`first` is the first round of this process. Wanted are at most 60 ms to PTX, and 80 ms to code of
this CPU that is ready to be called (this needs the extra `mlir`).
"""

import argparse
import time
from collections.abc import Callable, Sequence

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

from tilewright import nest
from tilewright.lowering.garbage import paused_collection, take_apart
from tilewright.lowering.nest_to_thread import thread_module
from tilewright.lowering.ptx import print_ptx
from tilewright.nest.compiler import compile_for_host
from tilewright.nest.schedules.gemm_host import gemm_host
from tilewright.nest.schedules.gemm_mma import gemm_mma
from tilewright.nest.schedules.gemm_simt import gemm_simt
from tilewright.transforms.compact_buffers import compact_buffers
from tilewright.transforms.expand_math import ExpandMathPass
from tilewright.transforms.expand_pipelines import expand_pipelines
from tilewright.transforms.lower_blocks import lower_blocks
from tilewright.transforms.place_barriers import place_barriers

TARGET = "sm_80"
STEPS = ("blocks", "buffers", "pipelines", "barriers", "threads", "math", "print")
TILE = (("m", 128), ("n", 128), ("k", 32))
Extents = Sequence[int | str]


def gemm(dtype: str, extents: Extents) -> nest.Program:
    """Returns `C = A B` for extents m, n and k, numbers or names of symbols."""
    facts = (
        f"{name} in [{step}, 65536], {name} mod {step} == 0"
        for name, (_, step) in zip(extents, TILE, strict=True)
        if isinstance(name, str)
    )
    b = nest.Builder("gemm", ", ".join(facts))
    rows, columns, depth = (b.symbol(e) if isinstance(e, str) else e for e in extents)
    left, right = b.buffer("A", [rows, depth], dtype), b.buffer("B", [depth, columns], dtype)
    out = b.buffer("C", [rows, columns], "f32", output=True)
    i, j, k = b.axes(i=rows, j=columns, k=depth)
    out[i, j] += left[i, k] * right[k, j]
    return b.build()


def numbers(number: int) -> Extents:
    """Returns extents that no other round has."""
    return (1024 + 128 * number,) * 3


def symbols(number: int) -> Extents:
    """Returns names that no other round has."""
    return tuple(f"{name}_of_{number}" for name, _ in TILE)


def on_tensor_cores(extents: Extents) -> nest.Program:
    """Returns the scheduled product of bf16 matrices on tensor cores."""
    program = gemm("bf16", extents)
    for step in gemm_mma("bf16"):
        program = step.apply(program)
    return program


def on_cuda_cores(extents: Extents) -> nest.Program:
    """Returns the scheduled product of f32 matrices on CUDA cores."""
    return gemm_simt(gemm("f32", extents)).program


def steps_to_ptx(program: nest.Program) -> list[float]:
    """Returns the CPU time of each step, in ms."""
    times = [time.process_time()]

    def lap() -> None:
        times.append(time.process_time())

    with paused_collection():
        for transform in (lower_blocks, compact_buffers, expand_pipelines, place_barriers):
            program = transform(program)
            lap()
        module, _ = thread_module(program, TARGET)
        whole = ModuleOp([module])
        lap()
        ExpandMathPass().apply(Context(), whole)
        lap()
        print_ptx(whole, TARGET)
        take_apart(whole)
        lap()
    return [1e3 * (end - start) for start, end in zip(times, times[1:], strict=False)]


def to_host(program: nest.Program) -> list[float]:
    """Returns the CPU time until the program can be called on this CPU, in ms."""
    start = time.process_time()
    compile_for_host(program, num_threads=1)
    return [1e3 * (time.process_time() - start)]


def report(
    name: str, programs: Sequence[nest.Program], measure: Callable[[nest.Program], list[float]]
) -> None:
    """Prints the least time of all rounds, in all and by step."""
    rounds = [measure(program) for program in programs]
    best = min(rounds[1:], key=sum)
    steps = " ".join(f"{step:9.1f}" for step in best) if len(best) > 1 else ""
    print(f"{name:22} {sum(rounds[0]):7.1f} {sum(best):7.1f} {steps}", flush=True)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="CPU time from nests to PTX and machine code")
    parser.add_argument("--rounds", type=int, default=12)
    rounds = range(parser.parse_args().rounds + 1)
    heads = " ".join(f"{step:>9}" for step in STEPS)
    print(f"{'CPU ms':22} {'first':>7} {'all':>7} {heads}")
    for name, schedule in (("tensor cores", on_tensor_cores), ("CUDA cores", on_cuda_cores)):
        for kind, extents in (("numbers", numbers), ("symbols", symbols)):
            programs = [schedule(extents(number)) for number in rounds]
            report(f"{name}, {kind}", programs, steps_to_ptx)
    for kind, extents in (("numbers", numbers), ("symbols", symbols)):
        programs = [gemm_host(gemm("f32", extents(number))).program for number in rounds]
        report(f"host, {kind}", programs, to_host)


if __name__ == "__main__":
    main()
