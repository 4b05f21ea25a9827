"""The device: buffers, modules, kernels."""

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import Finding, LaunchError
from .launch import (
    MAX_BLOCK,
    MAX_GRID,
    Launch,
    Report,
    check_shape,
    extents,
    pack_arguments,
    place_grid,
    whole,
)
from .memory import Allocation, DeviceMemory
from .scalars import Array

if TYPE_CHECKING:
    from .compiler.program import Program
    from .isa.accumulation import Model
    from .profile.redundancy import Synchronisation
    from .ptx.syntax import Module as Syntax
    from .tracing import Trace

# Names of element types that buffers take, besides what NumPy calls its own.
DTYPES = {
    "f16": "f2",
    "bf16": "u2",
    "f32": "f4",
    "f64": "f8",
    "i8": "i1",
    "i16": "i2",
    "i32": "i4",
    "i64": "i8",
    "u8": "u1",
    "u16": "u2",
    "u32": "u4",
    "u64": "u8",
}
_NAMES = {np.dtype(code): name for name, code in DTYPES.items() if name != "bf16"}
_ALWAYS = frozenset({"bounds", "alignment", "use-after-free", "deadlock"})
_CHEAP = frozenset({"wgmma", "registers", "transaction"})  # take no time while a kernel runs
CHECKS = _ALWAYS | _CHEAP | {"uninitialised", "race", "in-flight"}
# Most are always made: what they refuse has no meaning that could be computed.
_SETS = {
    "none": _ALWAYS,
    "default": _ALWAYS | _CHEAP,
    "all": CHECKS,
}


def check_set(checks: str | Iterable[str]) -> frozenset[str]:
    """Returns a set of checks; raises ValueError that lists them for an unknown one."""
    if isinstance(checks, str) and checks in _SETS:
        return _SETS[checks]
    names = frozenset((checks,) if isinstance(checks, str) else checks)
    if names - CHECKS:
        known = ", ".join(sorted(CHECKS))
        raise ValueError(f"unknown checks {sorted(names - CHECKS)}; there are {known}")
    return names | _SETS["none"]


class _Window:
    """Lets NumPy see a buffer's memory and keeps the buffer alive as long as it does."""

    def __init__(self, owner: "Buffer", storage: Array, dtype: Any, shape: tuple[int, ...]) -> None:
        self.owner = owner
        interface = dict(storage.__array_interface__)
        interface.update(shape=shape, typestr=np.dtype(dtype).str, descr=None, strides=None)
        del interface["descr"]
        self.__array_interface__ = interface


class Buffer:
    """
    An array in global memory.

    `dtype` is a name such as "f32"; bf16 is held as uint16 bits. `address` is the device address
    of the first element. `.numpy()` is a view: it sees what kernels write.
    """

    def __init__(
        self, memory: DeviceMemory, storage: Array, dtype: str, shape: tuple[int, ...], name: str
    ) -> None:
        self.memory = memory
        self._storage = storage
        self._allocation: Allocation = memory.add(storage, name)
        self._end = weakref.finalize(self, memory.free, self._allocation)
        self.dtype = dtype
        self.shape = shape
        self.name = name
        self.nbytes: int = storage.size
        self.address: int = self._allocation.base

    def numpy(self) -> Array:
        """Returns the contents as a view; raises ValueError after free()."""
        if not self._allocation.live:
            raise ValueError(f"buffer {self.name or hex(self.address)} was freed")
        self._allocation.written = None  # the host may write through the view from here on
        window = _Window(self, self._storage, DTYPES.get(self.dtype, self.dtype), self.shape)
        return np.asarray(window)

    def watch(self) -> None:
        """Takes the contents as not written yet, for the check "uninitialised"."""
        self._allocation.written = np.zeros(self.nbytes, np.uint8)

    def free(self) -> None:
        """Ends the buffer; a kernel that still uses its address gets a use-after-free fault."""
        self._end()

    def __repr__(self) -> str:
        """Returns a short description."""
        return f"Buffer({self.dtype}{list(self.shape)} at {self.address:#x})"


