"""Loads, stores and address conversion (PTX ISA, "Data Movement and Conversion")."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..access import global_index, part_index, window_access
from ..memory import LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW
from ..ptx.syntax import Address, Instruction, Operand, Register
from ..scalars import BITS, DTYPES, Array, Lanes, size_of
from .forms import Fields, Table
from .operands import elements
from .operations import lanes_of
from .parameters import in_memory, load_parameter, store_parameter

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group
    from ..memory import Window

_WHOLE = {1: "u1", 2: "u2", 4: "u4", 8: "u8", 16: "c16"}
_WINDOWS = {
    "shared": SHARED_WINDOW,
    "shared::cluster": SHARED_WINDOW,
    "local": LOCAL_WINDOW,
    "param": PARAM_WINDOW,
}


def _alone(value: Lanes) -> Lanes:
    """Returns a scalar as an array of one element."""
    return np.full(1, value)


def _split(site: "Site", raw: Lanes) -> Any:
    """Returns what a load found as its elements, each widened to its register."""
    if site.count == 1:
        return raw.astype(site.extra) if site.extra else raw
    if raw.ndim == 0:
        values: tuple[Lanes, ...] = tuple(_alone(raw).view(site.dtype))
    else:
        columns: Lanes = np.ascontiguousarray(raw.view(site.dtype).reshape(-1, site.count).T)
        values = tuple(columns)
    return tuple(value.astype(site.extra) for value in values) if site.extra else values


def _join(group: "Group", site: "Site", values: tuple[Lanes, ...]) -> Lanes:
    """Returns the elements of a vector store as one wide element a lane."""
    if len(values) == 1:
        return values[0]
    joined = np.empty((group.n, len(values)), site.dtype)
    for column, value in enumerate(values):
        joined[:, column] = value
    return joined.view(_WHOLE[site.size]).reshape(-1)


def load_global(group: "Group", site: "Site", address: Lanes) -> Any:
    """Loads from global memory; `address` is u64 without the site's offset."""
    view, index = global_index(group, site, address, False)
    if view is None:
        return _load_parts(group, site, address, index)
    return _split(site, view.take(index) if address.ndim else view[index])


def _load_parts(group: "Group", site: "Site", address: Array, parts: Any) -> Any:
    """Loads where the lanes access several allocations: one after the other."""
    raw = np.empty(group.n, _WHOLE[site.size])
    for positions in parts:
        view, index = part_index(group.at(positions), site, address[positions], False)
        raw[positions] = view.take(index).view(raw.dtype)
    return _split(site, raw if site.count > 1 else raw.view(site.dtype))


def store_global(group: "Group", site: "Site", address: Lanes, *values: Lanes) -> None:
    """Stores to global memory; of lanes that store to one address, the last one wins."""
    value = _join(group, site, values)
    view, index = global_index(group, site, address, True, value)
    if view is None:
        value = lanes_of(group, value)
        for positions in index:
            part = value[positions]
            view, inner = part_index(group.at(positions), site, address[positions], True, part)
            view[inner] = part
        return
    _put(group, view, index, value)


def load_window(group: "Group", site: "Site", address: Lanes) -> Any:
    """Loads from shared, local or param memory; `address` counts from the space's start."""
    view, index = window_access(group, site, group.machine.windows[site.space], address, False)
    return _split(site, view.take(index) if index.ndim else view[index])


def store_window(group: "Group", site: "Site", address: Lanes, *values: Lanes) -> None:
    """Stores to shared or local memory; of lanes that store to one address, the last one wins."""
    window = group.machine.windows[site.space]
    value = _join(group, site, values)
    view, index = window_access(group, site, window, address, True, value=value)
    _put(group, view, index, value)


def _put(group: "Group", view: Array, index: Lanes, value: Lanes) -> None:
    """Writes the values of lanes; where a seed decides, any lane's may be the last."""
    random = group.machine.launch.random
    if not index.ndim and value.ndim:
        value = value[-1 if random is None else random.integers(value.size)]
    if random is None or not index.ndim:
        view[index] = value
        return
    order = random.permutation(group.n)
    view[index[order]] = value[order] if value.ndim else value


