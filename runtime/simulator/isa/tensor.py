"""
Tensor copies through tensor maps, in tile mode (PTX ISA, "cp.async.bulk.tensor").

A thread names a box by its first coordinates. What lies outside of the tensor is filled when it
comes and left out when it goes. When data moves is said in bulk.py.

The PTX ISA does not say so, but an H100 takes no box that begins within 16 bytes of a row: the
first coordinate, in bytes, is a multiple of 16. It ends the kernel with an illegal instruction, be
the coordinate inside of the tensor, before it or beyond it.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bulk_groups import bulk_groups_of
from ..errors import LaunchError
from ..memory import PARAM_WINDOW, Window
from ..ptx.syntax import Address, Instruction, Operand, Vector
from ..scalars import Array, Lanes
from ..tensor_map import BYTES, TensorMap, decode
from .forms import Fields, Table
from .operations import lanes_of
from .ranges import (
    aligned,
    fault,
    follow_global,
    global_range,
    mbarrier_place,
    ranks_of,
    reads,
    reduction,
    send,
    shared_place,
    shared_read,
)

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group

_NAN = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF, "f64": (1 << 63) - 1}
_FORMS = {"i32": "s32", "i64": "s64"}
_UNIT = 16  # bytes that stay together under every swizzle


@lru_cache(maxsize=256)
def _decoded(data: bytes) -> TensorMap | str:
    """Returns the tensor map that 128 bytes hold, or what is wrong with them."""
    try:
        return decode(data)
    except LaunchError as problem:
        return str(problem)


def _map(group: "Group", site: "Site", address: int, rank: int, position: int) -> TensorMap:
    """Returns the tensor map at a generic or param address."""
    machine = group.machine
    window = machine.windows["param"]
    if address >= PARAM_WINDOW:
        address -= PARAM_WINDOW
    aligned(group, site, "the tensor map's address", address, 64, position)
    if address + BYTES <= window.limit:
        data = window.storage[address : address + BYTES]
    else:
        data = global_range(group, site, address, BYTES, False, position)
    found = _decoded(data.tobytes())
    if isinstance(found, TensorMap) and len(found.shape) == rank:
        return found
    what = found if isinstance(found, str) else f"there is one of {len(found.shape)} dimensions"
    message = f"{what} at {address:#x}, expected a tensor map of {rank} dimensions"
    raise fault(group, site, "tensor map", message, position)


def elements(map: TensorMap, start: tuple[int, ...]) -> tuple[Array, Array]:
    """Returns offsets in bytes of a box's elements, and which of them the tensor has."""
    rank = len(start)
    offsets: Array = np.zeros((1,) * rank, np.int64)
    inside: Array = np.ones((1,) * rank, np.bool_)
    strides = (map.size, *map.strides)
    for axis, (first, extent) in enumerate(zip(start, map.extents, strict=True)):
        at = first + np.arange(extent, dtype=np.int64) * map.steps[axis]
        shape = [1] * rank
        shape[rank - 1 - axis] = extent
        offsets = offsets + (at * strides[axis]).reshape(shape)
        inside = inside & ((at >= 0) & (at < map.shape[axis])).reshape(shape)
    return offsets.reshape(-1), inside.reshape(-1)


def _tensor(
    group: "Group", site: "Site", map: TensorMap, offsets: Array, write: bool, position: int
) -> Array:
    """Returns the memory behind a map up to its last element that a box touches."""
    size = int(offsets.max()) + map.size if offsets.size else 0
    memory = global_range(group, site, map.address, size, write, position)
    return memory.view(f"u{map.size}")


