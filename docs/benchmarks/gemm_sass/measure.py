"""
Prints what ptxas makes of the matrix product on tensor cores: registers, spills, and the main loop.

    python docs/benchmarks/gemm_sass/measure.py [--nvdisasm PATH] [--size 4096]

The schedule is `gemm_mma`: 128x128x32 for a CTA of 8 warps, 3 stages, f16 and bf16, extents known
and as symbols. Wanted are 0 bytes of spills and at most 1.6 other instructions for each of the
tensor cores' in the main loop. Then the same of products whose operands are made on the way to
shared memory, weights of few bits and images that are gathered, with small and large tiles. Needs
ptxas and nvdisasm; the latter is in the CUDA toolkit and in Triton's wheel.
"""

import argparse
import sys
from collections.abc import Sequence

from sass import InstructionMix, disassemble, find_nvdisasm, main_loop

from tilewright.dialects.nest.program import Program
from tilewright.nest.builder import Builder
from tilewright.nest.gpu import compile_for_gpu
from tilewright.nest.schedules.conv2d_mma import conv2d_mma
from tilewright.nest.schedules.dequantized_gemm import dequantized_gemm
from tilewright.nest.schedules.gemm_mma import gemm_mma
from tilewright.nest.schedules.tensor_tile import TensorTile
from tilewright.nest.workloads import conv2d
from tilewright.nest.workloads import dequantized_gemm as quantized
from tilewright.runtime.contract import Resources
from tilewright.runtime.ptxas import find_ptxas
from tilewright.transforms.schedule.primitive import Primitive

TARGET = "sm_80"
MOST_OTHERS = 1.6
SYMBOLS = ", ".join(
    f"{name} in [{step}, 65536], {name} mod {step} == 0"
    for name, step in (("m", 128), ("n", 128), ("depth", 32))
)


def gemm(dtype: str, size: int | None) -> Program:
    """Returns `C = A B` of three extents `size`, or of symbols."""
    b = Builder("gemm", SYMBOLS) if size is None else Builder("gemm")
    m, n, depth = map(b.symbol, ("m", "n", "depth")) if size is None else (size,) * 3
    left, right = b.buffer("A", [m, depth], dtype), b.buffer("B", [depth, n], dtype)
    out = b.buffer("C", [m, n], "f32", output=True)
    i, j, k = b.axes(i=m, j=n, k=depth)
    out[i, j] += left[i, k] * right[k, j]
    return b.build()


def scheduled(program: Program, steps: Sequence[Primitive]) -> Program:
    """Returns the program after all steps."""
    for step in steps:
        program = step.apply(program)
    return program


def assembled(program: Program, nvdisasm: str) -> tuple[Resources, InstructionMix]:
    """Returns the resources of the program's kernel, and the instructions of its main loop."""
    ptxas = find_ptxas()
    if ptxas is None:
        sys.exit("expected ptxas on PATH or below CUDA_HOME, found none")
    artifact = compile_for_gpu(program, TARGET).artifact
    assembly = ptxas.assemble(artifact.ptx, TARGET)
    loop = main_loop(disassemble(assembly.cubin, nvdisasm))
    return assembly.resources[artifact.contract.name], loop


def print_kernels(size: int, nvdisasm: str) -> bool:
    """Prints each kernel; returns whether all are as wanted."""
    good = True
    for dtype in ("f16", "bf16"):
        for extent in (size, None):
            program = scheduled(gemm(dtype, extent), gemm_mma(dtype))
            kind = "symbols" if extent is None else str(extent)
            resources, loop = _printed(f"{dtype:>5} {kind:>8}", program, nvdisasm)
            within = loop.others_per_product <= MOST_OTHERS
            good = good and within and resources.spilled_bytes == 0
    return good


def print_made_operands(size: int, nvdisasm: str) -> bool:
    """Prints each kernel whose operands are made; returns whether none spills."""
    good = True
    for tile in (TensorTile(), TensorTile(warps=(2, 4), products=(4, 4))):
        shape = f"{tile.rows}x{tile.columns}"
        kernels = {
            f"weights of {bits} bits, {shape}": dequantized_gemm(
                quantized("n", size, size, bits=bits, ranges="n in [1, 65536]").program, tile
            )
            for bits in (4, 8)
        }
        image = conv2d("n", 14, 14, 256, 256, 3, 1, 1, dtype="f16", ranges="n in [1, 1024]")
        kernels[f"convolution, {shape}"] = conv2d_mma(image.program, tile)
        for name, schedule in kernels.items():
            resources, _ = _printed(name, schedule.program, nvdisasm)
            good = good and resources.spilled_bytes == 0
    return good


def _printed(name: str, program: Program, nvdisasm: str) -> tuple[Resources, InstructionMix]:
    resources, loop = assembled(program, nvdisasm)
    print(
        f"{name}: {resources.registers} registers, {resources.spilled_bytes} bytes spilled; main "
        f"loop {loop.products} products, {loop.others_per_product:.2f} others for each"
    )
    print("      ", ", ".join(f"{n} {c}" for n, c in loop.counts.most_common()))
    return resources, loop


def main() -> None:
    """Measures and prints; exits with 1 where a kernel is not as wanted."""
    parser = argparse.ArgumentParser(description="SASS of matrix products on tensor cores")
    parser.add_argument("--nvdisasm")
    parser.add_argument("--size", type=int, default=4096)
    arguments = parser.parse_args()
    nvdisasm = find_nvdisasm(arguments.nvdisasm)
    if nvdisasm is None:
        sys.exit("expected nvdisasm on PATH, in Triton's wheel, or by --nvdisasm; found none")
    good = print_kernels(arguments.size, nvdisasm)
    good = print_made_operands(arguments.size, nvdisasm) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
