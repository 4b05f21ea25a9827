"""Launches: arguments, batches of CTAs, the report."""

import operator
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import Finding, LaunchError
from .memory import DeviceMemory
from .placement import Extents, Placement
from .scalars import BITS

if TYPE_CHECKING:
    from .compiler.program import Program
    from .isa.accumulation import Model
    from .profile.counts import Profile
    from .ptx.syntax import Function, Variable

_MAX_SHARED = 227 * 1024
_MAX_LOCAL = 512 * 1024  # bytes a thread: CUDA C++ Programming Guide, "Technical Specifications"
MAX_GRID = (2**31 - 1, 65535, 65535)
MAX_BLOCK = (1024, 1024, 64)
MAX_CLUSTER = 16  # CTAs; more than 8 need an attribute of the function on a GPU


def _no_profile() -> "Profile":
    # Imported here, so that a program which profiles nothing does not pay for it.
    from .profile.counts import Profile

    return Profile()


@dataclass
class Report:
    """
    The result of a launch; `complete` is False where max_steps ended it.

    `findings` are of the kinds "race", "proxy", "in-flight", "transaction", "use-after-free" (an
    access to a CTA of the cluster that may have exited), "wgmma" and "registers". What is of
    another kind ends the launch with a SimulationError; "transaction", "use-after-free" and
    "wgmma" may, too.

    `printed` is what the kernel's printf calls gave, in the order in which lanes ran them; bytes
    that are not UTF-8 are replaced.
    """

    findings: tuple[Finding, ...] = ()
    profile: "Profile" = field(default_factory=_no_profile)
    complete: bool = True
    printed: str = ""


@dataclass
class Launch:
    """What all batches of one launch share."""

    program: "Program"
    memory: DeviceMemory
    placement: Placement
    block: Extents
    params: bytes
    dynamic_bytes: int
    symbols: dict[str, int]
    checks: frozenset[str]
    multiprocessors: int = 132
    findings: dict[tuple[str, int, int], Finding] = field(
        default_factory=dict[tuple[str, int, int], Finding]
    )
    races: Any = None  # what checks/global_races.py keeps, where races are looked for
    perturb: int = 0  # seed of the errors of approximate functions, where they are asked for
    truncation: "Model | None" = None  # of tensor cores, where it is asked for
    max_steps: int | None = None  # instructions issued after which the launch ends
    steps: int = 0  # issued so far, where that is limited
    seed: int | None = None  # of the schedule; None for the default one
    random: Any = None  # the generator of the schedule, where there is a seed
    observer: Any = None  # what compiler/observed.py tells of each instruction
    printed: list[bytes] = field(default_factory=list[bytes])
    hits: list[dict[Any, Any]] = field(default_factory=list[dict[Any, Any]])  # of live machines

    def text(self) -> str:
        """Returns what the kernel has printed so far."""
        return b"".join(self.printed).decode("utf-8", "replace")

    @property
    def threads(self) -> int:
        """Threads of one CTA."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory of one CTA, static and dynamic."""
        layout = self.program.layout
        return layout.dynamic + self.dynamic_bytes if self.dynamic_bytes else layout.shared


def whole(name: str, value: Any) -> int | None:
    """Returns an option of a launch that is None or a whole number; raises LaunchError else."""
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0 or isinstance(value, bool):
        raise LaunchError(f"{name} is {value!r}, expected a whole number, 0 or more")
    return number


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


def place_grid(grid: Extents, cluster: Any, function: "Function") -> Placement:
    """
    Returns where the CTAs of a grid stand.

    `cluster` is what the launch asks for, or None. Raises LaunchError where it is not what the
    kernel requires, where the grid is no multiple of it, or where it is too large.
    """
    required = function.cluster
    limits = (MAX_CLUSTER, MAX_CLUSTER, MAX_CLUSTER)
    wanted: Extents = (1, 1, 1) if cluster is None else extents("cluster", cluster, limits)
    if required is not None:
        if cluster is not None and wanted != required:
            raise LaunchError(f"cluster {wanted} is not .reqnctapercluster {required}")
        wanted = required
    if wanted[0] * wanted[1] * wanted[2] > MAX_CLUSTER:
        raise LaunchError(f"cluster {wanted} has more than {MAX_CLUSTER} CTAs")
    if any(extent % part for extent, part in zip(grid, wanted, strict=True)):
        raise LaunchError(f"grid {grid} is no multiple of cluster {wanted}")
    if function.explicit_cluster and cluster is None and required is None:
        raise LaunchError(".explicitcluster asks for a launch with cluster=")
    return Placement(grid, wanted, cluster is not None or required is not None)


def pack_arguments(params: "Sequence[Variable]", arguments: Sequence[Any], kernel: str) -> bytes:
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


def _plain(argument: Any) -> Any:
    """Returns a NumPy scalar as Python's number, anything else as it is."""
    item = getattr(argument, "item", None)
    return item() if item is not None and np.ndim(argument) == 0 else argument


def _bytes_of(param: "Variable", argument: Any) -> bytes:
    """Returns one argument as the bytes of its parameter."""
    type, size = param.type, param.size
    if size != BITS[type] // 8:
        return _structure(size, argument)
    address = getattr(argument, "address", None)
    if address is not None:
        if size != 8 or type == "f64":
            raise LaunchError(f"a .{type} parameter can't take a buffer")
        return struct.pack("<Q", address)
    number = _plain(argument)
    if isinstance(number, float) or type in ("f32", "f64"):
        if type not in ("f32", "f64", "b32", "b64") or not isinstance(number, float | int):
            raise LaunchError(f"a .{type} parameter can't take {argument!r}")
        return struct.pack("<f" if size == 4 else "<d", number)
    if not isinstance(number, int):
        raise LaunchError(f"a .{type} parameter takes an integer or a buffer, got {argument!r}")
    low = 0 if type[0] == "u" else -(1 << 8 * size - 1)
    high = (1 << 8 * size - (type[0] == "s")) - 1
    if not low <= number <= high:
        raise LaunchError(f"{number} doesn't fit a .{type} parameter")
    return (number & (1 << 8 * size) - 1).to_bytes(size, "little")


def _structure(size: int, argument: Any) -> bytes:
    """Returns the bytes of an argument that is passed by value."""
    if not isinstance(argument, bytes | bytearray):
        raise LaunchError(f"a .param of {size} bytes takes bytes, got {argument!r}")
    if len(argument) != size:
        raise LaunchError(f"a .param of {size} bytes takes {size} bytes, got {len(argument)}")
    return bytes(argument)


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
    if launch.program.layout.local > _MAX_LOCAL:
        local = launch.program.layout.local
        raise LaunchError(f"{local} bytes of local memory a thread, expected 0..{_MAX_LOCAL}")
    if launch.dynamic_bytes < 0 or launch.shared_bytes > _MAX_SHARED:
        raise LaunchError(
            f"{launch.shared_bytes} bytes of shared memory, expected 0..{_MAX_SHARED}"
        )
