"""What kernels are recorded on: a GPU through libcuda, or the simulator in its place."""

import ctypes
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from variants.variant import SIZES, Array, Box, Variant

_STICKY = {700, 702, 709, 714, 715, 716, 717, 718, 719, 999}
"""CUDA errors after which nothing more runs in the process."""
# Attributes of devices and functions (CUDA driver API).
_MAJOR, _MINOR, _MAX_DYNAMIC = 75, 76, 8
_ERROR_LOG, _ERROR_LOG_SIZE, _LOG_BYTES = 5, 6, 8192
# Codes of element types, swizzles and fills of cuTensorMapEncodeTiled.
_TYPES = {"u8": 0, "u16": 1, "u32": 2, "i32": 3, "u64": 4, "i64": 5, "f16": 6, "f32": 7, "f64": 8}
_TYPES["bf16"] = 9
_SWIZZLES = {"none": 0, "32B": 1, "64B": 2, "128B": 3}
_FILLS = {"zeros": 0, "nan": 1}


class Broken(Exception):
    """The process can run nothing more."""


class Device(Protocol):
    """Runs the entries of modules."""

    @property
    def description(self) -> dict[str, str]:
        """What meta.json says of the device."""
        ...

    @property
    def capability(self) -> tuple[int, int]:
        """The compute capability."""
        ...

    def load(self, text: str) -> Any:
        """Compiles a module; raises what the device does for a text that it refuses."""
        ...

    def run(self, module: Any, entry: str, variant: Variant) -> Array:
        """Returns the results of a variant; raises Broken where nothing runs any more."""
        ...


class Simulator:
    """The simulator, with all checks: a variant with a finding has no one result."""

    capability = (9, 0)

    def __init__(self) -> None:
        """Makes a simulated device."""
        from tilewright.runtime import simulator

        self._device = simulator.Device("all")
        self.description = {"device": "simulator"}

    def load(self, text: str) -> Any:
        """Compiles a module."""
        return self._device.load(text)

    def run(self, module: Any, entry: str, variant: Variant) -> Array:
        """Returns the results of a variant."""
        device = self._device
        inputs = variant.inputs()
        buffers = [device.array(array) for array in inputs]
        output = device.array(variant.results(inputs))
        map = bytes(128)
        if variant.box:
            box = variant.box
            where = buffers[0] if box.of == "a" else output
            strides = box.strides(SIZES[box.dtype])
            map = device.tensor_map(
                where, box.dtype, box.shape, strides, box.box,
                box.steps or None, box.swizzle, box.fill,
            )  # fmt: skip
        given = [*buffers, *[0] * (3 - len(buffers)), output, variant.count, map]
        kernel = module[entry]
        report = kernel.launch(variant.grid, variant.block, given, variant.dynamic)
        if report.findings:
            raise RuntimeError(str(report.findings[0]))
        return output.numpy().copy()


class Gpu:
    """A GPU through libcuda: the first one, its primary context."""

    def __init__(self, library: Any = None) -> None:
        name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        self._cuda = library or ctypes.CDLL(name)
        context, model = ctypes.c_void_p(), ctypes.create_string_buffer(256)
        self._device = ctypes.c_int()
        version = ctypes.c_int()
        self._call("cuInit", 0)
        self._call("cuDriverGetVersion", ctypes.byref(version))
        self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        self._call("cuDeviceGetName", model, 256, self._device)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self._call("cuCtxSetCurrent", context)
        self.capability = self._attribute(_MAJOR), self._attribute(_MINOR)
        self.description = {
            "device": model.value.decode(),
            "driver": f"CUDA {version.value // 1000}.{version.value % 1000 // 10}",
        }

    def _attribute(self, key: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), key, self._device)
        return value.value

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._cuda, function)(*arguments)
        if not code:
            return
        text = ctypes.c_char_p()
        self._cuda.cuGetErrorName(code, ctypes.byref(text))
        name = text.value.decode() if text.value else f"CUDA error {code}"
        raise (Broken if code in _STICKY else RuntimeError)(f"{function}: {name}")

    def load(self, text: str) -> ctypes.c_void_p:
        """Compiles a module; what the compiler says is in the error."""
        module, log = ctypes.c_void_p(), ctypes.create_string_buffer(_LOG_BYTES)
        options = (ctypes.c_int * 2)(_ERROR_LOG, _ERROR_LOG_SIZE)
        values = (ctypes.c_void_p * 2)(ctypes.addressof(log), _LOG_BYTES)
        image = ctypes.c_char_p(text.encode() + b"\0")
        try:
            self._call("cuModuleLoadDataEx", ctypes.byref(module), image, 2, options, values)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{log.value.decode(errors='replace')}".strip()) from None
        return module

    def run(self, module: Any, entry: str, variant: Variant) -> Array:
        """Returns the results of a variant."""
        kernel = ctypes.c_void_p()
        self._call("cuModuleGetFunction", ctypes.byref(kernel), module, entry.encode())
        inputs = variant.inputs()
        output = variant.results(inputs)
        pointers: list[ctypes.c_uint64] = []
        try:
            for array in (*inputs, output):
                pointers.append(self._upload(array))
            self._launch(kernel, variant, pointers)
            self._call("cuCtxSynchronize")
            size = ctypes.c_size_t(output.nbytes)
            target = ctypes.c_void_p(output.ctypes.data)
            self._call("cuMemcpyDtoH_v2", target, pointers[-1], size)
        finally:
            for pointer in pointers:
                self._cuda.cuMemFree_v2(pointer)
        return output

    def _upload(self, array: Array) -> ctypes.c_uint64:
        pointer, size = ctypes.c_uint64(), ctypes.c_size_t(array.nbytes)
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), size)
        self._call("cuMemcpyHtoD_v2", pointer, ctypes.c_void_p(array.ctypes.data), size)
        return pointer

    def _launch(self, kernel: Any, variant: Variant, pointers: Sequence[ctypes.c_uint64]) -> None:
        *inputs, output = pointers
        inputs = [*inputs, *[ctypes.c_uint64(0)] * (3 - len(inputs))]
        storage = np.zeros(192, np.uint8)  # holds the map at a multiple of 64 bytes
        map = storage.ctypes.data + 63 & ~63
        if variant.box:
            self._encode(map, variant.box, inputs[0] if variant.box.of == "a" else output)
        count = ctypes.c_uint32(variant.count)
        given = [ctypes.addressof(value) for value in (*inputs, output, count)]
        packed = (ctypes.c_void_p * 6)(*given, map)
        grid, block = (variant.grid, 1, 1), (variant.block, 1, 1)
        self._call("cuLaunchKernel", kernel, *grid, *block, variant.dynamic, None, packed, None)

    def _encode(self, map: int, box: Box, pointer: ctypes.c_uint64) -> None:
        rank = len(box.shape)
        shape = (ctypes.c_uint64 * rank)(*box.shape)
        strides = (ctypes.c_uint64 * max(1, rank - 1))(*box.strides(SIZES[box.dtype]))
        extents = (ctypes.c_uint32 * rank)(*box.box)
        steps = (ctypes.c_uint32 * rank)(*(box.steps or (1,) * rank))
        self._call(
            "cuTensorMapEncodeTiled", ctypes.c_void_p(map), _TYPES[box.dtype], rank,
            ctypes.c_void_p(pointer.value), shape, strides, extents, steps,
            0, _SWIZZLES[box.swizzle], 0, _FILLS[box.fill],
        )  # fmt: skip
