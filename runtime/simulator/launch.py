"""Launches: arguments, batches of CTAs, the report."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import Finding, LaunchError
from .machine import Machine
from .memory import DeviceMemory
from .scheduler import Scheduler, StepLimit
from .syntax import Variable

if TYPE_CHECKING:
    from .codegen import Program

_BATCH_LANES = 4096  # where NumPy's cost per call is spread thin and values still fit the cache
_SLICE_BLOCKS = 100_000  # blocks that a batch runs before the next one gets a turn
_LIVE_BATCHES = 16
_MAX_SHARED = 227 * 1024
MAX_GRID = (2**31 - 1, 65535, 65535)
MAX_BLOCK = (1024, 1024, 64)


@dataclass
class Profile:
    """What a launch did: instructions counted by thread, and as issued to groups of lanes."""

    thread_instructions: int = 0
    steps: int = 0
    ctas: int = 0


@dataclass
class Report:
    """The result of a launch; `complete` is False where max_steps ended it."""

    findings: tuple[Finding, ...] = ()
    profile: Profile = field(default_factory=Profile)
    complete: bool = True


@dataclass
class Launch:
    """What all batches of one launch share."""

    program: "Program"
    memory: DeviceMemory
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    params: bytes
    dynamic_bytes: int
    symbols: dict[str, int]
    checks: frozenset[str]
    multiprocessors: int = 132

    @property
    def threads(self) -> int:
        """Threads of one CTA."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory of one CTA, static and dynamic."""
        layout = self.program.layout
        return layout.dynamic + self.dynamic_bytes if self.dynamic_bytes else layout.shared


def extents(name: str, value: Sequence[int] | int, limits: tuple[int, int, int]) -> Any:
    """Returns a grid or block as three extents; raises LaunchError for what can't be one."""
    sizes = (value,) if isinstance(value, int) else tuple(value)
    if not 1 <= len(sizes) <= 3:
        raise LaunchError(f"{name} has {len(sizes)} extents, expected 1 to 3")
    whole = (*map(int, sizes), 1, 1)[:3]
    for extent, limit in zip(whole, limits, strict=True):
        if not 1 <= extent <= limit:
            raise LaunchError(f"{name} {whole} is outside 1..{limits}")
    return whole


def pack_arguments(params: Sequence[Variable], arguments: Sequence[Any], kernel: str) -> bytes:
    """
    Returns the parameter space of a launch.

    Raises LaunchError where number, width or kind of the arguments don't fit the `.param` list.
    """
    if len(params) != len(arguments):
        raise LaunchError(f"kernel {kernel} takes {len(params)} arguments, got {len(arguments)}")
    data = bytearray()
    for number, (param, argument) in enumerate(zip(params, arguments, strict=True)):
        data += bytes(-len(data) % param.align)
        try:
            data += _bytes_of(param, argument)
        except LaunchError as problem:
            raise LaunchError(f"kernel {kernel}, argument {number}: {problem}") from None
    return bytes(data)


def _bytes_of(param: Variable, argument: Any) -> bytes:
    """Returns one argument as the bytes of its parameter."""
    type, size = param.type, param.size
    scalar = size == {"8": 1, "6": 2, "2": 4, "4": 8}.get(type[-1], 0)
    if isinstance(argument, bytes | bytearray | np.ndarray | np.void) and not scalar:
        raw = argument if isinstance(argument, bytes | bytearray) else argument.tobytes()
        if len(raw) != size:
            raise LaunchError(f"a .param of {size} bytes takes {size} bytes, got {len(raw)}")
        return bytes(raw)
    if not scalar:
        raise LaunchError(f"a .param of {size} bytes takes bytes, got {argument!r}")
    if hasattr(argument, "address"):
        if size != 8 or type == "f64":
            raise LaunchError(f"a .{type} parameter can't take a buffer")
        return struct.pack("<Q", argument.address)
    if isinstance(argument, bool | np.bool_):
        argument = int(argument)
    if type in ("f32", "f64"):
        if not isinstance(argument, float | int | np.floating | np.integer):
            raise LaunchError(f"a .{type} parameter takes a number, got {argument!r}")
        return struct.pack("<f" if type == "f32" else "<d", float(argument))
    if isinstance(argument, np.floating) and argument.itemsize == size:
        return argument.tobytes()
    if type == "b32" and isinstance(argument, float):
        return struct.pack("<f", argument)
    if type == "b64" and isinstance(argument, float):
        return struct.pack("<d", argument)
    if not isinstance(argument, int | np.integer):
        raise LaunchError(f"a .{type} parameter takes an integer or a buffer, got {argument!r}")
    value = int(argument)
    low, high = (-(1 << 8 * size - 1), (1 << 8 * size) - 1)
    if type[0] == "u" and value < 0:
        low = 0
    if type[0] == "s":
        high = (1 << 8 * size - 1) - 1
    if not low <= value <= high:
        raise LaunchError(f"{value} doesn't fit a .{type} parameter")
    return (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def check_shape(launch: Launch) -> None:
    """Raises LaunchError where threads or shared memory exceed what the kernel or a GPU allows."""
    function = launch.program.function
    if launch.threads > 1024:
        raise LaunchError(f"block {launch.block} has {launch.threads} threads, at most 1024")
    if function.reqntid is not None and function.reqntid != launch.block:
        raise LaunchError(f"block {launch.block} is not .reqntid {function.reqntid}")
    if function.maxntid is not None:
        x, y, z = function.maxntid
        if launch.threads > x * y * z:
            raise LaunchError(f"block {launch.block} exceeds .maxntid {function.maxntid}")
    if launch.dynamic_bytes < 0 or launch.shared_bytes > _MAX_SHARED:
        raise LaunchError(
            f"{launch.shared_bytes} bytes of shared memory, expected 0..{_MAX_SHARED}"
        )


def run(launch: Launch, max_steps: int | None) -> Report:
    """Runs all CTAs, in ascending batches of about 4096 lanes; returns the report."""
    gx, gy, gz = launch.grid
    total = gx * gy * gz
    padded = (launch.threads + 31) // 32 * 32
    each = max(1, min(total, _BATCH_LANES // padded))
    report = Report()
    pending = iter(range(0, total, each))
    running: list[tuple[Machine, Any]] = []
    left = max_steps
    with np.errstate(all="ignore"):
        while True:
            if len(running) < _LIVE_BATCHES:
                first = next(pending, None)
                if first is not None:
                    machine = Machine(launch, first, min(each, total - first))
                    running.append((machine, Scheduler(machine, left).run(_SLICE_BLOCKS)))
            if not running:
                return report
            for entry in list(running):
                machine, steps = entry
                try:
                    next(steps)
                    continue
                except StopIteration:
                    pass
                except StepLimit:
                    report.complete = False
                _account(report, machine)
                if not report.complete:
                    return report
                if left is not None:
                    left -= machine.steps
                running.remove(entry)


def _account(report: Report, machine: Machine) -> None:
    """Adds what a batch did to the report."""
    report.profile.thread_instructions += machine.thread_instructions
    report.profile.steps += machine.steps
    report.profile.ctas += machine.ctas


