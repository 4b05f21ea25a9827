"""Calls of device functions: parameters, returns, divergence, findings, what is refused."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator
from tilewright.runtime.simulator.tracing import Step, Trace

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"


def kernel(body: str) -> str:
    """Returns an entry: a0 is x[i] as b32, o0 goes to out[i]; one CTA."""
    return f""".visible .entry k(.param .u64 x, .param .u64 out) {{
    .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<19>; .reg .b64 %d<19>; .reg .f32 %f<9>;
    .reg .b64 at; .reg .b32 a0, o0, tid;
    mov.u32 tid, %tid.x; mov.u32 o0, 0;
    ld.param.u64 at, [x]; mad.wide.u32 at, tid, 4, at; ld.global.b32 a0, [at];
{body}
    ld.param.u64 at, [out]; mad.wide.u32 at, tid, 4, at; st.global.b32 [at], o0;
    ret;
}}"""


def run(functions: str, body: str, x: Any) -> Any:
    """Runs a body over the elements of an array, one a thread; returns the u32 results."""
    device = simulator.Device("all")
    module = device.load(HEAD + functions + kernel(body))
    out = device.empty((x.size,), "u32")
    module["k"].launch(1, x.size, [device.array(x), out])
    return out.numpy()


def refusal(functions: str, body: str) -> simulator.PTXError:
    """Returns the error of loading a module."""
    with pytest.raises(simulator.PTXError) as caught:
        simulator.Device().load(HEAD + functions + kernel(body))
    return caught.value


def called(name: str, argument: str = "a0", result: str = "o0", guard: str = "") -> str:
    """Returns a call of a function from b32 to b32."""
    return f"""{{ .param .b32 param0; .param .b32 retval0;
    st.param.b32 [param0+0], {argument};
    {guard} call.uni (retval0), {name}, (param0);
    ld.param.b32 {result}, [retval0+0]; }}"""


def function(name: str, body: str) -> str:
    """Returns a function from b32 %r1 to b32 %r2."""
    return f""".func (.param .b32 {name}_retval) {name} (.param .b32 {name}_param_0) {{
    .reg .pred %p<9>; .reg .b32 %r<9>; .reg .b64 %d<9>;
    ld.param.b32 %r1, [{name}_param_0];
{body}
    st.param.b32 [{name}_retval+0], %r2;
    ret;
}}
"""


X = np.random.default_rng(0).integers(0, 1000, 200).astype("u4")


def test_a_call_returns_a_value() -> None:
    square = function("square", "mul.lo.u32 %r2, %r1, %r1;")
    assert (run(square, called("square"), X) == X * X).all()


def test_calls_nest() -> None:
    functions = function("triple", "mul.lo.u32 %r2, %r1, 3;")
    functions += function("outer", "add.u32 %r3, %r1, 1;" + called("triple", "%r3", "%r2"))
    assert (run(functions, called("outer"), X) == 3 * (X + 1)).all()


def test_registers_of_a_function_are_its_own() -> None:
    functions = function("triple", "mov.u32 %r3, 7; mul.lo.u32 %r2, %r1, 3;")
    body = "mov.u32 %r1, 5; mov.u32 %r2, 6; mov.u32 %r3, 8;" + called("triple")
    body += "add.u32 o0, o0, %r1; add.u32 o0, o0, %r2; add.u32 o0, o0, %r3;"
    assert (run(functions, body, X) == 3 * X + 19).all()


def test_a_guarded_call_runs_for_its_lanes_only() -> None:
    square = function("square", "mul.lo.u32 %r2, %r1, %r1;")
    body = """setp.lt.u32 %p1, a0, 500; mov.u32 %r9, 1;
    { .param .b32 p; .param .b32 r; st.param.b32 [p], a0;
    @%p1 call (r), square, (p); @%p1 ld.param.b32 %r9, [r]; } mov.u32 o0, %r9;"""
    assert (run(square, body, X) == np.where(X < 500, X * X, 1)).all()


def test_lanes_return_early_and_meet_again() -> None:
    """The shuffle behind the call needs all lanes of a warp."""
    functions = """.func (.param .b32 r) clipped (.param .b32 a) {
    .reg .pred %p<3>; .reg .b32 %r<3>;
    ld.param.b32 %r1, [a]; st.param.b32 [r], 9; setp.gt.u32 %p1, %r1, 500; @%p1 ret;
    setp.gt.u32 %p2, %r1, 250; @%p2 bra HIGH; st.param.b32 [r], %r1; ret;
HIGH: st.param.b32 [r], 7; ret.uni;
}
"""
    body = called("clipped") + "shfl.sync.bfly.b32 o0, o0, 1, 31, 0xffffffff;"
    x = X[:192]
    want = np.where(x > 500, 9, np.where(x > 250, 7, x))
    assert (run(functions, body, x) == want.reshape(-1, 2)[:, ::-1].reshape(-1)).all()


def test_calls_in_a_loop_that_lanes_leave_one_by_one() -> None:
    step = function("step", "mad.lo.u32 %r2, %r1, 5, 1;")
    body = f"""and.b32 %r1, a0, 7; mov.u32 o0, a0;