def generic_parts(group: "Group", address: Lanes) -> "list[tuple[Window | None, int, Any]]":
    """Returns the windows that generic addresses lie in, each with its start and positions."""
    window_of = group.machine.window_of
    if address.ndim == 0:
        return [(*window_of(int(address)), None)]
    high = address >> np.uint64(32)
    keys = np.where(high < np.uint64(SHARED_WINDOW >> 32), np.uint64(0), high)
    if (keys == keys[0]).all():
        return [(*window_of(int(address[0])), None)]
    parts: list[tuple[Window | None, int, Any]] = []
    for key in np.unique(keys):
        positions = np.flatnonzero(keys == key)
        window, start = window_of(int(address[positions[0]]))
        parts.append((window, start, positions))
    return parts


def load_generic(group: "Group", site: "Site", address: Lanes) -> Any:
    """Loads through generic addresses."""
    pieces: list[tuple[Array, tuple[Lanes, ...]]] = []
    for window, start, positions in generic_parts(group, address):
        narrow = group if positions is None else group.at(positions)
        where = address if positions is None else address[positions]
        if window is None:
            value = load_global(narrow, site, where)
        else:
            view, index = window_access(narrow, site, window, where - np.uint64(start), False)
            value = _split(site, view[index])
        if positions is None:
            return value
        pieces.append((positions, (value,) if site.count == 1 else tuple(value)))
    count = len(pieces[0][1])
    merged = [np.empty(group.n, pieces[0][1][i].dtype) for i in range(count)]
    for positions, values in pieces:
        for target, value in zip(merged, values, strict=True):
            target[positions] = value
    return merged[0] if count == 1 else tuple(merged)


def store_generic(group: "Group", site: "Site", address: Lanes, *values: Lanes) -> None:
    """Stores through generic addresses."""
    for window, start, positions in generic_parts(group, address):
        narrow = group if positions is None else group.at(positions)
        where = address if positions is None else address[positions]
        parts = tuple(v if positions is None or not v.ndim else v[positions] for v in values)
        if window is None:
            store_global(narrow, site, where, *parts)
            continue
        value = _join(narrow, site, parts)
        place = where - np.uint64(start)
        view, index = window_access(narrow, site, window, place, True, value=value)
        _put(narrow, view, index, value)


def space_of(fields: Fields) -> str:
    """Returns the space of a form: "shared::cluster", or its first part; "" for generic."""
    space = fields["space"]
    return space if space == "shared::cluster" else space.partition("::")[0]


def _wide_address(b: "BlockEmitter", operand: Operand, space: str) -> tuple[str, int]:
    """Returns base and offset of an address; global and generic ones must have 64 bits."""
    base, offset = b.address(operand)
    if space in ("", "global", "const") and isinstance(operand, Address):
        inner = operand.base
        if isinstance(inner, Register) and BITS[inner.type] != 64:
            raise b.error(f"expects a 64-bit address, got .{inner.type} {inner}")
    return base, offset


def _strong(fields: Fields) -> str:
    """Returns the order of a strong access, "" for a weak one (PTX ISA, "Operation Types")."""
    order = fields["order"]
    return "" if order == "weak" else order


def _count(fields: Fields) -> int:
    """Returns the number of elements of a vector access."""
    return int(fields["vec"][1:]) if fields["vec"] else 1


