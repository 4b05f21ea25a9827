"""
`tilewright demo`: the main job, from the op to a checked run.

A batch of requests with the attention geometry of Llama-3.1-8B, prefill and decode mixed, is
compiled, run on the best device there is, and compared with float64 NumPy.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..attention.interpreter import attend
from ..attention.spec import AttentionSpec
from ..attention.variants import Variant
from ..runtime.artifact import KernelArtifact
from ..runtime.attention import AttentionOp
from ..runtime.device import Device
from ..runtime.errors import ArgumentError
from ..runtime.ptxas import AssemblerTooOld, find_ptxas
from .batch import REQUESTS, Inputs, Request, numbers, parse_requests, random_inputs
from .device_option import add_device_option, chosen_device
from .diagnosis import diagnosed
from .kernel_options import add_kernel_options, spec_of, variant_of
from .report import Report, amount, kib

NAME = "demo"
SUMMARY = "Compile attention for a batch of requests, run it, and compare it with float64 NumPy."

LARGEST_ERROR = {"bf16": 1e-2, "f16": 2e-3}
LARGEST_LSE_ERROR = 1e-3

Results = tuple[npt.NDArray[Any], npt.NDArray[np.float32]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the kernel, the batch, the device, the seed, and where the PTX is written."""
    add_kernel_options(parser)
    default = ",".join(map(str, REQUESTS))
    parser.add_argument(
        "--requests",
        default=default,
        metavar="QUERIES/KEYS,...",
        help="the lengths of each request; default %(default)s",
    )
    add_device_option(parser)
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the random inputs; default %(default)s"
    )
    parser.add_argument(
        "--output",
        default="build/demo",
        metavar="DIRECTORY",
        help="the bundle that is written; default %(default)s",
    )


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Compiles, runs and compares; returns 0 if the error is within the bounds."""
    spec, variant = spec_of(arguments), variant_of(arguments)
    requests = parse_requests(arguments.requests)
    if arguments.seed < 0:
        raise ArgumentError("--seed", "an integer from 0", str(arguments.seed))
    device = chosen_device(arguments)
    device.check_target(spec.target)
    report.line(
        f"attention '{arguments.variant}' for {amount(len(requests), 'request')}, {spec.dtype}:"
    )
    report.line(
        f"  {spec.num_qo_heads} query heads, {spec.num_kv_heads} key heads, head_dim "
        f"{spec.head_dim}, pages of {spec.page_size} ({spec.layout}), target {spec.target}"
    )
    report.line(f"  query rows / keys of each request: {', '.join(map(str, requests))}")
    report.record(_question(arguments, spec, requests))
    op = AttentionOp(_compile(spec, variant, Path(arguments.output), report))
    _assemble(op, report)
    inputs = random_inputs(spec, requests, np.random.default_rng(arguments.seed))
    results = _run(op, inputs, device, report)
    return _compare(spec, variant, inputs, results, report)


def _question(
    arguments: argparse.Namespace, spec: AttentionSpec, requests: tuple[Request, ...]
) -> dict[str, Any]:
    return {
        "kernel": {**spec.kernel_numbers, "softmax_scale": spec.softmax_scale},
        "variant": arguments.variant,
        "requests": [request._asdict() for request in requests],
        "seed": arguments.seed,
    }


def _compile(spec: AttentionSpec, variant: Variant, bundle: Path, report: Report) -> KernelArtifact:
    with report.progress("compiling"), diagnosed({}):
        start = time.process_time()
        # Imported here, so that the time of the import is not the compiler's.
        from ..attention.compiler import Levels, compile_attention

        imported = time.process_time() - start
        traced = variant.traced
        compile_attention(spec, traced)  # the first compilation warms the process
        levels = Levels()
        artifact = compile_attention(spec, traced, levels)
    artifact.save(bundle)
    lines = {level: len(text.splitlines()) for level, text in levels.texts.items()}
    times = {level: seconds * 1e3 for level, seconds in levels.seconds.items()}
    total = sum(times.values())
    report.line()
    rows = [(level, str(lines[level]), f"{times[level]:.1f}") for level in lines]
    report.table(("level", "lines", "CPU ms"), rows)
    report.line(
        f"  compiled in {total:.0f} ms (compiler imported in {imported * 1e3:.0f} ms before)"
    )
    path = bundle / f"{artifact.contract.name}.ptx"
    report.line(f"  PTX: {path}")
    report.record(
        {
            "lines": lines,
            "compile_ms": times,
            "import_ms": imported * 1e3,
            "bundle": str(bundle),
            "ptx": str(path),
        }
    )
    return artifact


def _assemble(op: AttentionOp, report: Report) -> None:
    contract = op.contract
    threads, shared_bytes = contract.block[0], contract.dynamic_shared_bytes
    report.line(f"  shared memory: {kib(shared_bytes)} for a CTA of {threads} threads")
    report.record({"threads": threads, "shared_bytes": shared_bytes, "ptxas": None})
    if (ptxas := find_ptxas()) is None:
        report.line("  registers: not known without ptxas (pip install 'tilewright[cuda]')")
        return
    try:
        with report.progress("assembling"):
            version = ptxas.version
            resources = ptxas.assemble(op.ptx, contract.target).resources[contract.name]
    except AssemblerTooOld as error:
        report.line(f"  registers: not known, {error}")
        return
    registers, spilled_bytes = resources.registers, resources.spilled_bytes
    report.line(
        f"  registers: {registers} a thread, {amount(spilled_bytes, 'byte')} spilled "
        f"(ptxas {version})"
    )
    report.record(
        {"ptxas": {"version": version, "registers": registers, "spilled_bytes": spilled_bytes}}
    )


def _run(op: AttentionOp, inputs: Inputs, device: Device, report: Report) -> Results:
    batch = inputs.batch
    plan = op.plan(batch.qo_indptr, batch.kv_indptr, batch.kv_indices, batch.kv_last_page_len)
    with report.progress(f"running on {device.name}"):
        start = time.perf_counter()
        results = plan.run(inputs.q, inputs.k_pages, inputs.v_pages, device=device)
        seconds = time.perf_counter() - start
    ctas = plan.ctas
    report.line()
    report.line(f"  {amount(ctas, 'CTA')} on {device.name} in {seconds:.2f} s, loading included")
    report.record({"device": device.name, "ctas": ctas, "run_s": seconds})
    return results


def _compare(
    spec: AttentionSpec, variant: Variant, inputs: Inputs, results: Results, report: Report
) -> int:
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
    # Where no row sees a key the result is zero, and so is the norm.
    error = float(np.linalg.norm(out - expected) / (np.linalg.norm(expected) or 1.0))
    finite = np.isfinite(expected_lse)
    lse_error = float(np.abs(lse[finite] - expected_lse[finite]).max(initial=0.0))
    same_empty = bool(np.array_equal(lse[~finite], expected_lse[~finite]))
    bound = LARGEST_ERROR[spec.dtype]
    passed = error <= bound and lse_error <= LARGEST_LSE_ERROR and same_empty
    rows = [
        ("output, relative Frobenius norm", f"{error:.1e}", f"{bound:.0e}"),
        ("log-sum-exp, largest difference", f"{lse_error:.1e}", f"{LARGEST_LSE_ERROR:.0e}"),
    ]
    report.table(("error against float64", "measured", "at most"), rows)
    report.line("  passed" if passed else "  FAILED")
    report.record(
        {
            # JSON has no NaN.
            "error": error if np.isfinite(error) else None,
            "error_bound": bound,
            "lse_error": lse_error if np.isfinite(lse_error) else None,
            "lse_error_bound": LARGEST_LSE_ERROR,
            "passed": passed,
        }
    )
    return 0 if passed else 1
