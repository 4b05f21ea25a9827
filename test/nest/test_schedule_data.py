"""A schedule's methods for computation and data return handles of what they made."""

import numpy as np
import pytest

from tilewright.nest.builder import Builder
from tilewright.nest.interpreter import interpret
from tilewright.nest.schedule import Schedule, apply
from tilewright.transforms.schedule.primitive import ScheduleError


def matmul() -> Schedule:
    b = Builder("matmul", "n in [1, 100]")
    left, right = b.buffer("A", ["n", 8], "f32"), b.buffer("B", [8, 12], "f32")
    out = b.buffer("C", ["n", 12], "f32", output=True)
    i, j, k = b.axes(i="n", j=12, k=8)
    out[i, j] += left[i, k] * right[k, j]
    return Schedule(b.build())


def tiled() -> Schedule:
    s = matmul()
    c = s.block("C")
    i, j, k = s.loops(c)
    i0, i1 = s.split(i, [None, 4])
    k0, k1 = s.split(k, [None, 2])
    s.reorder(i0, k0, i1, j, k1)
    s.compute_at(s.cache_read(c, "A", "shared"), k0)
    s.reverse_compute_at(s.cache_write(c, "C", "local"), i0)
    s.reindex_cache_read(c, "B", "shared", "(i, j, k) -> (j, k)")
    return s


def test_a_tiled_product_is_the_product() -> None:
    random = np.random.default_rng(5)
    left, right = (random.uniform(1, 2, shape).astype(np.float32) for shape in ((11, 8), (8, 12)))
    out = np.zeros((11, 12), np.float32)
    interpret(tiled().program, {"A": left, "B": right, "C": out})
    expected = left.astype(np.float64) @ right.astype(np.float64)
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_the_steps_replay() -> None:
    s = tiled()
    assert apply(matmul().program, s.steps) == s.program


def test_loops_that_are_made_are_returned() -> None:
    s = matmul()
    i, *_ = s.loops("C")
    i0, _ = s.split(i, [None, 4])
    loops = s.compute_at(s.cache_read("C", "A", "shared"), i0)
    made = [s.program.loop(loop.name) for loop in loops]
    assert [loop.extent for loop in made if loop is not None] == [4, 8]


def test_a_loop_that_was_remade_is_out_of_date() -> None:
    s = matmul()
    copy = s.cache_read("C", "A", "shared")
    old, *_ = s.loops(copy)
    s.compute_at(copy, "i")
    with pytest.raises(ScheduleError):
        s.split(old, [None, 2])
