"""cp.async and its groups (PTX ISA, "Data Movement and Conversion Instructions: cp.async")."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..access import global_index, window_index
from ..scalars import Array, Lanes
from ..syntax import Immediate, Instruction, Operand
from .forms import Fields, Table
from .memory import emit_nothing
from .operations import lanes_of

if TYPE_CHECKING:
    from ..emitter import BlockEmitter
    from ..machine import Group, Machine
    from ..program import Site


class _Copy:
    """One execution of cp.async: where its data goes, and the groups of its lanes."""

    __slots__ = ("group", "index", "lanes", "pending", "site", "value")

    def __init__(self, site: "Site", lanes: Any, group: Any, index: Array, value: Lanes) -> None:
        self.site = site
        self.lanes = lanes  # lane numbers, None for all
        self.group = group  # number of the commit group: one for all, or one a lane
        self.index = index
        self.value = value
        self.pending: Any = None  # mask of the lanes still to be copied, None for all


class Copies:
    """
    The copies in flight of one batch.

    Data is read when the copy is issued and written at the wait, the latest moment that the ISA
    allows: a kernel that forgets to wait sees stale memory. `committed` counts the groups of
    each lane; it is one number as long as all lanes went together.
    """

    def __init__(self, machine: "Machine") -> None:
        self.machine = machine
        self.committed: Any = 0
        self.flight: list[_Copy] = []

    def _apart(self) -> None:
        """Counts the groups of each lane on its own from now on."""
        if isinstance(self.committed, int):
            self.committed = np.full(self.machine.lanes, self.committed)

    def issue(self, group: "Group", site: "Site", index: Array, value: Lanes) -> None:
        """Takes a copy of the lanes of a group."""
        if group.select is None and isinstance(self.committed, int):
            self.flight.append(_Copy(site, None, self.committed, index, value))
            return
        lanes = group.lanes()
        number = self.committed if isinstance(self.committed, int) else self.committed[lanes]
        self.flight.append(_Copy(site, lanes, number, index, value))

    def commit(self, group: "Group") -> None:
        """Closes the open group of each lane."""
        if group.n == self.machine.alive and isinstance(self.committed, int):
            self.committed += 1
            return
        self._apart()
        self.committed[group.lanes()] += 1

    def wait(self, group: "Group", pending: int, everything: bool) -> None:
        """Writes the data of all but the last `pending` groups, or of everything."""
        together = group.n == self.machine.alive and isinstance(self.committed, int)
        kept: list[_Copy] = []
        for copy in self.flight:
            if together and isinstance(copy.group, int):
                if everything or copy.group < self.committed - pending:
                    self._write(copy, None)
                else:
                    kept.append(copy)
            elif self._write_lanes(copy, group, pending, everything):
                kept.append(copy)
        self.flight = kept

    def _write_lanes(self, copy: _Copy, group: "Group", pending: int, everything: bool) -> bool:
        """Writes what some lanes wait for; says whether the copy is still in flight."""
        lanes = np.arange(self.machine.lanes) if copy.lanes is None else copy.lanes
        waiting = np.zeros(self.machine.lanes, bool)
        waiting[group.lanes()] = True
        done = waiting[lanes]
        if not everything:
            count = self.committed if isinstance(self.committed, int) else self.committed[lanes]
            done = done & (copy.group < count - pending)
        if copy.pending is not None:
            done = done & copy.pending
        if done.any():
            self._write(copy, done)
        left = ~done if copy.pending is None else copy.pending & ~done
        copy.pending = left
        return bool(left.any())

    def _write(self, copy: _Copy, mask: Array | None) -> None:
        """Writes the data of a copy, or of its lanes in a mask."""
        window = self.machine.shared
        index, value = copy.index, copy.value
        if mask is None and copy.pending is not None:
            mask = copy.pending
        if mask is not None:
            index = index[mask]
            value = value[mask] if value.ndim else value
        code = value.dtype.str[1:]
        window.view(code)[index] = value
        marks = window.written_view(code if code == "c16" else f"u{value.itemsize}")
        if marks is not None:
            marks[index] = np.full(16, 0xFF, np.uint8).view(marks.dtype)[0]


def copies_of(machine: "Machine") -> Copies:
    """Returns the copies of a batch."""
    if machine.copies is None:
        machine.copies = Copies(machine)
    return machine.copies


def copy(group: "Group", site: "Site", target: Lanes, source: Lanes, *size: Lanes) -> None:
    """
    Issues cp.async; the lanes take `site.size` bytes, of which `size` come from the source.

    The rest is zero. Lanes with size 0 don't access the source at all.
    """
    source = lanes_of(group, source)
    code = np.complex128 if site.size == 16 else np.dtype(f"u{site.size}").type
    _, index = window_index(group, site.extra, group.machine.shared, target, True, mark=False)
    index = np.broadcast_to(index, group.n)
    if not size:
        value = _gather(group, site, source, code)
    else:
        count = lanes_of(group, size[0])
        if count.size and int(count.max()) > site.size:
            bad = np.flatnonzero(count > np.uint32(site.size))
            message = f"a src-size of {int(count[bad[0]])}, more than the {site.size} bytes copied"
            raise group.fault(site, "bounds", message, bad)
        value = _partial(group, site, source, count, code)
    copies_of(group.machine).issue(group, site, index, value)


def _gather(group: "Group", site: "Site", source: Array, code: Any) -> Array:
    """Returns what lies at the source addresses."""
    view, index = global_index(group, site, source, False)
    if view is not None:
        return view.take(index).view(code)
    value = np.empty(group.n, code)
    for positions in index:
        value[positions] = _gather(group.at(positions), site, source[positions], code)
    return value


def _partial(group: "Group", site: "Site", source: Array, count: Array, code: Any) -> Array:
    """Returns the first `count` bytes at the source addresses, filled up with zeros."""
    full = count == np.uint32(site.size)
    if full.all():
        return _gather(group, site, source, code)
    value = np.zeros(group.n, code)
    some = np.flatnonzero(full)
    if some.size:
        value[some] = _gather(group.at(some), site, source[some], code)
    for lane in np.flatnonzero(~full & (count > 0)):
        part = value[lane : lane + 1].view(np.uint8)
        for byte in range(int(count[lane])):
            one = group.at(np.array([lane]))
            address = source[lane : lane + 1] + np.uint64(byte)
            found, index = global_index(one, site.byte(), address, False)
            part[byte] = found[index][0]
    return value


def commit(group: "Group") -> None:
    """Runs cp.async.commit_group."""
    copies_of(group.machine).commit(group)


def wait(group: "Group", pending: int, everything: bool) -> None:
    """Runs cp.async.wait_group and wait_all."""
    copies_of(group.machine).wait(group, pending, everything)


def _unguarded(b: "BlockEmitter") -> None:
    """Refuses a guard on the instructions that end or wait for groups."""
    if b.guard is not None:
        raise b.error("with a guard is not covered")


def _copy(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async."""
    operands = b.operands(3, 4, 5) if fields["L2_cache_hint"] else b.operands(3, 4)
    target, source, size_operand, *rest = operands
    if fields["L2_cache_hint"]:
        rest = rest[:-1]
    if not isinstance(size_operand, Immediate):
        raise b.error("expects a constant cp-size")
    size = size_operand.value
    if size not in ((16,) if fields["cop"] == "cg" else (4, 8, 16)):
        raise b.error(f"can't copy {size} bytes")
    to, to_offset = b.address(target)
    at, at_offset = b.address(source)
    values = [to, at]
    if rest:
        values.append(_source_size(b, rest[0], size))
    shared = b.site_object(dtype=None, size=size, count=2, space="shared", offset=to_offset)
    site = b.site(dtype=None, size=size, count=2, space="global", offset=at_offset, extra=shared)
    b.call(copy, site, values)


