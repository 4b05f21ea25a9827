"""
`tilewright demo`: the main job, from the op to a checked run.

A batch of requests with the attention geometry of Llama-3.1-8B, prefill and decode mixed, is
compiled, run on the best device there is, and compared with float64 NumPy.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..attention.interpreter import Batch, attend
from ..attention.spec import AttentionSpec
from ..attention.variants import Variant
from ..runtime.attention import AttentionOp
from ..runtime.bfloat16 import from_float32, to_float32
from ..runtime.default_device import default_device, get_device
from ..runtime.device import Device
from ..runtime.ptxas import find_ptxas
from .kernel_options import add_kernel_options, spec_of, variant_of
from .report import Report

NAME = "demo"
SUMMARY = "Compile attention for a batch of requests, run it, and compare it with float64 NumPy."

# (query rows, keys) of each request: prefill, a prefill that continues, and decode.
REQUESTS = ((70, 70), (33, 161), (1, 200), (1, 37), (1, 512), (1, 1), (5, 90), (1, 129))
LARGEST_ERROR = {"bf16": 1e-2, "f16": 2e-3}
LARGEST_LSE_ERROR = 1e-3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the kernel, the device, the seed, and where the PTX is written."""
    add_kernel_options(parser)
    parser.add_argument("--device", help="simulator or cuda:N; by default the best there is")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs")
    parser.add_argument("--output", default="build/demo", help="the bundle that is written")


@dataclass(frozen=True)
class Inputs:
    """The arrays of a batch, in the kernel's dtype."""

    batch: Batch
    q: npt.NDArray[Any]
    k_pages: npt.NDArray[Any]
    v_pages: npt.NDArray[Any]


