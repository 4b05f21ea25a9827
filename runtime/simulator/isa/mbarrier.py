"""
Transaction barriers in shared memory (PTX ISA, "mbarrier").

Threads arrive at the mbarriers of all CTAs of their cluster; they wait for those of their own.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..access import window_index
from ..memory import SHARED_WINDOW
from ..phases import MAX_COUNT, NUMBER, Phase
from ..ptx.syntax import Address, Instruction, Name, Operand
from ..scalars import Array, Lanes
from .asynchronous import wait
from .forms import Fields, Table
from .operations import lanes_of, select

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group


def in_shared(address: Lanes) -> Lanes:
    """Returns shared addresses as places in the window: generic ones lose its start."""
    if address.dtype.itemsize == 4:
        return address
    start = np.uint64(SHARED_WINDOW)
    if address.ndim == 0:
        return address - start if address >= start else address
    return select(address >= start, address - start, address)


def _places(group: "Group", site: "Site", address: Lanes, write: bool = False) -> Array:
    """Returns where each lane's mbarrier lies; faults outside of shared memory."""
    window = group.machine.shared
    _, index = window_index(group, site, window, in_shared(address), write, mark=write)
    if window.races is not None and not write:
        window.races.access(group, site, index, False, False)
    return np.broadcast_to(index, group.n)


def _phase(group: "Group", site: "Site", place: int, position: int) -> Phase:
    """Returns an mbarrier; faults where there is none."""
    phase = group.machine.phases.at.get(place)
    if phase is None:
        message = "there is no initialised mbarrier at this place"
        raise group.fault(site, "mbarrier", message, np.array([position]))
    return phase


def _signal(group: "Group", site: "Site", places: Array) -> Array:
    """Tells the race check, if there is one, that lanes arrive at mbarriers; returns `places`."""
    clocks = group.machine.clocks
    if clocks is not None:
        clocks.signal(group.lanes(), places, site.order != "relaxed")
    return places


def start(group: "Group", site: "Site", address: Lanes, count: Lanes) -> None:
    """Runs mbarrier.init."""
    places = _places(group, site, address, True)
    counts = lanes_of(group, count)
    for position, place in enumerate(places.tolist()):
        wanted = int(counts[position])
        if not 1 <= wanted <= MAX_COUNT:
            message = f"a count of {wanted}, expected 1 to {MAX_COUNT}"
            raise group.fault(site, "mbarrier", message, np.array([position]))
        phases = group.machine.phases
        if phases.clocks is not None:
            phases.clocks.begin(place)
        phases.at[place] = Phase(place, wanted)


def end(group: "Group", site: "Site", address: Lanes) -> None:
    """Runs mbarrier.inval."""
    for position, place in enumerate(_places(group, site, address, True).tolist()):
        group.machine.phases.deliver(_phase(group, site, place, position))
        del group.machine.phases.at[place]


def arrive(
    group: "Group", site: "Site", address: Lanes, count: Lanes, transactions: Lanes
) -> Lanes:
    """
    Runs mbarrier.arrive and arrive_drop, lane by lane; returns the states before each arrival.

    `transactions` are expected first. `site.extra` says whether arrivals drop out for good.
    """
    phases = group.machine.phases
    counts, expected = lanes_of(group, count), lanes_of(group, transactions)
    tokens = np.empty(group.n, np.uint64)
    lanes = group.lanes()
    places = _signal(group, site, _places(group, site, address))
    for position, place in enumerate(places.tolist()):
        phase = _phase(group, site, place, position)
        tokens[position] = phase.token()
        arrivals = int(counts[position])
        if expected[position]:
            phase.announced = site, int(lanes[position])
        problem = phases.transact(phase, int(expected[position]))
        if site.extra:
            phase.expected -= arrivals
        problem = problem or phases.arrive(phase, arrivals)
        if problem:
            raise group.fault(site, "mbarrier", problem, np.array([position]))
    return tokens


def transact(group: "Group", site: "Site", address: Lanes, count: Lanes) -> None:
    """Runs expect_tx, and complete_tx where `site.extra` is -1."""
    counts = lanes_of(group, count)
    places = _signal(group, site, _places(group, site, address))
    for position, place in enumerate(places.tolist()):
        phase = _phase(group, site, place, position)
        phase.announced = site, int(group.lanes()[position])
        problem = group.machine.phases.transact(phase, site.extra * int(counts[position]))
        if problem:
            raise group.fault(site, "mbarrier", problem, np.array([position]))


def passed(group: "Group", site: "Site", address: Lanes, state: Lanes) -> Lanes:
    """Says whether the phase is complete; `site.extra` says that `state` is its parity."""
    places = _places(group, site, address)
    states = lanes_of(group, state)
    first, pick = np.unique(places, return_inverse=True)
    known = [
        _phase(group, site, int(place), int(np.flatnonzero(places == place)[0])) for place in first
    ]
    for phase in known:
        if phase.deliveries:
            group.machine.phases.deliver(phase)
    number = np.array([phase.number for phase in known])[pick]
    # Valid parities are 0 and 1; compilers sign-extend them too, and GPUs look at one bit.
    done = (number ^ states) & 1 != 0 if site.extra else number > (states >> np.uint64(NUMBER))
    clocks = group.machine.clocks
    if clocks is not None and done.any():
        clocks.observe(group.lanes()[done], places[done], site.order != "relaxed")
    return done