def _source_size(b: "BlockEmitter", operand: Operand, size: int) -> str:
    """Returns the number of bytes to read: src-size, or none where ignore-src holds."""
    if b.is_predicate(operand):
        name = b.read(operand, "pred")
        return b.define(f"(~{name}).astype(u4) * {b.compiler.constant('u4', size)}")
    return b.read(operand, "u32")


def _commit(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async.commit_group."""
    _unguarded(b)
    b.operands(0)
    b.lines.append(f"{b.use(commit)}(g)")


def _wait(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async.wait_group and cp.async.wait_all."""
    _unguarded(b)
    if fields["which"] == "wait_all":
        b.operands(0)
        b.lines.append(f"{b.use(wait)}(g, 0, True)")
        return
    (count,) = b.operands(1)
    if not isinstance(count, Immediate):
        raise b.error("expects a constant")
    b.lines.append(f"{b.use(wait)}(g, {count.value}, False)")


FORMS: Table = (
    (
        "cp.async.<cop:ca|cg>.<space:shared::cta|shared>.global[.L2::cache_hint]"
        "[.<prefetch:L2::64B|L2::128B|L2::256B>]",
        _copy,
    ),
    ("cp.async.commit_group", _commit),
    ("cp.async.<which:wait_group|wait_all>", _wait),
    ("griddepcontrol.<what:wait|launch_dependents>", emit_nothing),
    ("nanosleep.u32", emit_nothing),
    ("setmaxnreg.<what:inc|dec>.sync.aligned.u32", emit_nothing),
)