def random_inputs(spec: AttentionSpec, seed: int) -> Inputs:
    """Returns a batch of the demo's requests over shuffled pages, with normal random numbers."""
    generator = np.random.default_rng(seed)
    rows, keys = np.array(REQUESTS).T
    pages = -(-keys // spec.page_size)
    count = int(pages.sum())
    batch = Batch(
        qo_indptr=np.concatenate(([0], np.cumsum(rows))).astype(np.int32),
        kv_indptr=np.concatenate(([0], np.cumsum(pages))).astype(np.int32),
        kv_indices=generator.permutation(count).astype(np.int32),
        kv_last_page_len=(keys - (pages - 1) * spec.page_size).astype(np.int32),
    )
    page = (spec.page_size, spec.num_kv_heads)
    if spec.layout == "HND":
        page = page[::-1]

    def normal(*shape: int) -> npt.NDArray[Any]:
        values = generator.standard_normal(shape, np.float32)
        return from_float32(values) if spec.dtype == "bf16" else values.astype(np.float16)

    return Inputs(
        batch,
        normal(int(rows.sum()), spec.num_qo_heads, spec.head_dim),
        normal(count, *page, spec.head_dim),
        normal(count, *page, spec.head_dim),
    )


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Compiles, runs and compares; returns 0 if the error is within the bounds."""
    spec, variant = spec_of(arguments), variant_of(arguments)
    device = get_device(arguments.device) if arguments.device else default_device()
    report.line(f"attention '{arguments.variant}' for {len(REQUESTS)} requests, {spec.dtype}:")
    report.line(
        f"  {spec.num_qo_heads} query heads, {spec.num_kv_heads} key heads, head_dim "
        f"{spec.head_dim}, pages of {spec.page_size} ({spec.layout}), target {spec.target}"
    )
    queries = ", ".join(f"{rows}/{keys}" for rows, keys in REQUESTS)
    report.line(f"  query rows / keys of each request: {queries}")
    op = _compile(spec, variant, Path(arguments.output), report)
    _assemble(op, report)
    inputs = random_inputs(spec, arguments.seed)
    out, lse = _run(op, inputs, device, report)
    return _compare(spec, variant, inputs, (out, lse), report)


def _compile(spec: AttentionSpec, variant: Variant, bundle: Path, report: Report) -> AttentionOp:
    with report.progress("compiling"):
        start = time.process_time()
        # Imported here, so that the time of the import is not the compiler's.
        from ..attention.compiler import Levels, compile_attention

        imported = time.process_time() - start
        traced = variant.traced
        compile_attention(spec, traced)  # the first compilation warms the process
        levels = Levels()
        artifact = compile_attention(spec, traced, levels)
    artifact.save(bundle)
    report.line()
    rows = [
        (level, str(len(text.splitlines())), f"{levels.seconds[level] * 1e3:.1f}")
        for level, text in levels.texts.items()
    ]
    report.table(("level", "lines", "CPU ms"), rows)
    total = sum(levels.seconds.values())
    report.line(
        f"  compiled in {total * 1e3:.0f} ms (compiler imported in {imported * 1e3:.0f} ms)"
    )
    path = bundle / f"{artifact.contract.name}.ptx"
    report.line(f"  PTX: {path}")
    report.record({"ptx": str(path), "compile_ms": {k: v * 1e3 for k, v in levels.seconds.items()}})
    return AttentionOp(artifact)


def _assemble(op: AttentionOp, report: Report) -> None:
    shared_bytes = op.contract.dynamic_shared_bytes
    report.line(f"  shared memory: {shared_bytes} bytes a CTA of {op.contract.block[0]} threads")
    report.record({"shared_bytes": shared_bytes})
    if (ptxas := find_ptxas()) is None:
        report.line("  registers: ptxas is not installed (pip install 'tilewright[cuda]')")
        return
    with report.progress("assembling"):
        resources = ptxas.assemble(op.ptx, op.contract.target).resources[op.contract.name]
    report.line(
        f"  ptxas {ptxas.version}: {resources.registers} registers a thread, "
        f"{resources.spilled_bytes} bytes spilled"
    )
    report.record({"registers": resources.registers, "spilled_bytes": resources.spilled_bytes})


def _run(
    op: AttentionOp, inputs: Inputs, device: Device, report: Report
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    batch = inputs.batch
    tables = (batch.qo_indptr, batch.kv_indptr, batch.kv_indices, batch.kv_last_page_len)
    plan = op.plan(*tables)
    with report.progress(f"running on {device.name}"):
        start = time.perf_counter()
        results = plan.run(inputs.q, inputs.k_pages, inputs.v_pages, device=device)
        seconds = time.perf_counter() - start
    report.line()
    ctas = plan.tiles * op.section.num_kv_heads
    report.line(f"  ran {ctas} CTAs on {device.name} in {seconds:.2f} s")
    report.record({"device": device.name, "ctas": ctas, "run_s": seconds})
    return results


def _compare(
    spec: AttentionSpec,
    variant: Variant,
    inputs: Inputs,
    results: tuple[npt.NDArray[Any], npt.NDArray[np.float32]],
    report: Report,
) -> int:
    def numbers(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return to_float32(array) if spec.dtype == "bf16" else array

    with report.progress("computing the reference"):
        expected, expected_lse = attend(
            variant.traced,
            inputs.batch,
            numbers(inputs.q),
            numbers(inputs.k_pages),
            numbers(inputs.v_pages),
            scale=spec.softmax_scale,
            layout=spec.layout,
        )
    out, lse = numbers(results[0]).astype(np.float64), results[1]
    error = float(np.linalg.norm(out - expected) / np.linalg.norm(expected))
    finite = np.isfinite(expected_lse)
    lse_error = float(np.abs(lse[finite] - expected_lse[finite]).max(initial=0.0))
    same_empty = bool(np.array_equal(lse[~finite], expected_lse[~finite]))
    bound = LARGEST_ERROR[spec.dtype]
    passed = error <= bound and lse_error <= LARGEST_LSE_ERROR and same_empty
    report.line(f"  relative error against float64: {error:.2e} (at most {bound:.0e})")
    report.line(f"  log-sum-exp, absolute error:    {lse_error:.2e} (at most 1e-03)")
    report.line("  passed" if passed else "  FAILED")
    report.record({"error": error, "lse_error": lse_error, "passed": passed})
    return 0 if passed else 1