def copied(group: "Group", site: "Site", address: Lanes) -> None:
    """Runs cp.async.mbarrier.arrive: the lanes' earlier copies are complete, then they arrive."""
    wait(group, 0, True)
    if site.extra is None:  # what is pending rises by one and falls by one
        places = _signal(group, site, _places(group, site, address))
        for position, place in enumerate(places.tolist()):
            _phase(group, site, place, position)
        return
    arrive(group, site, address, np.uint32(1), np.uint32(0))


def _barrier(
    b: "BlockEmitter", operand: Operand, extra: object, order: str = ""
) -> tuple[str, str]:
    """Returns the names of the site and of the address of an mbarrier."""
    if not isinstance(operand, Address):
        raise b.error("expects the address of an mbarrier in brackets")
    base, offset = b.address(operand)
    space = "shared" if _is_own(b) else "shared::cluster"
    site = b.site(dtype=np.uint64, size=8, space=space, offset=offset, extra=extra, order=order)
    return site, base


def _is_own(b: "BlockEmitter") -> bool:
    """Says whether the instruction reaches the shared memory of its own CTA alone."""
    opcode = b.instruction.opcode if b.instruction is not None else ""
    local = (".shared.", ".shared::cta.", "_wait", ".init", ".inval")
    return any(part in f"{opcode}." for part in local)


def _init(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mbarrier.init."""
    barrier, count = b.operands(2)
    site, base = _barrier(b, barrier, None)
    b.call(start, site, [base, b.read(count, "u32")])


def _inval(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mbarrier.inval."""
    (barrier,) = b.operands(1)
    site, base = _barrier(b, barrier, None)
    b.call(end, site, [base])


def _arrive(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mbarrier.arrive and mbarrier.arrive_drop."""
    operands = b.operands(1, 2, 3)
    target: Operand = Name("_")
    if not isinstance(operands[0], Address):
        target, *operands = operands
    barrier, *rest = operands
    one, none = b.scope.constant("u4", 1), b.scope.constant("u4", 0)
    if fields["expect_tx"]:
        if not rest:
            raise b.error("expects a transaction count")
        values = [one, b.read(rest[0], "u32")]
    else:
        values = [b.read(rest[0], "u32") if rest else one, none]
    site, base = _barrier(b, barrier, fields["what"] == "arrive_drop", fields.get("order", ""))
    b.call(arrive, site, [base, *values], [(target, "u8")])


def _transact(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mbarrier.expect_tx and mbarrier.complete_tx."""
    barrier, count = b.operands(2)
    site, base = _barrier(b, barrier, 1 if fields["what"] == "expect_tx" else -1, "relaxed")
    b.call(transact, site, [base, b.read(count, "u32")])


def _test(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits test_wait and try_wait: lanes whose phase is not complete run try_wait later again."""
    waits = fields["what"] == "try_wait"
    target, barrier, state, *_ = b.operands(3, 4) if waits else b.operands(3)
    site, base = _barrier(b, barrier, bool(fields["parity"]), fields["order"])
    value = b.read(state, "u32" if fields["parity"] else "b64")
    if not waits:
        b.call(passed, site, [base, value], [(target, "?")])
        return
    done = b.define(f"{b.use(passed)}(g, {site}, {base}, {value})")
    b.write(target, "pred", done)
    b.end("park", done)


def _pending(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mbarrier.pending_count."""
    target, state = b.operands(2)
    mask = b.scope.constant("u8", MAX_COUNT)
    b.write(target, "b32", f"({b.read(state, 'b64')} & {mask}).astype(u4)")


def _copied(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async.mbarrier.arrive."""
    (barrier,) = b.operands(1)
    site, base = _barrier(b, barrier, False if fields["noinc"] else None)
    b.call(copied, site, [base])


_SHARED = "[.<space:shared::cta|shared::cluster|shared>].b64"
FORMS: Table = (
    ("mbarrier.init" + _SHARED, _init),
    ("mbarrier.inval" + _SHARED, _inval),
    (
        "mbarrier.<what:arrive_drop|arrive>[.expect_tx][.<order:release|relaxed>]"
        "[.<scope:cta|cluster>]" + _SHARED,
        _arrive,
    ),
    (
        "mbarrier.<what:arrive_drop|arrive>[.<order:release|relaxed>]"
        "[.<scope:cta|cluster>][.expect_tx]" + _SHARED,
        _arrive,
    ),
    (
        "mbarrier.<what:arrive_drop|arrive>.noComplete[.<order:release>][.<scope:cta>]"
        "[.expect_tx]" + _SHARED,
        _arrive,
    ),
    ("mbarrier.<what:expect_tx|complete_tx>[.relaxed][.<scope:cta|cluster>]" + _SHARED, _transact),
    (
        "mbarrier.<what:test_wait|try_wait>[.parity][.<order:acquire|relaxed>]"
        "[.<scope:cta|cluster>]" + _SHARED,
        _test,
    ),
    ("mbarrier.pending_count.b64", _pending),
    ("cp.async.mbarrier.arrive[.noinc]" + _SHARED, _copied),
)
