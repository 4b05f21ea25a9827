"""Scripts of one thread over one mbarrier: what each operation tells of its state."""

from collections.abc import Iterator
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


def script(number: int) -> tuple[int, list[Step]]:
    """Returns the count of an mbarrier and a script that breaks none of its rules."""
    generator = np.random.default_rng(number)
    count = expected = pending = int(generator.integers(1, 9))
    steps: list[Step] = []
    bytes_left, phase, token = 0, 0, -9
    while len(steps) < STEPS:
        what = str(generator.choice(list(_TEXTS)))
        value = 0
        if what in ("arrive", "keep"):
            most = pending - (what == "keep")
            if most < 1:
                continue
            value = int(generator.integers(1, most, endpoint=True))
        elif what in ("one", "drop", "expect"):
            value = 1
        if what == "drop" and expected < 2:
            continue
        if what == "complete" and not bytes_left:
            continue
        if what in ("expect", "promise"):
            tx = 16 * int(generator.integers(1, 9))
            bytes_left += tx
            steps.append(Step(what, tx))
        elif what == "complete":
            tx = bytes_left if generator.integers(2) else min(16, bytes_left)
            bytes_left -= tx
            steps.append(Step(what, tx))
        elif what in ("parity", "try"):
            parity = int(generator.integers(2))
            if what == "try" and phase % 2 == parity:
                continue  # might wait for ever
            steps.append(Step(what, parity))
            continue
        elif what == "token":
            if token < phase - 1:  # it tells of the current and the last phase alone
                continue
            steps.append(Step(what))
            continue
        else:
            steps.append(Step(what, value))
        token = token if what in ("promise", "complete") else phase
        pending -= value
        expected -= what == "drop"
        if not pending and not bytes_left:
            phase, pending = phase + 1, expected
        elif not pending:  # nobody may arrive before the bytes have come
            steps.append(Step("complete", bytes_left))
            bytes_left, phase, pending = 0, phase + 1, expected
    if bytes_left:
        steps.append(Step("complete", bytes_left))
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
