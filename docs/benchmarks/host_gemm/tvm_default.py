"""
Measures the same f32 matrix products as Apache TVM compiles them without a schedule of ours.

    pip install apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post0 numpy    (in a venv aside)
    OPENBLAS_NUM_THREADS=1 python docs/benchmarks/host_gemm/tvm_default.py [512 1024]

Prints the rates of TVM and of NumPy's BLAS in GFLOP/s (2 n^3 flops), on one thread. The ratio to
NumPy compares with that of `measure.py --threads 1`.
"""

import sys
import time

import numpy as np
import tvm
from tvm import te


def product(size):
    """Returns the program: rows times columns, summed over k."""
    left = te.placeholder((size, size), name="A")
    right = te.placeholder((size, size), name="B")
    k = te.reduce_axis((0, size), name="k")
    out = te.compute((size, size), lambda i, j: te.sum(left[i, k] * right[k, j], axis=k), name="C")
    return te.create_prim_func([left, right, out])


def best(run, rounds=3):
    """Returns the least time of some runs in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    """Measures and prints."""
    for size in map(int, sys.argv[1:] or ("512", "1024")):
        library = tvm.compile(tvm.IRModule({"main": product(size)}), target="llvm")
        generator = np.random.default_rng(1)
        a, b = (generator.standard_normal((size, size)).astype(np.float32) for _ in range(2))
        x, y, z = (tvm.runtime.tensor(v, tvm.cpu()) for v in (a, b, np.zeros_like(a)))
        library(x, y, z)
        np.testing.assert_allclose(z.numpy(), a @ b, rtol=1e-3, atol=1e-3)
        flops = 2 * size**3 / 1e9
        rates = flops / best(lambda: library(x, y, z)), flops / best(lambda: a @ b)
        print(f"{size:6} TVM {rates[0]:7.2f}   NumPy {rates[1]:7.1f}   {rates[0] / rates[1]:.3f}")


if __name__ == "__main__":
    main()
