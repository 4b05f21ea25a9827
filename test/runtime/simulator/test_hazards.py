"""Registers of wgmma: products in flight, fences, groups that nobody commits or waits for."""

from collections.abc import Callable

import numpy as np
import pytest

from tilewright.runtime import simulator

FENCE, COMMIT = "wgmma.fence.sync.aligned;", "wgmma.commit_group.sync.aligned;"
DESCRIPTOR = 16 << 32 | 1 << 16  # 64 rows from address 0 on, without a swizzle
STORE = "st.global.f32 [%q2], %f0;"
BRANCH = "setp.lt.u32 %p2, %r1, 64; @%p2 bra SKIP;"
ADVANCE = "add.u32 %r2, %r2, 1; setp.lt.u32 %p2, %r2, 3; @%p2 bra AGAIN;"


def product(first: int = 0, a: str = "%q1", columns: int = 8) -> str:
    """Returns one product that adds to registers from `first` on."""
    names = ", ".join(f"%f{first + i}" for i in range(columns // 2))
    tail = "1, 1, 0" if a.startswith("{") else "1, 1, 0, 0"
    shape = f"m64n{columns}k16.f32.f16.f16"
    return f"wgmma.mma_async.sync.aligned.{shape} {{{names}}}, {a}, %q1, 1, {tail};"


def wait(pending: int = 0) -> str:
    """Returns a wait for all but some groups."""
    return f"wgmma.wait_group.sync.aligned {pending};"


def kernel(*body: str) -> str:
    """Returns a kernel for 128 threads: one statement a line, from line 12 on."""
    zeros = " ".join(f"mov.f32 %f{i}, 0f00000000;" for i in range(16))
    return "\n".join(
        [
            ".version 8.0",
            ".target sm_90a",
            ".address_size 64",
            ".shared .align 1024 .b8 tile[4096];",
            ".visible .entry k(.param .u64 out) {",
            ".reg .f32 %f<16>; .reg .b32 %r<8>; .reg .b32 %a<4>; .reg .b64 %q<4>;",
            ".reg .pred %p<4>;",
            "ld.param.u64 %q2, [out]; mov.u32 %r1, %tid.x; mad.wide.u32 %q2, %r1, 4, %q2;",
            f"mov.b64 %q1, {DESCRIPTOR}; mov.u32 %r2, 0; mov.u32 %r3, tile;",
            zeros,
            "mov.b32 %a0, 0; mov.b32 %a1, 0; mov.b32 %a2, 0; mov.b32 %a3, 0;",
            *body,
            "ret;",
            "}",
        ]
    )


def found(*body: str, checks: str = "default") -> list[simulator.Finding]:
    """Runs a kernel; returns what is found."""
    device = simulator.Device(checks)
    out = device.array(np.zeros(128, "f4"))
    return list(device.load(kernel(*body))["k"].launch(1, 128, [out]).findings)


FRAGMENT = "{%a0, %a1, %a2, %a3}"
RIGHT = {
    "one product": [FENCE, product(), COMMIT, wait(), STORE],
    "four products of one shape": [FENCE, *[product()] * 4, COMMIT, wait(), STORE],
    "fragments in registers": [FENCE, product(0, FRAGMENT), COMMIT, wait(), STORE],
    "an older group waited for": [
        *(FENCE, product(), COMMIT, product(4), COMMIT, wait(1), STORE, wait()),
    ],
    "other registers touched": [FENCE, product(), COMMIT, "mov.f32 %f8, %f9;", wait(), STORE],
    "a loop with products in flight over its edge": [
        *(FENCE, "AGAIN:", product(), COMMIT, wait(1), ADVANCE, wait(), STORE),
    ],
    "a fence after a write in a loop": [
        *("AGAIN:", "add.f32 %f0, %f0, %f0;", FENCE, product(), COMMIT, wait(), ADVANCE, STORE),
    ],
    "a branch around": [BRANCH, "mov.f32 %f8, %f9;", "SKIP:", FENCE, product(), COMMIT, wait()],
}


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_is_found_in_what_is_right(name: str) -> None:
    assert found(*RIGHT[name]) == []


def test_a_product_without_any_fence_is_found() -> None:
    (finding,) = found(product(), COMMIT, wait(), STORE)
    assert (finding.kind, finding.line) == ("wgmma", 12)
    assert finding.cure == "put wgmma.fence.sync.aligned before line 12"


def test_a_fence_on_one_of_two_paths_is_not_enough() -> None:
    (finding,) = found(BRANCH, FENCE, "SKIP:", product(), COMMIT, wait())
    assert finding.line == 15


TOUCHES = ["add.f32 %f0, %f8, %f9;", "add.f32 %f9, %f0, %f9;", "ld.shared.b32 %a2, [tile];"]


def test_constants_behind_the_fence_are_left_to_ptxas() -> None:
    """As nvcc puts them: a constant, and copies of a register that holds one."""
    text = ("mov.f32 %f8, 0f00000000;", "mov.f32 %f0, %f8;", "mov.f32 %f1, %f8;")
    assert found(FENCE, *text, product(), COMMIT, wait()) == []


def test_a_copy_of_what_varies_behind_the_fence_is_found() -> None:
    text = ("add.f32 %f8, %f8, %f9;", "mov.f32 %f10, %f8;", FENCE, "mov.f32 %f0, %f10;")
    assert [finding.line for finding in found(*text, product(), COMMIT, wait())] == [16]


@pytest.mark.parametrize("touch", TOUCHES)
def test_an_access_after_the_fence_is_found(touch: str) -> None:
    (finding,) = found(FENCE, touch, product(0, FRAGMENT), COMMIT, wait())
    assert (finding.line, finding.instruction[:5]) == (14, "wgmma")
    assert "line 13" in finding.message
    assert finding.cure == "put wgmma.fence.sync.aligned between line 13 and line 14"


def test_an_access_in_the_turn_before_is_found() -> None:
    """The first turn is right: the write meets the product of the next one."""
    findings = found(FENCE, "AGAIN:", product(), COMMIT, wait(), "add.f32 %f1, %f1, %f1;", ADVANCE)
    assert [finding.cure for finding in findings] == [
        "put wgmma.fence.sync.aligned between line 17 and line 14"
    ]


def test_another_shape_on_the_same_registers_needs_a_fence() -> None:
    text = (FENCE, product(), product(0, "%q1", 16), COMMIT, wait())
    assert [finding.line for finding in found(*text)] == [14]
    assert found(FENCE, product(), product(4, "%q1", 16), COMMIT, wait()) == []


@pytest.mark.parametrize(
    "touch", ["mov.f32 %f9, %f3;", "mov.f32 %f3, %f9;", "@%p1 mov.b32 %a0, 0;"]
)
def test_an_access_of_registers_in_flight_is_found(touch: str) -> None:
    (finding,) = found(FENCE, product(0, FRAGMENT), COMMIT, touch, wait())
    assert (finding.kind, finding.line) == ("wgmma", 15)
    assert "line 13" in finding.message
    assert finding.cure == "wait with wgmma.wait_group.sync.aligned 0 before line 15"


def test_a_wait_for_too_few_groups_is_found() -> None:
    """The older group is done; the younger one is the store's."""
    text = (FENCE, product(4), COMMIT, product(), COMMIT, wait(1), STORE, wait())
    (finding,) = found(*text)
    assert (finding.line, "line 15" in finding.message) == (18, True)
    assert finding.cure == "wait with wgmma.wait_group.sync.aligned 0 before line 18"


def test_the_cure_leaves_younger_groups_in_flight() -> None:
    (finding,) = found(FENCE, product(), COMMIT, product(4), COMMIT, wait(2), STORE, wait())
    assert finding.cure == "wait with wgmma.wait_group.sync.aligned 1 before line 18"


def test_a_wait_does_not_cover_what_is_not_committed() -> None:
    findings = found(FENCE, product(), wait(), STORE, COMMIT, wait())
    assert [finding.line for finding in findings] == [15]
    assert findings[0].cure.startswith("commit with wgmma.commit_group.sync.aligned")


def test_a_wait_on_one_of_two_paths_is_not_enough() -> None:
    findings = found(FENCE, product(), COMMIT, BRANCH, wait(), "SKIP:", STORE, wait())
    assert [finding.line for finding in findings] == [18]


def test_an_access_in_the_next_turn_of_a_loop_is_found() -> None:
    findings = found(
        *(FENCE, "AGAIN:", "add.f32 %f9, %f9, %f0;", product(), COMMIT, ADVANCE, wait(), STORE)
    )
    assert [finding.line for finding in findings if "flight" in finding.message] == [14]


def test_accumulators_in_flight_as_the_next_fragment_are_found() -> None:
    """f16 accumulators of one product are A of the next one."""
    halves = (
        "wgmma.mma_async.sync.aligned.m64n8k16.f16.f16.f16 {%a0, %a1}, %q1, %q1, 1, 1, 1, 0, 0;"
    )
    text = (FENCE, halves, COMMIT, FENCE, product(0, FRAGMENT), COMMIT, wait())
    assert [finding.line for finding in found(*text)] == [16]
    assert found(*text[:3], wait(), *text[3:]) == []


def test_a_product_that_is_never_committed_is_found() -> None:
    (finding,) = found(FENCE, product(), wait())
    assert (finding.line, "never committed" in finding.message) == (13, True)


def test_a_group_in_flight_at_exit_is_found() -> None:
    (finding,) = found(FENCE, product(), COMMIT)
    assert (finding.line, "in flight where the threads exit" in finding.message) == (13, True)


def test_all_accesses_that_one_wait_orders_are_one_finding() -> None:
    stores = [f"st.global.f32 [%q2], %f{i};" for i in range(4)]
    (finding,) = found(FENCE, *[product()] * 3, COMMIT, *stores, wait())
    assert (finding.line, "(and 3 more)" in finding.message) == (17, True)


def test_the_check_is_not_made_where_none_are_asked_for() -> None:
    assert found(product(), COMMIT, wait(), checks="none") == []


def test_a_finding_names_no_thread() -> None:
    (finding,) = found(product(), COMMIT, wait())
    assert "thread" not in str(finding)


@pytest.mark.parametrize("name", ["gemm_ss", "gemm_rs"])
def test_nothing_is_found_in_code_of_nvcc(corpus: Callable[[str], str], name: str) -> None:
    from tilewright.runtime.simulator.checks.hazards import hazards

    module = simulator.Device().load(corpus("gemm_sm90.ptx")).syntax
    assert hazards(module, module.functions[name]) == ()


def test_every_fence_of_the_gemm_is_missed(corpus: Callable[[str], str]) -> None:
    from tilewright.runtime.simulator.checks.hazards import hazards
    from tilewright.runtime.simulator.ptx.parser import parse

    lines = corpus("gemm_sm90.ptx").splitlines()
    fences = [n for n, line in enumerate(lines) if "wgmma.fence" in line]
    assert len(fences) >= 4
    module = parse("\n".join("" if n in fences else line for n, line in enumerate(lines)))
    assert all(hazards(module, module.functions[name]) for name in ("gemm_ss", "gemm_rs"))
