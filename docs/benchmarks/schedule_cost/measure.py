"""
Measures what a schedule costs the compiler: its steps with their legality, verifier, interpreter.

    python docs/benchmarks/schedule_cost/measure.py

Prints CPU time in ms: the first time in this process, and the best of later ones on programs that
are built anew, with symbols of other names, so that no proof of one helps the next. The
interpreter runs 16 rows.
"""

import time
from collections.abc import Callable

import numpy as np

from tilewright import nest
from tilewright.dialects.nest.verifier import verify_program
from tilewright.nest.arguments import random_array
from tilewright.nest.interpreter import interpret

ROUNDS = 20


def matmul(rows: str) -> nest.Program:
    """Returns a product of bf16 matrices with a number of rows that has a name, or is a number."""
    b = nest.Builder("matmul", "" if rows.isdecimal() else f"{rows} in [1, 8192]")
    left, right = b.buffer("A", [rows, 512], "bf16"), b.buffer("B", [512, 256], "bf16")
    out = b.buffer("C", [rows, 256], "f32", output=True)
    i, j, k = b.axes(i=rows, j=256, k=512)
    out[i, j] += left[i, k] * right[k, j]
    return b.build()


def scheduled(program: nest.Program) -> nest.Schedule:
    """Returns the program after 12 steps: tiles, operands in shared memory, sums in registers."""
    s = nest.Schedule(program)
    c = s.block("C")
    i, j, k = s.loops(c)
    i0, i1, i2 = s.split(i, [None, 16, 4])
    j0, j1, j2 = s.split(j, [None, 16, 4])
    k0, k1 = s.split(k, [None, 16])
    s.reorder(i0, j0, k0, i1, j1, k1, i2, j2)
    s.reverse_compute_at(s.cache_write(c, "C", "local"), j0)
    for operand in "AB":
        s.compute_at(s.cache_read(c, operand, "shared"), k0)
    s.bind(i0, "block.y")
    s.decompose_reduction(c, k0)
    return s


def main() -> None:
    """Measures and prints."""
    print(f"{'CPU ms':34} {'first':>7} {'later':>7}")
    for rows in ("n", "1024"):
        programs = [matmul(f"{rows}{r}" if rows == "n" else rows) for r in range(ROUNDS + 1)]
        steps = len(scheduled(programs[0]).steps)
        programs = [matmul(f"m{r}" if rows == "n" else rows) for r in range(ROUNDS + 1)]
        report(f"{steps} steps, {rows} rows", [lambda p=p: scheduled(p) for p in programs])
        after = [scheduled(program).program for program in programs]
        report(f"verifier, {rows} rows", [lambda p=p: verify_program(p) for p in after])
    small = [scheduled(matmul(f"r{r}")).program for r in range(4)]
    report("interpreter, 16 rows", [lambda p=p: interpreted(p) for p in small])


def interpreted(program: nest.Program) -> None:
    """Executes the program on 16 rows."""
    (name,) = program.ranges
    generator = np.random.default_rng(0)
    arrays = {
        "A": random_array(generator, (16, 512), "bf16"),
        "B": random_array(generator, (512, 256), "bf16"),
        "C": np.zeros((16, 256), np.float32),
    }
    interpret(program, arrays, symbols={name: 16})


def report(name: str, runs: list[Callable[[], object]]) -> None:
    """Prints the time of the first run, and the best of the others."""
    times: list[float] = []
    for run in runs:
        start = time.process_time()
        run()
        times.append(1e3 * (time.process_time() - start))
    print(f"{name:34} {times[0]:7.1f} {min(times[1:]):7.1f}")


if __name__ == "__main__":
    main()
