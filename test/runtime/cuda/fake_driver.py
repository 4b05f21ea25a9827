"""
The CUDA driver without a GPU, in the form of `cuda.bindings.driver`.

Device memory is host memory, so copies are real and addresses can be followed. Every call is
recorded; a launch reads its parameters through the pointers that a driver would follow.
"""

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

from tilewright.runtime.contract import KernelContract, PointerParam

_WIDTHS: dict[str, Any] = {
    "pointer": ctypes.c_uint64,
    "i64": ctypes.c_int64,
    "i32": ctypes.c_int32,
    "f32": ctypes.c_float,
}
_NAMES = {
    0: "CUDA_SUCCESS",
    1: "CUDA_ERROR_INVALID_VALUE",
    2: "CUDA_ERROR_OUT_OF_MEMORY",
    34: "CUDA_ERROR_STUB_LIBRARY",
    100: "CUDA_ERROR_NO_DEVICE",
    200: "CUDA_ERROR_INVALID_IMAGE",
    201: "CUDA_ERROR_INVALID_CONTEXT",
    218: "CUDA_ERROR_INVALID_PTX",
    500: "CUDA_ERROR_NOT_FOUND",
    600: "CUDA_ERROR_NOT_READY",
    700: "CUDA_ERROR_ILLEGAL_ADDRESS",
    900: "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
}


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_FOUND = 500


class CUdevice_attribute(IntEnum):
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16
    CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE = 38
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97


class CUfunction_attribute(IntEnum):
    CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0
    CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1
    CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = 3
    CU_FUNC_ATTRIBUTE_NUM_REGS = 4
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8


class CUjit_option(IntEnum):
    CU_JIT_INFO_LOG_BUFFER = 3
    CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES = 4
    CU_JIT_ERROR_LOG_BUFFER = 5
    CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6
    CU_JIT_LOG_VERBOSE = 12


class CUstream_flags(IntEnum):
    CU_STREAM_NON_BLOCKING = 1


class CUstreamCaptureStatus(IntEnum):
    CU_STREAM_CAPTURE_STATUS_NONE = 0


class CUstreamCaptureMode(IntEnum):
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


class CUlaunchAttributeID(IntEnum):
    CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION = 6


class CUlaunchAttribute:
    """An attribute; its value is a union of fields that are set by name."""

    def __init__(self) -> None:
        self.id = 0
        self.value = SimpleNamespace()


class CUlaunchConfig:
    """What cuLaunchKernelEx takes."""

    gridDimX = gridDimY = gridDimZ = blockDimX = blockDimY = blockDimZ = 0
    sharedMemBytes = hStream = numAttrs = 0
    attrs: tuple[Any, ...] = ()


class CUevent_flags(IntEnum):
    CU_EVENT_DEFAULT = 0
    CU_EVENT_DISABLE_TIMING = 2


@dataclass
class Launch:
    """One launch: its sizes, stream and the values of its parameters by name."""

    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_bytes: int
    stream: int
    values: dict[str, Any]
    programmatic: bool = False


@dataclass
class FakeBindings:
    """
    A driver with `gpus` GPUs.

    `failures` maps a function to the CUresult it gives; `contract` tells how a launch's parameters
    are read; `body` is called with the launch; `info_log` and `error_log` are the JIT's words.
    """

    gpus: int = 1
    capability: tuple[int, int] = (9, 0)
    failures: Mapping[str, int] = field(default_factory=dict[str, int])
    contract: KernelContract | None = None
    body: Callable[[Launch], None] | None = None
    info_log: bytes = b""
    error_log: bytes = b""
    function_attributes: dict[int, int] = field(
        default_factory=lambda: {0: 1024, 1: 0, 3: 0, 4: 168}
    )
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list[Any])
    launches: list[Launch] = field(default_factory=list[Launch])
    memory: dict[int, Any] = field(default_factory=dict[int, Any])
    contexts: list[int] = field(default_factory=list[int])
    events: int = 0
    streams: int = 0
    # The launches of each stream that is captured, and of each graph.
    capture_mode: int = 0
    captures: dict[int, list[Launch]] = field(default_factory=dict[int, list[Launch]])
    graphs: dict[int, list[Launch]] = field(default_factory=dict[int, list[Launch]])
    free_bytes: int = 1 << 34

    CUresult = CUresult
    CUdevice_attribute = CUdevice_attribute
    CUfunction_attribute = CUfunction_attribute
    CUjit_option = CUjit_option
    CUevent_flags = CUevent_flags
    CUstream_flags = CUstream_flags
    CUlaunchAttribute = CUlaunchAttribute
    CUlaunchAttributeID = CUlaunchAttributeID
    CUlaunchConfig = CUlaunchConfig
    CUstreamCaptureMode = CUstreamCaptureMode
    CUstreamCaptureStatus = CUstreamCaptureStatus

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        if not name.startswith("cu") or name not in _FUNCTIONS:
            raise AttributeError(name)

        def call(*args: Any) -> tuple[Any, ...]:
            self.calls.append((name, args))
            if name in self.failures:
                return self.failures[name], None
            needs_context = name.startswith(("cuMem", "cuModule", "cuFunc", "cuLaunch", "cuEvent"))
            if needs_context and not self.contexts:
                return 201, None
            return _FUNCTIONS[name](self, *args)

        return call

    def names(self, *wanted: str) -> list[str]:
        """Returns the recorded functions, in order; only `wanted` ones where some are given."""
        return [name for name, _ in self.calls if not wanted or name in wanted]

    def arguments(self, name: str) -> list[tuple[Any, ...]]:
        """Returns the arguments of the calls of one function."""
        return [args for function, args in self.calls if function == name]

    def cuInit(self, flags: int) -> tuple[int]:
        """Starts the driver."""
        self.calls.append(("cuInit", (flags,)))
        return (self.failures.get("cuInit", 0),)


