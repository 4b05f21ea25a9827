"""A trace tells what one thread does, step by step, and stops where it is told to."""

import pytest

from tilewright.runtime import simulator
from tilewright.runtime.simulator.tracing import Step, Stop, Trace

TEXT = """.version 8.0
.target sm_80
.address_size 64
.visible .entry k() {
.reg .b32 %r<9>; .reg .pred %p<3>;
mov.u32 %r1, %tid.x; add.u32 %r1, %r1, 1;
mov.u32 %r2, 0;
again:
add.u32 %r2, %r2, %r1;
setp.lt.u32 %p1, %r2, 10;
@%p1 bra again;
@!%p1 add.u32 %r3, %r2, 1;
ret;
}"""


def kernel() -> simulator.Kernel:
    return simulator.Device().load(TEXT)["k"]


def test_the_steps_are_those_of_the_thread() -> None:
    steps: list[Step] = []
    kernel().launch(
        200, 70, trace=Trace(block=150, thread=67, step=steps.append, lines=frozenset())
    )
    assert [step.line for step in steps] == [6, 6, 7, 9, 10, 11, 12, 13]
    assert steps[0].values == {"%r1": 67}
    assert steps[3].values == {"%r2": 68, "%r1": 68}
    assert steps[6].values == {"%p1": False, "%r3": 69, "%r2": 68}


def test_a_loop_is_followed_around() -> None:
    steps: list[Step] = []
    kernel().launch(1, 32, max_steps=500, trace=Trace(thread=3, step=steps.append))
    assert [step.values["%r2"] for step in steps if step.line == 9] == [4, 8, 12]


def test_a_stop_shows_the_registers_of_the_warp_and_may_end_the_launch() -> None:
    stops: list[Stop] = []

    def stop(found: Stop) -> bool:
        stops.append(found)
        return len(stops) == 2

    trace = Trace(thread=32, lines=frozenset({9}), stop=stop)
    report = kernel().launch(1, 64, trace=trace)
    assert report.complete
    assert len(stops) == 1
    assert stops[0].lanes == tuple(range(32))
    assert stops[0].registers["%r1"].tolist() == list(range(33, 65))
    report = kernel().launch(1, 32, trace=Trace(lines=frozenset({9}), stop=stop))
    assert not report.complete


def test_a_launch_is_profiled_or_traced() -> None:
    with pytest.raises(simulator.LaunchError, match="not both"):
        kernel().launch(1, 32, profile=True, trace=Trace())
