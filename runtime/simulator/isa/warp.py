"""Operations of one warp: shfl, vote, match, redux, activemask, elect (PTX ISA, 9.7.9, 9.7.13)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..chance import leader
from ..placement import WARP
from ..ptx.syntax import Instruction, Name, Operand, Pair
from ..scalars import Array, Lanes
from .forms import Fields, Table
from .operations import lanes_of

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..machine import Group

_LANE = np.arange(WARP, dtype=np.uint32)
_ALL = np.uint32(0xFFFFFFFF)


class Warps:
    """The warps of a group as rows of 32, whether or not all their lanes are in the group."""

    def __init__(self, group: "Group") -> None:
        self.group = group
        self.whole = group.whole_warps()
        if self.whole:
            self.count = group.n // WARP
            return
        lanes = group.lanes()
        numbers, row = np.unique(lanes // WARP, return_inverse=True)
        self.count = numbers.size
        self.position = row * WARP + lanes % WARP
        self.present = np.zeros(self.count * WARP, bool)
        self.present[self.position] = True

    def rows(self, value: Lanes) -> Array:
        """Returns a value as rows of 32; absent lanes hold zero."""
        flat = lanes_of(self.group, value)
        if not self.whole:
            full = np.zeros(self.count * WARP, flat.dtype)
            full[self.position] = flat
            flat = full
        return flat.reshape(-1, WARP)

    def lanes(self, rows: Array) -> Array:
        """Returns rows of 32 as one element a lane of the group."""
        flat = rows.reshape(-1)
        return flat if self.whole else flat[self.position]

    def spread(self, value: Array) -> Array:
        """Returns one value a warp as one element a lane of the group."""
        return self.lanes(np.repeat(value, WARP))

    def ballot(self, predicate: Lanes) -> Array:
        """Returns one u32 a warp with the bits of the lanes whose predicate holds."""
        bits = np.packbits(self.rows(predicate), axis=1, bitorder="little")
        return np.ascontiguousarray(bits).view(np.uint32).reshape(-1)

    def active(self) -> Array:
        """Returns one u32 a warp with the bits of the lanes in the group."""
        if self.whole:
            return np.full(self.count, _ALL)
        return self.ballot(np.True_)


def _source_lane(mode: str, lane: Lanes, b: Lanes, c: Lanes) -> tuple[Lanes, Lanes]:
    """Returns the lane that each lane reads in shfl, and whether it is in range."""
    five = np.uint32(31)
    offset, clamp, segment = b & five, c & five, (c >> np.uint32(8)) & five
    top = (lane & segment) | (clamp & ~segment)
    if mode == "up":
        source = lane.astype(np.int32) - offset.astype(np.int32)
        return source, source >= top.astype(np.int32)
    if mode == "down":
        source = lane + offset
    elif mode == "bfly":
        source = lane ^ offset
    else:
        source = (lane & segment) | (offset & ~segment)
    return source, source <= top


def _constant_shuffle(group: "Group", mode: str, b: Lanes, c: Lanes) -> tuple[Array, Array]:
    """Returns source positions and predicates of a shfl with uniform operands, remembered."""
    key = ("shfl", mode, int(b), int(c), group.n)
    known: tuple[Array, Array] | None = group.machine.hits.get(key)
    if known is None:
        source, inside = _source_lane(mode, _LANE, b, c)
        source = np.where(inside, source, _LANE).astype(np.int64)
        rows = np.arange(group.n // WARP)[:, None] * WARP
        known = ((rows + source).reshape(-1), np.tile(inside, group.n // WARP))
        group.machine.hits[key] = known
    return known


def shuffle(group: "Group", mode: str, value: Lanes, b: Lanes, c: Lanes) -> tuple[Lanes, Lanes]:
    """
    Returns what shfl.sync reads and its predicate.

    A lane out of range, and one that reads a lane outside the group, keeps its own value.
    """
    if b.ndim == 0 and c.ndim == 0 and group.whole_warps():
        positions, inside = _constant_shuffle(group, mode, b, c)
        return (value.take(positions) if value.ndim else value), inside
    warps = Warps(group)
    lane = group.lanes().astype(np.uint32) % np.uint32(WARP)
    source, inside = _source_lane(mode, lane, b, c)
    source = np.where(inside, source, lane).astype(np.int64)
    if warps.whole:
        position = np.arange(group.n) - lane.astype(np.int64) + source
        return lanes_of(group, value)[position], inside
    position = warps.position - lane.astype(np.int64) + source
    read = warps.rows(value).reshape(-1)[position]
    return np.where(warps.present[position], read, value), inside


def vote(group: "Group", mode: str, predicate: Lanes, mask: Lanes) -> Lanes:
    """Returns vote.sync: all, any, uni as bool lanes, ballot as u32 lanes."""
    warps = Warps(group)
    votes = warps.spread(warps.ballot(predicate)) & mask
    if mode == "ballot":
        return votes
    if mode == "any":
        return votes != 0
    active = warps.spread(warps.active()) & mask
    return votes == active if mode == "all" else (votes == 0) | (votes == active)


def match(group: "Group", mode: str, value: Lanes, mask: Lanes) -> tuple[Lanes, Lanes]:
    """Returns match.sync: the lanes of the mask with the same value, and whether all have it."""
    warps = Warps(group)
    rows = warps.rows(value)
    same = rows[:, :, None] == rows[:, None, :]
    bits = np.packbits(same, axis=2, bitorder="little")
    masks = np.ascontiguousarray(bits).view(np.uint32).reshape(-1, WARP)
    active = warps.spread(warps.active()) & mask
    equal = warps.lanes(masks) & active
    everyone = equal == active
    return (np.where(everyone, active, np.uint32(0)) if mode == "all" else equal), everyone


_REDUCTIONS: dict[str, tuple[Callable[..., Array], Callable[[Any], int]]] = {
    "add": (np.add.reduce, lambda kind: 0),
    "min": (np.minimum.reduce, lambda kind: int(np.iinfo(kind).max)),
    "max": (np.maximum.reduce, lambda kind: int(np.iinfo(kind).min)),
    "and": (np.bitwise_and.reduce, lambda kind: -1 if kind(0).dtype.kind == "i" else 0xFFFFFFFF),
    "or": (np.bitwise_or.reduce, lambda kind: 0),
    "xor": (np.bitwise_xor.reduce, lambda kind: 0),
}


def reduce(group: "Group", operation: str, value: Lanes, mask: Lanes) -> Lanes:
    """Returns redux.sync over the lanes of each lane's mask."""
    warps = Warps(group)
    function, neutral = _REDUCTIONS[operation]
    kind = value.dtype.type
    active = warps.rows(np.full(group.n, True))
    rows = warps.rows(value)
    masks = np.where(active, warps.rows(mask), np.uint32(0))
    out = np.zeros_like(rows)
    for row_mask in np.unique(masks[active]):
        member = ((row_mask >> _LANE) & np.uint32(1)).astype(bool) & active
        total = function(np.where(member, rows, kind(neutral(kind))), axis=1, dtype=kind)
        here = masks == row_mask
        out[here] = np.broadcast_to(total[:, None], rows.shape)[here]
    return warps.lanes(out)


