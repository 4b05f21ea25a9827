"""setmaxnreg: what the pool of a CTA can give, against sums by hand."""

import pytest

from tilewright.runtime import simulator

BOUNDS = ".maxntid 384 .minnctapersm 1"  # 3 warps a partition: 512 // 3 = 170, so 168


def kernel(first: str, others: str, directives: str = BOUNDS) -> str:
    """Returns a kernel: the first warpgroup runs lines from 9 on, the others those below."""
    return f""".version 8.0
.target sm_90a
.address_size 64
.visible .entry k()
{directives}
{{
.reg .b32 %r<4>; .reg .pred %p<4>;
mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 128; @%p1 bra OTHERS;
{first}
ret;
OTHERS:
{others}
ret;
}}"""


def number(action: str, count: int) -> str:
    """Returns a setmaxnreg."""
    return f"setmaxnreg.{action}.sync.aligned.u32 {count};"


def found(text: str, threads: int = 384, checks: str = "default") -> list[simulator.Finding]:
    """Runs a kernel of two CTAs; returns what is found."""
    return list(simulator.Device(checks).load(text)["k"].launch(2, threads).findings)


@pytest.mark.parametrize(
    ("less", "more", "directives", "threads"),
    [
        (40, 232, BOUNDS, 384),  # 128 * 40 + 256 * 232 = 384 * 168
        (24, 240, BOUNDS, 384),
        (40, 232, ".reqntid 384 .maxnreg 168", 384),
        (32, 160, ".maxntid 512 .minnctapersm 1", 512),  # 128 a thread
        (56, 256, ".maxntid 256 .minnctapersm 1", 256),
    ],
)
def test_what_fits_is_no_finding(less: int, more: int, directives: str, threads: int) -> None:
    assert found(kernel(number("dec", less), number("inc", more), directives), threads) == []


@pytest.mark.parametrize(("less", "more"), [(40, 240), (48, 232), (168, 176)])
def test_an_increase_beyond_the_pool_is_found(less: int, more: int) -> None:
    (finding,) = found(kernel(number("dec", less), number("inc", more)))
    assert (finding.kind, finding.line, finding.tid[0] >= 128) == ("registers", 12, True)
    missing = 128 * less + 256 * more - 384 * 168
    assert str(missing) in finding.message


def test_an_increase_without_any_decrease_is_found() -> None:
    (finding,) = found(kernel("", number("inc", 232)))
    assert str(256 * (232 - 168)) in finding.message
    assert str(384 * 168) in finding.message


def test_registers_that_come_late_are_waited_for() -> None:
    """As Triton does: the first warps ask before the others have given."""
    text = kernel(number("inc", 256) + "\nbar.sync 0;\n" + number("dec", 40), "")
    text = text.replace("OTHERS:\n", f"OTHERS:\n{number('dec', 120)}\nbar.sync 0;\n")
    assert found(text) == []


def test_a_decrease_from_below_is_found() -> None:
    (finding,) = found(kernel(number("dec", 40) + number("dec", 56), number("inc", 232)))
    assert (finding.line, "undefined" in finding.message) == (9, True)


def test_an_increase_from_above_is_found() -> None:
    (finding,) = found(kernel(number("dec", 40), number("inc", 232) + "\n" + number("inc", 208)))
    assert (finding.line, "232" in finding.message) == (13, True)


def test_a_warp_that_leaves_out_its_warpgroup_is_found() -> None:
    first = "setp.ge.u32 %p2, %r1, 96; @%p2 ret;\n" + number("dec", 40)
    (finding,) = found(kernel(first, ""))
    assert (finding.line, "[3]" in finding.message) == (10, True)


@pytest.mark.parametrize("directives", ["", ".maxntid 384", ".reqntid 384", ".minnctapersm 1"])
def test_setmaxnreg_that_ptxas_ignores_is_found(directives: str) -> None:
    (finding,) = found(kernel(number("dec", 40), number("inc", 232), directives))
    assert (finding.kind, finding.line, "C7508" in finding.message) == ("registers", 9, True)


@pytest.mark.parametrize("count", ["16", "264", "100", "%r1"])
def test_counts_that_the_isa_lacks_are_refused(count: str) -> None:
    with pytest.raises(simulator.PTXError) as raised:
        simulator.Device().load(kernel(f"setmaxnreg.dec.sync.aligned.u32 {count};", ""))
    assert raised.value.line == 9


def test_the_check_is_not_made_where_none_are_asked_for() -> None:
    assert found(kernel("", number("inc", 232)), checks="none") == []
