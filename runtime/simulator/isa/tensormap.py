"""
Tensor maps that a kernel makes (PTX ISA, "tensormap.replace", "tensormap.cp_fenceproxy").

A map is built field by field, mostly in zeroed shared memory, and copied to global memory, where
the TMA unit finds it. Whether it is valid is checked when it is used.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..access import window_index
from ..errors import LaunchError
from ..memory import SHARED_WINDOW, WINDOW_BYTES
from ..ptx.syntax import Instruction, Operand
from ..scalars import Array, Lanes
from ..tensor_map import BYTES, FIELDS, NAMES, replace
from .forms import Fields, Table
from .mbarrier import in_shared
from .operands import constant
from .operations import lanes_of
from .ranges import SIZE, aligned, fault, follow_global, global_range, steps_of

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group

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
    name, place, units = site.extra
    values = lanes_of(group, value).tolist()
    addresses = lanes_of(group, address)
    for position, base in enumerate(addresses.tolist()):
        lane, at = group.at(np.array([position])), base + site.offset
        aligned(lane, site, "the tensor map's address", at, _ALIGNMENT, 0)
        shared = site.space == "shared" or 0 <= at - SHARED_WINDOW < WINDOW_BYTES
        for write in (False, True):
            if shared:
                data = _in_shared(lane, units, addresses[position : position + 1], write)
            else:
                data = _in_global(lane, site, at, write)
        try:
            new = replace(data.tobytes(), name, place, values[position])
        except LaunchError as problem:
            raise fault(lane, site, "tensor map", str(problem), 0) from None
        data[:] = np.frombuffer(new, np.uint8)


def _in_shared(group: "Group", units: "tuple[Site, ...]", address: Array, write: bool) -> Array:
    """Returns the bytes of a lane's map in shared memory; `units` are the sites of its parts."""
    window = group.machine.shared
    places = [window_index(group, unit, window, in_shared(address), write)[1] for unit in units]
    start = int(np.atleast_1d(places[0])[0]) * SIZE
    return window.storage[start : start + BYTES]


def _in_global(group: "Group", site: "Site", address: int, write: bool) -> Array:
    """Returns the bytes of a lane's map in global memory."""
    data = global_range(group, site, address, BYTES, write, 0)
    follow_global(group, site, address, steps_of(BYTES), SIZE, write, 0)
    return data


def publish(group: "Group", site: "Site", target: Lanes, source: Lanes) -> None:
    """Copies maps from shared to global memory, once for all lanes that name the same ones."""
    to, at, units = site.extra
    origins = lanes_of(group, source)
    ctas = group.lanes() // group.machine.padded
    columns = (lanes_of(group, target).tolist(), origins.tolist(), ctas.tolist())
    first = {copy: position for position, copy in enumerate(zip(*columns, strict=True))}
    for (start, origin, _), position in first.items():
        lane = group.at(np.array([position]))
        aligned(lane, site, "the destination", start + to, _ALIGNMENT, 0)
        aligned(lane, site, "the source", origin + at, _ALIGNMENT, 0)
        data = _in_shared(lane, units, origins[position : position + 1], False)
        _in_global(lane, site, start + to, True)[:] = data


def _units(b: "BlockEmitter", offset: int) -> "tuple[Site, ...]":
    """Returns the sites of a map's parts of 16 bytes in shared memory."""
    starts = range(offset, offset + BYTES, SIZE)
    return tuple(b.site_object(space="shared", size=SIZE, offset=start) for start in starts)


def _field(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits tensormap.replace of a number."""
    name, type = fields["field"], fields["t"]
    several = FIELDS[name][2] > 1
    address, *order, value = b.operands(3 if several else 2)
    place = constant(b, order[0], "the dimension") if several else 0
    if not 0 <= place < FIELDS[name][2]:
        raise b.error(f"expects a dimension below {FIELDS[name][2]}, got {place}")
    _emit(b, address, (name, place), b.read(value, type), fields["space"])


def _choice(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits tensormap.replace of one of the choices of a table."""
    name = fields["field"]
    address, value = b.operands(2)
    code = constant(b, value, "the new value")
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
    extra = (*field, _units(b, offset))
    site = b.site(space=space.partition("::")[0], size=BYTES, offset=offset, extra=extra)
    b.call(set_field, site, [base, value])


def _size(b: "BlockEmitter", operand: Operand) -> None:
    """Refuses another size than that of a tensor map."""
    size = constant(b, operand, "the size")
    if size != BYTES:
        raise b.error(f"expects {BYTES} as the size, got {size}")


def _publish(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits tensormap.cp_fenceproxy."""
    target, source, size = b.operands(3)
    _size(b, size)
    (to, x), (at, y) = b.address(target), b.address(source)
    site = b.site(space="shared", size=BYTES, extra=(x, y, _units(b, y)))
    b.call(publish, site, [to, at])


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
