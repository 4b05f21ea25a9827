"""Counts what each instruction does: threads, memory sectors, bank conflicts, divergence."""

from typing import Any

import numpy as np

from ..isa.operations import lanes_of
from ..isa.tensor import boxes, elements
from ..memory import SHARED_WINDOW, WINDOW_BYTES
from ..placement import WARP
from ..ptx.syntax import Instruction, Module
from ..scalars import Array, Lanes
from .block_accesses import Access
from .counts import LineProfile, family_of, flops_of

_SECTOR_BITS = 5  # 32 bytes
_BANKS = 32  # of 4 bytes
_PHASE_BYTES = 128
_WARPGROUP = 128  # threads


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
            line.divergent += np.intersect1d(active // WARP, others // WARP).size
            active = everyone  # a thread that doesn't branch has executed the branch as well
        if not active.size:
            return
        warps = 1 + int(np.count_nonzero(np.diff(active // WARP)))
        line.executed += int(active.size)
        line.warps += warps
        line.flops += flops_of(site.instruction.opcode)[1] * int(active.size)
        if site.instruction.opcode.startswith(("bar.", "barrier.")):
            line.barriers += warps
        rest = list(addresses)
        for access in site.extra:
            values = [rest.pop(0) for _ in range(access.count)]
            if guard is not None:
                on = np.broadcast_to(guard, group.n)
                values = [np.broadcast_to(value, group.n)[on] for value in values]
            _KINDS[access.kind](line, access, values, group.machine, active, site)

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


def _count_lanes(
    line: LineProfile, access: Access, values: list[Lanes], machine: Any, lanes: Array, site: Any
) -> None:
    """Counts the accesses of some lanes; generic addresses by where they lie."""
    address = np.broadcast_to(values[0], lanes.size).astype(np.int64) + access.offset
    if access.lanes < WARP:
        first = lanes % WARP < access.lanes
        address, lanes = address[first], lanes[first]
    shared = np.full(address.size, access.space == "shared")
    if not access.space:
        shared = (address >= SHARED_WINDOW) & (address < SHARED_WINDOW + WINDOW_BYTES)
        elsewhere = address >= SHARED_WINDOW + WINDOW_BYTES
        address, lanes, shared = address[~elsewhere], lanes[~elsewhere], shared[~elsewhere]
    if shared.any():
        _count_shared(line, address[shared], lanes[shared], access.size)
    if not shared.all():
        _count_global(line, address[~shared], lanes[~shared], access.size)


def _count_bulk(
    line: LineProfile, access: Access, values: list[Lanes], machine: Any, lanes: Array, site: Any
) -> None:
    """Counts bulk copies: each one is a request."""
    first, size = (np.broadcast_to(value, lanes.size).astype(np.int64) for value in values)
    first = first + access.offset
    line.requests += int(np.count_nonzero(size))
    sectors = ((first + size - 1) >> _SECTOR_BITS) - (first >> _SECTOR_BITS) + 1
    line.sectors += int(sectors[size > 0].sum())
    line.global_bytes += int(size.sum())
    for bytes in size.tolist():
        _count_block(line, bytes)


def _count_tensor(
    line: LineProfile, access: Access, values: list[Lanes], machine: Any, lanes: Array, site: Any
) -> None:
    """Counts tensor copies: each one is a request for what of its box the tensor has."""
    group = machine.whole.at(lanes)
    maps = lanes_of(group, values[0]) + np.uint64(access.offset & (1 << 64) - 1)
    for _, map, start in boxes(group, site, maps, tuple(values[1:])):
        offsets, inside = elements(map, start)
        wanted = offsets[inside] + map.address
        line.requests += 1
        line.sectors += int(np.unique(wanted >> _SECTOR_BITS).size)
        line.global_bytes += int(wanted.size) * map.size
        _count_block(line, int(offsets.size) * map.size)


def _count_matrix(
    line: LineProfile, access: Access, values: list[Lanes], machine: Any, lanes: Array, site: Any
) -> None:
    """Counts what the warpgroups of a wgmma read from shared memory."""
    for _ in range(int(np.unique(lanes // _WARPGROUP).size)):
        _count_block(line, access.size)


def _count_block(line: LineProfile, size: int) -> None:
    """Counts a block of shared memory that is moved without bank conflicts."""
    phases = -(-size // _PHASE_BYTES)
    line.shared_bytes += size
    line.phases += phases
    line.wavefronts += phases


_KINDS = {
    "lanes": _count_lanes,
    "bulk": _count_bulk,
    "tensor": _count_tensor,
    "matrix": _count_matrix,
}


def _count_global(line: LineProfile, address: Array, lanes: Array, size: int) -> None:
    """Counts bytes, requests by warp, and the 32-byte sectors that each touches."""
    warps = lanes // WARP
    line.global_bytes += size * int(lanes.size)
    line.requests += int(np.unique(warps).size)
    line.sectors += int(np.unique((warps << 43) | (address >> _SECTOR_BITS)).size)


def _count_shared(line: LineProfile, address: Array, lanes: Array, size: int) -> None:
    """Counts phases and the wavefronts that bank conflicts make of them."""
    line.shared_bytes += size * int(lanes.size)
    each = max(min(_PHASE_BYTES // size, WARP), 1)  # lanes of one phase
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