class Kernel:
    """An entry of a module, ready to launch."""

    def __init__(self, module: "Module", program: "Program") -> None:
        self._module = module
        self.program = program
        self.name = program.name
        self._variants: dict[tuple[str, bool], Program] = {}

    def launch(
        self,
        grid: Sequence[int] | int,
        block: Sequence[int] | int,
        args: Sequence[Any] = (),
        shared_bytes: int = 0,
        max_steps: int | None = None,
        profile: bool = False,
        trace: "Trace | None" = None,
        cluster: Sequence[int] | int | None = None,
        seed: int | None = None,
        perturb: int | None = None,
        accumulate: str = "f32",
    ) -> Report:
        """
        Runs the kernel to its end.

        `shared_bytes` is the size of `.extern .shared` memory, `cluster` the CTAs of a cluster
        along x, y, z (what `.reqnctapercluster` says where it is left out). After `max_steps`
        instructions issued the launch ends, and its report says `complete=False`. `profile`
        counts by instruction (Report.profile.lines), `trace` follows a thread.

        `seed` draws another legal schedule, the same one for a seed. `perturb`, a seed too,
        gives approximate instructions errors within what the PTX ISA admits. `accumulate` is
        "f32", or "truncating" for sums of mma and wgmma that are cut off as in tensor cores.

        Raises LaunchError before anything runs for what doesn't fit the kernel, SimulationError
        for a fault.
        """
        observer = self._observer(args, profile, trace)
        launch = self._launch(grid, block, cluster, args, shared_bytes, observer, perturb)
        launch.max_steps, launch.seed = whole("max_steps", max_steps), whole("seed", seed)
        launch.truncation = _truncation(accumulate, self._module.syntax)
        from .execution import run  # imported here as the compiler is

        report = run(launch)
        report.findings = (*self._hazards(), *report.findings)
        report.profile.lines = observer.lines() if profile else ()
        return report

    def _observer(self, args: Sequence[Any], profile: bool, trace: "Trace | None") -> Any:
        """Returns what counts or follows a trace; raises LaunchError for another's buffers."""
        for argument in args:
            if isinstance(argument, Buffer) and argument.memory is not self._module.device.memory:
                raise LaunchError(f"{argument!r} belongs to another device")
        if profile and trace is not None:
            raise LaunchError("a launch is profiled or traced, not both")
        return _observer(self._module.syntax, trace) if profile or trace else None

    def _launch(
        self,
        grid: Any,
        block: Any,
        cluster: Any,
        args: Sequence[Any],
        shared_bytes: int,
        observer: Any,
        perturb: int | None,
    ) -> Launch:
        """Returns a launch; raises LaunchError for what doesn't fit the kernel or a GPU."""
        device, function = self._module.device, self.program.function
        launch = Launch(
            self._variant(observer, perturb is not None),
            device.memory,
            place_grid(extents("grid", grid, MAX_GRID), cluster, function),
            extents("block", block, MAX_BLOCK),
            pack_arguments(function.params, args, self.name),
            whole("shared_bytes", shared_bytes) or 0,
            self._module.symbols,
            device.checks,
            perturb=whole("perturb", perturb) or 0,
            observer=observer,
        )
        check_shape(launch)
        return launch

    def _hazards(self) -> tuple[Finding, ...]:
        """Returns what the text alone shows; it is looked for at the first launch."""
        from .checks.hazards import hazards
        from .checks.registers import ignored
        from .compiler.inlining import inline

        program = self.program
        if program.hazards is None:
            known = (program.module, inline(program.module, program.function))
            program.hazards = (*ignored(*known), *hazards(*known))
        checks = self._module.device.checks
        return tuple(finding for finding in program.hazards if finding.kind in checks)

    def redundant_barriers(
        self,
        grid: Sequence[int] | int,
        block: Sequence[int] | int,
        args: Sequence[Any] = (),
        **options: Any,
    ) -> "tuple[Synchronisation, ...]":
        """
        Returns the barriers, waits and fences that a launch, run with all checks, doesn't need.

        Each is left out in turn; see profile/redundancy.py. `options` are those of `launch` but
        `profile` and `trace`. Buffers hold afterwards what they held before. Raises
        SimulationError and LaunchError for a launch that has findings as it is.
        """
        from .profile.redundancy import redundant

        device, module = self._module.device, self._module
        limit = options.pop("max_steps", None)

        def run(program: "Program", steps: int | None) -> Report:
            steps = limit if steps is None else steps
            return Kernel(module, program).launch(grid, block, args, max_steps=steps, **options)

        checks, device.checks = device.checks, check_set("all")
        try:
            return redundant(self.program, device.memory, run)
        finally:
            device.checks = checks

    def _variant(self, observer: Any, perturbed: bool) -> "Program":
        """Returns the program that tells an observer of each instruction, or makes errors."""
        if observer is None and not perturbed:
            return self.program
        from .compiler.codegen import compile_function
        from .compiler.emitter import BlockEmitter
        from .compiler.observed import CountingEmitter, TracingEmitter
        from .isa import FORMS
        from .isa.approximate import overlaid

        emitter = BlockEmitter
        if observer is not None:
            emitter = TracingEmitter if observer.wants_values else CountingEmitter
        key = (emitter.__name__, perturbed)
        if key not in self._variants:
            find = overlaid(FORMS.find) if perturbed else FORMS.find
            known = (self._module.syntax, self.program.function)
            self._variants[key] = compile_function(*known, emitter, find)
        return self._variants[key]