def emit_load(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits ld."""
    operands = b.operands(2, 3) if fields["L2_cache_hint"] else b.operands(2)
    type, space, count = fields["t"], space_of(fields), _count(fields)
    items = elements(b, operands[0], count)
    if space == "param":
        if load_parameter(b, operands[1], items, type):
            return
        space = "local" if in_memory(b, operands[1]) else space
    size = size_of(type)
    if size * count > 16:
        raise b.error("accesses more than 16 bytes a thread: not covered")
    base, offset = _wide_address(b, operands[1], space)
    extra, code = _widening(b, items, type)
    code = code or DTYPES[type]
    site = b.site(
        dtype=np.dtype(DTYPES[type]).type,
        size=size * count,
        count=count,
        space=space,
        extra=extra,
        offset=offset,
        operation=_strong(fields),
        order=fields.get("order", ""),
        scope=fields.get("scope", ""),
    )
    function = {"": load_generic, "global": load_global, "const": load_global}.get(
        space, load_window
    )
    b.call(function, site, [base], [(item, code) for item in items])


def _load_uniform(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits ldu: a load from a place that all lanes of a warp share, or may not."""
    emit_load(b, instruction, {**fields, "order": "", "scope": "", "L2_cache_hint": ""})


def _widening(b: "BlockEmitter", items: tuple[Operand, ...], type: str) -> tuple[Any, str]:
    """Returns the NumPy type and code that loaded elements are widened to, if they are."""
    widths = {BITS[item.type] for item in items if isinstance(item, Register)}
    if not widths or widths == {BITS[type]}:
        return None, ""
    if len(widths) > 1 or widths.pop() < BITS[type]:
        raise b.error(f"expects registers of {BITS[type]} bits or more")
    width = next(BITS[item.type] for item in items if isinstance(item, Register)) // 8
    if not 2 <= width <= 8 or DTYPES[type][0] == "f":
        raise b.error(f"can't load .{type} into these registers")
    code = f"{'i' if type[0] == 's' else 'u'}{width}"
    return np.dtype(code).type, code


def emit_store(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits st."""
    operands = b.operands(2, 3) if fields["L2_cache_hint"] else b.operands(2)
    type, space, count = fields["t"], space_of(fields), _count(fields)
    if space == "const":
        raise b.error(f"can't store to .{space}")
    items = elements(b, operands[1], count)
    if space == "param":
        if store_parameter(b, operands[0], items, type):
            return
        space = "local"
    size = size_of(type)
    if size * count > 16:
        raise b.error("accesses more than 16 bytes a thread: not covered")
    base, offset = _wide_address(b, operands[0], space)
    values = [b.read(item, type, wide=True) for item in items]
    site = b.site(
        dtype=np.dtype(DTYPES[type]).type,
        size=size * count,
        count=count,
        space=space,
        offset=offset,
        operation=_strong(fields),
        order=fields.get("order", ""),
        scope=fields.get("scope", ""),
    )
    function = {"": store_generic, "global": store_global}.get(space, store_window)
    b.call(function, site, [base, *values])


def emit_cvta(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits cvta: windows lie at constant generic addresses, global memory at its own."""
    target, source = b.operands(2)
    space, type = space_of(fields), fields["t"]
    if type == "u32":
        raise b.error("is covered for .u64 only")
    start = _WINDOWS.get(space, 0)
    if not start:
        b.alias(target, source, type)
        return
    sign = "-" if fields["to"] else "+"
    b.write(target, type, f"{b.read(source, type)} {sign} {b.scope.constant('u8', start)}")


def emit_nothing(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits nothing: hints, and fences where execution is sequentially consistent."""


_CACHE = (
    "[.<l1:L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate>]"
    "[.<l2:L2::evict_normal|L2::evict_first|L2::evict_last>][.L2::cache_hint]"
    "[.<prefetch:L2::64B|L2::128B|L2::256B>][.<vec:v2|v4>].<t:value|b128>"
)
FORMS: Table = (
    (
        "ld[.<order:weak|volatile|relaxed|acquire|mmio.relaxed>][.<scope:scope>]"
        "[.<space:space>][.<cop:ca|cg|cs|lu|cv>][.nc]" + _CACHE,
        emit_load,
    ),
    (
        "st[.<order:weak|volatile|relaxed|release|mmio.relaxed>][.<scope:scope>]"
        "[.<space:space>][.<cop:wb|cg|cs|wt>]" + _CACHE,
        emit_store,
    ),
    ("ldu[.<space:global>][.<vec:v2|v4>].<t:value|b128>", _load_uniform),
    ("cvta[.to].<space:space>.<t:u32|u64>", emit_cvta),
    ("cvta[.to].<space:param>.<t:u64>", emit_cvta),
    ("prefetch[.<space:global|local>].<level:L1|L2|L2::evict_last|L2::evict_normal>", emit_nothing),
    ("prefetchu.L1", emit_nothing),
    ("applypriority[.global].L2::evict_normal", emit_nothing),
    ("discard[.<space:global>].L2", emit_nothing),
)
