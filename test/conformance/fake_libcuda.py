"""libcuda as ctypes sees it, with the simulator behind: it follows the pointers it is given."""

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from tilewright.runtime import simulator

INVALID_VALUE, INVALID_PTX, NOT_FOUND, INVALID_CONTEXT = 1, 218, 500, 201
_TYPES = ("u8", "u16", "u32", "i32", "u64", "i64", "f16", "f32", "f64", "bf16")
_SWIZZLES, _FILLS = ("none", "32B", "64B", "128B"), ("zeros", "nan")


class FakeLibcuda:
    """
    A driver with one GPU.

    `failures` maps a function to the error that it gives. `calls` has the names of the functions
    in order, `live` the buffers that were not freed.
    """

    def __init__(self, failures: Mapping[str, int] | None = None) -> None:
        self.device = simulator.Device()
        self.failures = failures or {}
        self.calls: list[str] = []
        self.live: dict[int, simulator.Buffer] = {}
        self.modules: list[Any] = []
        self.kernels: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        function = getattr(type(self), f"_{name}", None)
        if function is None:
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.failures:
                return self.failures[name]
            needs = name.startswith(("cuMem", "cuModule", "cuLaunch", "cuCtxSynchronize"))
            if needs and "cuCtxSetCurrent" not in self.calls:
                return INVALID_CONTEXT
            return function(self, *arguments) or 0

        return call

    def _cuInit(self, flags: int) -> None:
        assert flags == 0

    def _cuDriverGetVersion(self, version: Any) -> None:
        version._obj.value = 12080

    def _cuDeviceGet(self, device: Any, ordinal: int) -> None:
        device._obj.value = 7 + ordinal

    def _cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        ctypes.memmove(name, b"Fake GPU\0", 9)
        return 0 if device.value == 7 and size >= 9 else INVALID_VALUE

    def _cuDeviceGetAttribute(self, value: Any, key: int, device: Any) -> None:
        value._obj.value = {75: 9, 76: 0}[key]

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> None:
        context._obj.value = 3000 + device.value

    def _cuCtxSetCurrent(self, context: Any) -> int:
        return 0 if context.value == 3007 else INVALID_VALUE

    def _cuGetErrorName(self, code: int, text: Any) -> None:
        text._obj.value = {700: b"CUDA_ERROR_ILLEGAL_ADDRESS", 218: b"CUDA_ERROR_INVALID_PTX"}.get(
            code
        )

    def _cuModuleLoadDataEx(
        self, module: Any, image: Any, count: int, options: Any, values: Any
    ) -> int:
        text = ctypes.string_at(image).decode()  # ends at the first zero byte
        given = dict(zip(options[:count], values[:count], strict=True))
        try:
            self.modules.append(self.device.load(text))
        except simulator.PTXError as error:
            log = str(error).encode()[: given[6] - 1]
            ctypes.memmove(given[5], log + b"\0", len(log) + 1)
            return INVALID_PTX
        module._obj.value = len(self.modules)
        return 0

    def _cuModuleGetFunction(self, kernel: Any, module: Any, name: bytes) -> int:
        loaded = self.modules[module.value - 1]
        if name.decode() not in loaded:
            return NOT_FOUND
        self.kernels.append(loaded[name.decode()])
        kernel._obj.value = len(self.kernels)
        return 0

    def _cuMemAlloc_v2(self, pointer: Any, size: Any) -> None:
        buffer = self.device.empty(size.value, "u8")
        self.live[buffer.address] = buffer
        pointer._obj.value = buffer.address

    def _cuMemFree_v2(self, pointer: Any) -> None:
        self.live.pop(pointer.value).free()

    def _cuMemcpyHtoD_v2(self, pointer: Any, source: Any, size: Any) -> None:
        data = ctypes.string_at(source.value, size.value)
        self.live[pointer.value].numpy()[: size.value] = np.frombuffer(data, "u1")

    def _cuMemcpyDtoH_v2(self, target: Any, pointer: Any, size: Any) -> None:
        data = self.live[pointer.value].numpy()[: size.value].tobytes()
        ctypes.memmove(target.value, data, size.value)

    def _cuTensorMapEncodeTiled(
        self, target: Any, kind: int, rank: int, address: Any, shape: Any, strides: Any,
        box: Any, steps: Any, interleave: int, swizzle: int, promotion: int, fill: int,
    ) -> int:  # fmt: skip
        if target.value % 64 or interleave or promotion:
            return INVALID_VALUE
        data = self.device.tensor_map(
            address.value, _TYPES[kind], shape[:rank], strides[: rank - 1], box[:rank],
            steps[:rank], _SWIZZLES[swizzle], _FILLS[fill],
        )  # fmt: skip
        ctypes.memmove(target.value, data, len(data))
        return 0

    def _cuLaunchKernel(self, kernel: Any, *arguments: Any) -> int:
        grid, block, (shared, stream, parameters, extra) = (
            arguments[:3], arguments[3:6], arguments[6:],
        )  # fmt: skip
        if stream is not None or extra is not None:
            return INVALID_VALUE
        pointers = [ctypes.c_uint64.from_address(parameters[i]).value for i in range(4)]
        count = ctypes.c_uint32.from_address(parameters[4]).value
        map = ctypes.string_at(parameters[5], 128)
        given = [*pointers, count, map]
        self.kernels[kernel.value - 1].launch(grid, block, given, shared)
        return 0

    def _cuCtxSynchronize(self) -> None:
        pass
