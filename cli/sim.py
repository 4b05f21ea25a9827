"""`tilewright sim`: a kernel of any PTX text on the simulator."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime import simulator
from ..runtime.errors import TilewrightError
from .gpu_rates import GPUS
from .profile_page import page
from .profile_table import print_lines, print_sources, print_totals, read_sources, roofline
from .report import Report, amount
from .simulation_argument import (
    KernelArgument,
    array_of,
    number_of,
    parse_argument,
    parse_extents,
)
from .simulation_trace import trace_of

NAME = "sim"
SUMMARY = "Run a kernel of a PTX file on the simulator and check what it does."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes the file, the launch, its arguments and the checks."""
    parser.add_argument("file", help="a PTX text")
    parser.add_argument("--list", action="store_true", help="list the entries, run nothing")
    parser.add_argument("--entry", help="the kernel; may be left out where there is one")
    parser.add_argument("--grid", default="1", help="CTAs, such as 4,8")
    parser.add_argument("--block", default="1", help="threads of a CTA, such as 128 or 16,16")
    parser.add_argument("--cluster", help="CTAs of a cluster, such as 2,1")
    parser.add_argument("--shared", default="0", help="bytes of dynamic shared memory")
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="ARG",
        help="an argument: i32=7, f32[64,64]=in.npy, f32[64]=random, out:f32[64] (zeros)",
    )
    parser.add_argument(
        "--out", action="append", default=[], metavar="NAME=FILE", help="save an array as .npy"
    )
    parser.add_argument("--seed", default="0", help="of arrays that are =random")
    parser.add_argument("--checks", default="default", help="none, default, all, or names: a,b")
    parser.add_argument("--max-steps", help="end the launch after so many instructions issued")
    _add_variations(parser)
    _add_views(parser)


def _add_variations(parser: argparse.ArgumentParser) -> None:
    """Takes what a GPU may do otherwise."""
    parser.add_argument(
        "--schedule",
        metavar="SEED",
        help="another legal schedule: orders, leaders, waits in vain, data early or late",
    )
    parser.add_argument(
        "--perturb",
        metavar="SEED",
        help="give ex2.approx and its kin errors within what the PTX ISA admits",
    )
    parser.add_argument(
        "--accumulate",
        choices=("f32", "truncating"),
        default="f32",
        help="how mma and wgmma add up: rounded, or cut off as tensor cores do",
    )


def _add_views(parser: argparse.ArgumentParser) -> None:
    """Takes what to look at while the kernel runs."""
    parser.add_argument("--profile", action="store_true", help="count what each line does")
    parser.add_argument(
        "--by",
        choices=("line", "source"),
        default="line",
        help="rows of the profile: instructions of the PTX, or the source lines that .loc names",
    )
    parser.add_argument("--profile-html", metavar="FILE", help="write the profile as a page")
    parser.add_argument("--gpu", choices=GPUS, default="h100", help="peak rates of the roofline")
    parser.add_argument(
        "--redundant-barriers",
        action="store_true",
        help="list barriers, waits and fences that this launch doesn't need",
    )
    parser.add_argument(
        "--trace", metavar="BLOCK,THREAD", help="print the steps of one thread, both from 0"
    )
    parser.add_argument(
        "--break",
        dest="break_line",
        metavar="LINE",
        help="stop before a line of the PTX and print the warp's registers",
    )


def execute(arguments: argparse.Namespace, report: Report) -> int:
    """Runs the kernel; returns 1 where a check found something or the steps ran out."""
    device, module = _load(arguments)
    if arguments.list:
        _list(module, report)
        return 0
    kernel = _entry(module, arguments.entry)
    given = [parse_argument(text, number) for number, text in enumerate(arguments.arg)]
    outputs = _outputs(arguments.out, given)
    generator = np.random.default_rng(_number("--seed", arguments.seed))
    values = [_value(device, argument, generator) for argument in given]
    fitted = _fitted(kernel, given, values)
    if arguments.redundant_barriers:
        _redundant(kernel, fitted, arguments, report)
    result = _launch(kernel, fitted, arguments, report)
    code = _tell(result, report)
    arrays = {a.name: v for a, v in zip(given, values, strict=True) if a.extents is not None}
    for name, path in outputs.items():
        with open(path, "wb") as file:
            np.save(file, arrays[name].numpy())
        report.line(f"{path}: {name}, {arrays[name].dtype}{list(arrays[name].shape)}")
    report.record({"outputs": outputs})
    if result.profile.lines:
        _profile(kernel, result.profile, arguments, report)
    return code


