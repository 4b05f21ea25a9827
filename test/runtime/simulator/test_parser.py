"""The parser: what it takes, and where it says what is wrong."""

import re
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator
from tilewright.runtime.simulator.ptx.parser import parse
from tilewright.runtime.simulator.ptx.syntax import Address, Immediate, Instruction, Pair, Vector

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"


def body(
    text: str, declarations: str = ".reg .b32 %r<9>; .reg .b64 %d<9>; .reg .pred %p<9>;"
) -> Any:
    """Returns the instructions of a kernel with a body."""
    module = parse(f"{HEAD}.visible .entry k() {{ {declarations} {text} }}")
    return [item for item in module.functions["k"].body or () if isinstance(item, Instruction)]


def failure(text: str) -> simulator.PTXError:
    """Returns the error of loading a text."""
    with pytest.raises(simulator.PTXError) as raised:
        simulator.Device().load(text)
    return raised.value


def test_module_directives() -> None:
    module = parse(".version 7.8\n.target sm_90a, debug\n.address_size 64\n")
    assert module.version == (7, 8)
    assert module.target == ("sm_90a", "debug")


def test_operands_of_every_kind() -> None:
    (item,) = body("foo.x.y %r1|%p1, {%r2, 0x10}, [%d1+-8], !%p2, -1, 0f3F800000, %tid.x, _;")
    pair, vector, address, negated, minus, one, special, sink = item.operands
    assert isinstance(pair, Pair)
    assert isinstance(vector, Vector)
    assert vector.items[1] == Immediate("int", 16)
    assert isinstance(address, Address)
    assert address.offset == -8
    assert negated.register.name == "%p2"
    assert minus == Immediate("int", -1)
    assert one == Immediate("f32", 0x3F800000)
    assert special.name == "%tid.x"
    assert sink.text == "_"


def test_coordinates_in_addresses() -> None:
    (item,) = body("foo [%d1, {%r1, %r2}], [%r3];")
    assert len(item.operands[0].coordinates) == 1


def test_constant_expressions() -> None:
    (item,) = body("foo 2+3*4, -(1<<4), ~0, 017, 0b101;")
    assert [operand.value for operand in item.operands] == [14, -16, -1, 15, 5]


def test_comments_and_lines() -> None:
    (item,) = body("/* a\n b */ // c\n foo %r1, // d\n  %r2 /* e */;")
    assert item.line == 6
    assert item.column == 2


def test_locations_and_files() -> None:
    text = f"""{HEAD}.file 1 "a.py"
.entry k() {{ .loc 1 5 3
L0: ret;
.loc 1 7 1, function_name $L__info0, inlined_at 1 9 2
L1: ret;
}}
.section .debug_str {{ $L__info0: .b8 107, 0 }}"""
    module = parse(text)
    items = [i for i in module.functions["k"].body or () if isinstance(i, Instruction)]
    assert [module.source_of(item) for item in items] == ["a.py:5:3", "a.py:7:1"]


def test_functions_and_declarations() -> None:
    text = f"""{HEAD}.extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);
.func (.reg .b32 %out) helper (.reg .b32 %in) {{ mov.b32 %out, %in; ret; }}
.visible .entry k(.param .u64 .ptr .global .align 8 p, .param .align 4 .b8 s[12])
.maxntid 128, 1, 1
.minnctapersm 2
.maxnreg 64 {{
  .reg .b32 %r1; {{ .param .b32 q; st.param.b32 [q], %r1; call.uni (r), helper, (q); }} ret;
}}"""
    function = parse(text.replace("(r)", "(q)")).functions["k"]
    assert [p.size for p in function.params] == [8, 12]
    assert function.maxntid == (128, 1, 1)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "no PTX"),
        (".target sm_80", 1, 1, "expected .version first"),
        (".version 8", 1, 10, "version such as 8.0"),
        (HEAD + ".entry k() { .reg .b33 %r; }", 4, 19, "a type such as .b32, got '.b33'"),
        (HEAD + ".entry k() {\n  add.u32 %r1, %r2, 3; }", 5, 11, "register %r1 is not declared"),
        (HEAD + ".entry k() {\n ret\n}", 6, 1, "expected an operand, got '}'"),
        (HEAD + ".entry k() { ret;", 4, 18, "expected an instruction"),
        (HEAD + ".entry k() { L: ret; L: ret; }", 4, 22, "label L is defined twice"),
        (HEAD + ".entry k() { bra M; }", 4, 14, "label M is not defined"),
        (HEAD + ".entry k() { bra M; { M: ret; } }", 4, 14, "label M is not defined"),
        (HEAD + ".entry k() { .reg .b32 a; .reg .b32 a; }", 4, 37, "declared twice"),
        (HEAD + ".entry k() { # }", 4, 14, "unexpected character '#'"),
        (HEAD + "/* never", 4, 1, "comment has no end"),
        (HEAD + ".global .u32 x = 12a;", 4, 18, "malformed number"),
        (HEAD + ".shared .u32 x = 1;", 4, 16, "takes no initial value"),
        (HEAD + ".global .align 3 .u32 x;", 4, 16, "power of two"),
        (HEAD + ".global .u32 x[1] = {1, 2};", 4, 27, "longer than the variable"),
        (".version 8.0\n.target sm_80\n.address_size 32", 3, 15, "only .address_size 64"),
        (HEAD + "nonsense", 4, 1, "expected a directive"),
        (HEAD + '.entry k() { .pragma "a }', 4, 22, "string has no end"),
        (HEAD + ".entry k() { .reg .b32 %r; @%r ret; }", 4, 29, "a predicate register"),
    ],
)
def test_errors_name_their_place(text: str, line: int, column: int, message: str) -> None:
    error = failure(text)
    assert message in error.message
    assert (error.line, error.column) == (line, column)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("tex.2d.v4.f32.s32 %r1, %r2;", "is not covered by the simulator"),
        ("add.u32 %r1, %r2;", "expects 3 operands, got 2"),
        ("add.u32 %r1, %d2, %r2;", "expects 32-bit registers for .b32, got .b64 %d2"),
        ("add.u32 5, %r1, %r2;", "expects a register as its destination"),
        ("add.f32 %r1, %r2, 3;", "expects a floating-point constant"),
        ("ld.global.u32 %r1, [%r2];", "expects a 64-bit address"),
        ("ld.global.v2.u32 %r1, [%d2];", "expects a vector of 2 elements, got 1"),
        ("ld.global.u64 %r1, [%d2];", "expects registers of 64 bits or more"),
        ("cvt.s32.f32 %r1, %r2;", "expects an integer rounding"),
        ("cp.async.cg.shared.global [%r1], [%d1], 8;", "can't copy 8 bytes"),
        ("mul.wide.u64 %d1, %d2, %d3;", "no .wide form"),
        ("setp.lo.s32 %p1, %r1, %r2;", "no comparison .lo for .s32"),
        ("st.const.u32 [%d1], %r1;", "can't store to .const"),
        ("call.uni foo, (%r1);", "expects the name of a function, got foo"),
    ],
)
def test_malformed_instructions_are_refused_at_load(instruction: str, message: str) -> None:
    declarations = ".reg .b32 %r<9>; .reg .b64 %d<9>; .reg .pred %p<9>;"
    error = failure(f"{HEAD}.entry k() {{ {declarations}\n  {instruction} }}")
    assert message in error.message
    assert instruction.split()[0 if instruction[0] != "@" else 1] in error.message
    assert (error.line, error.column) == (5, 3)


