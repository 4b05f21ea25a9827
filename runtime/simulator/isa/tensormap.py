"""
Tensor maps that a kernel makes (PTX ISA, "tensormap.replace", "tensormap.cp_fenceproxy").

A map is built field by field, mostly in zeroed shared memory, and copied to global memory, where
the TMA unit finds it. Whether it is valid is checked when it is used.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..errors import LaunchError
from ..memory import SHARED_WINDOW, WINDOW_BYTES
from ..scalars import Array, Lanes
from ..syntax import Immediate, Instruction, Operand
from ..tensor_map import BYTES, FIELDS, NAMES, replace
from .forms import Fields, Table
from .operations import lanes_of
from .ranges import aligned, fault, global_range, shared_read, shared_write

if TYPE_CHECKING:
    from ..emitter import BlockEmitter
    from ..machine import Group
    from ..program import Site

_ALIGNMENT = 64
# What the constants of PTX ISA, table "Tensormap new_val validity", stand for in our maps.
_TYPES = {
    code: NAMES.index(name)
    for code, name in enumerate(
        ("u8", "u16", "u32", "i32", "u64", "i64", "f16", "f32", "", "f64", "bf16")
    )
    if name
}
_CONSTANTS: dict[str, dict[int, int]] = {
    "elemtype": _TYPES,
    "swizzle_mode": {0: 0, 1: 32, 2: 64, 3: 128},
    "fill_mode": {0: 0, 1: 1},
    "interleave_layout": {0: 0},
    "swizzle_atomicity": {0: 0},
}


def set_field(group: "Group", site: "Site", address: Lanes, value: Lanes) -> None:
    """Replaces a field of a map in shared or global memory; `site.extra` has name and place."""
    name, place = site.extra
    values = lanes_of(group, value).tolist()
    for position, base in enumerate(lanes_of(group, address).tolist()):
        at = base + site.offset
        aligned(group, site, "the tensor map's address", at, _ALIGNMENT, position)
        shared = site.space == "shared" or 0 <= at - SHARED_WINDOW < WINDOW_BYTES
        if shared:
            old = shared_read(group, site, at, BYTES, position)
        else:
            old = global_range(group, site, at, BYTES, True, position)
        new = _replaced(group, site, old, (name, place, values[position]), position)
        if shared:
            shared_write(group, site, at, new, position)
        else:
            old[:] = new


def _replaced(
    group: "Group", site: "Site", old: Array, change: tuple[str, int, int], position: int
) -> Array:
    """Returns the bytes of a map with a field replaced."""
    try:
        new = replace(old.tobytes(), *change)
    except LaunchError as problem:
        raise fault(group, site, "tensor map", str(problem), position) from None
    return np.frombuffer(new, np.uint8)


def publish(group: "Group", site: "Site", target: Lanes, source: Lanes) -> None:
    """Copies maps from shared to global memory; `site.extra` holds the constant offsets."""
    to, at = site.extra
    targets, sources = lanes_of(group, target).tolist(), lanes_of(group, source).tolist()
    known: set[tuple[int, int]] = set()
    row = group.row(group.machine.shared)
    for position, (start, origin) in enumerate(zip(targets, sources, strict=True)):
        copy = (start, origin if row is None else origin + int(row[position]))
        if copy in known:
            continue
        known.add(copy)
        aligned(group, site, "the destination", start + to, _ALIGNMENT, position)
        aligned(group, site, "the source", origin + at, _ALIGNMENT, position)
        data = shared_read(group, site, origin + at, BYTES, position)
        global_range(group, site, start + to, BYTES, True, position)[:] = data


def _field(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits tensormap.replace of a number."""
    name, type = fields["field"], fields["t"]
    several = FIELDS[name][2] > 1
    address, *order, value = b.operands(3 if several else 2)
    place = _constant(b, order[0], "the dimension") if several else 0
    if not 0 <= place < FIELDS[name][2]:
        raise b.error(f"expects a dimension below {FIELDS[name][2]}, got {place}")
    _emit(b, address, (name, place), b.read(value, type), fields["space"])


def _choice(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits tensormap.replace of one of the choices of a table."""
    name = fields["field"]
    address, value = b.operands(2)
    code = _constant(b, value, "the new value")
    meaning = _CONSTANTS[name].get(code)
    if meaning is None:
        known = ", ".join(map(str, _CONSTANTS[name]))
        raise b.error(f"covers {known} as {name}, got {code}")
    if name in FIELDS:
        _emit(b, address, (name, 0), b.scope.constant("u4", meaning), fields["space"])


def _emit(
    b: "BlockEmitter", address: Operand, field: tuple[str, int], value: str, space: str
) -> None:
    """Emits the call that replaces a field."""
    base, offset = b.address(address)
    site = b.site(space=space.partition("::")[0], size=BYTES, offset=offset, extra=field)
    b.call(set_field, site, [base, value])


def _constant(b: "BlockEmitter", operand: Operand, what: str) -> int:
    """Returns a constant operand."""
    if not isinstance(operand, Immediate) or operand.kind != "int":
        raise b.error(f"expects a constant as {what}")
    return operand.value


def _size(b: "BlockEmitter", operand: Operand) -> None:
    """Refuses another size than that of a tensor map."""
    size = _constant(b, operand, "the size")
    if size != BYTES:
        raise b.error(f"expects {BYTES} as the size, got {size}")


def _publish(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits tensormap.cp_fenceproxy."""
    target, source, size = b.operands(3)
    _size(b, size)
    (to, x), (at, y) = b.address(target), b.address(source)
    b.call(publish, b.site(space="shared", size=BYTES, extra=(x, y)), [to, at])


def _acquire(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits the acquiring proxy fence: nothing, execution is sequentially consistent."""
    _, size = b.operands(2)
    _size(b, size)


def _release(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits the releasing proxy fence: nothing, execution is sequentially consistent."""
    b.operands(0)


_REPLACE = "tensormap.replace.tile"
_SPACE = "[.<space:global|shared::cta>].b1024"
_PROXY = "fence.proxy.tensormap::generic"
FORMS: Table = (
    (f"{_REPLACE}.<field:global_address|global_stride>{_SPACE}.<t:b64>", _field),
    (f"{_REPLACE}.<field:rank|box_dim|global_dim|element_stride>{_SPACE}.<t:b32>", _field),
    (
        f"{_REPLACE}.<field:elemtype|interleave_layout|swizzle_mode|swizzle_atomicity|fill_mode>"
        f"{_SPACE}.<t:b32>",
        _choice,
    ),
    (
        "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.<scope:scope>"
        ".sync.aligned",
        _publish,
    ),
    (f"{_PROXY}.acquire.<scope:scope>", _acquire),
    (f"{_PROXY}.release.<scope:scope>", _release),
)