def _name(_fake: FakeBindings, code: int) -> tuple[int, bytes]:
    return 0, _NAMES.get(int(code), "CUDA_ERROR_UNKNOWN").encode()


def _string(_fake: FakeBindings, code: int) -> tuple[int, bytes]:
    return 0, f"words of {int(code)}".encode()


def _attribute(fake: FakeBindings, key: int, _device: int) -> tuple[int, int]:
    major, minor = fake.capability
    return 0, {16: 132, 38: 1 << 20, 75: major, 76: minor, 97: 232448}[int(key)]


def _push(fake: FakeBindings, context: int) -> tuple[int]:
    fake.contexts.append(context)
    return (0,)


def _pop(fake: FakeBindings) -> tuple[int, int]:
    return 0, fake.contexts.pop()


def _allocate(fake: FakeBindings, size: int) -> tuple[int, int]:
    # Aligned to 256 B as the driver's allocations are; filled with bytes that are no result.
    block = ctypes.create_string_buffer(b"\x7f" * (size + 256), size + 256)
    address = -(-ctypes.addressof(block) // 256) * 256
    fake.memory[address] = (block, size)
    return 0, address


def _free(fake: FakeBindings, address: int) -> tuple[int]:
    return (0 if fake.memory.pop(address, None) else 1,)


def _copy(_fake: FakeBindings, target: int, source: int, size: int, _stream: int) -> tuple[int]:
    ctypes.memmove(target, source, size)
    return (0,)


def _load(fake: FakeBindings, image: bytes, count: int, keys: Any, values: Any) -> tuple[int, Any]:
    if not image.endswith(b"\0") or count != len(keys) or count != len(values):
        return 1, None
    options = dict(zip(keys, values, strict=True))
    options[CUjit_option.CU_JIT_INFO_LOG_BUFFER][: len(fake.info_log)] = fake.info_log
    options[CUjit_option.CU_JIT_ERROR_LOG_BUFFER][: len(fake.error_log)] = fake.error_log
    return (218, None) if fake.error_log else (0, 4000)


def _function(fake: FakeBindings, _module: int, name: bytes) -> tuple[int, int | None]:
    known = fake.contract is None or fake.contract.name.encode() == name
    return (0, 5000) if known else (500, None)


def _launch_ex(
    fake: FakeBindings, config: CUlaunchConfig, function: int, parameters: int, extra: int
) -> tuple[int]:
    grid = (config.gridDimX, config.gridDimY, config.gridDimZ)
    block = (config.blockDimX, config.blockDimY, config.blockDimZ)
    if config.numAttrs != 1 or config.attrs[0].id != 6:
        return (1,)
    allowed = bool(config.attrs[0].value.programmaticStreamSerializationAllowed)
    sizes = (*grid, *block, config.sharedMemBytes, config.hStream)
    return _launch(fake, function, *sizes, parameters, extra, programmatic=allowed)


def _launch(
    fake: FakeBindings, _function: int, *args: Any, programmatic: bool = False
) -> tuple[int]:
    grid, block, (shared, stream, parameters, extra) = args[:3], args[3:6], args[6:]
    if 0 in grid or extra != 0:
        return (1,)
    values: dict[str, Any] = {}
    for index, param in enumerate(fake.contract.params if fake.contract else ()):
        kind = "pointer" if isinstance(param, PointerParam) else param.dtype
        pointer = ctypes.c_uint64.from_address(parameters + 8 * index).value
        values[param.name] = _WIDTHS[kind].from_address(pointer).value
    launch = Launch(grid, block, shared, stream, values, programmatic)
    if stream in fake.captures:
        fake.captures[stream].append(launch)
    else:
        _execute(fake, launch)
    return (0,)


def _execute(fake: FakeBindings, launch: Launch) -> None:
    fake.launches.append(launch)
    if fake.body:
        fake.body(launch)


def _new_stream(fake: FakeBindings, _flags: int) -> tuple[int, int]:
    fake.streams += 1
    return 0, 7000 + fake.streams


def _begin_capture(fake: FakeBindings, stream: int, _mode: int) -> tuple[int]:
    fake.captures[stream] = []
    return (0,)


def _is_capturing(fake: FakeBindings, stream: int) -> tuple[int, int]:
    return 0, int(stream in fake.captures)


def _exchange_mode(fake: FakeBindings, mode: int) -> tuple[int, int]:
    before, fake.capture_mode = fake.capture_mode, mode
    return 0, before


def _query(fake: FakeBindings, _event: int) -> tuple[int]:
    # What is no part of a graph is refused in the modes that are not relaxed.
    relaxed = CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    return (900,) if fake.captures and fake.capture_mode != relaxed else (0,)


def _end_capture(fake: FakeBindings, stream: int) -> tuple[int, int | None]:
    if stream not in fake.captures:
        return 1, None
    graph = 8000 + len(fake.graphs)
    fake.graphs[graph] = fake.captures.pop(stream)
    return 0, graph


def _instantiate(fake: FakeBindings, graph: int, _flags: int) -> tuple[int, int | None]:
    return (0, graph) if graph in fake.graphs else (1, None)


def _replay(fake: FakeBindings, graph: int, _stream: int) -> tuple[int]:
    for launch in fake.graphs[graph]:
        _execute(fake, launch)
    return (0,)


def _set(_fake: FakeBindings, target: int, value: int, size: int, _stream: int) -> tuple[int]:
    ctypes.memset(target, value, size)
    return (0,)


def _memory_info(fake: FakeBindings) -> tuple[int, int, int]:
    return 0, fake.free_bytes, 1 << 36


def _new_event(fake: FakeBindings, _flags: int) -> tuple[int, int]:
    fake.events += 1
    return 0, 6000 + fake.events


def _elapsed(_fake: FakeBindings, start: int, stop: int) -> tuple[int, float]:
    return 0, float(stop - start)


def _current(fake: FakeBindings) -> tuple[int, int]:
    return 0, fake.contexts[-1] if fake.contexts else 0


def _device(_fake: FakeBindings, ordinal: int) -> tuple[int, int]:
    return 0, ordinal


def _count(fake: FakeBindings) -> tuple[int, int]:
    return 0, fake.gpus


def _model(_fake: FakeBindings, _size: int, _device: int) -> tuple[int, bytes]:
    return 0, b"Fake GPU\0\0\0"


def _retain(_fake: FakeBindings, device: int) -> tuple[int, int]:
    return 0, 3000 + device


def _load_binary(_fake: FakeBindings, _image: bytes) -> tuple[int, int]:
    return 0, 4001


def _function_attribute(fake: FakeBindings, key: int, _function: int) -> tuple[int, int]:
    return 0, fake.function_attributes[int(key)]


def _nothing(_fake: FakeBindings, *_args: Any) -> tuple[int]:
    return (0,)


_FUNCTIONS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "cuGetErrorName": _name,
    "cuGetErrorString": _string,
    "cuDeviceGetCount": _count,
    "cuDeviceGet": _device,
    "cuDeviceGetName": _model,
    "cuDeviceGetAttribute": _attribute,
    "cuDevicePrimaryCtxRetain": _retain,
    "cuCtxGetCurrent": _current,
    "cuCtxPushCurrent": _push,
    "cuCtxPopCurrent": _pop,
    "cuCtxSynchronize": _nothing,
    "cuMemAlloc": _allocate,
    "cuMemFree": _free,
    "cuMemAllocHost": _allocate,
    "cuMemFreeHost": _free,
    "cuMemcpyHtoDAsync": _copy,
    "cuMemcpyDtoHAsync": _copy,
    "cuMemcpyDtoDAsync": _copy,
    "cuMemsetD8Async": _set,
    "cuMemGetInfo": _memory_info,
    "cuStreamCreate": _new_stream,
    "cuStreamDestroy": _nothing,
    "cuStreamBeginCapture": _begin_capture,
    "cuStreamEndCapture": _end_capture,
    "cuStreamIsCapturing": _is_capturing,
    "cuThreadExchangeStreamCaptureMode": _exchange_mode,
    "cuGraphInstantiate": _instantiate,
    "cuGraphLaunch": _replay,
    "cuGraphDestroy": _nothing,
    "cuGraphExecDestroy": _nothing,
    "cuModuleLoadDataEx": _load,
    "cuModuleLoadData": _load_binary,
    "cuModuleUnload": _nothing,
    "cuModuleGetFunction": _function,
    "cuFuncGetAttribute": _function_attribute,
    "cuFuncSetAttribute": _nothing,
    "cuLaunchKernel": _launch,
    "cuLaunchKernelEx": _launch_ex,
    "cuStreamSynchronize": _nothing,
    "cuStreamWaitEvent": _nothing,
    "cuEventCreate": _new_event,
    "cuEventDestroy": _nothing,
    "cuEventRecord": _nothing,
    "cuEventSynchronize": _query,
    "cuEventQuery": _query,
    "cuEventElapsedTime": _elapsed,
}
