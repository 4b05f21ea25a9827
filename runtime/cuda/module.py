"""Loading a kernel on a GPU and launching it."""

import ctypes
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from weakref import finalize

from ..artifact import KernelArtifact
from ..buffer import Buffer
from ..cache import ArtifactCache, cache_key
from ..contract import KernelContract, PointerParam, Resources, parse_target
from ..device import Argument, Grid
from ..errors import ArgumentError, AssemblerError, CudaError, DeviceError
from ..ptxas import AssemblerTooOld, Ptxas, refuse_lost_properties
from ..stream import stream_handle
from .context import Context
from .memory import release

_LOG_BYTES = 1 << 16
# Each parameter sits in a slot of 8 bytes, by the type that PTX gives it.
_SLOTS = {"pointer": "Q", "i64": "q", "i32": "i4x", "f32": "f4x", "f64": "d"}


class CudaKernel:
    """
    A kernel loaded on a GPU.

    `resources` are what the driver reports of it, with all local memory counted as spilled bytes;
    `log` is the text of the driver's assembler.
    """

    def __init__(self, context: Context, module: Any, contract: KernelContract, log: str) -> None:
        self._context = context
        self._module = module
        finalize(self, release, context, "cuModuleUnload", module)
        self._contract = contract
        self.log = log
        self._function: Any = context.call("cuModuleGetFunction", module, contract.name.encode())
        self.resources = Resources(self._attribute("NUM_REGS"), self._attribute("LOCAL_SIZE_BYTES"))
        self._check_limits()
        kinds = ["pointer" if isinstance(p, PointerParam) else p.dtype for p in contract.params]
        self._count = len(kinds)
        self._format = "<" + "".join(_SLOTS[kind] for kind in kinds) + f"{self._count}Q"

    def _key(self, name: str) -> Any:
        return getattr(self._context.bindings.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")

    def _attribute(self, name: str) -> int:
        return int(self._context.call("cuFuncGetAttribute", self._key(name), self._function))

    def _check_limits(self) -> None:
        """Opts in to the dynamic shared memory; raises DeviceError for what does not fit."""
        contract, context = self._contract, self._context
        dynamic = contract.dynamic_shared_bytes
        shared = dynamic + self._attribute("SHARED_SIZE_BYTES")
        largest = context.attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
        if shared > largest:
            needs = f"needs {shared} B of shared memory a CTA"
            raise DeviceError(f"kernel '{contract.name}' {needs}, the GPU has {largest} B")
        x, y, z = contract.block
        threads = self._attribute("MAX_THREADS_PER_BLOCK")
        if x * y * z > threads:
            needs = f"needs {x * y * z} threads a CTA"
            raise DeviceError(f"kernel '{contract.name}' {needs}, it can have {threads}")
        if dynamic:
            key = self._key("MAX_DYNAMIC_SHARED_SIZE_BYTES")
            context.call("cuFuncSetAttribute", self._function, key, dynamic)

    def launch(
        self,
        grid: Grid,
        args: Sequence[Argument],
        stream: object = None,
        programmatic: bool = False,
    ) -> None:
        """Launches without waiting; raises CudaError, or ArgumentError for a wrong argument."""
        if len(args) != self._count:
            raise ArgumentError("args", f"{self._count} arguments", str(len(args)))
        values = [arg.address if isinstance(arg, Buffer) else arg for arg in args]
        # Values first, then one pointer to each value: the array that cuLaunchKernel reads.
        memory = (ctypes.c_uint64 * (2 * self._count))()
        base = ctypes.addressof(memory)
        pointers = range(base, base + 8 * self._count, 8)
        try:
            struct.pack_into(self._format, memory, 0, *values, *pointers)
        except (struct.error, OverflowError) as error:
            raise ArgumentError("args", "the types of the contract", str(error)) from None
        handle = stream_handle(stream) or 0
        parameters = base + 8 * self._count
        if programmatic:
            config = self._configuration(grid, handle)
            self._context.call("cuLaunchKernelEx", config, self._function, parameters, 0)
        else:
            self._context.call(
                "cuLaunchKernel",
                self._function,
                *grid,
                *self._contract.block,
                self._contract.dynamic_shared_bytes,
                handle,
                parameters,
                0,
            )
        captured = self._context.captures.get(handle)
        if captured is not None:
            captured.append((self, *args))

    def _configuration(self, grid: Grid, stream: int) -> Any:
        """Returns a launch that need not wait for the end of the kernel in front of it."""
        bindings = self._context.bindings
        attribute = bindings.CUlaunchAttribute()
        kinds = bindings.CUlaunchAttributeID
        attribute.id = kinds.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        attribute.value.programmaticStreamSerializationAllowed = 1
        config = bindings.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = grid
        config.blockDimX, config.blockDimY, config.blockDimZ = self._contract.block
        config.sharedMemBytes = self._contract.dynamic_shared_bytes
        config.hStream = stream
        config.attrs, config.numAttrs = [attribute], 1
        return config


def load_kernel(
    context: Context,
    artifact: KernelArtifact,
    capability: tuple[int, int],
    ptxas: Ptxas | None,
    cache: ArtifactCache,
) -> CudaKernel:
    """
    Returns the kernel of `artifact` on a GPU of `capability`.

    Machine code that fits the GPU is used as it is, else PTX is assembled by `ptxas`, whose results
    `cache` keeps, else by the driver. A driver older than the assembler refuses its code; then the
    driver assembles, too. Raises AssemblerError with the assembler's words, or CudaError.
    """
    cubin = _machine_code(artifact, capability, ptxas, cache)
    module, log = None, ""
    if cubin is not None:
        with suppress(CudaError):
            module = context.call("cuModuleLoadData", cubin)
    if module is None:
        module, log = _assemble_by_driver(context, artifact)
    return CudaKernel(context, module, artifact.contract, log)


def _machine_code(
    artifact: KernelArtifact,
    capability: tuple[int, int],
    ptxas: Ptxas | None,
    cache: ArtifactCache,
) -> bytes | None:
    target = parse_target(artifact.contract.target)
    if target is None:
        return None
    # Machine code runs within its major capability (CUDA Programming Guide, Binary Compatibility).
    if artifact.cubin is not None and capability[0] == target.major:
        return artifact.cubin
    if ptxas is None:
        return None
    arch = f"sm_{capability[0]}{capability[1]}{'a' if target.specific else ''}"
    key = cache_key({"cubin": artifact.ptx, "arch": arch, "ptxas": ptxas.version})
    known = cache.get(key)
    if known is not None:
        return known.cubin
    try:
        assembly = ptxas.assemble(artifact.ptx, arch)
    except AssemblerTooOld:
        return None
    cache.put(key, replace(artifact, cubin=assembly.cubin))
    return assembly.cubin


def _assemble_by_driver(context: Context, artifact: KernelArtifact) -> tuple[Any, str]:
    """Returns the module and the log of the driver's assembler; refuses lost properties."""
    option = context.bindings.CUjit_option
    info, errors = bytearray(_LOG_BYTES), bytearray(_LOG_BYTES)
    options: dict[Any, object] = {
        option.CU_JIT_INFO_LOG_BUFFER: info,
        option.CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES: _LOG_BYTES,
        option.CU_JIT_ERROR_LOG_BUFFER: errors,
        option.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES: _LOG_BYTES,
        option.CU_JIT_LOG_VERBOSE: 1,
    }
    name, image = artifact.contract.name, artifact.ptx.encode() + b"\0"
    arguments = (image, len(options), list(options), list(options.values()))
    try:
        module = context.call("cuModuleLoadDataEx", *arguments)
    except CudaError as error:
        words = _text(errors).strip().replace("\n", "; ")
        if not words:
            raise
        raise AssemblerError(f"{error.code}: kernel '{name}': {words}") from error
    log = _text(info) + _text(errors)
    try:
        refuse_lost_properties(log, name)
    except AssemblerError:
        release(context, "cuModuleUnload", module)
        raise
    return module, log


def _text(log: bytearray) -> str:
    return bytes(log).partition(b"\0")[0].decode(errors="replace")
