"""Runs a thread-level module on the simulator, by the direct way or the upstream way."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp

from tilewright.lowering.ptx import print_ptx
from tilewright.runtime import simulator

Array = NDArray[Any]
Printer = Callable[[ModuleOp], str]


def launch(
    module: ModuleOp,
    arguments: Sequence[Array | int | float],
    grid: tuple[int, ...] = (1,),
    threads: int = 32,
    shared_bytes: int = 0,
    printer: Printer = print_ptx,
) -> list[Array]:
    """Launches kernel `@k` and returns what its array arguments hold afterwards."""
    device = simulator.Device()
    values = [device.array(a) if isinstance(a, np.ndarray) else a for a in arguments]
    kernel = device.load(printer(module))["k"]
    kernel.launch(grid=grid, block=(threads,), args=values, shared_bytes=shared_bytes)
    return [v.numpy().copy() for v in values if not isinstance(v, int | float)]


def apply(
    module: ModuleOp, inputs: Sequence[Array], dtype: Any, printer: Printer = print_ptx
) -> Array:
    """Runs a kernel made by `elementwise` on arrays whose length is a multiple of 32."""
    count = len(inputs[0])
    out = np.zeros(count, dtype)
    return launch(module, [*inputs, out], grid=(count // 32,), printer=printer)[-1]


def bf16_bits(values: Array) -> Array:
    """Returns the bits of the bf16 nearest to each f32 that is not NaN."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_values(bits: Array) -> Array:
    """Returns the values of bf16 bits as f32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