def test_all_uncovered_instructions_are_listed_at_once() -> None:
    text = f"{HEAD}.entry k() {{ .reg .b32 %r<3>;\nfoo.a %r1;\nmov.b32 %r1, %r2;\nbar.b %r2; }}"
    error = failure(text)
    assert "2 instructions" in error.message
    assert "line 5: 'foo.a'" in error.message
    assert "line 7: 'bar.b'" in error.message


def test_what_llvm_prints_parses_and_runs() -> None:
    ir = """
target triple = "nvptx64-nvidia-cuda"
@table = internal addrspace(1) constant [4 x i32] [i32 5, i32 6, i32 7, i32 8]
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare float @llvm.nvvm.ex2.approx.f(float)
define ptx_kernel void @k(ptr addrspace(1) %out, float %x, i64 %n) {
entry:
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %w = zext i32 %t to i64
  %c = icmp slt i64 %w, %n
  br i1 %c, label %then, label %done
then:
  %i = and i64 %w, 3
  %p = getelementptr [4 x i32], ptr addrspace(1) @table, i64 0, i64 %i
  %v = load i32, ptr addrspace(1) %p
  %f = sitofp i32 %v to float
  %e = call float @llvm.nvvm.ex2.approx.f(float %f)
  %s = fmul float %e, %x
  %h = fptrunc float %s to half
  %b = fpext half %h to float
  %q = getelementptr float, ptr addrspace(1) %out, i64 %w
  store float %b, ptr addrspace(1) %q
  br label %done
done:
  ret void
}"""
    llvm: Any = import_module("llvmlite.binding")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(ir)
    target = llvm.Target.from_triple("nvptx64-nvidia-cuda")
    text = target.create_target_machine(cpu="sm_80").emit_assembly(module)
    device = simulator.Device("all")
    out = device.empty((64,), "f32")
    device.load(text)["k"].launch(1, 64, [out, 0.5, 60])
    want = np.where(np.arange(64) < 60, 2.0 ** (5 + np.arange(64) % 4) / 2, 0)
    assert (out.numpy() == want).all()


@pytest.mark.parametrize("name", ["simt.ptx", "attention.ptx"])
def test_what_nvcc_prints_loads(name: str, corpus: Any) -> None:
    assert len(simulator.Device().load(corpus(name))) > 0


def test_damaged_texts_give_ptx_errors_and_nothing_else(corpus: Any) -> None:
    generator = np.random.default_rng(0)
    tokens = re.findall(r"\S+", corpus("simt.ptx"))
    refused = 0
    for _ in range(60):
        damaged = list(tokens)
        place, other = generator.integers(0, len(tokens), 2)
        way = generator.integers(0, 3)
        if way == 0:
            del damaged[place]
        elif way == 1:
            damaged[place] = tokens[other]
        else:
            damaged = [*damaged[:place], damaged[place][:-1]]
        try:
            simulator.Device().load("\n".join(damaged))
        except simulator.PTXError:
            refused += 1
    assert refused > 20


def test_an_offset_below_zero_is_written_with_both_signs() -> None:
    body = "ld.param.u64 %d0, [p]; ld.global.u32 %r0, [%d0OFFSET]; ret;"
    text = (
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p) {\n"
        f".reg .b64 %d<2>; .reg .b32 %r<2>;\n{body}\n}}"
    )
    assert simulator.Device().load(text.replace("OFFSET", "+-128"))["k"]
    with pytest.raises(
        simulator.PTXError, match=r"expects '\+' before the offset of an address, got '-'"
    ):
        simulator.Device().load(text.replace("OFFSET", "-128"))
