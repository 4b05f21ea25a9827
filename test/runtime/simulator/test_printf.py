"""printf in kernels: formats as C has them, arguments as CUDA lays them out."""

import ctypes
import math
import struct
import sys
from typing import Any

import numpy as np
import pytest

from tilewright.runtime import simulator

HEAD = """.version 8.0
.target sm_80
.address_size 64
.extern .func (.param .b32 func_retval0) vprintf (.param .b64 a, .param .b64 b);
"""


class Wide(int):
    """An argument of 8 bytes."""


def text_of(name: str, value: bytes) -> str:
    """Returns a global variable that holds a string."""
    data = ", ".join(map(str, [*value, 0]))
    return f".global .align 1 .b8 {name}[{len(value) + 1}] = {{{data}}};\n"


def stores(arguments: tuple[Any, ...]) -> tuple[str, str, int]:
    """Returns variables, the stores of an argument buffer at %SP, and its size."""
    variables, lines, at = "", "", 0
    for number, argument in enumerate(arguments):
        size = 4 if type(argument) is int else 8
        at = (at + size - 1) // size * size
        if isinstance(argument, bytes):
            variables += text_of(f"s{number}", argument)
            lines += f"mov.u64 %d1, s{number}; cvta.global.u64 %d1, %d1; "
        elif isinstance(argument, float):
            (bits,) = struct.unpack("<Q", struct.pack("<d", argument))
            lines += f"mov.b64 %d1, {bits:#x}; "
        elif size == 8:
            lines += f"mov.b64 %d1, {int(argument) & (1 << 64) - 1:#x}; "
        else:
            lines += f"mov.b32 %r1, {argument & 0xFFFFFFFF:#x}; "
        lines += f"st.b{8 * size} [%SP+{at}], %{'r' if size == 4 else 'd'}1;\n"
        at += size
    return variables, lines, max(at, 8)


def launch(form: bytes, *arguments: Any, threads: int = 1) -> tuple[str, list[int]]:
    """Prints in each thread of one CTA; returns the text and what vprintf returned."""
    variables, lines, size = stores(arguments)
    text = f"""{HEAD}{text_of("form", form)}{variables}
.visible .entry k(.param .u64 out) {{
    .local .align 8 .b8 depot[{size}];
    .reg .b32 %r<4>; .reg .b64 %d<4>; .reg .b64 %SP;
    mov.u64 %SP, depot; cvta.local.u64 %SP, %SP;
{lines}
    mov.u64 %d2, form; cvta.global.u64 %d2, %d2;
    {{
        .param .b64 param0; st.param.b64 [param0+0], %d2;
        .param .b64 param1; st.param.b64 [param1+0], %SP;
        .param .b32 retval0;
        call.uni (retval0), vprintf, (param0, param1);
        ld.param.b32 %r2, [retval0+0];
    }}
    mov.u32 %r3, %tid.x; ld.param.u64 %d3, [out]; mad.wide.u32 %d3, %r3, 4, %d3;
    st.global.u32 [%d3], %r2;
    ret;
}}"""
    device = simulator.Device("all")
    out = device.empty((threads,), "i32")
    report = device.load(text)["k"].launch(1, threads, [out])
    return report.printed, out.numpy().tolist()


@pytest.mark.parametrize(
    ("form", "arguments", "want"),
    [
        ("plain", (), "plain"),
        ("100%%", (), "100%"),
        ("%d %i", (-5, 7), "-5 7"),
        ("%u", (-1,), str(2**32 - 1)),
        ("%hd %hhd", (0x18000, 0x1FF), "-32768 -1"),
        ("%hu %hhu", (-1, -1), "65535 255"),
        ("%ld %lld %zu %td %jd", tuple(map(Wide, (-1, -2, -1, 3, -4))), f"-1 -2 {2**64 - 1} 3 -4"),
        ("%lx %llX %lo", tuple(map(Wide, (2**63, 255, 8))), f"{2**63:x} FF 10"),
        ("%d %ld %d", (1, Wide(2), 3), "1 2 3"),
        ("%#x %#X %#o %#x %#o", (255, 255, 8, 0, 0), "0xff 0XFF 010 0 0"),
        ("[%5d|%-5d|%05d|%+d|% d]", (42, 42, 42, 42, 42), "[   42|42   |00042|+42| 42]"),
        ("[%.3d|%8.3d|%08.3d|%.0d]", (7, -7, 7, 0), "[007|    -007|     007|]"),
        ("[%*d|%-*d|%*d]", (4, 1, 4, 2, -4, 3), "[   1|2   |3   ]"),
        ("[%.*f|%.*f]", (2, 1.005, -1, 0.5), f"[{1.005:.2f}|0.500000]"),
        ("%c%c", (ord("h"), 0x100 + ord("i")), "hi"),
        ("[%s|%5s|%-5s|%.2s]", (b"abc", b"abc", b"abc", b"abc"), "[abc|  abc|abc  |ab]"),
        ("%s %d", (Wide(0), 3), "(null) 3"),
        ("%p %p", (Wide(0xDEADBEEF), Wide(0)), "0xdeadbeef (nil)"),
        ("%f %e %g %G", (1.5, 1.5, 1e-7, 1e20), "1.500000 1.500000e+00 1e-07 1E+20"),
        ("%8.2f|%-8.2f|%08.2f|%+.1e", (-2.345, 2.0, -2.0, 1e100), None),
        ("%#.0f %#g %.0f", (3.0, 1.0, 2.5), "3. 1.00000 2"),
        ("%f %F %05f %-5f|", (math.inf, -math.inf, math.inf, math.nan), "inf -INF   inf nan  |"),
        ("%a %A %.2a %a", (1.0, -0.5, 1.999, 0.0), "0x1p+0 -0X1P-1 0x2.00p+0 0x0p+0"),
    ],
)
def test_conversions(form: str, arguments: tuple[Any, ...], want: str | None) -> None:
    got, counts = launch(form.encode(), *arguments)
    assert got == (form % arguments if want is None else want)
    assert counts == [len(arguments)]


