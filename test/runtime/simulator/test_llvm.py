"""What LLVM prints for the operations, types and intrinsics of NVPTX loads."""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, TypeAlias

import pytest

from tilewright.runtime import simulator

llvm: Any = pytest.importorskip("llvmlite.binding", reason="llvmlite is not installed (extra mlir)")


@pytest.fixture(scope="module")
def emit() -> Any:
    """Returns a function from LLVM IR and a processor to PTX."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("nvptx64-nvidia-cuda")
    machines = {
        cpu: target.create_target_machine(cpu=cpu, features="+ptx83") for cpu in ("sm_80", "sm_90a")
    }

    def run(ir: str, cpu: str = "sm_90a") -> str:
        module = llvm.parse_assembly('target triple = "nvptx64-nvidia-cuda"\n' + ir)
        return machines[cpu].emit_assembly(module)

    return run


def function(result: str, call: str, types: list[str], declaration: str = "") -> str:
    """Returns a kernel that loads operands %x0, %x1..., runs `%r = <call>`, stores %r."""
    loads = "\n".join(
        f"%p{i} = getelementptr i8, ptr addrspace(1) %in, i64 {32 * i}\n"
        f"%x{i} = load {type}, ptr addrspace(1) %p{i}, align 32"
        for i, type in enumerate(types)
    )
    return f"""define ptx_kernel void @k(ptr addrspace(1) %in, ptr addrspace(1) %out) {{
{loads}
{call}
{f"store {result} %r, ptr addrspace(1) %out, align 16" if result else ""}
ret void
}}
{declaration}"""


def intrinsic(name: str, result: str, types: list[str], *constants: str) -> str:
    """Returns a kernel that calls an intrinsic; `constants` are further arguments."""
    given = [*(f"{type} %x{i}" for i, type in enumerate(types)), *constants]
    parameters = ", ".join(part.rpartition(" ")[0] for part in given)
    left = "" if result == "void" else "%r = "
    call = f"{left}call {result} @llvm.{name}({', '.join(given)})"
    declaration = f"declare {result} @llvm.{name}({parameters})"
    return function("" if result == "void" else result, call, types, declaration)


def plain() -> dict[str, str]:
    """Returns kernels of LLVM's own operations over all types."""
    found: dict[str, str] = {}
    for type in ("i8", "i16", "i32", "i64", "i128", "<2 x i16>", "<4 x i8>", "<2 x i32>"):
        for op in ("add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr"):
            found[f"{op} {type}"] = function(type, f"%r = {op} {type} %x0, %x1", [type] * 2)
        for op in ("smin", "smax", "umin", "umax"):
            found[f"{op} {type}"] = intrinsic(f"{op}.{_suffix(type)}", type, [type] * 2)
        for op in ("ctpop", "bswap", "bitreverse"):
            found[f"{op} {type}"] = intrinsic(f"{op}.{_suffix(type)}", type, [type])
        found[f"fshl {type}"] = intrinsic(f"fshl.{_suffix(type)}", type, [type] * 3)
    del found["bswap i8"], found["bswap <4 x i8>"]
    for type in ("i16", "i32", "i64"):
        for op in ("sdiv", "udiv", "srem", "urem"):
            found[f"{op} {type}"] = function(type, f"%r = {op} {type} %x0, %x1", [type] * 2)
        found[f"abs {type}"] = intrinsic(f"abs.{type}", type, [type], "i1 false")
        found[f"ctlz {type}"] = intrinsic(f"ctlz.{type}", type, [type], "i1 false")
        found[f"cttz {type}"] = intrinsic(f"cttz.{type}", type, [type], "i1 false")
    for type in ("half", "bfloat", "float", "double", "<2 x half>", "<2 x bfloat>", "<2 x float>"):
        for op in ("fadd", "fsub", "fmul", "fdiv"):
            found[f"{op} {type}"] = function(type, f"%r = {op} {type} %x0, %x1", [type] * 2)
        found[f"fneg {type}"] = function(type, f"%r = fneg {type} %x0", [type])
        for op in ("minnum", "maxnum", "minimum", "maximum", "copysign"):
            found[f"{op} {type}"] = intrinsic(f"{op}.{_suffix(type)}", type, [type] * 2)
        for op in ("fabs", "sqrt", "floor", "ceil", "trunc", "rint", "nearbyint", "roundeven"):
            found[f"{op} {type}"] = intrinsic(f"{op}.{_suffix(type)}", type, [type])
        found[f"fma {type}"] = intrinsic(f"fma.{_suffix(type)}", type, [type] * 3)
        for condition in ("oeq", "one", "olt", "oge", "ord", "uno", "ueq", "une", "ult", "ugt"):
            lanes = f"<2 x i1> {'%c'}" if type[0] == "<" else "i1 %c"
            text = f"%c = fcmp {condition} {type} %x0, %x1\n%r = select {lanes}, {type} %x0, "
            found[f"fcmp {condition} {type}"] = function(type, f"{text}{type} %x1", [type] * 2)
    return found


