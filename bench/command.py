"""The command `python -m tilewright.bench`: measure, build kernels beforehand, write a report."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any, NoReturn

from ..runtime.cuda.device import CudaDevice
from ..runtime.default_device import get_device
from ..runtime.errors import ArgumentError, TilewrightError
from ..runtime.simulator_device import SimulatorDevice
from ..runtime.stream import stream_handle
from .clock import Clock
from .kernels import TARGETS, Kernels, build
from .measure import GpuBench, first_line, on_the_simulator, open_peers
from .peers import Missing, chosen_peers
from .peers.torch_arrays import torch_with_cuda
from .rates import Peaks, copy_rate, matmul_rate
from .report import RESULTS, write_pages, write_report
from .results import Results
from .static import static_rows, static_table
from .suites import SUITES, cases_of, kernels_of, scaled_down

PACKAGES = ("tilewright", "numpy", "cuda-bindings", "torch", "triton")
SUCCESS, REFUSED = 0, 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise TilewrightError(f"{message}; see '{self.prog} --help'")


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return number


def _suite_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", default="all", help=f"{', '.join(SUITES)}; default %(default)s")
    parser.add_argument("--only", metavar="REGEX", help="cases in whose names it is found")
    parser.add_argument(
        "--targets", default=",".join(TARGETS), metavar="NAME,...", help="default %(default)s"
    )


def _measure_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m tilewright.bench",
        description="Times attention on a GPU beside its peers, or checks it on the simulator.",
        epilog="'build DIRECTORY' compiles the kernels beforehand; 'report RESULTS.json' writes "
        "the tables and plots of a run anew.",
        allow_abbrev=False,
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or simulator")
    _suite_options(parser)
    parser.add_argument(
        "--bundles", metavar="DIRECTORY", help="what 'build' wrote; without it kernels are compiled"
    )
    parser.add_argument(
        "--out", metavar="PATH", help="the .json file of the results, or a folder for the report"
    )
    parser.add_argument("--static", action="store_true", help="say what is known without a GPU")
    parser.add_argument(
        "--peers", default="all", metavar="NAME,...", help="beside which; all, none, or names"
    )
    parser.add_argument(
        "--triton-tutorial", metavar="FILE.py", help="06-fused-attention.py of Triton's tutorials"
    )
    parser.add_argument(
        "--triton-tutorial-sm80",
        metavar="FILE.py",
        help="an earlier one, to be compiled for sm_80; default the same",
    )
    parser.add_argument(
        "--budget", type=_positive, default=200.0, metavar="MS", help="of each measurement"
    )
    return parser


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m tilewright.bench build", allow_abbrev=False)
    parser.add_argument("directory", help="the kernel set that is written")
    _suite_options(parser)
    return parser


def _report_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m tilewright.bench report", allow_abbrev=False)
    parser.add_argument("results", help="the .json file of a run")
    return parser


def say(text: str) -> None:
    """Tells on stderr what is being done."""
    print(text, file=sys.stderr, flush=True)


def _targets(arguments: argparse.Namespace) -> list[str]:
    return [name for name in str(arguments.targets).split(",") if name]


def _build(arguments: argparse.Namespace) -> int:
    kernels = kernels_of(cases_of(arguments.suite, arguments.only))
    made = build(arguments.directory, kernels, _targets(arguments), say)
    print(f"{made.directory}: {len(made.keys)} kernels")
    return SUCCESS


def _report(arguments: argparse.Namespace) -> int:
    path = Path(arguments.results)
    print(write_pages(Results.load(path), path.parent))
    return SUCCESS


def _software() -> dict[str, str]:
    found = {"python": python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _out_path(out: str | None, device: str, date: str) -> Path:
    """Returns the file of the results; without `out` it lies below docs/results."""
    if out is None:
        name = "".join(letter if letter.isalnum() else "-" for letter in device.lower())
        return Path("docs", "results", name, date, RESULTS)
    path = Path(out)
    return path if path.suffix == ".json" else path / RESULTS


def _static(arguments: argparse.Namespace) -> int:
    cases = scaled_down(cases_of(arguments.suite, arguments.only))
    print(static_table(static_rows(cases, _kernels(arguments), _targets(arguments), say)))
    return SUCCESS


def _kernels(arguments: argparse.Namespace) -> Kernels:
    return Kernels.of(arguments.bundles)


def _measure(arguments: argparse.Namespace) -> int:
    if arguments.static:
        return _static(arguments)
    date = datetime.now(UTC).date().isoformat()
    results = Results({}, _software(), date)
    device = SimulatorDevice() if arguments.device == "simulator" else get_device(arguments.device)
    cases = cases_of(arguments.suite, arguments.only)
    if isinstance(device, SimulatorDevice):
        results.device = {"model": "simulator"}
        small, targets = scaled_down(cases), _targets(arguments)
        on_the_simulator(small, _kernels(arguments), targets, device, results, say)
    elif isinstance(device, CudaDevice):
        _on_gpu(arguments, device, results)
    else:
        raise ArgumentError("--device", "cuda, cuda:N or simulator", repr(arguments.device))
    path = _out_path(arguments.out, str(results.device["model"]), date)
    print(write_report(results, path))
    for fault in results.faults:
        say(fault)
    return REFUSED if results.faults else SUCCESS


def _on_gpu(arguments: argparse.Namespace, device: CudaDevice, results: Results) -> None:
    stream = device.stream()
    clock = Clock(device, stream, 1e3 * arguments.budget)
    results.device = {
        "model": device.model,
        "capability": ".".join(map(str, device.capability)),
        "SMs": device.multiprocessors,
        "L2": f"{device.l2_bytes >> 20} MiB",
    }
    tutorials = arguments.triton_tutorial, arguments.triton_tutorial_sm80
    peers = chosen_peers(arguments.peers, *tutorials)
    found = open_peers(peers, results)
    results.peaks = _peaks(device, clock, results)
    targets = _running(_targets(arguments), device)
    bench = GpuBench(device, clock, _kernels(arguments), targets, found, results)
    path = _out_path(arguments.out, device.model, results.date)
    path.parent.mkdir(parents=True, exist_ok=True)
    bench.run(cases_of(arguments.suite, arguments.only), say, lambda: results.save(path))


def _running(targets: list[str], device: CudaDevice) -> list[str]:
    """Returns the targets that the GPU runs, the highest first; raises ArgumentError for none."""
    found: list[str] = []
    for target in sorted(targets, reverse=True):
        try:
            device.check_target(target)
        except TilewrightError:
            continue
        found.append(target)
    if not found:
        capability = ".".join(map(str, device.capability))
        raise ArgumentError("--targets", f"one that capability {capability} runs", str(targets))
    return found


def _peaks(device: CudaDevice, clock: Clock, results: Results) -> Peaks:
    matmul: float | None = None
    try:
        torch: Any = torch_with_cuda()
        with torch.cuda.stream(torch.cuda.ExternalStream(clock_handle(clock))):
            matmul = matmul_rate(torch, clock)
    except Missing as reason:
        results.missing["cuBLAS"] = str(reason)
    except Exception as error:  # whatever torch raises
        results.missing["cuBLAS"] = first_line(error)
    return Peaks(copy_rate(device, clock), matmul, clock.floor_us())


def clock_handle(clock: Clock) -> int:
    """Returns the handle of the stream of a clock."""
    return stream_handle(clock.stream) or 0


_COMMANDS = {"build": (_build_parser, _build), "report": (_report_parser, _report)}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs the command; returns the exit code: 1 for what is refused, or a case of ours that is wrong.

    What a user may have caused is answered with one line on stderr.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words and words[0] in _COMMANDS:
            parser, execute = _COMMANDS[words[0]]
            return execute(parser().parse_args(words[1:]))
        return _measure(_measure_parser().parse_args(words))
    except TilewrightError as error:
        say(f"tilewright.bench: error: {error}")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        say(f"tilewright.bench: error: {place}{error.strerror or error}")
    return REFUSED