TOP: setp.eq.u32 %p1, %r1, 0; @%p1 bra DONE;
    {called("step", "o0")} sub.u32 %r1, %r1, 1; bra TOP;
DONE:"""
    want = X.copy()
    for round in range(7):
        want = np.where((X & 7) > round, want * np.uint32(5) + np.uint32(1), want)
    assert (run(step, body, X) == want).all()


def test_a_loop_in_a_function_has_its_own_labels() -> None:
    """Caller and callee have a label TOP; the callee is called twice."""
    bits = function(
        "bits",
        """mov.u32 %r2, 0; mov.u32 %r4, %r1;
TOP: setp.eq.u32 %p1, %r4, 0; @%p1 bra DONE;
    sub.u32 %r3, %r4, 1; and.b32 %r4, %r4, %r3; add.u32 %r2, %r2, 1; bra TOP;
DONE:""",
    )
    body = f"""mov.u32 %r1, 2; mov.u32 %r5, a0;
TOP: {called("bits", "%r5", "%r6")} add.u32 o0, o0, %r6; mul.lo.u32 %r5, %r5, 3;
    {called("bits", "%r5", "%r6")} add.u32 o0, o0, %r6;
    sub.u32 %r1, %r1, 1; setp.ne.u32 %p1, %r1, 0; @%p1 bra TOP;"""
    ones = [int(v).bit_count() + 2 * (3 * int(v)).bit_count() + (9 * int(v)).bit_count() for v in X]
    assert run(bits, body, X).tolist() == ones


def test_an_indexed_branch_in_a_function() -> None:
    chosen = function(
        "chosen",
        """and.b32 %r3, %r1, 1;
TABLE: .branchtargets EVEN, ODD;
    brx.idx %r3, TABLE;