def _suffix(type: str) -> str:
    """Returns how an overloaded intrinsic spells a type."""
    names = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64"}
    match = re.fullmatch(r"<(\d+) x (\w+)>", type)
    if match:
        return f"v{match[1]}{names.get(match[2], match[2])}"
    return names.get(type, type)


def conversions() -> dict[str, str]:
    """Returns kernels of LLVM's conversions."""
    found: dict[str, str] = {}
    integers = ("i8", "i16", "i32", "i64")
    floats = ("half", "bfloat", "float", "double")
    for a in integers:
        for b in floats:
            for op in ("sitofp", "uitofp"):
                found[f"{op} {a} {b}"] = function(b, f"%r = {op} {a} %x0 to {b}", [a])
            for op in ("fptosi", "fptoui"):
                found[f"{op} {b} {a}"] = function(a, f"%r = {op} {b} %x0 to {a}", [b])
        for b in integers:
            if int(b[1:]) > int(a[1:]):
                for op in ("sext", "zext"):
                    found[f"{op} {a} {b}"] = function(b, f"%r = {op} {a} %x0 to {b}", [a])
                found[f"trunc {b} {a}"] = function(a, f"%r = trunc {b} %x0 to {a}", [b])
    for wide, narrow in (("float", "half"), ("float", "bfloat"), ("double", "half"),
                         ("double", "bfloat"), ("double", "float")):  # fmt: skip
        found[f"fpext {narrow} {wide}"] = function(
            wide, f"%r = fpext {narrow} %x0 to {wide}", [narrow]
        )
        text = f"%r = fptrunc {wide} %x0 to {narrow}"
        found[f"fptrunc {wide} {narrow}"] = function(narrow, text, [wide])
    return found


# Name, result, types of the operands in registers, further operands.
Row: TypeAlias = tuple[str, str, list[str], list[str]]


def _rounded() -> Iterator[Row]:
    """Yields arithmetic and conversions with a rounding mode, and approximations."""
    for mode in ("rn", "rz", "rm", "rp"):
        for kind, type in (("f", "float"), ("ftz.f", "float"), ("d", "double")):
            for op in ("add", "mul", "div", "fma", "rcp", "sqrt"):
                count = {"fma": 3, "rcp": 1, "sqrt": 1}.get(op, 2)
                yield (f"nvvm.{op}.{mode}.{kind}", type, [type] * count, [])
        for to in ("i", "ui", "ll", "ull"):
            result = "i64" if "ll" in to else "i32"
            for source, type in (("f", "float"), ("d", "double")):
                yield (f"nvvm.{source}2{to}.{mode}", result, [type], [])
                yield (f"nvvm.{to}2{source}.{mode}", type, [result], [])
        yield (f"nvvm.d2f.{mode}.ftz", "float", ["double"], [])
    for op in ("ex2.approx", "lg2.approx", "sin.approx", "cos.approx", "rcp.approx.ftz",
               "rsqrt.approx", "sqrt.approx"):  # fmt: skip
        yield (f"nvvm.{op}.f", "float", ["float"], [])
    yield ("nvvm.rcp.approx.ftz.d", "double", ["double"], [])
    yield ("nvvm.rsqrt.approx.d", "double", ["double"], [])
    yield ("nvvm.ex2.approx.f16x2", "<2 x half>", ["<2 x half>"], [])


def _extrema() -> Iterator[Row]:
    """Yields minima and maxima."""
    for op in ("fmin", "fmax"):
        for flags in ("", ".ftz", ".nan", ".ftz.nan", ".xorsign.abs", ".ftz.nan.xorsign.abs"):
            for kind, type in (("f", "float"), ("f16", "half"), ("f16x2", "<2 x half>")):
                yield (f"nvvm.{op}{flags}.{kind}", type, [type] * 2, [])
        for flags in ("", ".nan", ".xorsign.abs", ".nan.xorsign.abs"):
            for kind, type in (("bf16", "bfloat"), ("bf16x2", "<2 x bfloat>")):
                yield (f"nvvm.{op}{flags}.{kind}", type, [type] * 2, [])


def _small_floats() -> Iterator[Row]:
    """Yields arithmetic and conversions of types of 16 bits and fewer."""
    for flags in ("", ".ftz", ".sat", ".ftz.sat", ".relu", ".ftz.relu"):
        yield (f"nvvm.fma.rn{flags}.f16", "half", ["half"] * 3, [])
        yield (f"nvvm.fma.rn{flags}.f16x2", "<2 x half>", ["<2 x half>"] * 3, [])
    for flags in ("", ".relu"):
        yield (f"nvvm.fma.rn{flags}.bf16x2", "<2 x bfloat>", ["<2 x bfloat>"] * 3, [])
        for mode in ("rn", "rz"):
            two = ["float"] * 2
            yield (f"nvvm.ff2bf16x2.{mode}{flags}", "<2 x bfloat>", two, [])
            yield (f"nvvm.ff2f16x2.{mode}{flags}", "<2 x half>", two, [])
            yield (f"nvvm.f2bf16.{mode}{flags}", "bfloat", ["float"], [])
        for kind in ("e4m3x2", "e5m2x2"):
            yield (f"nvvm.ff.to.{kind}.rn{flags}", "i16", ["float"] * 2, [])
            yield (f"nvvm.f16x2.to.{kind}.rn{flags}", "i16", ["<2 x half>"], [])
            yield (f"nvvm.{kind}.to.f16x2.rn{flags}", "<2 x half>", ["i16"], [])
    yield ("nvvm.f2tf32.rna", "i32", ["float"], [])


