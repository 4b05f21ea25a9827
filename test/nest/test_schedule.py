"""A schedule applies steps by handles, and refuses handles that are not its own or out of date."""

from typing import Any

import pytest

from tilewright.dialects.nest.program import LoopKind
from tilewright.nest.schedule import Schedule, apply
from tilewright.nest.values import NestError
from tilewright.test.nest.small_programs import chain, fused, gemm, norm
from tilewright.transforms.schedule.primitive import ScheduleError
from tilewright.transforms.schedule.split import Split


def test_loops_of_a_block_come_outermost_first() -> None:
    s = Schedule(gemm())
    assert [loop.name for loop in s.loops(s.block("C"))] == ["i", "j", "k"]


def test_steps_carry_the_names_that_they_gave() -> None:
    s = Schedule(gemm())
    s.split("i", [None, 4])
    assert s.steps == (Split("i", (None, 4), ("i_0", "i_1")),)


def test_steps_replay_to_the_same_program() -> None:
    s = Schedule(gemm())
    block = s.block("C")
    i, j, k = s.loops(block)
    outer, inner = s.split(i, [None, 4])
    s.reorder(outer, k, inner, j)
    s.decompose_reduction(block, k)
    s.vectorize(j)
    s.parallel(outer)
    assert apply(gemm(), s.steps) == s.program


def test_a_loop_that_was_split_is_refused_with_the_step() -> None:
    s = Schedule(gemm())
    s.unroll("k")
    i = s.loop("i")
    s.split(i, [None, 4])
    with pytest.raises(ScheduleError, match=r"'i', which step 2, Split\(") as caught:
        s.unroll(i)
    assert caught.value.condition == "current-handle"


def test_a_new_loop_of_an_old_name_is_another() -> None:
    s = Schedule(gemm())
    i = s.loop("i")
    s.split(i, [None, 4], names=("o", "u"))
    s.fuse("o", "u", names=("i",))
    with pytest.raises(ScheduleError, match="step 1, Split"):
        s.parallel(i)
    s.parallel(s.loop("i"))
    assert s.program.places["i"][-1] == s.program.loop("i")


def test_a_loop_of_another_schedule_is_refused() -> None:
    s = Schedule(gemm())
    other = Schedule(norm())
    with pytest.raises(ScheduleError, match="of another one, of 'norm'") as caught:
        s.parallel(other.loop("i"))
    assert caught.value.condition == "own-handle"


def test_a_refused_step_leaves_the_schedule_as_it_was() -> None:
    s = Schedule(gemm())
    s.split("i", [None, 4])
    program, steps = s.program, s.steps
    with pytest.raises(ScheduleError):
        s.parallel("k")
    assert s.program is program
    assert s.steps is steps


def test_a_name_that_no_block_has_is_refused() -> None:
    with pytest.raises(ScheduleError, match="expected a block among C, got 'D'"):
        Schedule(gemm()).block("D")


def test_producers_stand_before_and_write_what_is_read() -> None:
    s = Schedule(chain())
    assert [block.name for block in s.producers("Y")] == ["T", "Z"]


def test_consumers_stand_behind_and_read_what_is_written() -> None:
    s = Schedule(chain())
    assert [block.name for block in s.consumers("T")] == ["Z", "Y"]


def test_output_blocks_write_what_the_caller_passes() -> None:
    assert [block.name for block in Schedule(fused()).output_blocks()] == ["Y"]


def test_blocks_inside_a_loop_are_its_children() -> None:
    s = Schedule(fused())
    assert [block.name for block in s.child_blocks(s.loop("i"))] == ["T", "Y"]


def test_factors_may_be_text_over_symbols() -> None:
    s = Schedule(gemm())
    _, inner = s.split("k", [None, "n + 1"])
    loop = s.program.loop(inner.name)
    assert loop is not None
    assert str(loop.extent) == "n + 1"


def test_a_loop_is_bound_to_an_axis_by_its_kind() -> None:
    s = Schedule(gemm())
    s.bind("i", LoopKind.BLOCK_X)
    loop = s.program.loop("i")
    assert loop is not None
    assert loop.kind is LoopKind.BLOCK_X


def test_the_block_of_partial_results_is_returned() -> None:
    s = Schedule(gemm())
    _, inner = s.split("k", [None, 3])
    partial = s.rfactor(inner)
    assert [block.name for block in s.consumers(partial)] == ["C"]


@pytest.mark.parametrize("factors", [None, "8", [None, 2.5], [None, True], [None, "8 +"], [[8], 8]])
def test_factors_that_are_none_are_refused(factors: Any) -> None:
    with pytest.raises(NestError, match="expected"):
        Schedule(gemm()).split("i", factors)


def test_a_schedule_of_other_things_is_refused() -> None:
    steps: Any = ["split"]
    with pytest.raises(NestError, match="expected a schedule of primitives, got 'split'"):
        apply(gemm(), steps)