EVEN: mov.u32 %r2, 4; bra OUT;
ODD: mov.u32 %r2, 6;
OUT:""",
    )
    body = called("chosen", result="%r1") + "add.u32 %r2, a0, 1;"
    body += called("chosen", "%r2", "%r3") + "mad.lo.u32 o0, %r1, 10, %r3;"
    assert (run(chosen, body, X) == np.where(X & 1, 64, 46)).all()


STRUCT = """.func (.param .align 8 .b8 r[24]) turned (.param .align 8 .b8 a[24], .param .b32 n) {
    .reg .b32 %r<9>; .reg .b64 %d<3>; .reg .f64 %g<2>; .reg .b16 %h<4>;
    ld.param.v2.b32 {%r1, %r2}, [a]; ld.param.f64 %g1, [a+8];
    ld.param.u8 %h1, [a+16]; ld.param.s8 %r3, [a+17]; ld.param.u16 %r4, [a+18];
    ld.param.b32 %r5, [n];
    st.param.v2.b32 [r], {%r2, %r1}; st.param.f64 [r+8], %g1; st.param.b8 [r+16], %h1;
    st.param.b8 [r+17], %r3; st.param.b16 [r+18], %r4; st.param.b32 [r+20], %r5; ret;
}
"""


def test_structures_are_passed_by_value_in_pieces() -> None:
    body = """{ .param .align 8 .b8 s[24]; .param .b32 n; .param .align 8 .b8 t[24];
    add.u32 %r1, a0, 1; st.param.v2.b32 [s], {a0, %r1}; mov.f64 %g1, 0d4008000000000000;
    st.param.f64 [s+8], %g1; st.param.b8 [s+16], a0; st.param.b8 [s+17], -2;
    st.param.b16 [s+18], 300; st.param.b32 [n], 11;
    call (t), turned, (s, n);
    ld.param.v2.b32 {%r2, %r3}, [t]; ld.param.f64 %g2, [t+8]; ld.param.u8 %r4, [t+16];
    ld.param.s8 %r5, [t+17]; ld.param.u16 %r6, [t+18]; ld.param.b32 %r7, [t+20]; }
    cvt.rzi.u32.f64 %r8, %g2; mul.lo.u32 %r2, %r2, 10; add.u32 o0, %r2, %r3;
    add.u32 o0, o0, %r4; add.u32 o0, o0, %r5; add.u32 o0, o0, %r6; add.u32 o0, o0, %r7;
    mad.lo.u32 o0, %r8, 1000, o0;"""
    got = run(STRUCT, ".reg .f64 %g<3>;" + body, X)
    assert (got == 3000 + 10 * (X + 1) + X + (X & 255) - 2 + 300 + 11).all()


def test_pieces_that_differ_go_through_memory() -> None:
    """Stored as four bytes, loaded as one word; returned as a word, loaded as halves."""
    functions = """.func (.param .align 4 .b8 r[4]) same (.param .align 4 .b8 a[4]) {
    .reg .b32 %r1; ld.param.b32 %r1, [a]; st.param.b32 [r], %r1; ret; }
"""
    body = """{ .param .align 4 .b8 s[4]; .param .align 4 .b8 t[4];
    st.param.b8 [s], a0; shr.u32 %r1, a0, 8; st.param.b8 [s+1], %r1;
    st.param.b8 [s+2], 3; st.param.b8 [s+3], 4; call (t), same, (s);
    ld.param.u16 %r2, [t]; ld.param.u16 %r3, [t+2]; } mad.lo.u32 o0, %r3, 65536, %r2;"""
    assert (run(functions, body, X) == X + 0x04030000).all()


ADDRESSED = """.func (.param .b32 r) element (.param .align 4 .b8 a[16], .param .b32 i) {
    .reg .b32 %r<4>; .reg .b64 %d<4>;
    ld.param.b32 %r1, [i]; mov.b64 %d1, a; mad.wide.u32 %d2, %r1, 4, %d1;
    ld.param.b32 %r2, [%d2]; st.local.b32 [%d1], -1;
    cvta.local.u64 %d3, %d2; ld.b32 %r3, [%d3]; min.u32 %r2, %r2, %r3;
    st.param.b32 [r], %r2; ret;
}
"""


def test_the_address_of_a_parameter_is_in_local_memory() -> None:
    """The function writes its parameter: the caller's second call must not see that."""
    body = """and.b32 %r1, a0, 3; .param .align 4 .b8 s[16]; .param .b32 i; .param .b32 r;
    st.param.v4.b32 [s], {10, 20, 30, 40}; st.param.b32 [i], %r1;
    call (r), element, (s, i); ld.param.b32 %r2, [r];
    call (r), element, (s, i); ld.param.b32 %r3, [r]; mad.lo.u32 o0, %r2, 100, %r3;"""
    want = np.array([10, 20, 30, 40])[X & 3]
    assert (run(ADDRESSED, body, X) == want * 101).all()