def _integers() -> Iterator[Row]:
    """Yields integers, and what a warp does together."""
    for op in ("mulhi.i", "mulhi.ui", "mul24.i", "mul24.ui"):
        yield (f"nvvm.{op}", "i32", ["i32"] * 2, [])
    for op in ("mulhi.ll", "mulhi.ull"):
        yield (f"nvvm.{op}", "i64", ["i64"] * 2, [])
    for op in ("sad.i", "sad.ui", "prmt", "fns"):
        yield (f"nvvm.{op}", "i32", ["i32"] * 3, [])
    for op in ("prmt.f4e", "prmt.b4e"):
        yield (f"nvvm.{op}", "i32", ["i32"] * 3, [])
    for op in ("idp4a.s.s", "idp4a.u.s"):
        yield (f"nvvm.{op}", "i32", ["i32"] * 3, [])
    yield ("nvvm.idp2a.u.u", "i32", ["i32"] * 2, ["i1 true", "i32 7"])
    for op in ("fshl", "fshr"):
        yield (f"{op}.i32", "i32", ["i32"] * 3, [])
    for op in ("bmsk.clamp", "bmsk.wrap"):
        yield (f"nvvm.{op}", "i32", ["i32"] * 2, [])
    for mode in ("up", "down", "bfly", "idx"):
        yield (f"nvvm.shfl.sync.{mode}.i32", "i32", [], ["i32 -1", "i32 5", "i32 1", "i32 31"])
    for op in ("add", "min", "max", "umin", "umax", "and", "or", "xor"):
        yield (f"nvvm.redux.sync.{op}", "i32", ["i32"], ["i32 -1"])
    for op in ("popc", "and", "or"):
        yield (f"nvvm.barrier0.{op}", "i32", ["i32"], [])
    for space in ("const", "global", "local", "shared"):
        yield (f"nvvm.isspacep.{space}", "i1", ["ptr"], [])


def intrinsics() -> dict[str, str]:
    """Returns kernels of NVVM's intrinsics."""
    rows = chain(_rounded(), _extrema(), _small_floats(), _integers())
    return {name: intrinsic(name, result, types, *rest) for name, result, types, rest in rows}


def atomics() -> dict[str, str]:
    """Returns kernels of atomicrmw and cmpxchg."""
    found: dict[str, str] = {}
    for space in (0, 1, 3):
        for type in ("i32", "i64"):
            for op in ("add", "and", "or", "xor", "xchg", "max", "umax", "min", "umin"):
                text = f"atomicrmw {op} ptr addrspace({space}) %a, {type} %x0 monotonic"
                found[f"{op} {type} {space}"] = _on(space, text, type)
            text = f"cmpxchg ptr addrspace({space}) %a, {type} %x0, {type} 5 acq_rel monotonic"
            found[f"cas {type} {space}"] = _on(space, text, type)
        for type in ("float", "double", "half", "bfloat", "<2 x half>", "<2 x bfloat>"):
            text = (
                f'atomicrmw fadd ptr addrspace({space}) %a, {type} %x0 syncscope("block") seq_cst'
            )
            found[f"fadd {type} {space}"] = _on(space, text, type)
        for op in ("uinc_wrap", "udec_wrap"):
            text = f"atomicrmw {op} ptr addrspace({space}) %a, i32 %x0 acquire"
            found[f"{op} {space}"] = _on(space, text, "i32")
    return found


def _on(space: int, text: str, type: str) -> str:
    """Returns a kernel of an atomic instruction on generic, global or shared memory."""
    if space == 3:
        shared = "@a = internal addrspace(3) global [4 x i64] undef\n"
        return shared + function("", f"%o = {text.replace('%a,', '@a,')}", [type])
    body = function("", f"%o = {text}", [type])
    return body.replace("%out)", f"%out, ptr addrspace({space}) %a)", 1)


KERNELS = {"plain": plain, "conversions": conversions, "intrinsics": intrinsics, "atomics": atomics}


# LLVM knows some of the intrinsics for sm_90 only, and ends the process for others.
CASES = [
    *[(group, "sm_90a") for group in KERNELS],
    *[(group, "sm_80") for group in KERNELS if group != "intrinsics"],
]


@pytest.mark.parametrize(("group", "cpu"), CASES)
def test_what_llvm_prints_loads(group: str, cpu: str, emit: Any) -> None:
    device = simulator.Device()
    refused: dict[str, str] = {}
    for name, ir in KERNELS[group]().items():
        try:
            device.load(emit(ir, cpu))["k"]
        except simulator.PTXError as error:
            refused[name] = str(error)
    assert not refused
