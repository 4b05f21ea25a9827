"""
The threads that run parallel loops of kernels on the host, outside the interpreter's lock.

They are machine code, like the kernels: a thread that has nothing to do looks out for a loop for
some time, then sleeps. A loop ends when no iteration is left and no thread is in one; threads that
come late find nothing to do, so no loop waits for a thread that the system does not run.
"""

from __future__ import annotations

import atexit
import ctypes
import os
from functools import cache
from threading import Thread

from .host_code import LoadedCode, host_machine, object_code

# A thread takes this part of what each thread would have of the rest, so that a slow one holds
# nobody up: "guided self-scheduling" (Polychronopoulos and Kuck, IEEE Trans. Comp. 36(12), 1987).
SHARE = 2
LOOKS = 1000  # how often a thread gives way to others before it sleeps
_STATE_BYTES = 512
_CLOSED = 1 << 62  # as the next iteration: more than any loop has

_WORKER = ctypes.CFUNCTYPE(None)


def available_threads() -> int:
    """Returns how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Threads:
    """
    A number of threads, the caller's own among them.

    `runner` is the address of a function that machine code calls with the address of a body, that
    of its context, and an extent; 0 where there is one thread. One loop at a time has the threads;
    a second one, of another caller, is run by that caller alone.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.runner = 0
        if number == 1:
            return
        # Each field that threads write has a line of the cache.
        self._memory = ctypes.create_string_buffer(_STATE_BYTES + 64)
        start = (ctypes.addressof(self._memory) + 63) // 64 * 64
        code = object_code(_text(start, SHARE * number), host_machine())
        self._code = LoadedCode(code, "run")
        self.runner = self._code.address("run")
        self._stop = _WORKER(self._code.address("stop"))
        _WORKER(self._code.address("setup"))()
        work = _WORKER(self._code.address("worker"))
        self._others = [
            Thread(target=work, name=f"tilewright-{other}", daemon=True)
            for other in range(1, number)
        ]
        for other in self._others:
            other.start()
        atexit.register(self._end)

    def _end(self) -> None:
        """Ends the threads while their code is still there."""
        self._stop()
        for other in self._others:
            other.join()


@cache
def threads(number: int) -> Threads:
    """Returns threads, the same each time, that wait for work between calls."""
    return Threads(number)


def _text(start: int, share: int) -> str:
    """
    Returns the LLVM IR of the threads, whose state is at an address.

    `next` is the next iteration of the loop, or so many that none is left; `active` counts the
    threads that may be in an iteration; `loops` counts loops. A thread counts itself as active
    before it looks for an iteration, and the loop is closed before active threads are waited for:
    so none has an iteration of a loop that has ended.
    """
    names = ("next", "active", "loops", "asleep", "busy")
    fields = {name: 64 * place for place, name in enumerate(names)}
    fields |= {
        "ended": 264,
        "body": 320,
        "context": 328,
        "extent": 336,
        "mutex": 384,
        "signal": 448,
    }
    text = _IR.replace("SHARE", str(share)).replace("LOOKS", str(LOOKS))
    text = text.replace("CLOSED", str(_CLOSED))
    for name, offset in fields.items():
        text = text.replace(f"@{name}@", f"inttoptr (i64 {start + offset} to ptr)")
    return text


