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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RANDOM = 4096  # operands with random bits, besides the lattice of edges
BLOCK = 128
_SIZES = {"b16": 2, "b32": 4, "b64": 8, "f32": 4, "f64": 8}
_FLOAT = {"f16": (2, 10), "bf16": (2, 7), "f32": (4, 23), "f64": (8, 52)}
_MODES = ("rn", "rz", "rm", "rp")
Run = Callable[[str, str, Sequence[Any], Any], None]


class Variant(NamedTuple):
    """
    One instruction: `text` names its operands a, b, c and its result o.

    `kinds` are the operands' types for the lattice of edges, `out` the result's. `ulps` is the
    documented bound of an approximate instruction, None where PTX promises every bit but those
    of a NaN.
    """

    family: str
    name: str
    text: str
    kinds: tuple[str, ...]
    out: str
    ulps: int | None = None


def _of(family: str, opcode: str, kinds: str, out: str, ulps: int | None = None) -> Variant:
    operands = ", ".join("oabc"[: len(kinds.split()) + 1])
    return Variant(family, opcode, f"{opcode} {operands};", tuple(kinds.split()), out, ulps)


def variants() -> Iterator[Variant]:
    """Yields every variant."""
    yield from _integers()
    yield from _bits()
    yield from _floats()
    yield from _conversions()
    yield from _halves()


def _integers() -> Iterator[Variant]:
    for sign in "us":
        for bits in (16, 32, 64):
            kind = f"{sign}{bits}"
            for op in ("add", "sub", "min", "max", "mul.lo", "mul.hi"):
                yield _of("integer", f"{op}.{kind}", f"{kind} {kind}", kind)
            yield _of("integer", f"mad.lo.{kind}", f"{kind} {kind} {kind}", kind)
            yield _of("integer", f"shr.{kind}", f"{kind} u32", kind)
        for op in ("mul24.lo", "mul24.hi"):
            yield _of("integer", f"{op}.{sign}32", f"{sign}32 {sign}32", f"{sign}32")
        yield _of("integer", f"mul.wide.{sign}32", f"{sign}32 {sign}32", f"{sign}64")
        yield _of("integer", f"sad.{sign}32", f"{sign}32 {sign}32 u32", "u32")
        for other in "us":
            yield _of("integer", f"dp4a.{sign}32.{other}32", f"{sign}32 {other}32 s32", "s32")
    for kind in ("s16", "s32", "s64"):
        yield _of("integer", f"neg.{kind}", kind, kind)
        yield _of("integer", f"abs.{kind}", kind, kind)
    yield _of("integer", "add.sat.s32", "s32 s32", "s32")
    yield _of("integer", "sub.sat.s32", "s32 s32", "s32")


def _bits() -> Iterator[Variant]:
    for bits in (16, 32, 64):
        kind = f"b{bits}"
        for op in ("and", "or", "xor"):
            yield _of("bits", f"{op}.{kind}", f"u{bits} u{bits}", f"u{bits}")
        yield _of("bits", f"not.{kind}", f"u{bits}", f"u{bits}")
        yield _of("bits", f"shl.{kind}", f"u{bits} u32", f"u{bits}")
    for kind in ("u32", "s32", "u64", "s64"):
        yield _of("bits", f"bfe.{kind}", f"{kind} u32 u32", kind)
        yield _of("bits", f"bfind.{kind}", kind, "u32")
    for bits in (32, 64):
        yield _of("bits", f"popc.b{bits}", f"u{bits}", "u32")
        yield _of("bits", f"clz.b{bits}", f"u{bits}", "u32")
        yield _of("bits", f"brev.b{bits}", f"u{bits}", f"u{bits}")
    for way in "lr":
        for mode in ("wrap", "clamp"):
            yield _of("bits", f"shf.{way}.{mode}.b32", "u32 u32 u32", "u32")
    yield _of("bits", "prmt.b32", "u32 u32 u32", "u32")


