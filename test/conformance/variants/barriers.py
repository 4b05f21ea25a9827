"""Scripts of one thread over one mbarrier: what each operation tells of its state."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .variant import INDEX, Variant, words

SCRIPTS, STEPS = 12, 40


class Step(NamedTuple):
    """
    One operation, with its number of arrivals or bytes, or its parity.

    "token" asks whether the phase of the last arrival is complete.
    """

    what: str
    value: int = 0


_TEXTS = {
    "arrive": "mbarrier.arrive.shared::cta.b64 s, [bar], {0}; mbarrier.pending_count.b64 o, s;",
    "one": "mbarrier.arrive.shared::cta.b64 s, [bar]; mbarrier.pending_count.b64 o, s;",
    "keep": "mbarrier.arrive.noComplete.shared::cta.b64 s, [bar], {0};"
    "mbarrier.pending_count.b64 o, s;",
    "drop": "mbarrier.arrive_drop.shared::cta.b64 s, [bar]; mbarrier.pending_count.b64 o, s;",
    "expect": "mbarrier.arrive.expect_tx.shared::cta.b64 s, [bar], {0};"
    "mbarrier.pending_count.b64 o, s;",
    "promise": "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], {0}; mov.u32 o, 0;",
    "complete": "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], {0}; mov.u32 o, 0;",
    "token": "mbarrier.test_wait.shared::cta.b64 q, [bar], s; selp.u32 o, 1, 0, q;",
    "parity": "mbarrier.test_wait.parity.shared::cta.b64 q, [bar], {0}; selp.u32 o, 1, 0, q;",
    "try": "mbarrier.try_wait.parity.shared::cta.b64 q, [bar], {0}; selp.u32 o, 1, 0, q;",
}


def variants() -> Iterator[Variant]:
    """Yields every script."""
    for number in range(SCRIPTS):
        count, steps = script(number)
        yield _of(number, count, steps)


@dataclass
class _Barrier:
    """What an mbarrier holds while its thread runs a script."""

    expected: int
    pending: int
    bytes: int = 0
    phase: int = 0
    token: int = -9  # the phase of the last arrival

    def take(self, step: Step) -> None:
        """Runs a step."""
        if step.what in ("parity", "try", "token"):
            return
        if step.what == "complete":
            self.bytes -= step.value
        elif step.what in ("expect", "promise"):
            self.bytes += step.value
        if step.what not in ("promise", "complete"):
            self.token = self.phase
            self.pending -= 1 if step.what == "expect" else step.value
            self.expected -= step.what == "drop"
        if not self.pending and not self.bytes:
            self.phase, self.pending = self.phase + 1, self.expected


def _drawn(generator: np.random.Generator, held: _Barrier) -> Step | None:
    """Returns a step, None for one that the mbarrier doesn't allow now or that waits for ever."""
    what = str(generator.choice(list(_TEXTS)))
    value = 0
    if what in ("arrive", "keep"):
        most = held.pending - (what == "keep")
        if most < 1:
            return None
        value = int(generator.integers(1, most, endpoint=True))
    elif what in ("one", "drop"):
        value = 1
    elif what in ("expect", "promise"):
        value = 16 * int(generator.integers(1, 9))
    elif what == "complete" and held.bytes:
        value = held.bytes if generator.integers(2) else min(16, held.bytes)
    elif what in ("parity", "try"):
        value = int(generator.integers(2))
    refused = {
        "drop": held.expected < 2,
        "complete": not held.bytes,
        "try": held.phase % 2 == value,
        "token": held.token < held.phase - 1,  # it tells of the current and the last phase alone
    }
    return None if refused.get(what) else Step(what, value)


def script(number: int) -> tuple[int, list[Step]]:
    """Returns the count of an mbarrier and a script that breaks none of its rules."""
    generator = np.random.default_rng(number)
    count = int(generator.integers(1, 9))
    held = _Barrier(count, count)
    steps: list[Step] = []
    while len(steps) < STEPS:
        step = _drawn(generator, held)
        if step is None:
            continue
        steps.append(step)
        held.take(step)
        if not held.pending:  # nobody may arrive before the bytes have come
            steps.append(Step("complete", held.bytes))
            held.take(steps[-1])
    if held.bytes:
        steps.append(Step("complete", held.bytes))
    return count, steps


def _of(number: int, count: int, steps: list[Step]) -> Variant:
    """Returns a script: a row of results with one of each step."""
    lines = [INDEX, ".shared .align 8 .b64 full; .reg .b32 bar, o; .reg .b64 s, to;"]
    lines += ["mov.u32 bar, full; setp.ne.u32 q, t, 0; @q ret; ld.param.u64 to, [po];"]
    lines += [f"mbarrier.init.shared::cta.b64 [bar], {count};"]
    for place, step in enumerate(steps):
        lines += [_TEXTS[step.what].format(step.value), f"st.global.b32 [to+{4 * place}], o;"]
    return Variant(
        family="mbarrier",
        name=f"mbarrier script {number}",
        body="\n".join(lines),
        out="u32",
        count=len(steps),
        operands=lambda generator: [words(generator, 4)],
        target="sm_90",
    )