_IR = """
declare i32 @sched_yield()
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)

define void @setup() {
  call i32 @pthread_mutex_init(ptr @mutex@, ptr null)
  call i32 @pthread_cond_init(ptr @signal@, ptr null)
  store atomic i64 CLOSED, ptr @next@ seq_cst, align 8
  ret void
}

define void @stop() {
  store atomic i64 1, ptr @ended@ seq_cst, align 8
  call void @call_all()
  ret void
}

define internal void @call_all() {
  %number = atomicrmw add ptr @loops@, i64 1 seq_cst
  %asleep = load atomic i64, ptr @asleep@ seq_cst, align 8
  %none = icmp eq i64 %asleep, 0
  br i1 %none, label %done, label %wake
wake:
  call i32 @pthread_mutex_lock(ptr @mutex@)
  call i32 @pthread_cond_broadcast(ptr @signal@)
  call i32 @pthread_mutex_unlock(ptr @mutex@)
  br label %done
done:
  ret void
}

define internal void @take() {
  br label %look
look:
  %first = load atomic i64, ptr @next@ seq_cst, align 8
  %extent = load i64, ptr @extent@, align 8
  %is_over = icmp sge i64 %first, %extent
  br i1 %is_over, label %done, label %try
try:
  %rest = sub i64 %extent, %first
  %part = sdiv i64 %rest, SHARE
  %is_some = icmp sgt i64 %part, 1
  %count = select i1 %is_some, i64 %part, i64 1
  %end = add i64 %first, %count
  %pair = cmpxchg ptr @next@, i64 %first, i64 %end seq_cst seq_cst
  %is_mine = extractvalue { i64, i1 } %pair, 1
  br i1 %is_mine, label %run, label %look
run:
  %body = load ptr, ptr @body@, align 8
  %context = load ptr, ptr @context@, align 8
  call void %body(ptr %context, i64 %first, i64 %end)
  br label %look
done:
  ret void
}

define void @worker() {
  br label %wait
wait:
  %seen = phi i64 [ 0, %0 ], [ %number, %work ]
  br label %look
look:
  %count = phi i64 [ 0, %wait ], [ %more, %yield ]
  %now = load atomic i64, ptr @loops@ seq_cst, align 8
  %is_new = icmp ne i64 %now, %seen
  br i1 %is_new, label %go, label %again
again:
  %more = add i64 %count, 1
  %is_late = icmp uge i64 %more, LOOKS
  br i1 %is_late, label %sleep, label %yield
yield:
  call i32 @sched_yield()
  br label %look
sleep:
  call i32 @pthread_mutex_lock(ptr @mutex@)
  %slept = atomicrmw add ptr @asleep@, i64 1 seq_cst
  br label %check
check:
  %then = load atomic i64, ptr @loops@ seq_cst, align 8
  %is_awake = icmp ne i64 %then, %seen
  br i1 %is_awake, label %awake, label %doze
doze:
  call i32 @pthread_cond_wait(ptr @signal@, ptr @mutex@)
  br label %check
awake:
  %woken = atomicrmw sub ptr @asleep@, i64 1 seq_cst
  call i32 @pthread_mutex_unlock(ptr @mutex@)
  br label %go
go:
  %number = phi i64 [ %now, %look ], [ %then, %awake ]
  %ended = load atomic i64, ptr @ended@ seq_cst, align 8
  %is_end = icmp ne i64 %ended, 0
  br i1 %is_end, label %end, label %work
work:
  %entered = atomicrmw add ptr @active@, i64 1 seq_cst
  call void @take()
  %left = atomicrmw sub ptr @active@, i64 1 seq_cst
  br label %wait
end:
  ret void
}

define void @run(ptr %body, ptr %context, i64 %extent) {
  %is_short = icmp slt i64 %extent, 2
  br i1 %is_short, label %alone, label %claim
claim:
  %pair = cmpxchg ptr @busy@, i64 0, i64 1 seq_cst seq_cst
  %is_free = extractvalue { i64, i1 } %pair, 1
  br i1 %is_free, label %share, label %alone
alone:
  call void %body(ptr %context, i64 0, i64 %extent)
  ret void
share:
  store ptr %body, ptr @body@, align 8
  store ptr %context, ptr @context@, align 8
  store i64 %extent, ptr @extent@, align 8
  store atomic i64 0, ptr @next@ seq_cst, align 8
  call void @call_all()
  call void @take()
  store atomic i64 CLOSED, ptr @next@ seq_cst, align 8
  br label %drain
drain:
  %active = load atomic i64, ptr @active@ seq_cst, align 8
  %is_done = icmp eq i64 %active, 0
  br i1 %is_done, label %done, label %yield
yield:
  call i32 @sched_yield()
  br label %drain
done:
  store atomic i64 0, ptr @busy@ seq_cst, align 8
  ret void
}
"""