def _floats() -> Iterator[Variant]:
    for mode in _MODES:
        for ftz in ("", ".ftz"):
            for op in ("add", "sub", "mul"):
                yield _of("float", f"{op}.{mode}{ftz}.f32", "f32 f32", "f32")
            yield _of("float", f"fma.{mode}{ftz}.f32", "f32 f32 f32", "f32")
            yield _of("float", f"div.{mode}{ftz}.f32", "f32 f32", "f32")
            yield _of("float", f"sqrt.{mode}{ftz}.f32", "f32", "f32")
        for op in ("add", "mul", "div"):
            yield _of("float", f"{op}.{mode}.f64", "f64 f64", "f64")
        yield _of("float", f"fma.{mode}.f64", "f64 f64 f64", "f64")
    for op in ("min", "max", "min.NaN", "max.NaN", "min.ftz", "max.ftz"):
        yield _of("float", f"{op}.f32", "f32 f32", "f32")
    for op in ("neg", "abs"):
        yield _of("float", f"{op}.f32", "f32", "f32")
        yield _of("float", f"{op}.f64", "f64", "f64")
    for op, ulps in (("ex2", 2), ("rcp", 1), ("rsqrt", 2), ("sqrt", 1)):
        yield _of("approximate", f"{op}.approx.ftz.f32", "f32", "f32", ulps)
    yield _of("approximate", "div.full.f32", "f32 f32", "f32", 2)


def _conversions() -> Iterator[Variant]:
    for mode in ("rni", "rzi", "rmi", "rpi"):
        for kind in ("s32", "u32", "s64", "u64"):
            yield _of("conversion", f"cvt.{mode}.{kind}.f32", "f32", kind)
            yield _of("conversion", f"cvt.{mode}.{kind}.f64", "f64", kind)
        yield _of("conversion", f"cvt.{mode}.f32.f32", "f32", "f32")
    for mode in _MODES:
        for kind in ("s32", "u32", "s64", "u64"):
            yield _of("conversion", f"cvt.{mode}.f32.{kind}", kind, "f32")
        yield _of("conversion", f"cvt.{mode}.f32.f64", "f64", "f32")
    for mode in ("rn", "rz"):
        yield _of("conversion", f"cvt.{mode}.f16.f32", "f32", "f16")
        yield _of("conversion", f"cvt.{mode}.bf16.f32", "f32", "bf16")
        yield _of("conversion", f"cvt.{mode}.f16x2.f32", "f32 f32", "f16x2")
        yield _of("conversion", f"cvt.{mode}.bf16x2.f32", "f32 f32", "bf16x2")
    yield _of("conversion", "cvt.f32.f16", "f16", "f32")


def _halves() -> Iterator[Variant]:
    for op in ("add", "sub", "mul"):
        yield _of("half", f"{op}.f16", "f16 f16", "f16")
        yield _of("half", f"{op}.f16x2", "u32 u32", "f16x2")
    for kind, two in (("f16", "f16x2"), ("bf16", "bf16x2")):
        yield _of("half", f"fma.rn.{kind}", f"{kind} {kind} {kind}", kind)
        yield _of("half", f"fma.rn.{two}", "u32 u32 u32", two)
        for op in ("min", "max", "min.NaN", "max.NaN"):
            yield _of("half", f"{op}.{kind}", f"{kind} {kind}", kind)


def size_of(kind: str) -> int:
    """Returns the bytes of a type."""
    return 4 if kind.endswith("x2") else int(kind.lstrip("ubsf")) // 8


def _register(kind: str) -> str:
    return kind if kind in ("f32", "f64") else f"b{8 * size_of(kind)}"


def kernel_of(variant: Variant) -> str:
    """Returns a PTX module whose entry `k` computes one result a thread."""
    params = ", ".join(f".param .u64 p{name}" for name in (*"abc"[: len(variant.kinds)], "o"))
    lines = [".version 8.0", ".target sm_80", ".address_size 64"]
    lines += [f".visible .entry k({params}, .param .u32 count) {{", ".reg .pred q;"]
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