def formats(generator: Any) -> tuple[str, Any, Any]:
    """Returns a random conversion, its argument, and the argument for C."""
    flags = "".join(f for f in "-+ #0" if generator.random() < 0.3)
    width = str(generator.integers(1, 30)) if generator.random() < 0.6 else ""
    precision = f".{generator.integers(0, 20)}" if generator.random() < 0.6 else ""
    kind = str(generator.choice(list("diuxXoeEfFgGaA")))
    if kind in "diuxXo":
        length = str(generator.choice(["", "h", "hh", "l", "ll", "z", "j", "t"]))
        value = int(generator.integers(-(2**63), 2**63 - 1)) >> int(generator.integers(0, 63))
        wide = length not in ("", "h", "hh")
        argument = Wide(value) if wide else (value & 0xFFFFFFFF)
        given = ctypes.c_int64(value) if wide else ctypes.c_uint32(value & 0xFFFFFFFF)
        return f"%{flags}{width}{precision}{length}{kind}", argument, given
    value = float(generator.normal() * 10.0 ** generator.integers(-30, 30))
    value = float(generator.choice([value, round(value), 0.0, -0.0, math.inf, 5e-324, 0.5]))
    return f"%{flags}{width}{precision}{kind}", value, ctypes.c_double(value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="C libraries differ in %a")
def test_conversions_agree_with_the_c_library() -> None:
    generator = np.random.default_rng(4)
    library = ctypes.CDLL(None)
    for _ in range(20):
        chosen = [formats(generator) for _ in range(20)]
        form = "|".join(text for text, _, _ in chosen)
        want = ctypes.create_string_buffer(1 << 14)
        library.snprintf(want, 1 << 14, form.encode(), *(given for _, _, given in chosen))
        got, _ = launch(form.encode(), *(argument for _, argument, _ in chosen))
        assert got.split("|") == want.value.decode().split("|"), form


@pytest.mark.parametrize("form", ["%", "%q", "50% d", "%n", "%5", "%.", "%lls", "%99999d", "%-"])
def test_malformed_formats_end_without_a_traceback(form: str) -> None:
    launch(form.encode(), Wide(0), Wide(0))


@pytest.mark.parametrize("form", ["a%", "%q!", "x%n", "%99999d", "%.99999f", "%l"])
def test_what_is_no_conversion_is_printed_as_it_is(form: str) -> None:
    assert launch(form.encode(), Wide(0)) == (form, [0])


def test_arguments_beyond_32_are_not_read() -> None:
    got, counts = launch(b"%d," * 34, *range(34))
    assert got == "".join(f"{n}," for n in range(32)) + "%d,%d,"
    assert counts == [32]


def test_threads_print_in_order() -> None:
    got, counts = launch(b"%d\n", 3, threads=40)
    assert got == "3\n" * 40
    assert counts == [1] * 40


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    got, _ = launch("ü%c".encode(), 0xFF)
    assert got == "ü\ufffd"


def test_an_argument_buffer_that_is_too_short_is_a_fault() -> None:
    with pytest.raises(simulator.SimulationError) as caught:
        launch(b"%ld%ld%ld", 1)
    assert caught.value.finding.kind == "bounds"
    assert "vprintf" in caught.value.finding.instruction


def test_a_string_at_no_address_is_a_fault() -> None:
    with pytest.raises(simulator.SimulationError) as caught:
        launch(b"%s", Wide(5))
    assert caught.value.finding.kind == "bounds"


def test_what_was_printed_before_a_fault_is_kept() -> None:
    text = f"""{HEAD}{text_of("form", b"before")}
.visible .entry k() {{
    .reg .b64 %d<3>; .reg .b32 %r<2>;
    mov.u64 %d1, form; cvta.global.u64 %d1, %d1; mov.b64 %d2, 0;
    {{ .param .b64 a; .param .b64 b; .param .b32 r; st.param.b64 [a], %d1; st.param.b64 [b], %d2;
    call.uni (r), vprintf, (a, b); ld.param.b32 %r1, [r]; }}
    trap;
}}"""
    with pytest.raises(simulator.SimulationError) as caught:
        simulator.Device().load(text)["k"].launch(1, 2)
    assert caught.value.finding.kind == "trap"
    assert caught.value.printed == "beforebefore"


def test_lanes_that_part_print_where_they_ran(corpus: Any) -> None:
    """Odd and even threads have strings of their own; the call is the same."""
    x = np.random.default_rng(0).normal(size=26).astype("f4")
    device = simulator.Device("all")
    out = device.empty((26,), "i32")
    report = device.load(corpus("calls.ptx"))["print"].launch(1, 26, [device.array(x), out])
    want = "".join(
        f"{('even', 'odd')[i & 1]} {i}: {float(x[i]):.3f} {i * 7:5}|{i << 33:<6}|{chr(97 + i)}\n"
        for i in range(26)
    )
    assert report.printed == want
    assert out.numpy().tolist() == [6] * 26
