"""Atomic operations (PTX ISA, atom and red)."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..access import global_index, part_index, window_index
from ..chance import shuffled
from ..memory import Window
from ..ptx.syntax import Instruction
from ..scalars import DTYPES, Array, Lanes, size_of
from .forms import Fields, Table
from .half import compute, compute_pairs
from .memory import generic_parts, space_of
from .operands import elements
from .operations import lanes_of, select
from .rounding import flush

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group


def _increment(old: Lanes, limit: Lanes) -> Lanes:
    """Returns old + 1, or 0 where old has reached the limit."""
    return select(old >= limit, old.dtype.type(0), old + old.dtype.type(1))


def _decrement(old: Lanes, limit: Lanes) -> Lanes:
    """Returns old - 1, or the limit where old is 0 or above it."""
    zero = old.dtype.type(0)
    return select((old == zero) | (old > limit), limit, old - old.dtype.type(1))


def _exchange(old: Lanes, new: Lanes) -> Lanes:
    """Returns the new value."""
    return new


def _compare_and_swap(old: Lanes, compare: Lanes, new: Lanes) -> Lanes:
    """Returns the new value where the old one is the one compared with."""
    return select(old == compare, new, old)


_OPERATIONS: dict[str, Callable[..., Lanes]] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": _exchange,
    "inc": _increment,
    "dec": _decrement,
    "cas": _compare_and_swap,
}
# Types that hold no NumPy numbers: the operation works on their bits.
_HALVES = frozenset({"f16", "bf16", "f16x2", "bf16x2"})


def _wide_swap(old: Lanes, compare: Lanes, new: Lanes) -> Lanes:
    """Returns the new 128-bit value where the old one has the bits of the one compared with."""
    words = [np.ascontiguousarray(value).view(np.uint64).reshape(-1, 2) for value in (old, compare)]
    return select((words[0] == words[1]).all(axis=1), new, old)


def _flushed_sum(old: Lanes, value: Lanes) -> Lanes:
    """Returns the sum of f32 lanes with subnormal operands and results flushed to zero."""
    return flush(flush(old) + flush(value))


def _function(site: "Site", space: str) -> Callable[..., Lanes]:
    """Returns what an atomic computes from the old value and its operands."""
    operation, type = site.operation, site.extra
    if type in ("f16", "bf16"):
        return partial(compute, operation, type, "")
    if type in ("f16x2", "bf16x2"):
        return partial(compute_pairs, operation, type.removesuffix("x2"), "")
    if type == "b128" and operation == "cas":
        return _wide_swap
    if type == "f32" and operation == "add" and space == "global":
        return _flushed_sum
    return _OPERATIONS[operation]


Place: TypeAlias = "tuple[Array | None, str, Any, Any]"


def _places(group: "Group", site: "Site", address: Array) -> "Iterator[Place]":
    """
    Yields the places of the addresses: positions of lanes (None for all), space, view, indices.
    """
    window: Window | None = group.machine.windows.get(site.space)
    parts = [(window, 0, None)] if site.space else generic_parts(group, address)
    for window, start, positions in parts:
        narrow = group if positions is None else group.at(positions)
        where = address if positions is None else address[positions]
        if window is not None:
            space = window.space
            yield (
                positions,
                space,
                *window_index(narrow, site, window, where - where.dtype.type(start), True),
            )
            continue
        view, index = global_index(narrow, site, where, True)
        if view is not None:
            yield positions, "global", view, index
            continue
        for inner in index:
            chosen = inner if positions is None else positions[inner]
            yield chosen, "global", *part_index(group.at(chosen), site, address[chosen], True)


def _rounds(
    group: "Group",
    view: Array,
    index: Array,
    function: Callable[..., Lanes],
    values: list[Array],
) -> Array:
    """
    Performs one operation a lane, in lane order or as a seed decides; returns what was there.

    Lanes that meet at one place go in rounds: the first of each place, then the second.
    """
    order = np.argsort(index, kind="stable")
    mixed = shuffled(group.machine.launch.random, index.size)
    if mixed is not None:
        order = mixed[np.argsort(index[mixed], kind="stable")]
    places = index[order]
    starts = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
    counts = np.diff(np.append(starts, index.size))
    rank = np.arange(index.size) - np.repeat(starts, counts)
    old = np.empty(index.size, view.dtype)
    for turn in range(int(counts.max(initial=0))):
        now = order[rank == turn]
        here = index[now]
        old[now] = view[here]
        view[here] = function(old[now], *(value[now] for value in values))
    return old


def atomic(group: "Group", site: "Site", address: Lanes, *operands: Lanes) -> Any:
    """
    Performs one atomic operation a lane and element; returns what was there before.

    The elements of a vector are atomic one by one. Operands come by element.
    """
    address = lanes_of(group, address)
    values = [lanes_of(group, operand) for operand in operands]
    each = len(values) // site.count
    old = [np.empty(group.n, site.dtype) for _ in range(site.count)]
    for positions, space, view, index in _places(group, site, address):
        here = slice(None) if positions is None else positions
        function = _function(site, space)
        size = group.n if positions is None else positions.size
        first = np.broadcast_to(index, size) * site.count
        elements = view.view(site.dtype)
        for number in range(site.count):
            mine = [value[here] for value in values[number * each : (number + 1) * each]]
            old[number][here] = _rounds(group, elements, first + number, function, mine)
    return old[0] if site.count == 1 else tuple(old)


def reduction(group: "Group", site: "Site", address: Lanes, *operands: Lanes) -> None:
    """Performs one atomic operation a lane and returns nothing: all at once where possible."""
    ufunc: Any = _OPERATIONS[site.operation]
    plain = isinstance(ufunc, np.ufunc) and site.extra not in _HALVES and site.count == 1
    if not plain:
        atomic(group, site, address, *operands)
        return
    value = lanes_of(group, operands[0])
    for positions, space, view, index in _places(group, site, lanes_of(group, address)):
        mine = value if positions is None else value[positions]
        here = np.broadcast_to(index, mine.size)
        if _function(site, space) is _flushed_sum:
            view[here] = flush(view[here])
            ufunc.at(view, here, flush(mine))
            view[here] = flush(view[here])
        else:
            ufunc.at(view, here, mine)


def _atomic(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits atom and red."""
    operation, type = fields["what"], fields["t"]
    count = int(fields["vec"][1:]) if fields.get("vec") else 1
    more = 2 if operation == "cas" else 1
    returns = fields["op"] == "atom"
    if operation in ("cas", "exch") and not returns:
        raise b.error(f"has no .{operation}")
    operands = b.operands(1 + more + returns + bool(fields.get("L2_cache_hint")))
    address = operands[returns]
    base, offset = b.address(address)
    values = [
        b.read(item, type)
        for operand in operands[returns + 1 : returns + 1 + more]
        for item in elements(b, operand, count)
    ]
    site = b.site(
        dtype=np.dtype(DTYPES[type]).type,
        size=size_of(type) * count,
        count=count,
        space=space_of(fields),
        offset=offset,
        operation=operation,
        order=fields["order"],
        scope=fields["scope"],
        returns=returns,
        extra=type,
    )
    if returns:
        targets = elements(b, operands[0], count)
        b.call(atomic, site, [base, *values], [(item, DTYPES[type]) for item in targets])
    else:
        b.call(reduction, site, [base, *values])