def test_an_argument_that_is_stored_once_reaches_every_round() -> None:
    """The function writes its parameter; the loop that calls it doesn't set it again."""
    body = """and.b32 %r1, a0, 3; .param .align 4 .b8 s[16]; .param .b32 i; .param .b32 r;
    st.param.v4.b32 [s], {10, 20, 30, 40}; st.param.b32 [i], 0; mov.u32 %r9, 0;
TOP: call (r), element, (s, i); ld.param.b32 %r2, [r]; add.u32 o0, o0, %r2;
    add.u32 %r9, %r9, 1; setp.lt.u32 %p1, %r9, 3; @%p1 bra TOP;"""
    assert (run(ADDRESSED, body, X) == 30).all()


def test_a_returned_value_may_be_the_next_argument() -> None:
    square = function("square", "mul.lo.u32 %r2, %r1, %r1;")
    body = """{ .param .b32 p; st.param.b32 [p], a0;
    call (p), square, (p); call (p), square, (p); ld.param.b32 o0, [p]; }"""
    assert (run(square, body, X) == (X * X) * (X * X)).all()


def test_a_parameter_is_passed_on() -> None:
    functions = function("square", "mul.lo.u32 %r2, %r1, %r1;")
    functions += """.func (.param .b32 r) on (.param .b32 a) { .reg .b32 %r1;
    .param .b32 t; call (t), square, (a); ld.param.b32 %r1, [t]; st.param.b32 [r], %r1; ret; }
"""
    assert (run(functions, called("on"), X) == X * X).all()


def test_parameters_in_registers() -> None:
    functions = """.func (.reg .b32 %out, .reg .pred %q)
    f (.reg .b32 %in, .reg .f32 %x, .reg .pred %p) {
    .reg .b32 %y; cvt.rzi.u32.f32 %y, %x; add.u32 %out, %in, %y; @%p add.u32 %out, %out, 100;
    setp.gt.u32 %q, %out, 500; ret; }
"""
    body = """setp.eq.u32 %p1, tid, 3; mov.f32 %f1, 0f40A00000;
    call (%r1, %p2), f, (a0, %f1, %p1); selp.u32 o0, %r1, 0, %p2;"""
    sums = X + 5 + np.where(np.arange(X.size) == 3, 100, 0)
    assert (run(functions, body, X) == np.where(sums > 500, sums, 0)).all()


def test_registers_and_constants_are_given_to_parameters() -> None:
    functions = """.func (.param .b32 r) sum (.param .b32 a, .param .b32 b) { .reg .b32 %r<4>;
    ld.param.b32 %r1, [a]; ld.param.b32 %r2, [b]; add.u32 %r3, %r1, %r2;
    st.param.b32 [r], %r3; ret; }
"""
    assert (run(functions, "call (o0), sum, (a0, 17); call (_), sum, (a0, a0);", X) == X + 17).all()


def test_a_function_without_parameters_that_does_not_return() -> None:
    functions = ".func leave .noreturn { exit; }\n"
    body = "setp.lt.u32 %p1, a0, 500; @%p1 call leave; mov.u32 o0, 1;"
    assert (run(functions, body, X) == np.where(X < 500, 0, 1)).all()


def test_local_and_shared_variables_of_a_function() -> None:
    functions = function(
        "kept",
        """.shared .align 4 .b32 total; .local .align 8 .b8 __local_depot0[16];
    .reg .b64 %SP, %SPL; mov.b64 %SPL, __local_depot0; cvta.local.u64 %SP, %SPL;
    st.b32 [%SP+4], %r1; atom.shared.add.u32 %r3, [total], 1; ld.local.b32 %r2, [%SPL+4];""",
    )
    body = ".local .b8 __local_depot0[8]; mov.u64 %d1, __local_depot0;"
    body += "st.local.b32 [%d1], 77; ld.local.b32 %r9, [%d1];"
    functions = functions.replace(
        "atom.shared", "st.shared.b32 [total], 0; bar.sync 0; atom.shared"
    )
    body += called("kept") + "ld.local.b32 %r2, [%d1]; add.u32 o0, o0, %r2;"
    assert (run(functions, body, X) == X + 77).all()