def _load(arguments: argparse.Namespace) -> tuple[simulator.Device, simulator.Module]:
    """Returns the device with its checks and the module of the file; raises TilewrightError."""
    text: str = arguments.checks
    try:
        checks = text if text in ("none", "default", "all") else text.split(",")
        device = simulator.Device(checks)
    except ValueError as error:
        raise TilewrightError(f"--checks: {error}") from None
    try:
        ptx = Path(arguments.file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise TilewrightError(f"{arguments.file}: not a text in UTF-8") from None
    try:
        return device, device.load(ptx)
    except simulator.PTXError as error:
        place = f"{arguments.file}:{error.line}:{error.column}"
        raise TilewrightError(f"{place}: error: {error.message}") from None


def _entry(module: simulator.Module, name: str | None) -> simulator.Kernel:
    """Returns the kernel that is asked for; raises TilewrightError."""
    if name is None and len(module) == 1:
        return module[next(iter(module))]
    if name is None or name not in module:
        names = ", ".join(module) or "none"
        asked = "--entry is missing" if name is None else f"no entry {name!r}"
        raise TilewrightError(f"{asked}; the entries are {names}")
    return module[name]


def _list(module: simulator.Module, report: Report) -> None:
    """Prints the entries."""
    rows: list[list[str]] = []
    for name, kernel in module.items():
        program = kernel.program
        params = ", ".join(
            f".{p.type} {p.name}" + (f" ({p.size} bytes)" if p.size > 8 else "")
            for p in program.function.params
        )
        count = sum(block.size for block in program.blocks)
        rows.append([name, str(count), str(program.layout.shared), params])
    columns = ("entry", "instructions", "static shared", "parameters")
    report.table(columns, rows)
    report.record({"entries": [dict(zip(columns, row, strict=True)) for row in rows]})


def _outputs(texts: Sequence[str], given: Sequence[KernelArgument]) -> dict[str, str]:
    """Returns the files that arrays are saved to, by name; raises TilewrightError."""
    arrays = [argument.name for argument in given if argument.extents is not None]
    if len(set(arrays)) < len(arrays):
        raise TilewrightError(f"two arrays have one name: {', '.join(arrays)}")
    outputs: dict[str, str] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if name not in arrays or not path:
            known = ", ".join(arrays) or "none"
            raise TilewrightError(f"--out {text!r}: expected NAME=FILE; the arrays are {known}")
        outputs[name] = path
    return outputs


def _number(option: str, text: str) -> int:
    """Returns an option's number, 0 or more; raises TilewrightError."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise TilewrightError(f"{option} {text!r}: expected a number, 0 or more")
    return int(text)


def _value(
    device: simulator.Device, argument: KernelArgument, generator: np.random.Generator
) -> Any:
    """Returns what the launch takes for an argument."""
    if argument.extents is None:
        return number_of(argument)
    dtype = "bf16" if argument.dtype == "bf16" else ""
    return device.array(array_of(argument, generator), dtype, argument.name)


def _fitted(
    kernel: simulator.Kernel, given: Sequence[KernelArgument], values: Sequence[Any]
) -> list[Any]:
    """Returns the values as the parameters take them: PTX calls most integers unsigned."""
    fitted = list(values)
    for number, param in enumerate(kernel.program.function.params[: len(given)]):
        argument = given[number]
        if argument.extents is not None or argument.dtype[0] == "f":
            continue
        bits = int(argument.dtype[1:])
        if bits != 8 * param.size:
            raise TilewrightError(
                f"argument {number}: {argument.dtype} for .{param.type} {param.name} "
                f"of {param.size} bytes"
            )
        signed = fitted[number] & (1 << bits) - 1
        wraps = param.type[0] == "s" and signed >> (bits - 1)
        fitted[number] = signed - (1 << bits) if wraps else signed
    return fitted


def _launch(
    kernel: simulator.Kernel, values: list[Any], arguments: argparse.Namespace, report: Report
) -> simulator.Report:
    """Runs the kernel; a fault becomes a finding of the report. Raises TilewrightError."""
    profile = _is_profiled(arguments)
    trace = trace_of(arguments.trace, arguments.break_line, report)
    options = _options(arguments)
    try:
        return kernel.launch(args=values, profile=profile, trace=trace, **options)
    except simulator.LaunchError as error:
        raise TilewrightError(str(error)) from None
    except simulator.SimulationError as error:
        return simulator.Report((error.finding,), complete=False, printed=error.printed)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the shape of a launch and what varies it; raises TilewrightError."""
    options: dict[str, Any] = {
        name: parse_extents(f"--{name}", getattr(arguments, name))
        for name in ("grid", "block", "cluster")
        if getattr(arguments, name) is not None
    }
    named = (("max_steps", "max_steps"), ("seed", "schedule"), ("perturb", "perturb"))
    for name, option in named:
        text = getattr(arguments, option)
        if text is not None:
            options[name] = _number(f"--{option.replace('_', '-')}", text)
    options["shared_bytes"] = _number("--shared", arguments.shared)
    return {**options, "accumulate": arguments.accumulate}


def _is_profiled(arguments: argparse.Namespace) -> bool:
    """Says whether a profile is asked for."""
    return bool(arguments.profile or arguments.profile_html)


def _profile(
    kernel: simulator.Kernel,
    profile: simulator.Profile,
    arguments: argparse.Namespace,
    report: Report,
) -> None:
    """Prints the profile, writes its page."""
    syntax, gpu = kernel.program.module, arguments.gpu
    sources = read_sources(list(syntax.files.values()))
    if arguments.profile:
        if arguments.by == "source":
            print_sources(profile, sources, report)
        else:
            print_lines(profile, report)
        print_totals(profile, gpu, report)
    rows = profile.by_source() if arguments.by == "source" else profile.lines
    report.record({"lines": [asdict(row) for row in rows], "roofline": roofline(profile, gpu)})
    if arguments.profile_html:
        text = page(kernel.name, profile, syntax.text, gpu, sources)
        Path(arguments.profile_html).write_text(text, encoding="utf-8")
        report.line(f"{arguments.profile_html}: profile of {kernel.name}")


def _redundant(
    kernel: simulator.Kernel, values: list[Any], arguments: argparse.Namespace, report: Report
) -> None:
    """Lists the barriers that the launch doesn't need; raises TilewrightError."""
    try:
        found = kernel.redundant_barriers(args=values, **_options(arguments))
    except (simulator.LaunchError, simulator.SimulationError) as error:
        raise TilewrightError(f"--redundant-barriers: {' '.join(str(error).split())}") from None
    for synchronisation in found:
        report.line(str(synchronisation))
    report.line(f"{len(found)} barriers, waits and fences are not needed")
    report.record({"redundant": [asdict(synchronisation) for synchronisation in found]})


def _tell(result: simulator.Report, report: Report) -> int:
    """Prints what the kernel printed and what the launch did; returns the exit code."""
    if result.printed and not report.as_json:
        print(result.printed, end="" if result.printed[-1:] == "\n" else "\n", flush=True)
    for finding in result.findings:
        report.line(str(finding))
    profile = result.profile
    if result.complete:
        report.line(
            f"ran {amount(profile.ctas, 'CTA')}, "
            f"{amount(profile.thread_instructions, 'thread-instruction')}; "
            f"{amount(len(result.findings), 'finding')}"
        )
    elif not result.findings:
        report.line(f"not complete: ended after {profile.steps} instructions")
    report.record(
        {
            "complete": result.complete,
            "findings": [asdict(finding) for finding in result.findings],
            "ctas": profile.ctas,
            "thread_instructions": profile.thread_instructions,
            "steps": profile.steps,
            "printed": result.printed,
        }
    )
    return 0 if result.complete and not result.findings else 1