_MODIFIERS = (
    "[.<order:relaxed|acquire|release|acq_rel>]",
    "[.<scope:scope>]",
    "[.<space:global|shared::cta|shared::cluster|shared>]",
)
_VECTOR = "<op:atom|red>[.<order:relaxed|acquire|release|acq_rel>][.<scope:scope>][.<space:global>]"
_HALF, _HALF_PAIR = "f16|bf16", "f16x2|bf16x2"
_HINT = "[.L2::cache_hint]"
_SCALARS = (
    f".<what:add>{_HINT}.<t:u32|s32|u64|s64|f32|f64>",
    f".<what:add>.noftz{_HINT}.<t:{_HALF}|{_HALF_PAIR}>",
    f".<what:min|max>{_HINT}.<t:u32|s32|u64|s64>",
    f".<what:and|or|xor>{_HINT}.<t:b32|b64>",
    f".<what:inc|dec>{_HINT}.<t:u32>",
    f".<what:exch>{_HINT}.<t:b32|b64|b128>",
    f".<what:cas>{_HINT}.<t:b16|b32|b64|b128>",
)
# Assemblers take the modifiers in any order; some compilers write the space first.
FORMS: Table = (
    *(
        (f"<op:atom|red>{''.join(modifiers)}{rest}", _atomic)
        for modifiers in permutations(_MODIFIERS)
        for rest in _SCALARS
    ),
    (_VECTOR + f".<what:add>{_HINT}.<vec:v2|v4>.<t:f32>", _atomic),
    (_VECTOR + f".<what:add|min|max>.noftz{_HINT}.<vec:v2|v4|v8>.<t:{_HALF}>", _atomic),
    (_VECTOR + f".<what:add|min|max>.noftz{_HINT}.<vec:v2|v4>.<t:{_HALF_PAIR}>", _atomic),
    (_VECTOR + f"{_HINT}.<vec:v2|v4>.<t:f32>.<what:add>", _atomic),
    (_VECTOR + f"{_HINT}.<vec:v2|v4|v8>.<t:{_HALF}>.<what:add|min|max>.noftz", _atomic),
    (_VECTOR + f"{_HINT}.<vec:v2|v4>.<t:{_HALF_PAIR}>.<what:add|min|max>.noftz", _atomic),
)
