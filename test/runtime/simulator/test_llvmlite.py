"""PTX of LLVM's NVPTX target, emitted from IR in this process, against NumPy."""

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

Array = np.ndarray[Any, np.dtype[Any]]

pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra mlir)")
HEAD = """target triple = "nvptx64-nvidia-cuda"
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.tid.y()
declare i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ntid.y()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.y()
declare i32 @llvm.nvvm.read.ptx.sreg.nctaid.x()
declare void @llvm.nvvm.barrier0()
"""
THREAD = """
  %tid = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %size = call i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
  %cta = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %first = mul i32 %cta, %size
  %i = add i32 %first, %tid
"""


@cache
def emit(ir: str) -> str:
    """Returns the PTX of a module, whose only kernel is `k`."""
    llvm: Any = import_module("llvmlite.binding")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(HEAD + ir)
    module.verify()
    target = llvm.Target.from_triple("nvptx64-nvidia-cuda")
    machine = target.create_target_machine(cpu="sm_80", features="+ptx70", opt=3)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return machine.emit_assembly(module)


def elementwise(body: str, inputs: str, output: str, declares: str = "") -> str:
    """Returns a kernel that computes %r of type `output` from %x0, %x1... of types `inputs`."""
    types = inputs.split()
    params = "".join(f"ptr addrspace(1) %p{n}, " for n in range(len(types)))
    loads = "".join(
        f"  %q{n} = getelementptr {type}, ptr addrspace(1) %p{n}, i32 %i\n"
        f"  %x{n} = load {type}, ptr addrspace(1) %q{n}\n"
        for n, type in enumerate(types)
    )
    return f"""{declares}
define ptx_kernel void @k({params}ptr addrspace(1) %out, i32 %n) {{
entry:{THREAD}
  %inside = icmp slt i32 %i, %n
  br i1 %inside, label %work, label %done
work:
{loads}{body}
  br label %write
write:
  %o = getelementptr {output}, ptr addrspace(1) %out, i32 %i
  store {output} %r, ptr addrspace(1) %o
  br label %done
done:
  ret void
}}"""