def test_a_function_declared_before_it_is_defined() -> None:
    square = function("square", "mul.lo.u32 %r2, %r1, %r1;")
    declared = ".func (.param .b32 square_retval) square (.param .b32 square_param_0);\n"
    assert (
        run(declared + function("o", called("square", "%r1", "%r2")) + square, called("o"), X)
        == X * X
    ).all()


def test_a_function_called_by_two_entries() -> None:
    square = function("square", "mul.lo.u32 %r2, %r1, %r1;")
    first, second = kernel(called("square")), kernel(called("square") + "add.u32 o0, o0, 1;")
    device = simulator.Device()
    module = device.load(HEAD + square + first + second.replace(" k(", " other("))
    out = device.empty((2, X.size), "u32")
    for row, name in enumerate(("k", "other")):
        address = out.address + row * X.nbytes
        module[name].launch(1, X.size, [device.array(X), address])
    assert (out.numpy() == [X * X, X * X + 1]).all()


def test_a_straight_function_costs_no_block() -> None:
    """A call must not make a hot kernel slower: the blocks are those without it."""
    square = function("square", "mul.lo.u32 %r2, %r1, %r1;")
    module = simulator.Device().load(HEAD + square + kernel(called("square") * 3))
    assert len(module["k"].program.blocks) == 1


def test_a_finding_names_the_line_in_the_function_and_the_calls() -> None:
    load = function("load", "cvt.u64.u32 %d1, %r1; ld.global.b32 %r2, [%d1];")
    functions = load + function("outer", called("load", "%r1", "%r2"))
    text = HEAD + functions + kernel(called("outer"))
    lines = text.splitlines()
    device = simulator.Device()
    module = device.load(text)
    with pytest.raises(simulator.SimulationError) as caught:
        module["k"].launch(1, 32, [device.array(X[:32]), device.empty((32,), "u32")])
    finding = caught.value.finding
    assert "ld.global.b32" in lines[finding.line - 1]
    assert finding.instruction == "ld.global.b32 %r2, [%d1];"
    assert [lines[line - 1].split()[2] for line in finding.calls] == ["load,", "outer,"]
    assert f"called from PTX line {finding.calls[0]}, {finding.calls[1]}" in str(finding)


def test_a_profile_has_one_line_for_each_instruction_of_a_function() -> None:
    square = function("square", "mul.lo.u32 %r2, %r1, %r1;")
    device = simulator.Device()
    module = device.load(HEAD + square + kernel(called("square") * 2))
    args = [device.array(X), device.empty((X.size,), "u32")]
    report = module["k"].launch(1, X.size, args, profile=True)
    (product,) = [line for line in report.profile.lines if line.opcode == "mul.lo.u32"]
    assert product.executed == 2 * X.size
    spans = [line.text for line in report.profile.lines]
    assert sum("call.uni" in text for text in spans) == 2


def test_a_trace_goes_through_functions() -> None:
    square = function("square", "mul.lo.u32 %r2, %r1, %r1;")
    device = simulator.Device()
    module = device.load(HEAD + square + kernel("mov.u32 %r1, 5;" + called("square")))
    steps: list[Step] = []
    args = [device.array(X), device.empty((X.size,), "u32")]
    module["k"].launch(1, X.size, args, trace=Trace(0, 7, step=steps.append))
    (product,) = [step for step in steps if step.instruction.startswith("mul.lo")]
    value = int(X[7])
    assert product.values == {"square:%r2": value * value, "square:%r1": value}


