"""
Measures f32 matrix products on the host against NumPy's BLAS in the same process.

    python docs/benchmarks/host_gemm/measure.py [--threads N] [--sizes 512 1024 2048]

Prints for each size the rates in GFLOP/s (2 m n k flops), the best of interleaved runs, with the
rows known and as a symbol; then the CPU time of each stage of the compiler. BLAS takes its number
of threads from the environment when NumPy is imported, so this script sets it first.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
ROUNDS = 20
T = TypeVar("T")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="f32 matrix products on the host")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 768, 1024, 1536, 2048])
    arguments = parser.parse_args()
    for name in VARIABLES:
        os.environ[name] = str(arguments.threads)
    sys.path.insert(0, str(Path(__file__).parent))
    print(f"{arguments.threads} threads; GFLOP/s")
    print(f"{'size':>6} {'numpy':>8} {'static':>8} {'symbolic':>8} {'of numpy':>9}")
    for size in arguments.sizes:
        rates = measure(size, arguments.threads)
        numbers = " ".join(f"{rate:8.1f}" for rate in rates)
        print(f"{size:6} {numbers} {rates[1] / rates[0]:9.2f}", flush=True)
    print_latency()


def measure(size: int, threads: int) -> list[float]:
    """Returns the rates of NumPy, of the static and of the symbolic program."""
    import numpy as np
    from program import gemm  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

    from tilewright.nest.compiler import compile

    generator = np.random.default_rng(1)
    a, b = (generator.standard_normal((size, size)).astype(np.float32) for _ in range(2))
    c = np.empty((size, size), np.float32)
    static = compile(gemm(size, size, size), num_threads=threads)
    symbolic = compile(gemm(None, size, size), num_threads=threads)
    runs: list[Callable[[], object]] = [
        lambda: np.matmul(a, b, out=c),
        lambda: static(a, b, c),
        lambda: symbolic(a, b, c),
    ]
    exact = a[:8].astype(np.float64) @ b
    for run in runs:
        c.fill(np.nan)
        run()
        np.testing.assert_allclose(c[:8], exact, rtol=1e-3, atol=1e-3)
    return [2 * size**3 / seconds / 1e9 for seconds in interleaved(runs)]


def interleaved(runs: list[Callable[[], object]]) -> list[float]:
    """Returns the best time of each, all of them measured in turn."""
    best = [float("inf")] * len(runs)
    for _ in range(ROUNDS):
        for place, run in enumerate(runs):
            start = time.perf_counter()
            run()
            best[place] = min(best[place], time.perf_counter() - start)
    return best


def print_latency() -> None:
    """Prints the CPU time from the nest to code that can be called, by stage, in ms."""
    from program import gemm  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

    from tilewright.lowering.nest_to_host import host_module, llvm_ir_of
    from tilewright.runtime.host_code import LoadedCode, host_machine, object_code

    program = gemm(1024, 1024, 1024)
    best: dict[str, float] = {}

    def timed(stage: str, run: Callable[[], T]) -> T:
        start = time.process_time()
        result = run()
        best[stage] = min(best.get(stage, 1e9), 1e3 * (time.process_time() - start))
        return result

    for _ in range(ROUNDS):
        text = timed("nest to MLIR", lambda: host_module(program))
        ir = timed("MLIR to LLVM IR", lambda: llvm_ir_of(text))
        code = timed("LLVM IR to code", lambda: object_code(ir, host_machine(), is_short=True))
        timed("loading", lambda: LoadedCode(code, "gemm"))
    print("; ".join(f"{stage} {ms:.1f} ms" for stage, ms in best.items()))
    print(f"nest to code that can be called: {sum(best.values()):.1f} ms")


if __name__ == "__main__":
    main()
