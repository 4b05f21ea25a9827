"""
Runs the lanes of one batch: groups, reconvergence, rendezvous, fairness, deadlock.

The group in the block highest up runs first and takes in all lanes that wait for that block, so
that lanes which parted meet again. A group that was passed over too often runs next, so that
spinning lanes can't starve the others. A block with a `.sync` instruction waits for the lanes
that its mask names: results don't depend on the order in which groups run.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .barriers import Barriers, warp_bits
from .checks.deadlock import deadlock
from .compiler.blocks import ALL_LANES, WARPGROUP
from .machine import Group, Machine
from .placement import WARP
from .ptx.syntax import Register
from .scalars import Array, Lanes

if TYPE_CHECKING:
    from .compiler.program import CompiledBlock, Site

_PATIENCE = 64  # times that a ready group may be passed over
_SPINS = 200  # blocks that may wait for other CTAs, after which those get a turn
_DELIVERY = 256  # blocks after which data on its way arrives though others can still go on
Selection: TypeAlias = slice | Array | None


class StepLimit(Exception):
    """Says that max_steps instructions were issued."""


class Scheduler:
    """Runs one batch to its end."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.blocks = machine.program.blocks
        self.max_steps = machine.launch.max_steps
        self.barriers = Barriers(machine, self._are_leaving)
        self.ready: dict[int, list[Array | None]] = {}
        self.parked: dict[int, Array] = {}  # block: lanes that wait for their mates
        self.waiting: dict[int, list[Array]] = {}  # block: lanes whose mbarrier is not complete
        self._flips = 0
        self._age: dict[int, int] = {}
        self._owned: set[int] = set()  # registers whose array nobody else refers to
        self._executed = 0
        self._spun = 0  # blocks that may wait for other CTAs, in this turn

    def run(self, slice_blocks: int) -> Iterator[None]:
        """Runs the batch; yields after every `slice_blocks` blocks so that others get on."""
        machine = self.machine
        self._push(0, None if machine.alive == machine.lanes else np.flatnonzero(~machine.exited))
        pause = slice_blocks
        while True:
            index = self._pick()
            if index < 0:
                if self._wake():
                    continue
                break
            lanes = self._merge(index)
            block = self.blocks[index]
            if block.mask is not None:
                lanes = self._gather(block, lanes)
                if lanes is not None and not lanes.size:
                    continue
            self._execute(block, lanes)
            if machine.phases.under_way and self._executed % _DELIVERY == 0:
                machine.phases.deliver_all()
            if machine.phases.flips != self._flips:
                self._resume()
            self._spun += block.spins
            if self._executed >= pause or self._spun >= _SPINS:
                pause = self._executed + slice_blocks
                self._spun = 0
                yield
        self._finish()

    def _are_leaving(self) -> Array:
        """Says which lanes of the batch have nothing left to do but to exit."""
        leaving = self.machine.exited.copy()
        for index, parts in self.ready.items():
            if self.blocks[index].leaves:
                for lanes in parts:
                    leaving[lanes if lanes is not None else slice(None)] = True
        return leaving

    def _push(self, index: int, lanes: Array | None) -> None:
        """Makes lanes ready to run a block; None stands for all."""
        if index < 0:
            self._exit(lanes)
            return
        self.ready.setdefault(index, []).append(lanes)

    def _pick(self) -> int:
        """Returns the block to run next, or -1."""
        ready = self.ready
        if len(ready) == 1:
            self._age.clear()
            return next(iter(ready))
        if not ready:
            return -1
        age = self._age
        chosen = min(ready)
        for index in ready:
            age[index] = age.get(index, 0) + 1
            if age[index] > _PATIENCE:
                chosen = index
        age[chosen] = 0
        return chosen

    def _merge(self, index: int) -> Array | None:
        """Takes all lanes that are ready for a block; None for all."""
        parts = self.ready.pop(index)
        if len(parts) == 1 or any(part is None for part in parts):
            lanes = parts[0]
        else:
            lanes = np.sort(np.concatenate([part for part in parts if part is not None]))
        if lanes is not None and lanes.size == self.machine.lanes:
            return None
        return lanes

    def _gather(self, block: "CompiledBlock", lanes: Array | None) -> Array | None:
        """Returns the lanes whose mates are all here; parks the others."""
        machine = self.machine
        earlier = self.parked.pop(block.index, None)
        if earlier is not None and lanes is not None:
            lanes = np.sort(np.concatenate([earlier, lanes]))
        if lanes is None:
            return None
        here = np.zeros(machine.lanes, bool)
        here[lanes] = True
        missing = warp_bits(~(here | machine.exited))[lanes // 32]
        mask: Lanes
        if isinstance(block.mask, Register):
            mask = machine.file[block.mask.index]
            mask = (mask[lanes] if mask.ndim else mask).view(np.uint32)
        else:
            mask = np.uint32(min(block.mask or 0, ALL_LANES))
        if block.mask == WARPGROUP:
            missing = self._missing_of_four(here)[lanes // WARP]
        free = (missing & mask) == 0
        if free.all():
            return lanes
        self.parked[block.index] = lanes[~free]
        return lanes[free]

    def _missing_of_four(self, here: Array) -> Array:
        """Returns the lanes that a warp's warpgroup lacks, by warp; exited ones are no excuse."""
        missing = warp_bits(~here).reshape(self.machine.ctas, -1)
        for first in range(0, missing.shape[1], 4):
            four = missing[:, first : first + 4]
            four[:] = np.bitwise_or.reduce(four, axis=1, keepdims=True)
        return missing.reshape(-1)

    def _execute(self, block: "CompiledBlock", lanes: Array | None) -> None:
        """Runs a block for some lanes and sends them on."""
        machine = self.machine
        file = machine.file
        self._executed += 1
        machine.steps += block.size
        if self.max_steps is not None:
            machine.launch.steps += block.size
            if machine.launch.steps > self.max_steps:
                raise StepLimit
        if lanes is None:
            group = machine.whole
            results = block.run(group, *block.fetch(file))
            if self._owned:
                self._owned.difference_update(block.inputs, block.outputs)
            position = 1
            for register in block.outputs:
                file[register] = results[position]
                position += 1
        else:
            group = Group(machine, _narrow(lanes))
            warps = _warps(group)
            results = block.run(group, *_part(block.fetch(file), group.select, warps))
            self._store(block, group.select, warps, results)
        machine.thread_instructions += block.size * group.n
        self._leave(block, group, lanes, results[0])
        if self.barriers.answers:
            self._answer()

    def _store(
        self, block: "CompiledBlock", select: Any, warps: Array | None, results: tuple[Lanes, ...]
    ) -> None:
        """Writes what lives out of a block for some lanes only."""
        file = self.machine.file
        new = results[1:]
        if isinstance(select, slice):  # inputs were views of the file; a swap must not see itself
            new = tuple(v.copy() if v.ndim and v.base is not None else v for v in new)
        for register, value in zip(block.outputs, new, strict=True):
            if register not in self._owned and file[register] is value:
                continue
            target = self._own(register)
            if warps is None:
                target[select] = value
            else:  # rows move faster than elements
                rows = value.reshape(-1, WARP) if value.ndim else value
                target.reshape(-1, WARP)[warps] = rows

    def _own(self, register: int) -> Array:
        """Returns the array of a register, to which nobody else refers from now on."""
        old = self.machine.file[register]
        if register not in self._owned:
            old = np.full(self.machine.lanes, old) if old.ndim == 0 else old.copy()
            self.machine.file[register] = old
            self._owned.add(register)
        return old

    def _answer(self) -> None:
        """Writes the results of bar.red into the registers of the lanes that go on."""
        for register, lanes, results in self.barriers.answers:
            target = self._own(register)
            target[lanes] = results.view(target.dtype)
        self.barriers.answers.clear()

    def _leave(self, block: "CompiledBlock", group: Group, lanes: Array | None, flag: Any) -> None:
        """Sends lanes where the end of a block leads them."""
        kind = block.terminator.kind
        if kind == "fall":
            self._push(block.follow, lanes)
        elif kind == "jump":
            self._push(block.targets[0], lanes)
        elif kind == "branch":
            self._branch(block.targets[0], block.follow, group, lanes, flag)
        elif kind == "exit":
            if flag is None:
                self._exit(lanes)
            else:
                self._branch(-1, block.follow, group, lanes, flag)
        elif kind == "table":
            self._table(block, group, flag)
        elif kind == "trap":
            self._trap(block, group, lanes, flag)
        elif kind == "park":
            self._wait(block, group, lanes, flag)
        elif kind == "warp":
            self._warp(block, group, flag)
        else:
            self._barrier(block, group, lanes, flag)

    def _branch(
        self, target: int, follow: int, group: Group, lanes: Array | None, flag: Lanes
    ) -> None:
        """Sends lanes to the target where the flag holds, else to the block below."""
        if flag.ndim == 0:
            self._push(target if flag else follow, lanes)
            return
        taken = int(np.count_nonzero(flag))
        if taken in (0, group.n):
            self._push(target if taken else follow, lanes)
            return
        everyone = group.lanes()
        self._push(follow, everyone[~flag])
        self._push(target, everyone[flag])

    def _table(self, block: "CompiledBlock", group: Group, flag: Lanes) -> None:
        """Sends lanes where a table of labels leads them."""
        everyone = group.lanes()
        index = np.broadcast_to(flag, group.n)
        for value in np.unique(index):
            chosen = everyone[index == value]
            if value >= len(block.targets):
                site = self._site(block)
                message = f"index {value} in a list of {len(block.targets)} labels"
                raise self.machine.fault(site.instruction, "bounds", message, chosen)
            self._push(block.targets[int(value)], chosen)

    def _trap(
        self, block: "CompiledBlock", group: Group, lanes: Array | None, flag: Lanes | None
    ) -> None:
        """Raises for lanes that execute trap."""
        everyone = group.lanes()
        trapped = everyone if flag is None else everyone[np.broadcast_to(flag, group.n)]
        if trapped.size:
            instruction = self._site(block).instruction
            raise self.machine.fault(instruction, "trap", "the kernel executed trap", trapped)
        self._push(block.follow, lanes)

    @staticmethod
    def _site(block: "CompiledBlock") -> "Site":
        """Returns the site of a block's last instruction, which must have one."""
        site = block.terminator.site
        if site is None:
            raise LookupError(f"block {block.index} has no terminator")
        return site

    def _barrier(
        self, block: "CompiledBlock", group: Group, lanes: Array | None, flag: Any
    ) -> None:
        """Brings lanes to a barrier."""
        number, count, *more = flag
        waits = block.terminator.kind != "arrive"
        alone = count is None and number.ndim == 0 and group.n == self.machine.alive
        if waits and not more and alone and self.barriers.unused():
            if self.machine.clocks is not None:
                self.machine.clocks.barrier()
            self._push(block.follow, lanes)
            return
        everyone = group.lanes()
        site = self._site(block)
        threads = None if count is None else np.broadcast_to(count, group.n)
        numbers = np.broadcast_to(number, group.n)
        votes = np.broadcast_to(more[0], group.n) if more else None
        for value in np.unique(numbers) if number.ndim else (number,):
            part = everyone[numbers == value] if number.ndim else everyone
            if value >= 16:
                message = f"barrier {value}; there are 16, from 0"
                raise self.machine.fault(site.instruction, "bounds", message, part)
            wanted = None if threads is None else int(threads[numbers == value][0])
            for follow, free in self.barriers.arrive(
                int(value),
                part,
                wanted,
                site,
                block.follow,
                waits,
                None if votes is None else votes[numbers == value],
            ):
                self._push(follow, free)

    def _warp(self, block: "CompiledBlock", group: Group, flag: Lanes) -> None:
        """Brings lanes to bar.warp.sync."""
        masks = np.broadcast_to(flag, group.n)
        site = self._site(block)
        for follow, free in self.barriers.warp_sync(group.lanes(), masks, site, block.follow):
            self._push(follow, free)

    def _wait(self, block: "CompiledBlock", group: Group, lanes: Array | None, done: Any) -> None:
        """Sends on the lanes whose phase is complete; the others run the block again later."""
        flags = np.broadcast_to(done, group.n)
        if flags.all():
            self._push(block.follow, lanes)
            return
        everyone = group.lanes()
        if flags.any():
            self._push(block.follow, everyone[flags])
        self.waiting.setdefault(block.index, []).append(everyone[~flags])

    def _resume(self) -> None:
        """Makes the lanes that wait for mbarriers ready, as some phase is complete."""
        self._flips = self.machine.phases.flips
        for index, parts in self.waiting.items():
            for lanes in parts:
                self._push(index, lanes)
        self.waiting.clear()

    def _exit(self, lanes: Array | None) -> None:
        """Ends lanes; those who waited only for them go on."""
        machine = self.machine
        if lanes is None:
            machine.exited[:] = True
            machine.alive = 0
            return
        machine.exited[lanes] = True
        machine.alive -= lanes.size
        if machine.cluster_barriers is not None:
            machine.cluster_barriers.complete()
        for follow, free in self.barriers.exits():
            self._push(follow, free)

    def _wake(self) -> bool:
        """
        Makes parked lanes ready whose mates have exited, and lanes that wait for data on its way.

        Says whether there are any.
        """
        machine = self.machine
        if machine.phases.under_way and machine.alive:
            machine.phases.deliver_all()
            if machine.phases.flips != self._flips:
                self._resume()
        for follow, free in self.barriers.release_warps():
            self._push(follow, free)
        for index in list(self.parked):
            lanes = self.parked.pop(index)
            free = self._gather(self.blocks[index], lanes)
            if free is not None and free.size:
                self._push(index, free)
        return bool(self.ready)

    def _finish(self) -> None:
        """Raises the deadlock report if lanes are left when nothing can run."""
        if self.machine.alive:
            raise deadlock(self)


def _narrow(lanes: Array) -> slice | Array:
    """Returns lanes as a slice where they are contiguous."""
    first, last = int(lanes[0]), int(lanes[-1])
    return slice(first, last + 1) if last - first + 1 == lanes.size else lanes


def _warps(group: Group) -> Array | None:
    """Returns the numbers of a group's warps where they are whole and apart from each other."""
    lanes = group.select
    if lanes is None or isinstance(lanes, slice) or not group.whole_warps():
        return None
    return lanes[::WARP] // WARP


def _part(values: tuple[Lanes, ...], select: Any, warps: Array | None) -> list[Lanes]:
    """Returns the values of some lanes: of whole warps, or of those that are selected."""
    if warps is None:
        return [v[select] if v.ndim else v for v in values]
    return [v.reshape(-1, WARP).take(warps, axis=0).reshape(-1) if v.ndim else v for v in values]