CHAIN = "".join(
    function(f"f{n}", called(f"f{n - 1}", "%r1", "%r3") + called(f"f{n - 1}", "%r3", "%r2"))
    for n in range(1, 30)
)


@pytest.mark.parametrize(
    ("functions", "body", "messages"),
    [
        ("", "call (o0), f, (a0);", ["expects the name of a function, got f"]),
        (".extern .func f();\n", "call f;", ["calls f, which this module does not define"]),
        (function("f", ""), "call f;", ["gives f 0 return values, expected 1"]),
        (function("f", ""), "call (o0), f, (a0, a0);", ["gives f 2 arguments, expected 1"]),
        (function("f", ""), "call (o0), %d1, (a0), p;", ["through the register %d1"]),
        (
            function("f", ""),
            "mov.u64 %d1, f;",
            ["takes the address of function f: calls through pointers are not covered"],
        ),
        (function("f", called("f", "%r1", "%r2")), called("f"), ["recursive (f -> f)"]),
        (
            ".func (.param .b32 r) g (.param .b32 a);\n"
            + function("f", called("g", "%r1", "%r2"))
            + function("g", called("f", "%r1", "%r2")),
            called("f"),
            ["recursive (f -> g -> f)"],
        ),
        (function("f0", "mov.u32 %r2, %r1;") + CHAIN, called("f29"), ["limit is 32768"]),
        (
            function("f", ""),
            "{ .param .b64 p; call (o0), f, (p); }",
            ["p of 8 bytes for f_param_0 of 4 bytes"],
        ),
        (function("f", ""), "call (o0), f, (x);", ["x of 8 bytes"]),
        (function("f", "tex.foo %r2;"), called("f"), ["'tex.foo' is not covered"]),
        (function("f", "alloca.u64 %d1, 8;"), called("f"), ["'alloca.u64' is not covered"]),
        (function("f", "@%p1 bra;"), called("f"), ["'bra' expects a label"]),
        ("", "call.enter;", ["'call.enter' is not covered"]),
        (
            ".extern .func (.param .b64 r) malloc (.param .b32 n);\n",
            "call (_), malloc, (a0);",
            ["calls malloc, whose declaration is not CUDA's"],
        ),
        ("", "st.param.b64 [x], %d1;", ["can't store to x, a parameter of the kernel"]),
    ],
)
def test_calls_that_are_refused(functions: str, body: str, messages: list[str]) -> None:
    error = refusal(functions, body)
    for message in messages:
        assert message in error.message


def test_functions_that_nobody_calls_are_not_looked_at() -> None:
    functions = ".extern .func g();\n.func f { tex.foo; call g; ret; }\n"
    assert (run(functions, "mov.u32 o0, a0;", X) == X).all()


def test_allocations_of_a_kernel_are_checked() -> None:
    text = f""".extern .func (.param .b64 r) malloc (.param .b64 n);
.extern .func free (.param .b64 p);
{
        kernel('''cvt.u64.u32 %d1, a0; call (%d2), malloc, (8); mul.lo.u64 %d3, %d1, 4;
    add.u64 %d4, %d2, %d3; st.global.b32 [%d4], a0; ld.global.b32 o0, [%d4];
    setp.eq.u32 %p1, a0, 1; @%p1 call free, (%d2); st.global.b32 [%d2], 0;''')
    }"""
    for values, kind in (([0, 0], ""), ([0, 2], "bounds"), ([0, 1], "use-after-free")):
        device = simulator.Device("all")
        module = device.load(HEAD + text)
        args = [device.array(np.array(values, "u4")), device.empty((2,), "u32")]
        found = None
        try:
            module["k"].launch(1, 2, args)
        except simulator.SimulationError as error:
            found = error.finding
        assert (found.kind if found else "") == kind
        assert found is None or found.tid == (1, 0, 0)


