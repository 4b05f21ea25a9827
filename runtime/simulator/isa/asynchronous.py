"""cp.async and its groups (PTX ISA, "Data Movement and Conversion Instructions: cp.async")."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..access import global_index, part_index, window_index
from ..chance import early
from ..ptx.syntax import Instruction, Operand
from ..scalars import Array, Lanes
from .forms import Fields, Table
from .memory import emit_nothing
from .operands import constant
from .operations import lanes_of

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group, Machine


class _Copy:
    """One execution of cp.async: where its data goes, and the commit groups of its lanes."""

    __slots__ = ("group", "index", "lanes", "site", "value")

    def __init__(self, site: "Site", lanes: Array, group: Any, index: Array, value: Array) -> None:
        self.site = site  # of the write to shared memory
        self.lanes = lanes
        self.group = group  # number of the commit group: one for all lanes, or one a lane
        self.index = index
        self.value = value

    def part(self, mask: Array) -> "_Copy":
        """Returns the copy of some of the lanes."""
        group = self.group if isinstance(self.group, int) else self.group[mask]
        return _Copy(self.site, self.lanes[mask], group, self.index[mask], self.value[mask])


class Copies:
    """
    The copies in flight of one batch.

    Data is read when the copy is issued and written at the wait, the latest moment that the ISA
    allows: a kernel that forgets to wait sees stale memory. `committed` counts the groups of
    each lane; it is one number as long as all lanes went together. Copies of the same lanes are
    kept together, in the order of their issue.
    """

    def __init__(self, machine: "Machine") -> None:
        self.machine = machine
        self.committed: Any = 0
        self.flight: list[tuple[Array, list[_Copy]]] = []
        self._all = np.arange(machine.lanes)

    def _lanes(self, group: "Group") -> Array:
        """Returns the lanes of a group."""
        return self._all if group.select is None else group.lanes()

    def _count(self, lanes: Array) -> Any:
        """Returns how many groups some lanes have committed: one number, or one a lane."""
        if isinstance(self.committed, int):
            return self.committed
        counts = self.committed[lanes]
        first = int(counts[0])
        return first if (counts == first).all() else counts

    def issue(self, group: "Group", site: "Site", index: Array, value: Array) -> None:
        """Takes a copy of the lanes of a group."""
        lanes = self._lanes(group)
        copy = _Copy(site, lanes, self._count(lanes), index, value)
        if early(self.machine.launch.random):
            self.machine.shared.view(value.dtype.str[1:])[index] = value
        if self.flight:
            last, copies = self.flight[-1]
            if last is lanes or (last.size == lanes.size and (last == lanes).all()):
                copies.append(copy)
                return
        self.flight.append((lanes, [copy]))

    def commit(self, group: "Group") -> None:
        """Closes the open group of each lane."""
        if isinstance(self.committed, int):
            if group.n == self.machine.alive:
                self.committed += 1
                return
            self.committed = np.full(self.machine.lanes, self.committed)
        self.committed[self._lanes(group)] += 1

    def wait(self, group: "Group", pending: int, everything: bool) -> None:
        """Writes the data of all but the last `pending` groups, or of everything."""
        waiting = np.zeros(self.machine.lanes, bool)
        waiting[self._lanes(group)] = True
        flight: list[tuple[Array, list[_Copy]]] = []
        for lanes, copies in self.flight:
            here = waiting[lanes]
            number = np.count_nonzero(here)
            if number < lanes.size:
                others = copies if number == 0 else [copy.part(~here) for copy in copies]
                flight.append((lanes if number == 0 else lanes[~here], others))
            if number:
                if number < lanes.size:
                    lanes, copies = lanes[here], [copy.part(here) for copy in copies]
                closed = None if everything else self._count(lanes) - pending
                flight += self._finish(lanes, copies, closed)
        self.flight = flight

    def _finish(
        self, lanes: Array, copies: list[_Copy], closed: Any
    ) -> list[tuple[Array, list[_Copy]]]:
        """
        Writes the copies of lanes that all wait; returns what stays in flight.

        `closed` is the number of the first group that may stay in flight, None for none.
        """
        kept: list[_Copy] = []
        parts: list[tuple[Array, list[_Copy]]] = []
        for copy in copies:
            ready: Any = True if closed is None else copy.group < closed
            if isinstance(ready, bool):
                if ready:
                    self._write(copy)
                else:
                    kept.append(copy)
                continue
            self._write(copy.part(ready))
            if not ready.all():
                parts.append((lanes[~ready], [copy.part(~ready)]))
        return [(lanes, kept), *parts] if kept else parts

    def _write(self, copy: _Copy) -> None:
        """Writes the data of a copy."""
        window = self.machine.shared
        code = copy.value.dtype.str[1:]
        window.view(code)[copy.index] = copy.value
        if window.races is not None:
            window.races.land(copy.site, copy.lanes, copy.index)
        marks = window.written_view(code)
        if marks is not None:
            marks[copy.index] = np.full(16, 0xFF, np.uint8).view(marks.dtype)[0]


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
    copies_of(group.machine).issue(group, site.extra, index, value)


def _gather(group: "Group", site: "Site", source: Array, code: Any) -> Array:
    """Returns what lies at the source addresses."""
    view, index = global_index(group, site, source, False)
    if view is not None:
        return view.take(index).view(code)
    value = np.empty(group.n, code)
    for positions in index:
        part, inner = part_index(group.at(positions), site, source[positions], False)
        value[positions] = part.take(inner).view(code)
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


def _copy(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async."""
    operands = b.operands(3, 4, 5) if fields["L2_cache_hint"] else b.operands(3, 4)
    target, source, size_operand, *rest = operands
    if fields["L2_cache_hint"]:
        rest = rest[:-1]
    size = constant(b, size_operand, "cp-size")
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
        return b.define(f"(~{name}).astype(u4) * {b.scope.constant('u4', size)}")
    return b.read(operand, "u32")


def _commit(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async.commit_group."""
    b.operands(0)
    b.lines.append(f"{b.use(commit)}(g)")


def _wait(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async.wait_group and cp.async.wait_all."""
    if fields["which"] == "wait_all":
        b.operands(0)
        b.lines.append(f"{b.use(wait)}(g, 0, True)")
        return
    (pending,) = b.operands(1)
    count = constant(b, pending, "the number of groups")
    b.lines.append(f"{b.use(wait)}(g, {count}, False)")


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
)