def _units(map: TensorMap, start: int, size: int) -> Array:
    """Returns where the 16-byte units of a box lie, counted from the start of the memory."""
    units = np.arange(start // _UNIT, (start + size) // _UNIT)
    return units ^ ((units >> 3) & (map.swizzle // _UNIT - 1)) if map.swizzle else units


def _place(
    group: "Group",
    site: "Site",
    map: TensorMap,
    address: int,
    position: int,
    rank: int | None = None,
) -> Array:
    """Returns the units of shared memory that a box takes."""
    size = int(np.prod(map.extents)) * map.size
    aligned(group, site, "the address in shared memory", address, 128, position)
    return _units(map, shared_place(group, site, address, size, position, rank), size)


def boxes(group: "Group", site: "Site", maps: Lanes, coordinates: tuple[Lanes, ...]) -> Any:
    """Yields position, tensor map and first coordinates of each lane."""
    addresses = lanes_of(group, maps).tolist()
    columns = [lanes_of(group, value).tolist() for value in coordinates]
    for position, start in enumerate(zip(*columns, strict=True)):
        map = _map(group, site, addresses[position] + site.offset, len(start), position)
        place = start[0] * map.size
        aligned(group, site, "the first coordinate's place in bytes", place, _UNIT, position)
        yield position, map, start


def fetch(
    group: "Group", site: "Site", target: Lanes, maps: Lanes, barrier: Lanes, *start: Lanes
) -> None:
    """Sends boxes to shared memory; `site.extra` holds the offsets of target and mbarrier."""
    _send(group, site, (target, maps, barrier), None, start)


def multicast(
    group: "Group",
    site: "Site",
    target: Lanes,
    maps: Lanes,
    barrier: Lanes,
    mask: Lanes,
    *start: Lanes,
) -> None:
    """Sends boxes to the same place in the CTAs that `mask` names by rank; see fetch."""
    _send(group, site, (target, maps, barrier), lanes_of(group, mask).tolist(), start)


def _send(
    group: "Group",
    site: "Site",
    addresses: tuple[Lanes, Lanes, Lanes],
    masks: list[Any] | None,
    start: tuple[Lanes, ...],
) -> None:
    """Sends the box of each lane to its CTA, or to the CTAs of its mask."""
    to, of = site.extra
    target, maps, barrier = addresses
    targets, barriers = lanes_of(group, target).tolist(), lanes_of(group, barrier).tolist()
    for position, map, first in boxes(group, site, maps, start):
        offsets, inside = elements(map, first)
        fill = _NAN[map.dtype] if map.nan_fill else 0
        data = np.full(offsets.size, fill, f"u{map.size}")
        wanted = offsets[inside]
        memory = _tensor(group, site, map, wanted, False, position)
        _follow(group, site, map, wanted, False, position)
        data[inside] = memory[wanted // map.size]
        ranks: list[Any] = [None] if masks is None else ranks_of(int(masks[position]))
        for rank in ranks:
            units = _place(group, site, map, targets[position] + to, position, rank)
            place = mbarrier_place(group, site, barriers[position] + of, position, rank)
            send(group, site, units, data.view(np.complex128), place, position)


def store(group: "Group", site: "Site", maps: Lanes, source: Lanes, *start: Lanes) -> None:
    """Issues copies of boxes to global memory, or reductions; `site.extra` is the offset."""
    sources = lanes_of(group, source).tolist()
    machine = group.machine
    for position, map, first in boxes(group, site, maps, start):
        address = sources[position] + site.extra
        units = _place(group, site, map, address, position)
        shared_read(group, site, address, units.size * _UNIT, position)
        reads(group, site, units, position)
        offsets, inside = elements(map, first)
        wanted = offsets[inside]
        memory = _tensor(group, site, map, wanted, True, position)
        combine = _combining(group, site, map, position) if site.operation else None
        at = wanted // map.size
        follow = partial(_follow, group, site, map, wanted, True, position)
        copy = partial(_take, machine.shared, (units, inside), (memory, at), combine, follow)
        bulk_groups_of(machine).issue(int(group.lanes()[position]), site, copy)


def _take(
    window: "Window",
    source: tuple[Array, Array],
    target: tuple[Array, Array],
    combine: "Callable[[Array, Array], Array] | None",
    follow: "Callable[[bool], None]",
) -> "Callable[[], None]":
    """
    Reads a box of shared memory; returns what writes it.

    `source` is the units of shared memory and which of their elements count, `target` the memory
    and the elements' places in it.
    """
    units, inside = source
    new = window.view("c16")[units].view(target[0].dtype)[inside]
    return partial(_write, new, target, combine, follow)


def _write(
    new: Array,
    target: tuple[Array, Array],
    combine: "Callable[[Array, Array], Array] | None",
    follow: "Callable[[bool], None]",
) -> None:
    """Writes elements to global memory, or combines them with what is there."""
    memory, at = target
    old = memory[at]
    follow(combine is None and bool((old == new).all()))
    memory[at] = new if combine is None else combine(old, new)


def _follow(
    group: "Group",
    site: "Site",
    map: TensorMap,
    offsets: Array,
    write: bool,
    position: int,
    unchanged: bool = False,
) -> None:
    """Tells the checks that follow global memory of the elements of a box."""
    unit, places = map.size, offsets
    whole = np.unique(offsets // _UNIT) * _UNIT
    if whole.size * _UNIT == offsets.size * map.size:  # no unit that the box has a part of only
        unit, places = _UNIT, whole
    follow_global(group, site, map.address, places, unit, write, position, unchanged)


def _combining(
    group: "Group", site: "Site", map: TensorMap, position: int
) -> "Callable[[Array, Array], Array]":
    """Returns what a reduction makes of old and new elements, all as bits."""
    operation, form = site.operation, _FORMS.get(map.dtype, map.dtype)
    float_type = form[0] in "fb"
    bitwise, counting = operation in ("and", "or", "xor"), operation in ("inc", "dec")
    wrong = float_type and (bitwise or counting or (map.size > 2 and operation != "add"))
    if wrong or map.size == 1 or (counting and form != "u32"):
        message = f"reduction {operation} of {map.dtype} elements"
        raise fault(group, site, "tensor map", message, position)
    code = {"f32": "f4", "f64": "f8", "s32": "i4", "s64": "i8"}.get(form, f"u{map.size}")
    function = reduction(operation, form)
    return lambda old, new: function(old.view(code), new.view(code)).view(f"u{map.size}")


def prefetch(group: "Group", site: "Site", maps: Lanes, *start: Lanes) -> None:
    """Checks the tensor maps of a prefetch."""
    for _ in boxes(group, site, maps, start):
        pass


def _box(b: "BlockEmitter", operand: Operand, fields: Fields) -> tuple[str, int, list[str]]:
    """Returns the names of a tensor map's address and of its coordinates."""
    rank = int(fields["rank"])
    inner = operand.coordinates[0] if isinstance(operand, Address) and operand.coordinates else None
    items = inner.items if isinstance(inner, Vector) else () if inner is None else (inner,)
    if len(items) != rank:
        raise b.error(f"expects [tensorMap, {{coordinates}}] with {rank} of them")
    base, offset = b.address(operand)
    return base, offset, [b.read(item, "s32") for item in items]


def _fetch(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async.bulk.tensor to shared memory."""
    more = bool(fields.get("multicast_cluster")) + bool(fields["L2_cache_hint"])
    target, tensor, barrier, *rest = b.operands(3 + more)
    map, offset, start = _box(b, tensor, fields)
    (to, x), (of, y) = b.address(target), b.address(barrier)
    site = b.site(offset=offset, extra=(x, y))
    if fields.get("multicast_cluster"):
        b.call(multicast, site, [to, map, of, b.read(rest[0], "u16"), *start])
    else:
        b.call(fetch, site, [to, map, of, *start])


def _store(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async.bulk.tensor and cp.reduce.async.bulk.tensor to global memory."""
    tensor, source, *_ = b.operands(3 if fields["L2_cache_hint"] else 2)
    map, offset, start = _box(b, tensor, fields)
    at, inner = b.address(source)
    site = b.site(offset=offset, extra=inner, operation=fields.get("what", ""))
    b.call(store, site, [map, at, *start])


def _prefetch(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cp.async.bulk.prefetch.tensor."""
    (tensor, *_) = b.operands(2 if fields["L2_cache_hint"] else 1)
    map, offset, start = _box(b, tensor, fields)
    b.call(prefetch, b.site(offset=offset), [map, *start])


def _descriptor(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits prefetch.tensormap: nothing."""
    b.operands(1)


_RANK = ".<rank:1|2|3|4|5>d"
_HINT = "[.L2::cache_hint]"
FORMS: Table = (
    (
        f"cp.async.bulk.tensor{_RANK}.<to:shared::cluster>.global[.tile]"
        f".mbarrier::complete_tx::bytes[.multicast::cluster]{_HINT}",
        _fetch,
    ),
    (
        f"cp.async.bulk.tensor{_RANK}.<to:shared::cta>.global[.tile]"
        f".mbarrier::complete_tx::bytes{_HINT}",
        _fetch,
    ),
    (f"cp.async.bulk.tensor{_RANK}.global.shared::cta[.tile].bulk_group{_HINT}", _store),
    (
        f"cp.reduce.async.bulk.tensor{_RANK}.global.shared::cta"
        f".<what:add|min|max|inc|dec|and|or|xor>[.tile].bulk_group{_HINT}",
        _store,
    ),
    (f"cp.async.bulk.prefetch.tensor{_RANK}.L2.global[.tile]{_HINT}", _prefetch),
    ("prefetch[.<space:param|const>].tensormap", _descriptor),
)