def test_a_heap_that_is_used_up_gives_no_address() -> None:
    text = ".extern .func (.param .b64 r) malloc (.param .b64 n);\n"
    body = "call (%d1), malloc, (1048576); setp.ne.u64 %p1, %d1, 0; selp.u32 o0, 1, 0, %p1;"
    assert run(text, body, X[:20]).sum() == 8


@pytest.mark.parametrize("address", ["at", "%d2"])
def test_free_of_what_malloc_did_not_return(address: str) -> None:
    text = (
        ".extern .func (.param .b64 r) malloc (.param .b64 n); .extern .func free(.param .b64 p);\n"
    )
    body = f"call (%d1), malloc, (64); add.u64 %d2, %d1, 8; call free, ({address});"
    with pytest.raises(simulator.SimulationError, match="no malloc returned it"):
        run(text, body, X[:2])


LLVM = """
target triple = "nvptx64-nvidia-cuda"
%pair = type { i64, float, [3 x i32] }
@form = private constant [9 x i8] c"%d: %.2f\\00"
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @vprintf(ptr, ptr)
define internal float @scaled(ptr byval(%pair) align 8 %p, i32 %i) noinline {
  %x = getelementptr %pair, ptr %p, i32 0, i32 1
  %f = load float, ptr %x
  %at = getelementptr %pair, ptr %p, i32 0, i32 2, i32 %i
  %w = load i32, ptr %at
  %g = sitofp i32 %w to float
  %r = fmul float %f, %g
  ret float %r
}
define internal { i64, float } @both(i64 %a, float %b) noinline {
  %c = mul i64 %a, 3
  %r = insertvalue { i64, float } undef, i64 %c, 0
  %s = insertvalue { i64, float } %r, float %b, 1
  ret { i64, float } %s
}
define ptx_kernel void @k(ptr addrspace(1) %out) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %p = alloca %pair
  %x = getelementptr %pair, ptr %p, i32 0, i32 1
  store float 2.5, ptr %x
  %a0 = getelementptr %pair, ptr %p, i32 0, i32 2, i32 0
  store i32 10, ptr %a0
  %a1 = getelementptr %pair, ptr %p, i32 0, i32 2, i32 1
  store i32 20, ptr %a1
  %a2 = getelementptr %pair, ptr %p, i32 0, i32 2, i32 2
  store i32 %t, ptr %a2
  %i = urem i32 %t, 3
  %v = call float @scaled(ptr byval(%pair) align 8 %p, i32 %i)
  %w = zext i32 %t to i64
  %both = call { i64, float } @both(i64 %w, float %v)
  %n = extractvalue { i64, float } %both, 0
  %f = extractvalue { i64, float } %both, 1
  %m = sitofp i64 %n to float
  %sum = fadd float %m, %f
  %at = getelementptr float, ptr addrspace(1) %out, i64 %w
  store float %sum, ptr addrspace(1) %at
  %args = alloca { i32, double }
  store i32 %t, ptr %args
  %second = getelementptr { i32, double }, ptr %args, i32 0, i32 1
  %wide = fpext float %sum to double
  store double %wide, ptr %second
  call i32 @vprintf(ptr @form, ptr %args)
  ret void
}
"""


@pytest.mark.parametrize("level", [0, 2])
def test_calls_as_llvm_prints_them(level: int) -> None:
    pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra mlir)")
    llvm: Any = import_module("llvmlite.binding")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("nvptx64-nvidia-cuda")
    machine = target.create_target_machine(cpu="sm_80", features="+ptx80", opt=level)
    text = machine.emit_assembly(llvm.parse_assembly(LLVM))
    assert text.count("call.uni") == 3
    device = simulator.Device("all")
    out = device.empty((9,), "f32")
    report = device.load(text)["k"].launch(1, 9, [out])
    t = np.arange(9)
    want = 3 * t + 2.5 * np.array([10 + 0 * t, 20 + 0 * t, t])[t % 3, t]
    assert out.numpy().tolist() == want.tolist()
    assert report.printed == "".join(f"{i}: {v:.2f}" for i, v in enumerate(want))