class Module(Mapping[str, Kernel]):
    """The kernels of one PTX text, loaded on a device with its global variables."""

    def __init__(
        self, device: "Device", syntax: "Syntax", programs: "Mapping[str, Program]"
    ) -> None:
        self.device = device
        self.syntax = syntax
        self.symbols: dict[str, int] = {}
        self.variables: dict[str, Allocation] = {}
        self._kernels = {name: device.kernel(self, program) for name, program in programs.items()}
        self._place()

    def _place(self) -> None:
        """Puts global and constant variables into memory and fills in their addresses."""
        for variable in self.syntax.variables.values():
            if variable.space in ("global", "const"):
                storage = np.zeros(variable.size, np.uint8)
                storage[: len(variable.data)] = np.frombuffer(variable.data, np.uint8)
                writable = variable.space == "global"
                allocation = self.device.memory.add(storage, variable.name, writable)
                self.variables[variable.name] = allocation
                self.symbols[variable.name] = allocation.base
        for variable in self.syntax.variables.values():
            for offset, name, addend in variable.symbols:
                word = np.array([(self.symbols[name] + addend) & (1 << 64) - 1], np.uint64)
                self.variables[variable.name].storage[offset : offset + 8] = word.view(np.uint8)

    def __getitem__(self, name: str) -> Kernel:
        """Returns a kernel; raises KeyError that lists the entries."""
        kernel = self._kernels.get(name)
        if kernel is None:
            names = ", ".join(self._kernels) or "none"
            raise KeyError(f"no entry {name!r}; the entries are {names}")
        return kernel

    def __iter__(self) -> Iterator[str]:
        """Returns the names of the entries."""
        return iter(self._kernels)

    def __len__(self) -> int:
        """Returns the number of entries."""
        return len(self._kernels)


