"""Counts what each instruction does: threads, memory sectors, bank conflicts, divergence."""

from typing import Any

import numpy as np

from .counts import LineProfile, family_of, flops_of
from .memory import SHARED_WINDOW, WINDOW_BYTES
from .observed import Access
from .scalars import Array, Lanes
from .syntax import Instruction, Module

_WARP = 32
_SECTOR_BITS = 5  # 32 bytes
_BANKS = 32  # of 4 bytes
_PHASE_BYTES = 128


class Profiler:
    """An observer that counts; one a launch."""

    wants_values = False

    def __init__(self, module: Module) -> None:
        self._module = module
        # By place in the text: an inlined function has its instructions several times.
        self._lines: dict[tuple[int, int], LineProfile] = {}

    def lines(self) -> tuple[LineProfile, ...]:
        """Returns the counts by instruction, in text order."""
        return tuple(self._lines[span] for span in sorted(self._lines))

    def before(self, group: Any, site: Any, guard: Lanes, addresses: tuple[Lanes, ...]) -> None:
        """Counts one instruction of a group."""
        line = self._line(site.instruction)
        everyone: Array = group.lanes()
        active = everyone if guard is None else everyone[np.broadcast_to(guard, group.n)]
        if guard is not None and family_of(site.instruction.opcode) == "control":
            others = everyone[~np.broadcast_to(guard, group.n)]
            line.divergent += np.intersect1d(active // _WARP, others // _WARP).size
            active = everyone  # a thread that doesn't branch has executed the branch as well
        if not active.size:
            return
        line.executed += int(active.size)
        line.warps += 1 + int(np.count_nonzero(np.diff(active // _WARP)))
        line.flops += flops_of(site.instruction.opcode)[1] * int(active.size)
        for address, access in zip(addresses, site.extra, strict=True):
            full = np.broadcast_to(address, group.n)
            chosen = full if guard is None else full[np.broadcast_to(guard, group.n)]
            _count(line, access, chosen.astype(np.int64) + access.offset, active)

    def after(self, group: Any, site: Any, guard: Lanes, values: tuple[Lanes, ...]) -> None:
        """Takes no notice of values."""

    def _line(self, instruction: Instruction) -> LineProfile:
        """Returns the counts of an instruction."""
        known = self._lines.get(instruction.span)
        if known is None:
            module = self._module
            text, source = module.text_of(instruction), module.source_of(instruction)
            known = LineProfile(instruction.line, text, source, instruction.opcode)
            self._lines[instruction.span] = known
        return known


def _count(line: LineProfile, access: Access, address: Array, lanes: Array) -> None:
    """Counts the accesses of some lanes; generic addresses by where they lie."""
    shared = np.full(address.size, access.space == "shared")
    if not access.space:
        shared = (address >= SHARED_WINDOW) & (address < SHARED_WINDOW + WINDOW_BYTES)
        elsewhere = address >= SHARED_WINDOW + WINDOW_BYTES
        address, lanes, shared = address[~elsewhere], lanes[~elsewhere], shared[~elsewhere]
    if shared.any():
        _count_shared(line, address[shared], lanes[shared], access.size)
    if not shared.all():
        _count_global(line, address[~shared], lanes[~shared], access.size)


def _count_global(line: LineProfile, address: Array, lanes: Array, size: int) -> None:
    """Counts bytes, requests by warp, and the 32-byte sectors that each touches."""
    warps = lanes // _WARP
    line.global_bytes += size * int(lanes.size)
    line.requests += int(np.unique(warps).size)
    line.sectors += int(np.unique((warps << 43) | (address >> _SECTOR_BITS)).size)


def _count_shared(line: LineProfile, address: Array, lanes: Array, size: int) -> None:
    """Counts phases and the wavefronts that bank conflicts make of them."""
    each = max(min(_PHASE_BYTES // size, _WARP), 1)  # lanes of one phase
    phase = lanes // each
    words = max(size // 4, 1)
    word = (address[:, None] >> 2) + np.arange(words)
    word = word % (1 << 30)
    pairs = np.unique((np.repeat(phase, words) << 30) | word.reshape(-1))
    bank = (pairs >> 30) * _BANKS + pairs % _BANKS
    slots, meet = np.unique(bank, return_counts=True)
    owners = slots // _BANKS
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    line.phases += int(starts.size)
    line.wavefronts += int(np.maximum.reduceat(meet, starts).sum())