def active_mask(group: "Group") -> Lanes:
    """Returns the lanes of each lane's warp that run together now."""
    if group.whole_warps():
        return _ALL
    warps = Warps(group)
    return warps.spread(warps.active())


def elect(group: "Group", mask: Lanes) -> tuple[Lanes, Lanes]:
    """Returns elect.sync: the leader of the mask, and whether it is this lane; the lowest one."""
    seed = group.machine.launch.seed
    if seed is None:
        lowest = (mask & (~mask + np.uint32(1))) - np.uint32(1)
        elected = np.bitwise_count(lowest).astype(np.uint32)
    else:
        elected = leader(seed, mask)
    lane = group.lanes().astype(np.uint32) % np.uint32(WARP)
    return elected, lane == elected


def _both(b: "BlockEmitter", d: Operand, type: str, result: str) -> None:
    """Writes a result `d|p`."""
    first, second = (d.first, d.second) if isinstance(d, Pair) else (d, Name("_"))
    b.write(first, type, f"{result}[0]")
    b.write(second, "pred", f"{result}[1]")


def _shuffle(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits shfl.sync."""
    d, a, x, c, _ = b.operands(5)
    values = ", ".join((b.read(a, "b32"), b.read(x, "u32"), b.read(c, "u32")))
    result = b.define(f"{b.use(shuffle)}(g, {fields['mode']!r}, {values})")
    _both(b, d, "b32", result)


def _vote(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits vote.sync."""
    d, a, mask = b.operands(3)
    arguments = f"{b.read(a, 'pred')}, {b.read(mask, 'b32')}"
    type = "b32" if fields["mode"] == "ballot" else "pred"
    b.write(d, type, f"{b.use(vote)}(g, {fields['mode']!r}, {arguments})")


def _match(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits match.sync."""
    d, a, mask = b.operands(3)
    arguments = f"{b.read(a, fields['t'])}, {b.read(mask, 'b32')}"
    _both(b, d, "b32", b.define(f"{b.use(match)}(g, {fields['mode']!r}, {arguments})"))


def _redux(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits redux.sync."""
    d, a, mask = b.operands(3)
    type = fields["t"]
    arguments = f"{b.read(a, type)}, {b.read(mask, 'b32')}"
    b.write(d, type, f"{b.use(reduce)}(g, {fields['mode']!r}, {arguments})")


def _active(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits activemask."""
    (d,) = b.operands(1)
    b.write(d, "b32", f"{b.use(active_mask)}(g)")


def _elect(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits elect.sync."""
    d, mask = b.operands(2)
    _both(b, d, "b32", b.define(f"{b.use(elect)}(g, {b.read(mask, 'b32')})"))


FORMS: Table = (
    ("shfl.sync.<mode:up|down|bfly|idx>.b32", _shuffle),
    ("vote.sync.<mode:all|any|uni>.pred", _vote),
    ("vote.sync.<mode:ballot>.b32", _vote),
    ("match.<mode:any|all>.sync.<t:b32|b64>", _match),
    ("redux.sync.<mode:add|min|max>.<t:u32|s32>", _redux),
    ("redux.sync.<mode:and|or|xor>.<t:b32>", _redux),
    ("activemask.b32", _active),
    ("elect.sync", _elect),
)
