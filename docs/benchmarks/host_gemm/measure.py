"""
Measures f32 matrix products on the host against NumPy's BLAS in the same process.

    python docs/benchmarks/host_gemm/measure.py [--threads N] [--sizes 512 1024 2048]

Prints for each size the rates in GFLOP/s (2 m n k flops) of the schedule `gemm_host`, with the rows
known and as a symbol, and ratios; then the CPU time of each stage of the compiler. Contestants take
turns, and the best call counts: in CPU time on one thread, in elapsed time on several. Before its
turn each one waits, because the threads of a BLAS spin for some time after a call and would take
CPUs from the next one. BLAS takes its number of threads from the environment when NumPy is
imported, so this script sets it first.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
PAUSE = 0.2  # seconds
CALLS = 4
T = TypeVar("T")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="f32 matrix products on the host")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 768, 1024, 1536, 2048])
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    for name in VARIABLES:
        os.environ[name] = str(arguments.threads)
    print(f"{arguments.threads} threads; GFLOP/s")
    heads = ("size", "numpy", "static", "symbolic", "static/numpy", "symbolic/static")
    print(" ".join(f"{head:>{max(8, len(head))}}" for head in heads))
    for size in arguments.sizes:
        blas, static, symbolic = measure(size, arguments.threads, arguments.rounds)
        rates = " ".join(f"{rate:8.1f}" for rate in (blas, static, symbolic))
        print(f"{size:8} {rates} {static / blas:12.2f} {symbolic / static:15.2f}", flush=True)
    print_latency(arguments.rounds)


def measure(size: int, threads: int, rounds: int) -> list[float]:
    """Returns the rates of NumPy, of the static and of the symbolic program."""
    import numpy as np

    from tilewright.nest.compiler import compile
    from tilewright.nest.schedules.gemm_host import gemm_host
    from tilewright.nest.workloads import gemm

    generator = np.random.default_rng(1)
    a, b = (generator.standard_normal((size, size)).astype(np.float32) for _ in range(2))
    c = np.empty((size, size), np.float32)
    runs: list[Callable[[], object]] = [lambda: np.matmul(a, b, out=c)]
    for rows, ranges in ((size, ""), ("m", "m in [1, 65536]")):
        program = gemm_host(gemm(rows, size, size, ranges=ranges).program).program
        call = compile(program, num_threads=threads)
        runs.append(lambda call=call: call(a, b, c))
    exact = a[:8].astype(np.float64) @ b
    for run in runs:
        c.fill(np.nan)
        run()
        np.testing.assert_allclose(c[:8], exact, rtol=1e-3, atol=1e-3)
    clock = time.thread_time if threads == 1 else time.perf_counter
    return [2 * size**3 / seconds / 1e9 for seconds in in_turns(runs, clock, rounds)]


def in_turns(
    runs: Sequence[Callable[[], object]], clock: Callable[[], float], rounds: int
) -> list[float]:
    """Returns the best time of each in seconds."""
    best = [float("inf")] * len(runs)
    for _ in range(rounds):
        for place, run in enumerate(runs):
            time.sleep(PAUSE)
            run()
            for _ in range(CALLS):
                start = clock()
                run()
                best[place] = min(best[place], clock() - start)
    return best


def print_latency(rounds: int) -> None:
    """Prints the CPU time from the nest to code that can be called, by stage, in ms."""
    from tilewright.lowering.nest_to_host import host_module, llvm_ir_of
    from tilewright.nest.schedules.gemm_host import gemm_host
    from tilewright.nest.workloads import gemm
    from tilewright.runtime.host_code import LoadedCode, host_machine, object_code

    program = gemm_host(gemm(1024, 1024, 1024).program).program
    best: dict[str, float] = {}

    def timed(stage: str, run: Callable[[], T]) -> T:
        start = time.process_time()
        result = run()
        best[stage] = min(best.get(stage, 1e9), 1e3 * (time.process_time() - start))
        return result

    for _ in range(rounds):
        text = timed("nest to MLIR", lambda: host_module(program))
        ir = timed("MLIR to LLVM IR", lambda: llvm_ir_of(text))
        code = timed("LLVM IR to code", lambda: object_code(ir, host_machine(), is_short=True))
        timed("loading", lambda: LoadedCode(code, "gemm"))
    print("; ".join(f"{stage} {ms:.1f} ms" for stage, ms in best.items()))
    print(f"nest to code that can be called: {sum(best.values()):.1f} ms")


if __name__ == "__main__":
    main()