class Device:
    """
    A simulated GPU: memory of its own, and the checks that its launches make.

    `checks` is "none", "default", "all", or names out of CHECKS. Bounds, alignment, use after
    free, deadlock and divergence at barriers are always checked. "default" adds what costs no
    time while a kernel runs: accesses of registers of wgmma in flight and fences that it lacks,
    setmaxnreg that waits for ever, and mbarriers told of other bytes than come. "all" adds reads
    of memory that nobody wrote, races in shared and global memory, missing proxy fences, and
    copies in flight at exit. What doesn't end a launch is listed in `Report.findings`.
    """

    def __init__(self, checks: str | Iterable[str] = "default") -> None:
        self.checks = check_set(checks)
        self.memory = DeviceMemory()

    def load(self, ptx: str) -> Module:
        """
        Parses and compiles a PTX text; a text seen before in this process costs nothing.

        Raises PTXError for what is malformed and for what the simulator doesn't cover.
        """
        syntax, programs = _compile(ptx)
        return Module(self, syntax, programs)

    def kernel(self, module: Module, program: "Program") -> Kernel:
        """Returns the kernel that a module holds for a program; a subclass may make its own."""
        return Kernel(module, program)

    def empty(self, shape: Sequence[int] | int, dtype: str, name: str = "") -> Buffer:
        """
        Returns a buffer whose contents start as zeros; `dtype` is a name such as "bf16".

        The check "uninitialised" finds loads of what no kernel has written; it ends for a buffer
        whose `numpy()` the host has asked for.
        """
        extents = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
        code = DTYPES.get(dtype)
        if code is None:
            raise ValueError(f"unknown dtype {dtype!r}; there are {', '.join(DTYPES)}")
        size = int(np.prod(extents, dtype=np.int64)) * np.dtype(code).itemsize
        buffer = Buffer(self.memory, np.zeros(size, np.uint8), dtype, extents, name)
        if "uninitialised" in self.checks:
            buffer.watch()
        return buffer

    def array(self, values: Any, dtype: str = "", name: str = "") -> Buffer:
        """Returns a buffer with a copy of an array; pass dtype="bf16" for uint16 bits of it."""
        array = np.ascontiguousarray(values)
        known = _NAMES.get(array.dtype)
        if known is None:
            raise ValueError(f"can't hold elements of type {array.dtype}")
        if dtype and np.dtype(DTYPES.get(dtype, "V1")).itemsize != array.itemsize:
            raise ValueError(f"elements of type {array.dtype} are not {dtype}")
        storage = array.reshape(-1).view(np.uint8).copy()
        return Buffer(self.memory, storage, dtype or known, np.shape(values), name)

    def tensor_map(
        self,
        buffer: "Buffer | int",
        dtype: str,
        shape: Sequence[int],
        strides: Sequence[int],
        box: Sequence[int],
        element_strides: Sequence[int] | None = None,
        swizzle: str = "none",
        fill: str = "zeros",
    ) -> bytes:
        """
        Returns the 128 bytes of a tensor map, for a `.param .align 64 .b8 x[128]` or a buffer.

        Dimension 0 varies fastest; `strides` are in bytes, of dimensions 1 and up. `swizzle` is
        "none", "32B", "64B" or "128B", `fill` is "zeros" or "nan". Raises LaunchError for what
        cuTensorMapEncodeTiled refuses (CUDA driver API, "Tensor Map Object Management").
        """
        from .tensor_map import tensor_map

        address = buffer if isinstance(buffer, int) else buffer.address
        return tensor_map(address, dtype, shape, strides, box, element_strides, swizzle, fill)

    def view(self, values: Array, dtype: str = "", name: str = "") -> Buffer:
        """Returns a buffer on the memory of a contiguous NumPy array: nothing is copied."""
        known = _NAMES.get(values.dtype)
        if known is None or not values.flags.c_contiguous or not values.flags.writeable:
            raise ValueError("expects a contiguous, writable array of a numeric type")
        storage = values.reshape(-1).view(np.uint8)
        return Buffer(self.memory, storage, dtype or known, values.shape, name)


def _observer(syntax: "Syntax", trace: "Trace | None") -> Any:
    """Returns an observer that counts, or one that follows a trace."""
    from .profile.profiler import Profiler
    from .tracing import Tracer

    return Profiler(syntax) if trace is None else Tracer(syntax, trace)


def _truncation(accumulate: str, syntax: "Syntax") -> "Model | None":
    """Returns how tensor cores add up; raises LaunchError for an unknown word or target."""
    if accumulate == "f32":
        return None
    if accumulate != "truncating":
        raise LaunchError(f"accumulate is {accumulate!r}, expected 'f32' or 'truncating'")
    from .isa.accumulation import model_of

    return model_of(syntax.target)


@lru_cache(maxsize=128)
def _compile(text: str) -> "tuple[Syntax, dict[str, Program]]":
    """Returns the syntax tree and the programs of a text."""
    # Imported here: a process that only plans or holds buffers never pays for the compiler.
    from .compiler.codegen import compile_function
    from .ptx.parser import parse

    syntax = parse(text)
    entries = [function for function in syntax.functions.values() if function.entry]
    return syntax, {function.name: compile_function(syntax, function) for function in entries}
