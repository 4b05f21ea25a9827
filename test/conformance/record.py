"""
Records what a GPU computes, one kernel an instruction variant, for the simulator to be held to.

Run it as `python test/conformance/record.py --out test/conformance/<gpu>` on a machine with a GPU
of sm_80 or later; it takes libcuda through ctypes and needs NumPy alone. The operands follow from
the variant's name, so a file holds raw results only: one .npz a family, an array a variant.
`--on simulator` puts the simulator in the GPU's place.
"""

import argparse
import ctypes
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from variants import Variant, variants

RANDOM = 4096  # operands with random bits, besides the lattice of edges
BLOCK = 128
_SIZES = {"b16": 2, "b32": 4, "b64": 8, "f32": 4, "f64": 8}
_FLOAT = {"f16": (2, 10), "bf16": (2, 7), "f32": (4, 23), "f64": (8, 52)}
Run = Callable[[str, str, Sequence[Any], Any], None]


def size_of(kind: str) -> int:
    """Returns the bytes of a type."""
    return 4 if kind.endswith("x2") else int(kind.lstrip("ubsf")) // 8


def _register(kind: str) -> str:
    return kind if kind in ("f32", "f64") else f"b{8 * size_of(kind)}"


def kernel_of(variant: Variant) -> str:
    """Returns a PTX module whose entry `k` computes one result a thread."""
    params = ", ".join(f".param .u64 p{name}" for name in (*"abc"[: len(variant.kinds)], "o"))
    lines = [".version 8.2", f".target {variant.target}", ".address_size 64"]
    lines += [f".visible .entry k({params}, .param .u32 count) {{", ".reg .pred q, r;"]
    lines += [".reg .b32 t, n, i; .reg .b64 at;", f".reg .{_register(variant.out)} o;"]
    lines += ["mov.u32 i, %ctaid.x; mov.u32 t, %tid.x; ld.param.u32 n, [count];"]
    lines += [f"mad.lo.u32 i, i, {BLOCK}, t; setp.ge.u32 q, i, n; @q ret;"]
    for name, kind in zip("abc", variant.kinds, strict=False):
        lines += [f".reg .{_register(kind)} {name}; ld.param.u64 at, [p{name}];"]
        lines += [f"mad.wide.u32 at, i, {size_of(kind)}, at;"]
        lines += [f"ld.global.b{8 * size_of(kind)} {name}, [at];"]
    lines += [variant.text, "ld.param.u64 at, [po];"]
    lines += [f"mad.wide.u32 at, i, {size_of(variant.out)}, at;"]
    return "\n".join([*lines, f"st.global.b{8 * size_of(variant.out)} [at], o;", "ret; }", ""])


def edges(kind: str) -> list[int]:
    """Returns the bits of values where a type's behaviour changes."""
    if kind in _FLOAT:
        size, fraction = _FLOAT[kind]
        infinity = ((1 << 8 * size - 1) - 1) >> fraction << fraction
        one = infinity >> 1 >> fraction << fraction
        plain = [0, 1, (1 << fraction) - 1, 1 << fraction, one - 1, one, one + 1]
        plain += [one + (3 << fraction - 1), infinity - 1, infinity, infinity + 1]
        plain += [infinity | 1 << fraction - 1, one + (31 << fraction)]
        return plain + [value | 1 << 8 * size - 1 for value in plain]
    bits = 8 * size_of(kind)
    top = 1 << bits - 1
    return [0, 1, 2, 7, 31, 32, 33, 63, 64, 65, top - 1, top, top + 1, 2 * top - 2, 2 * top - 1]


def operands(variant: Variant) -> list[Any]:
    """Returns the operands as unsigned integers: the lattice of edges, then random bits."""
    generator = np.random.default_rng(zlib.crc32(variant.name.encode()))
    lattice = np.meshgrid(*[np.array(edges(kind), np.uint64) for kind in variant.kinds])
    found: list[Any] = []
    for kind, column in zip(variant.kinds, lattice, strict=True):
        code = f"u{size_of(kind)}"
        drawn = generator.integers(0, 1 << 8 * size_of(kind), RANDOM, np.uint64)
        found.append(np.concatenate([column.reshape(-1), drawn]).astype(code))
    return found


def results(variant: Variant, run: Run) -> Any:
    """Returns what a device computes, as unsigned integers."""
    inputs = operands(variant)
    output = np.zeros(inputs[0].size, f"u{size_of(variant.out)}")
    run(kernel_of(variant), "k", inputs, output)
    return output