def over_lanes(ir: str, out: str, *inputs: Array) -> Array:
    """Returns what an elementwise kernel makes of arrays."""
    device = simulator.Device("all")
    n = inputs[0].size
    result = device.empty((n,), out)
    arguments = [*map(device.array, inputs), result, n]
    report = device.load(emit(ir))["k"].launch((n + 63) // 64, 64, arguments)
    assert not report.findings
    return result.numpy()


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng()


SIZES = pytest.mark.parametrize("n", [1, 97, 1000])
SAXPY = f"""
define ptx_kernel void @k(ptr addrspace(1) %x, ptr addrspace(1) %y, float %a, i32 %n) {{
entry:{THREAD}
  %ctas = call i32 @llvm.nvvm.read.ptx.sreg.nctaid.x()
  %step = mul i32 %ctas, %size
  %some = icmp slt i32 %i, %n
  br i1 %some, label %loop, label %done
loop:
  %j = phi i32 [%i, %entry], [%next, %loop]
  %p = getelementptr float, ptr addrspace(1) %x, i32 %j
  %q = getelementptr float, ptr addrspace(1) %y, i32 %j
  %u = load float, ptr addrspace(1) %p
  %v = load float, ptr addrspace(1) %q
  %w = call float @llvm.fma.f32(float %a, float %u, float %v)
  store float %w, ptr addrspace(1) %q
  %next = add i32 %j, %step
  %more = icmp slt i32 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}
declare float @llvm.fma.f32(float, float, float)
"""


@SIZES
def test_a_loop_over_a_grid(n: int, random: np.random.Generator) -> None:
    device = simulator.Device("all")
    x, y = random.standard_normal((2, n), np.float32)
    out = device.array(y)
    report = device.load(emit(SAXPY))["k"].launch(2, 96, [device.array(x), out, 0.75, n])
    assert not report.findings
    # 0.75 * x is exact in double precision, and the sum too up to its rounding.
    assert (out.numpy() == (0.75 * x.astype("f8") + y).astype("f4")).all()


REDUCTION = f"""
@part = internal addrspace(3) global [128 x i32] undef
define ptx_kernel void @k(ptr addrspace(1) %x, ptr addrspace(1) %out, i32 %n) {{
entry:{THREAD}
  %inside = icmp slt i32 %i, %n
  br i1 %inside, label %read, label %put
read:
  %p = getelementptr i32, ptr addrspace(1) %x, i32 %i
  %v = load i32, ptr addrspace(1) %p
  br label %put
put:
  %value = phi i32 [0, %entry], [%v, %read]
  %mine = getelementptr [128 x i32], ptr addrspace(3) @part, i32 0, i32 %tid
  store i32 %value, ptr addrspace(3) %mine
  call void @llvm.nvvm.barrier0()
  br label %round
round:
  %half = phi i32 [64, %put], [%smaller, %joined]
  %active = icmp ult i32 %tid, %half
  br i1 %active, label %add, label %joined
add:
  %partner = add i32 %tid, %half
  %theirs = getelementptr [128 x i32], ptr addrspace(3) @part, i32 0, i32 %partner
  %a = load i32, ptr addrspace(3) %mine
  %b = load i32, ptr addrspace(3) %theirs
  %sum = add i32 %a, %b
  store i32 %sum, ptr addrspace(3) %mine
  br label %joined
joined:
  call void @llvm.nvvm.barrier0()
  %smaller = lshr i32 %half, 1
  %end = icmp eq i32 %smaller, 0
  br i1 %end, label %last, label %round
last:
  %leader = icmp eq i32 %tid, 0
  br i1 %leader, label %tell, label %done
tell:
  %total = load i32, ptr addrspace(3) @part
  %ignored = atomicrmw add ptr addrspace(1) %out, i32 %total seq_cst
  br label %done
done:
  ret void
}}
"""


@SIZES
def test_a_reduction_through_shared_memory(n: int, random: np.random.Generator) -> None:
    device = simulator.Device("all")
    x = random.integers(-1000, 1000, n, "i4")
    out = device.array(np.zeros(1, "i4"))
    report = device.load(emit(REDUCTION))["k"].launch(-(-n // 128), 128, [device.array(x), out, n])
    assert not report.findings
    assert out.numpy()[0] == x.sum()


ATOMICS = """
  %m = and i32 %x0, 15
  %cell = getelementptr i32, ptr addrspace(1) %out, i32 %m
  %a = atomicrmw add ptr addrspace(1) %cell, i32 %x0 monotonic
  %cell1 = getelementptr i32, ptr addrspace(1) %cell, i32 16
  %b = atomicrmw max ptr addrspace(1) %cell1, i32 %x0 syncscope("device") acq_rel
  %cell2 = getelementptr i32, ptr addrspace(1) %cell, i32 32
  %c = atomicrmw umin ptr addrspace(1) %cell2, i32 %x0 seq_cst
  %cell3 = getelementptr i32, ptr addrspace(1) %cell, i32 48
  %d = atomicrmw xor ptr addrspace(1) %cell3, i32 %x0 monotonic
  %cell4 = getelementptr i32, ptr addrspace(1) %cell, i32 64
  %old = load atomic i32, ptr addrspace(1) %cell4 monotonic, align 4
  br label %retry
retry:
  %seen = phi i32 [%old, %work], [%now, %retry]
  %tripled = mul i32 %seen, 3
  %new = add i32 %tripled, 1
  %pair = cmpxchg ptr addrspace(1) %cell4, i32 %seen, i32 %new acq_rel monotonic
  %now = extractvalue { i32, i1 } %pair, 0
  %ok = extractvalue { i32, i1 } %pair, 1
  br i1 %ok, label %done, label %retry
done:
  ret void
}"""


@SIZES
def test_atomics_and_a_loop_of_compare_and_swap(n: int, random: np.random.Generator) -> None:
    ir = elementwise("%mark = add i32 0, 0", "i32", "i32")
    ir = ir[: ir.index("%mark")] + ATOMICS
    device = simulator.Device("all")
    x = random.integers(0, 1 << 31, n, "i4")
    start = np.zeros((5, 16), "i4")
    start[2] = -1
    out = device.array(start)
    report = device.load(emit(ir))["k"].launch(-(-n // 64), 64, [device.array(x), out, n])
    assert not report.findings
    for cell in range(16):
        mine = x[x % 16 == cell].tolist()
        chain = 0
        for _ in mine:
            chain = (3 * chain + 1) % (1 << 32)
        xored = int(np.bitwise_xor.reduce(np.array([0, *mine])))
        want = [sum(mine), max([0, *mine]), min([(1 << 32) - 1, *mine]), xored, chain]
        got = out.numpy()[:, cell].astype("u4").tolist()
        assert got == [value % (1 << 32) for value in want]


GEMM = """
@a = internal addrspace(3) global [16 x [16 x half]] undef, align 16
@b = internal addrspace(3) global [16 x [8 x half]] undef, align 16
declare void @llvm.nvvm.cp.async.cg.shared.global.16(ptr addrspace(3), ptr addrspace(1))
declare void @llvm.nvvm.cp.async.commit.group()
declare void @llvm.nvvm.cp.async.wait.group(i32 immarg)
declare {i32, i32, i32, i32} @llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.b16.p3(ptr addrspace(3))
declare {i32, i32} @llvm.nvvm.ldmatrix.sync.aligned.m8n8.x2.trans.b16.p3(ptr addrspace(3))
declare {float, float, float, float} @llvm.nvvm.mma.m16n8k16.row.col.f32.f32(
  <2 x half>, <2 x half>, <2 x half>, <2 x half>, <2 x half>, <2 x half>,
  float, float, float, float)
define ptx_kernel void @k(
  ptr addrspace(1) %A, ptr addrspace(1) %B, ptr addrspace(1) %C, i32 %N, i32 %K
) {
entry:
  %lane = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %cx = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %cy = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.y()
  %m0 = mul i32 %cx, 16
  %n0 = mul i32 %cy, 8
  %row = and i32 %lane, 15
  %high = lshr i32 %lane, 4
  %col = mul i32 %high, 8
  %arow = add i32 %m0, %row
  %abase = mul i32 %arow, %K
  %aat = add i32 %abase, %col
  %pa = getelementptr [16 x [16 x half]], ptr addrspace(3) @a, i32 0, i32 %row, i32 %col
  %pb = getelementptr [16 x [8 x half]], ptr addrspace(3) @b, i32 0, i32 %row, i32 0
  %few = icmp ult i32 %lane, 16
  br label %loop
loop:
  %k0 = phi i32 [0, %entry], [%knext, %joined]
  %c0 = phi float [0.0, %entry], [%d0, %joined]
  %c1 = phi float [0.0, %entry], [%d1, %joined]
  %c2 = phi float [0.0, %entry], [%d2, %joined]
  %c3 = phi float [0.0, %entry], [%d3, %joined]
  %aindex = add i32 %aat, %k0
  %ga = getelementptr half, ptr addrspace(1) %A, i32 %aindex
  call void @llvm.nvvm.cp.async.cg.shared.global.16(ptr addrspace(3) %pa, ptr addrspace(1) %ga)
  br i1 %few, label %more, label %joined
more:
  %brow = add i32 %k0, %row
  %bbase = mul i32 %brow, %N
  %bindex = add i32 %bbase, %n0
  %gb = getelementptr half, ptr addrspace(1) %B, i32 %bindex
  call void @llvm.nvvm.cp.async.cg.shared.global.16(ptr addrspace(3) %pb, ptr addrspace(1) %gb)
  br label %joined
joined:
  call void @llvm.nvvm.cp.async.commit.group()
  call void @llvm.nvvm.cp.async.wait.group(i32 0)
  call void @llvm.nvvm.barrier0()
  %fa = call {i32, i32, i32, i32} @llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.b16.p3(
    ptr addrspace(3) %pa)
  %fb = call {i32, i32} @llvm.nvvm.ldmatrix.sync.aligned.m8n8.x2.trans.b16.p3(
    ptr addrspace(3) %pb)
FRAGMENTS
  %d = call {float, float, float, float} @llvm.nvvm.mma.m16n8k16.row.col.f32.f32(
    <2 x half> %ha0, <2 x half> %ha1, <2 x half> %ha2, <2 x half> %ha3,
    <2 x half> %hb0, <2 x half> %hb1, float %c0, float %c1, float %c2, float %c3)
  %d0 = extractvalue {float, float, float, float} %d, 0
  %d1 = extractvalue {float, float, float, float} %d, 1
  %d2 = extractvalue {float, float, float, float} %d, 2
  %d3 = extractvalue {float, float, float, float} %d, 3
  call void @llvm.nvvm.barrier0()
  %knext = add i32 %k0, 16
  %again = icmp slt i32 %knext, %K
  br i1 %again, label %loop, label %out
out:
  %quad = lshr i32 %lane, 2
  %pair = and i32 %lane, 3
  %twice = mul i32 %pair, 2
  %orow = add i32 %m0, %quad
  %ocol = add i32 %n0, %twice
  %obase = mul i32 %orow, %N
  %o = add i32 %obase, %ocol
  %p0 = getelementptr float, ptr addrspace(1) %C, i32 %o
  %v0 = insertelement <2 x float> poison, float %d0, i32 0
  %v1 = insertelement <2 x float> %v0, float %d1, i32 1
  store <2 x float> %v1, ptr addrspace(1) %p0, align 8
  %rows = mul i32 %N, 8
  %p1 = getelementptr float, ptr addrspace(1) %p0, i32 %rows
  %v2 = insertelement <2 x float> poison, float %d2, i32 0
  %v3 = insertelement <2 x float> %v2, float %d3, i32 1
  store <2 x float> %v3, ptr addrspace(1) %p1, align 8
  ret void
}
"""


@pytest.mark.parametrize(("m", "n", "k"), [(16, 8, 16), (32, 24, 48), (64, 40, 80)])
def test_a_product_on_tensor_cores(m: int, n: int, k: int, random: np.random.Generator) -> None:
    parts = [("a", i, "{i32, i32, i32, i32}") for i in range(4)]
    parts += [("b", i, "{i32, i32}") for i in range(2)]
    lines = "".join(
        f"  %i{x}{i} = extractvalue {type} %f{x}, {i}\n"
        f"  %h{x}{i} = bitcast i32 %i{x}{i} to <2 x half>\n"
        for x, i, type in parts
    )
    device = simulator.Device("all")
    a = random.integers(-8, 9, (m, k)).astype("f2")
    b = random.integers(-8, 9, (k, n)).astype("f2")
    out = device.empty((m, n), "f32")
    arguments = [device.array(a), device.array(b), out, n, k]
    kernel = device.load(emit(GEMM.replace("FRAGMENTS", lines)))["k"]
    report = kernel.launch((m // 16, n // 8), 32, arguments)
    assert not report.findings
    assert (out.numpy() == a.astype("f8") @ b.astype("f8")).all()


@SIZES
def test_half_precision(n: int, random: np.random.Generator) -> None:
    body = """
  %m = call half @llvm.fma.f16(half %x0, half %x1, half %x0)
  %d = fsub half %m, %x1
  %r = call half @llvm.maxnum.f16(half %d, half %x1)
"""
    declares = "declare half @llvm.fma.f16(half, half, half)\n"
    declares += "declare half @llvm.maxnum.f16(half, half)"
    a, b = random.standard_normal((2, n)).astype("f2")
    # A product of two f16 and its sum with a third are exact in double precision.
    fused = (a.astype("f8") * b.astype("f8") + a.astype("f8")).astype("f2")
    want = np.maximum((fused.astype("f8") - b.astype("f8")).astype("f2"), b)
    assert (over_lanes(elementwise(body, "half half", "half", declares), "f16", a, b) == want).all()


@SIZES
def test_brain_floats(n: int, random: np.random.Generator) -> None:
    body = """
  %m = call bfloat @llvm.fma.bf16(bfloat %x0, bfloat %x1, bfloat %x0)
  %w = fpext bfloat %m to float
  %s = fmul float %w, 3.0
  %r = fptrunc float %s to bfloat
"""
    declares = "declare bfloat @llvm.fma.bf16(bfloat, bfloat, bfloat)"
    bits = (random.standard_normal((2, n), np.float32).view("u4") >> 16).astype("u2")
    a, b = ((row.astype("u4") << 16).view("f4").astype("f8") for row in bits)

    def rounded(value: Array) -> Array:
        """Rounds to 8 significant bits, ties to even."""
        fraction, exponent = np.frexp(value)
        return np.ldexp(np.rint(fraction * 256), exponent - 8)

    want = rounded((rounded(a * b + a) * 3).astype("f4").astype("f8"))
    got = over_lanes(elementwise(body, "bfloat bfloat", "bfloat", declares), "bf16", *bits)
    assert ((got.astype("u4") << 16).view("f4") == want).all()


@SIZES
def test_a_switch_becomes_an_indexed_branch(n: int, random: np.random.Generator) -> None:
    cases = ("add", "sub", "mul", "and", "or", "xor", "shl", "lshr")
    heads = " ".join(f"i32 {number}, label %l{number}" for number in range(len(cases)))
    blocks = "".join(
        f"l{number}:\n  %s{number} = and i32 %x1, {31 if name in ('shl', 'lshr') else -1}\n"
        f"  %y{number} = {name} i32 %x0, %s{number}\n"
        f"  store volatile i32 {number}, ptr addrspace(1) %mark\n  br label %joined\n"
        for number, name in enumerate(cases)
    )
    values = ", ".join(f"[%y{number}, %l{number}]" for number in range(len(cases)))
    body = f"""
  %mark = getelementptr i32, ptr addrspace(1) %p2, i32 %i
  switch i32 %x2, label %other [{heads}]
{blocks}other:
  br label %joined
joined:
  %r = phi i32 [-1, %other], {values}
"""
    a, b = random.integers(0, 1 << 32, (2, n), "u4")
    which = random.integers(0, 10, n, "u4")
    ir = elementwise(body, "i32 i32 i32", "i32")
    assert "brx.idx" in emit(ir)
    shift = b & 31
    choices = [a + b, a - b, a * b, a & b, a | b, a ^ b, a << shift, a >> shift]
    want = np.select([which == number for number in range(8)], choices, np.uint32(0xFFFFFFFF))
    assert (over_lanes(ir, "u32", a, b, which) == want).all()


STENCIL = """
define ptx_kernel void @k(ptr addrspace(1) %x, ptr addrspace(1) %y, i32 %w, i32 %h) {
entry:
  %tx = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %ty = call i32 @llvm.nvvm.read.ptx.sreg.tid.y()
  %sx = call i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
  %sy = call i32 @llvm.nvvm.read.ptx.sreg.ntid.y()
  %bx = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %by = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.y()
  %fx = mul i32 %bx, %sx
  %fy = mul i32 %by, %sy
  %c = add i32 %fx, %tx
  %r = add i32 %fy, %ty
  %w1 = sub i32 %w, 1
  %h1 = sub i32 %h, 1
  %c0 = icmp sgt i32 %c, 0
  %c1 = icmp slt i32 %c, %w1
  %r0 = icmp sgt i32 %r, 0
  %r1 = icmp slt i32 %r, %h1
  %cc = and i1 %c0, %c1
  %rr = and i1 %r0, %r1
  %inside = and i1 %cc, %rr
  br i1 %inside, label %work, label %done
work:
  %base = mul i32 %r, %w
  %at = add i32 %base, %c
  %p = getelementptr double, ptr addrspace(1) %x, i32 %at
  %west = getelementptr double, ptr addrspace(1) %p, i32 -1
  %east = getelementptr double, ptr addrspace(1) %p, i32 1
  %minus = sub i32 0, %w
  %north = getelementptr double, ptr addrspace(1) %p, i32 %minus
  %south = getelementptr double, ptr addrspace(1) %p, i32 %w
  %m = load double, ptr addrspace(1) %p
  %a = load double, ptr addrspace(1) %west
  %b = load double, ptr addrspace(1) %east
  %d = load double, ptr addrspace(1) %north
  %e = load double, ptr addrspace(1) %south
  %ab = fadd double %a, %b
  %de = fadd double %d, %e
  %all = fadd double %ab, %de
  %four = fmul double %m, 4.0
  %lap = fsub double %all, %four
  %q = getelementptr double, ptr addrspace(1) %y, i32 %at
  store double %lap, ptr addrspace(1) %q
  br label %done
done:
  ret void
}
"""


@pytest.mark.parametrize(("h", "w"), [(3, 3), (17, 40), (50, 33)])
def test_a_stencil(h: int, w: int, random: np.random.Generator) -> None:
    device = simulator.Device("all")
    x = random.integers(-100, 100, (h, w)).astype("f8")
    out = device.array(np.zeros((h, w)))
    kernel = device.load(emit(STENCIL))["k"]
    report = kernel.launch((-(-w // 16), -(-h // 8)), (16, 8), [device.array(x), out, w, h])
    assert not report.findings
    want = np.zeros((h, w))
    want[1:-1, 1:-1] = x[1:-1, :-2] + x[1:-1, 2:] + x[:-2, 1:-1] + x[2:, 1:-1] - 4 * x[1:-1, 1:-1]
    assert (out.numpy() == want).all()


@SIZES
@pytest.mark.parametrize("divisor", [3, 7, 10, 16, 641, -5])
@pytest.mark.parametrize("bits", [32, 64])
def test_division_by_constants(
    n: int, divisor: int, bits: int, random: np.random.Generator
) -> None:
    body = f"""
  %a = sdiv i{bits} %x0, {divisor}
  %b = srem i{bits} %x0, {divisor}
  %c = udiv i{bits} %x0, {abs(divisor)}
  %d = urem i{bits} %x0, {abs(divisor)}
  %e = mul i{bits} %a, 31
  %f = xor i{bits} %e, %b
  %g = mul i{bits} %c, 17
  %h = xor i{bits} %f, %g
  %r = add i{bits} %h, %d
"""
    x = random.integers(0, 1 << bits, n, f"u{bits // 8}")
    x[0] = 1 << (bits - 1)
    got = over_lanes(elementwise(body, f"i{bits}", f"i{bits}"), f"u{bits}", x)
    for value, found in zip(x.tolist(), got.tolist(), strict=True):
        signed = value - (1 << bits) * (value >> (bits - 1))
        quotient = abs(signed) // abs(divisor) * (1 if (signed < 0) == (divisor < 0) else -1)
        rest = signed - quotient * divisor
        unsigned = divmod(value, abs(divisor))
        assert found == ((quotient * 31 ^ rest ^ unsigned[0] * 17) + unsigned[1]) % (1 << bits)


@SIZES
@pytest.mark.parametrize("bits", [32, 64])
def test_funnel_shifts_and_counts_of_bits(n: int, bits: int, random: np.random.Generator) -> None:
    type = f"i{bits}"
    body = f"""
  %a = call {type} @llvm.fshl.{type}({type} %x0, {type} %x1, {type} %x2)
  %b = call {type} @llvm.fshr.{type}({type} %x0, {type} %a, {type} %x2)
  %c = call {type} @llvm.bitreverse.{type}({type} %b)
  %d = call {type} @llvm.bswap.{type}({type} %x1)
  %e = call {type} @llvm.ctpop.{type}({type} %d)
  %f = call {type} @llvm.ctlz.{type}({type} %x1, i1 false)
  %g = call {type} @llvm.cttz.{type}({type} %x0, i1 false)
  %h = xor {type} %c, %d
  %i1 = mul {type} %e, %f
  %j = add {type} %i1, %g
  %r = add {type} %h, %j
"""
    three, one = (", ".join([type] * count) for count in (3, 1))
    declares = "\n".join(
        [f"declare {type} @llvm.fsh{side}.{type}({three})" for side in "lr"]
        + [f"declare {type} @llvm.{f}.{type}({one})" for f in ("bitreverse", "bswap", "ctpop")]
        + [f"declare {type} @llvm.{f}.{type}({type}, i1 immarg)" for f in ("ctlz", "cttz")]
    )
    a, b, s = random.integers(0, 1 << bits, (3, n), f"u{bits // 8}")
    a[0], b[0], s[0] = 0, 0, bits
    ir = elementwise(body, f"{type} {type} {type}", type, declares)
    got = over_lanes(ir, f"u{bits}", a, b, s)
    mask = (1 << bits) - 1
    for x, y, shift, found in zip(*(v.tolist() for v in (a, b, s, got)), strict=True):
        left = ((x << bits | y) << shift % bits) >> bits & mask
        right = (x << bits | left) >> shift % bits & mask
        reverse = int(f"{right:0{bits}b}"[::-1], 2)
        swapped = int.from_bytes(y.to_bytes(bits // 8, "little"), "big")
        zeros = (x & -x).bit_length() - 1 if x else bits
        sum_ = (reverse ^ swapped) + y.bit_count() * (bits - y.bit_length()) + zeros
        assert found == sum_ & mask
