"""
Measures the simulator: million thread-instructions per CPU second on the kernels of its corpus.

Run it as `python docs/benchmarks/simulator/measure.py [checks]`. CPU time is the smallest of
three launches; parsing and code generation are measured apart.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.attention.compiler import compile_attention
from tilewright.attention.library import causal
from tilewright.attention.spec import AttentionSpec, PagedKV
from tilewright.cli.batch import REQUESTS, Inputs, random_inputs
from tilewright.runtime import simulator
from tilewright.runtime.attention import AttentionOp, Plan
from tilewright.runtime.simulator_device import SimulatorDevice, SimulatorKernel

CORPUS = Path(__file__).parents[3] / "test" / "runtime" / "simulator" / "corpus"

LLAMA = AttentionSpec(
    num_qo_heads=32,
    num_kv_heads=8,
    head_dim=128,
    kv=PagedKV(16),
    dtype="bf16",
    target="sm_80",
    softmax_scale=128**-0.5,
)


def measure(run: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the smallest CPU time of three calls, in seconds, and the last result."""
    best, result = float("inf"), None
    for _ in range(3):
        start = time.process_time()
        result = run()
        best = min(best, time.process_time() - start)
    return best, result


def launches(device: simulator.Device) -> Iterator[tuple[str, Callable[[], simulator.Report]]]:
    """Yields the name of each case and what launches it."""
    simt = device.load((CORPUS / "simt.ptx").read_text())
    attention = device.load((CORPUS / "attention.ptx").read_text())["attention"]
    generator = np.random.default_rng(0)
    vectors = [device.array(generator.random(1 << 20, dtype="f4")) for _ in range(2)]
    yield "saxpy 1 M", lambda: simt["saxpy"].launch(4096, 256, [1 << 20, 2.0, *vectors])
    squares = [device.array(generator.random((256, 256), dtype="f4")) for _ in range(3)]
    extents = [256, 256, 256]
    yield "matmul 256^3", lambda: simt["matmul"].launch((16, 16), (16, 16), [*squares, *extents])
    rows = [device.array(generator.random((512, 1000), dtype="f4")) for _ in range(2)]
    yield "softmax 512x1000", lambda: simt["softmax"].launch(512, 32, [*rows, 1000])
    image = device.empty((128, 256), "i32")
    yield (
        "mandelbrot 256x128",
        lambda: simt["mandelbrot"].launch((16, 16), (16, 8), [image, 256, 128, 200]),
    )
    tensors = [device.empty((8, 512, 128), "bf16") for _ in range(4)]
    for tensor in tensors[:3]:
        values = generator.standard_normal(tensor.shape).astype("f4").view("u4") >> 16
        tensor.numpy()[...] = values.astype("u2")
    scale = float(np.log2(np.e) / np.sqrt(128))
    yield (
        "attention d128, 8 heads, 512 rows",
        lambda: attention.launch((8, 8), 128, [*tensors, 512, scale], shared_bytes=5 * 64 * 256),
    )


def demo_launches(checks: str) -> Iterator[tuple[str, Callable[[], simulator.Report]]]:
    """Yields the demo's batch for the kernels that the compiler makes of it."""
    for head_dim in (64, 128):
        spec = replace(LLAMA, head_dim=head_dim, softmax_scale=head_dim**-0.5)
        op = AttentionOp(compile_attention(spec, causal().traced))
        inputs = random_inputs(spec, REQUESTS, np.random.default_rng(0))
        device = SimulatorDevice(checks)
        plan = op.plan(*vars(inputs.batch).values())
        kernel = device.load(op.artifact)

        def run(
            plan: Plan = plan,
            inputs: Inputs = inputs,
            device: SimulatorDevice = device,
            kernel: SimulatorKernel = kernel,
        ) -> simulator.Report:
            plan.run(inputs.q, inputs.k_pages, inputs.v_pages, device=device)
            if kernel.report is None:
                raise RuntimeError("the plan has launched nothing")
            return kernel.report

        yield f"the demo's batch, d{head_dim}", run


def main() -> None:
    """Prints one line for each kernel."""
    checks = sys.argv[1] if len(sys.argv) > 1 else "default"
    print(f"checks: {checks}")
    for name in ("simt.ptx", "attention.ptx"):
        text = (CORPUS / name).read_text()
        simulator.Device().load(text)  # imports the compiler and reads its tables
        start = time.process_time()
        module = simulator.Device().load(text + "\n")
        seconds = time.process_time() - start
        count = sum(block.size for key in module for block in module[key].program.blocks)
        per = seconds / count * 1e6
        print(f"{name:36}{count:8} instructions, load {seconds * 1e3:6.1f} ms, {per:5.1f} us each")
    print(f"{'kernel':36}{'M thread-instr':>15}{'cpu ms':>9}{'M/s':>7}")
    for name, run in (*launches(simulator.Device(checks)), *demo_launches(checks)):
        seconds, report = measure(run)
        million = report.profile.thread_instructions / 1e6
        print(f"{name:36}{million:15.1f}{seconds * 1e3:9.1f}{million / seconds:7.0f}")


if __name__ == "__main__":
    main()