def differences(variant: Variant, expected: Any, got: Any) -> Any:
    """Returns the positions where results differ by more than the variant allows."""
    kind = variant.out.removesuffix("x2")
    if kind not in _FLOAT:
        return np.flatnonzero(expected != got)
    size, fraction = _FLOAT[kind]
    if variant.out != kind:  # packed: each half by itself
        code = f"u{size}"
        single = variant._replace(out=kind)
        parts = differences(single, expected.view(code), got.view(code))
        return np.unique(parts // 2)
    infinity = ((1 << 8 * size - 1) - 1) >> fraction << fraction
    magnitude = (1 << 8 * size - 1) - 1
    nans = (expected & magnitude > infinity) & (got & magnitude > infinity)
    if variant.ulps is None:
        return np.flatnonzero((expected != got) & ~nans)
    distance: Any = np.abs(_ordered(expected, size) - _ordered(got, size))
    return np.flatnonzero((distance > variant.ulps) & ~nans)


def _ordered(bits: Any, size: int) -> Any:
    """Returns integers in the order of the floats that the bits stand for."""
    magnitude = (bits & ((1 << 8 * size - 1) - 1)).astype(np.int64)
    return magnitude * (1 - 2 * (bits >> (8 * size - 1)).astype(np.int64))


def run_on_simulator(ptx: str, entry: str, inputs: Sequence[Any], output: Any) -> None:
    """Runs a kernel on the simulator."""
    from tilewright.runtime import simulator

    device = simulator.Device("all")
    buffers = [*map(device.array, inputs), device.array(output)]
    grid = (output.size + BLOCK - 1) // BLOCK
    device.load(ptx)[entry].launch(grid, BLOCK, [*buffers, output.size])
    output[:] = buffers[-1].numpy()


class Driver:
    """A GPU through libcuda: the first one, its primary context."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        device, context, name = ctypes.c_int(), ctypes.c_void_p(), ctypes.create_string_buffer(256)
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDeviceGetName", name, 256, device)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self.name = name.value.decode()

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._cuda, function)(*arguments)
        if code:
            raise RuntimeError(f"{function}: CUDA error {code}")

    def run(self, ptx: str, entry: str, inputs: Sequence[Any], output: Any) -> None:
        """Runs a kernel; the output array takes what it stores."""
        module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(module), ptx.encode() + b"\0")
        self._call("cuModuleGetFunction", ctypes.byref(kernel), module, entry.encode())
        pointers: list[ctypes.c_uint64] = []
        for array in (*inputs, output):
            pointer = ctypes.c_uint64()
            self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(array.nbytes))
            size = ctypes.c_size_t(array.nbytes)
            self._call("cuMemcpyHtoD_v2", pointer, ctypes.c_void_p(array.ctypes.data), size)
            pointers.append(pointer)
        given = [*pointers, ctypes.c_uint32(output.size)]
        packed = (ctypes.c_void_p * len(given))(*(ctypes.addressof(value) for value in given))
        grid = (output.size + BLOCK - 1) // BLOCK
        self._call("cuLaunchKernel", kernel, grid, 1, 1, BLOCK, 1, 1, 0, None, packed, None)
        self._call("cuCtxSynchronize")
        size = ctypes.c_size_t(output.nbytes)
        self._call("cuMemcpyDtoH_v2", ctypes.c_void_p(output.ctypes.data), pointers[-1], size)
        for pointer in pointers:
            self._call("cuMemFree_v2", pointer)
        self._call("cuModuleUnload", module)


def record(folder: Path, run: Run, chosen: Sequence[Variant]) -> dict[str, str]:
    """Writes one .npz a family; returns the variants that could not run, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    families: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for variant in chosen:
        try:
            families.setdefault(variant.family, {})[variant.name] = results(variant, run)
        except Exception as error:
            failed[variant.name] = str(error)
    for family, arrays in families.items():
        np.savez_compressed(folder / f"{family}.npz", **arrays)
    return failed


def main() -> int:
    """Records all variants; returns 1 where some could not run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--on", choices=("gpu", "simulator"), default="gpu")
    arguments = parser.parse_args()
    run: Run = run_on_simulator if arguments.on == "simulator" else Driver().run
    chosen = list(variants())
    failed = record(arguments.out, run, chosen)
    for name, why in failed.items():
        print(f"{name}: {why}")
    print(f"{len(chosen) - len(failed)} of {len(chosen)} variants in {arguments.out}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
