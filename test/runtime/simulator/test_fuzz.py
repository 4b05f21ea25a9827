"""A text that was changed at random loads or is refused; a launch ends where it is told to."""

import runpy
from pathlib import Path
from time import process_time

import numpy as np
import pytest

from tilewright.runtime import simulator

FUZZ = runpy.run_path(str(Path(__file__).parents[3] / "docs/benchmarks/simulator/fuzz.py"))
HEADER = ".version 8.0\n.target sm_80\n.address_size 64\n"


@pytest.mark.parametrize("seed", range(10))
def test_mutated_texts_load_or_are_refused(seed: int) -> None:
    start = process_time()
    verdicts = {FUZZ["verdict"](text) for text in FUZZ["mutants"](seed, 30)}
    assert verdicts <= FUZZ["GOOD"]
    assert process_time() - start < 60


@pytest.mark.parametrize(
    "text",
    [
        ".global .u64 a = s; .shared .u64 s;",
        ".global .u32 a = 1 << 99999999999;",
        ".global .u32 a = 1 << -1;",
        ".global .u8 a[99999999999999];",
        ".global .u8 a[99999999][99999999][99999999];",
        ".global .u32 a = " + "(" * 5000,
        ".global .u32 a = " + "-" * 5000 + "1;",
        ".global .f16 a = 99999999;",
        ".global .f32 a = 1" + "0" * 400 + ";",
        ".entry k() { .reg .b32 r<2>; mov.b32 r0, r" + "1" * 5000 + "; }",
        ".entry k() { .reg .b32 r; mov.b32 r, " + "{" * 5000 + "; }",
        ".version 8." + "9" * 5000,
        ".entry k() { " + "{" * 300 + "ret; " + "}" * 300 + " }",
        ".entry k() { .global .u32 g; st.global.u32 [g], 0; }",
        ".entry k() { .shared .b64 m; .reg .pred p; mbarrier.arrive.shared.b64 p, [m]; }",
        ".entry k() { .shared .b64 m; .reg .b64 d; atom.shared.add.u32 d, [m], 1; }",
    ],
    ids=lambda text: text[:45],
)
def test_what_has_no_meaning_is_refused(text: str) -> None:
    with pytest.raises(simulator.PTXError):
        simulator.Device().load(HEADER + text)


def test_an_address_beyond_64_bits_wraps() -> None:
    text = ".global .u32 b; .global .u64 a = b + 99999999999999999999;"
    module = simulator.Device().load(HEADER + text)
    held = int.from_bytes(module.variables["a"].storage.tobytes(), "little")
    assert held == (module.symbols["b"] + 99999999999999999999) % 2**64


@pytest.mark.parametrize("profile", [False, True], ids=["plain", "profiled"])
def test_the_offset_of_an_address_wraps(profile: bool) -> None:
    body = """.reg .b64 d; .reg .b32 r; ld.param.u64 d, [p]; add.u64 d, d, 0x8000000000000000;
    ld.global.u32 r, [d+9223372036854775812]; sub.u64 d, d, 0x8000000000000000;
    st.global.u32 [d+18446744073709551624], r; ret;"""
    device = simulator.Device()
    out = device.array(np.array([1, 2, 3], "u4"))
    kernel = device.load(f"{HEADER}.entry k(.param .u64 p) {{ {body} }}")["k"]
    kernel.launch(1, 1, [out], profile=profile)
    assert out.numpy().tolist() == [1, 2, 2]


def test_an_endless_kernel_ends_with_a_report() -> None:
    text = ".entry k() { .reg .pred p; again: setp.eq.u32 p, 0, 0; @p bra again; }"
    report = simulator.Device().load(HEADER + text)["k"].launch(3, 64, max_steps=500)
    assert not report.complete
    assert report.profile.steps > 0


def test_more_local_memory_than_a_gpu_has_is_refused() -> None:
    body = ".local .b8 a[524289]; .reg .b64 d; mov.u64 d, a; ret;"
    kernel = simulator.Device().load(f"{HEADER}.entry k() {{ {body} }}")["k"]
    with pytest.raises(simulator.LaunchError, match="bytes of local memory a thread"):
        kernel.launch(1, 32)


def test_much_local_memory_is_taken_for_few_threads_at_a_time() -> None:
    body = """.local .b8 a[65536]; .reg .b32 r, i; .reg .b64 d, at; ld.param.u64 at, [p];
    mov.u32 i, %ctaid.x; st.local.u32 [a+65532], i; ld.local.u32 r, [a+65532];
    mad.wide.u32 d, i, 4, at; st.global.u32 [d], r; ret;"""
    device = simulator.Device("all")
    out = device.empty((100,), "u32")
    kernel = device.load(f"{HEADER}.entry k(.param .u64 p) {{ {body} }}")["k"]
    kernel.launch(100, 1, [out])
    assert out.numpy().tolist() == list(range(100))


def test_the_texts_load_before_they_are_changed() -> None:
    texts = FUZZ["pieces"]()
    assert len(texts) >= 5
    assert {FUZZ["verdict"](text) for text in texts} <= FUZZ["GOOD"] - {"refused"}
