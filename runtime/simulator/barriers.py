"""Barriers of the CTAs of one batch: who has arrived, who waits (PTX ISA, bar and barrier)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .scalars import Array

if TYPE_CHECKING:
    from .compiler.program import Site
    from .machine import Machine


class Waiting:
    """Lanes that wait at one barrier instruction, and the block where they go on."""

    __slots__ = ("absent", "count", "follow", "lanes", "site")

    def __init__(
        self, lanes: Array, site: "Site", follow: int, count: int | None, absent: Array
    ) -> None:
        self.lanes = lanes
        self.absent = absent  # lanes of the same warps that were elsewhere, and not to exit
        self.site = site
        self.follow = follow
        self.count = count

    def part(self, chosen: Array, ctas: Array, padded: int) -> "Waiting":
        """Returns some of the lanes, and the absent ones of some CTAs."""
        absent = self.absent[ctas[self.absent // padded]] if self.absent.size else self.absent
        return Waiting(self.lanes[chosen], self.site, self.follow, self.count, absent)


class Barriers:
    """
    The 16 barriers of every CTA of a batch.

    `bar.sync` without a count waits for all threads of the CTA that have not exited.
    """

    def __init__(self, machine: "Machine", leaving: Callable[[], Array]) -> None:
        self.machine = machine
        self._leaving = leaving  # says which lanes have nothing left to do but to exit
        self.arrived: dict[int, Array] = {}  # barrier: lanes arrived, by CTA
        self.expected: dict[int, Array] = {}  # barrier: count given by an arrival, 0 for none
        self.waiting: dict[int, list[Waiting]] = {}
        self.votes: dict[int, Array] = {}  # barrier: predicates of bar.red off and on, by CTA
        self.answers: list[tuple[int, Array, Array]] = []  # register, lanes, results of bar.red
        self.warps: list[tuple[Array, Array, Site, int]] = []  # lanes, masks, site, follow

    def alive(self) -> Array:
        """Returns the lanes that have not exited, by CTA."""
        machine = self.machine
        return np.count_nonzero(~machine.exited.reshape(machine.ctas, -1), axis=1)

    def unused(self) -> bool:
        """Says whether nobody has arrived at a barrier that is not complete."""
        arrived = any(lanes.any() for lanes in self.arrived.values())
        return not arrived and not any(self.waiting.values())

    def arrive(
        self,
        number: int,
        lanes: Array,
        count: int | None,
        site: "Site",
        follow: int,
        waits: bool,
        votes: Array | None = None,
    ) -> list[tuple[int, Array]]:
        """
        Takes lanes that reach a barrier; returns who goes on: blocks and their lanes.

        `votes` are the predicates of bar.red, whose results are in `answers` afterwards.
        """
        machine = self.machine
        arrived = self.arrived.setdefault(number, np.zeros(machine.ctas, np.int64))
        expected = self.expected.setdefault(number, np.zeros(machine.ctas, np.int64))
        ctas = lanes // machine.padded
        arrived += np.bincount(ctas, minlength=machine.ctas)
        if votes is not None:
            totals = self.votes.setdefault(number, np.zeros((2, machine.ctas), np.int64))
            for total, chosen in zip(totals, (~votes, votes), strict=True):
                total += np.bincount(ctas[chosen], minlength=machine.ctas)
        if count is not None:
            self._agree(number, count, expected[np.unique(ctas)], site, lanes)
            expected[np.unique(ctas)] = count
            if machine.alive < machine.lanes:
                arrived += self._completing(lanes)
        if machine.clocks is not None:
            machine.clocks.arrive(number, lanes)
        released: list[tuple[int, Array]] = []
        if waits:
            absent = self._absent(lanes) if site.extra else lanes[:0]
            self.waiting.setdefault(number, []).append(Waiting(lanes, site, follow, count, absent))
        else:
            released.append((follow, lanes))
        return released + self._release(number)

    def _agree(self, number: int, count: int, expected: Array, site: "Site", lanes: Array) -> None:
        """Raises where lanes name another number of threads than those that came before."""
        other = expected[(expected > 0) & (expected != count)]
        if other.size:
            message = (
                f"barrier {number} is for {count} threads here and for {int(other[0])} where "
                "others have come to it"
            )
            raise self.machine.fault(site.instruction, "divergence", message, lanes)

    def _completing(self, lanes: Array) -> Array:
        """
        Returns how many lanes that have exited or never were arrive with some lanes, by CTA.

        Counts of threads count whole warps (PTX ISA, "bar"): they come with the first live lane.
        """
        machine = self.machine
        exited = machine.exited.reshape(-1, 32)
        first = np.argmin(exited, axis=1)
        warps = lanes[lanes % 32 == first[lanes // 32]] // 32
        number = np.bincount(warps, np.count_nonzero(exited, axis=1)[warps], exited.shape[0])
        return number.reshape(machine.ctas, -1).sum(axis=1).astype(np.int64)

    def _absent(self, lanes: Array) -> Array:
        """Returns the lanes of some lanes' warps that are elsewhere, and not about to exit."""
        if not lanes.size % 32 and not (lanes[::32] % 32).any():
            if (lanes[31::32] - lanes[::32] == 31).all():
                return lanes[:0]
        here = np.zeros(self.machine.lanes, np.bool_)
        here[lanes] = True
        rows = (~here & ~self.machine.exited).reshape(-1, 32)
        rows[~here.reshape(-1, 32).any(axis=1)] = False
        if not rows.any():
            return lanes[:0]
        return np.flatnonzero(rows.reshape(-1) & ~self._leaving())

    def exits(self) -> list[tuple[int, Array]]:
        """Returns who goes on because other lanes have exited."""
        return [part for number in list(self.waiting) for part in self._release(number)]

    def _release(self, number: int) -> list[tuple[int, Array]]:
        """Completes a barrier in the CTAs where all have arrived; returns who goes on."""
        machine = self.machine
        arrived, expected = self.arrived[number], self.expected[number]
        wanted = np.where(expected > 0, expected, self.alive())
        done = (arrived >= wanted) & (arrived > 0)
        if not done.any():
            return []
        if machine.clocks is not None:
            machine.clocks.missed(number, done & (expected == 0))
        released: list[tuple[int, Array]] = []
        kept: list[Waiting] = []
        gone: list[Waiting] = []
        for entry in self.waiting.get(number, ()):
            free = done[entry.lanes // machine.padded]
            if free.any():
                if machine.clocks is not None:
                    machine.clocks.release(number, entry.lanes[free])
                released.append((entry.follow, entry.lanes[free]))
                if entry.site.operation:
                    self._answer(number, entry.site, entry.lanes[free])
                gone.append(entry.part(free, done, machine.padded))
            if not free.all():
                kept.append(entry.part(~free, ~done, machine.padded))
        self.waiting[number] = kept
        if number in self.votes:
            self.votes[number][:, done] = 0
        arrived[done] = 0
        expected[done] = 0
        if machine.clocks is not None:
            machine.clocks.completed(number, done)
        self._converged(number, gone)
        return released

    def _answer(self, number: int, site: "Site", lanes: Array) -> None:
        """Keeps what bar.red gives the lanes of a barrier that is complete."""
        ctas = lanes // self.machine.padded
        off, on = self.votes[number][:, ctas]
        results = {"popc": on.astype(np.uint32), "and": off == 0, "or": on > 0}
        self.answers.append((site.count, lanes, results[site.operation]))

    def _converged(self, number: int, entries: list[Waiting]) -> None:
        """Raises where lanes of one warp came to an aligned barrier by different instructions."""
        aligned = [entry for entry in entries if entry.site.extra]
        came = np.concatenate([entry.lanes for entry in aligned]) if aligned else ()
        for entry in aligned:
            away = np.setdiff1d(entry.absent, came) if entry.absent.size else entry.absent
            if away.size:
                tid = self.machine.place(int(away[0]))[1]
                message = (
                    f"thread {tid} of the same warp has not come to barrier {number}; .aligned "
                    "asks for all threads of a warp"
                )
                instruction = entry.site.instruction
                raise self.machine.fault(instruction, "divergence", message, entry.lanes)
        sites = {id(entry.site.instruction) for entry in aligned}
        if len(sites) < 2:
            return
        owner: dict[int, Any] = {}
        for entry in aligned:
            for warp in np.unique(entry.lanes // 32).tolist():
                other = owner.setdefault(warp, entry)
                if other.site.instruction is not entry.site.instruction:
                    message = (
                        f"lanes of one warp are at barrier {number} by different instructions, "
                        f"the other one in PTX line {other.site.instruction.line}; "
                        ".aligned asks for the same one"
                    )
                    raise self.machine.fault(
                        entry.site.instruction, "divergence", message, entry.lanes
                    )

    def warp_sync(
        self, lanes: Array, masks: Array, site: "Site", follow: int
    ) -> list[tuple[int, Array]]:
        """Takes lanes that reach bar.warp.sync; returns who goes on."""
        self.warps.append((lanes, masks, site, follow))
        return self.release_warps()

    def release_warps(self) -> list[tuple[int, Array]]:
        """Returns the lanes at bar.warp.sync whose mates are all there."""
        if not self.warps:
            return []
        machine = self.machine
        here = np.zeros(machine.lanes, bool)
        for lanes, *_ in self.warps:
            here[lanes] = True
        missing = warp_bits(~(here | machine.exited))
        released: list[tuple[int, Array]] = []
        kept: list[tuple[Array, Array, Site, int]] = []
        for lanes, masks, site, follow in self.warps:
            free = (missing[lanes // 32] & masks) == 0
            if free.any():
                released.append((follow, lanes[free]))
            if not free.all():
                kept.append((lanes[~free], masks[~free], site, follow))
        self.warps = kept
        return released


def warp_bits(flags: Array) -> Array:
    """Returns one u32 a warp with the bits of the lanes whose flag is set."""
    packed = np.packbits(flags.reshape(-1, 32), axis=1, bitorder="little")
    return np.ascontiguousarray(packed).view(np.uint32).reshape(-1)
