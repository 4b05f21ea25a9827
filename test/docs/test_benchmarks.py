"""Benchmarks run: they are no part of the package, and nothing else would tell."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "docs/benchmarks"


def test_the_benchmark_of_the_cache_measures_a_kernel() -> None:
    command = [sys.executable, BENCHMARKS / "kv_cache/measure.py", "--only", "choice"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    titles, line = done.stdout.splitlines()
    assert titles.startswith("kernel")
    assert line.startswith("choice of 64 of 2,048 pages")
