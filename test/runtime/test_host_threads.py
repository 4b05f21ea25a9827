"""Loops on several threads: each iteration runs once, whoever is late, and whoever calls too."""

import ctypes
import subprocess
import sys
from collections.abc import Callable
from threading import Lock, Thread, get_ident

import pytest

from tilewright.runtime.host_threads import threads

pytest.importorskip("llvmlite", reason="llvmlite is not installed (extra mlir)")

BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
RUNNER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class Recorder:
    """A body that notes the parts it was called with, and by which threads."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.parts: list[tuple[int, int]] = []
        self.callers: set[int] = set()
        self._before = before
        self._lock = Lock()
        self._body = BODY(self._run)

    def _run(self, _: int, start: int, end: int) -> None:
        self._before()
        with self._lock:
            self.parts.append((start, end))
            self.callers.add(get_ident())

    def loop(self, number: int, extent: int) -> None:
        """Runs a loop on a number of threads."""
        body = ctypes.cast(self._body, ctypes.c_void_p)
        RUNNER(threads(number).runner)(body, None, extent)

    @property
    def iterations(self) -> list[int]:
        """The iterations that ran, in order."""
        return sorted(index for start, end in self.parts for index in range(start, end))


@pytest.mark.parametrize("number", [2, 3, 5])
@pytest.mark.parametrize("extent", [0, 1, 2, 7, 1000])
def test_each_iteration_runs_once(number: int, extent: int) -> None:
    recorder = Recorder()
    recorder.loop(number, extent)
    assert recorder.iterations == list(range(extent))


def test_loops_after_one_another_are_kept_apart() -> None:
    for extent in range(400):
        recorder = Recorder()
        recorder.loop(3, extent)
        assert recorder.iterations == list(range(extent))


def test_parts_become_smaller() -> None:
    recorder = Recorder()
    recorder.loop(2, 1000)
    sizes = [end - start for start, end in sorted(recorder.parts)]
    assert sizes[0] == 250
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


def test_another_thread_takes_part() -> None:
    waiting: set[int] = set()

    def until_there_are_two() -> None:
        waiting.add(get_ident())
        while len(waiting) < 2:
            pass

    recorder = Recorder(until_there_are_two)
    recorder.loop(2, 2)
    assert len(recorder.callers) == 2


def test_callers_at_the_same_time_each_get_their_loop() -> None:
    recorders = [Recorder() for _ in range(4)]

    def work(recorder: Recorder) -> None:
        for _ in range(50):
            recorder.loop(3, 20)

    callers = [Thread(target=work, args=(recorder,)) for recorder in recorders]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for recorder in recorders:
        assert recorder.iterations == sorted([*range(20)] * 50)


def test_a_process_ends_while_threads_sleep_or_look_out() -> None:
    script = "from tilewright.runtime.host_threads import threads; assert threads(4).runner"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_one_thread_has_no_runner() -> None:
    assert threads(1).runner == 0
