"""
Products of a warpgroup, wgmma.mma_async (PTX ISA, "Asynchronous Warpgroup Level Matrix").

The product is computed when it is issued: that no thread touches its registers before it has
waited is checked when the kernel is compiled. A row of A or B has 32 bytes along k for every
type, so operands are gathered as units of 16 bytes through their matrix descriptors. Where races
are looked for, what it reads of shared memory counts as being read until the wait.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..ptx.syntax import Immediate, Instruction, Operand, Register, Vector
from ..scalars import Array, Lanes
from .accumulation import accumulate
from .eight import TABLES
from .forms import Fields, Table
from .memory import emit_nothing
from .operands import elements, group_end, group_wait
from .operations import lanes_of

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group

_GROUP = 128  # threads of a warpgroup
_ROWS = 64
_SPANS = (0, 128, 64, 32)  # bytes, by the swizzle field of a descriptor
_DEPTHS = {"f16": 16, "bf16": 16, "tf32": 8, "e4m3": 32, "e5m2": 32, "s8": 32, "u8": 32}


def _decode(raw: Array, kind: str) -> Array:
    """Returns bytes in the last axis as f32 elements."""
    if kind == "f16":
        return raw.view(np.float16).astype(np.float32)
    if kind == "bf16":
        return (raw.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    if kind == "tf32":
        return (raw.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    if kind in TABLES:
        return TABLES[kind][raw]
    return raw.view(np.int8 if kind == "s8" else np.uint8).astype(np.float32)


def _offsets(rows: int, across: bool, span: int, leading: int, stride: int) -> Array:
    """
    Returns where the 16-byte units of a matrix begin before they are swizzled.

    Along k: [rows, 2]. Across (rows vary fastest in memory, 16-bit types): [16, rows / 8].
    """
    if not across:
        row, half = np.arange(rows)[:, None], np.arange(2)
        pitch, step = (span, 16) if span else (16, leading)
        return row // 8 * stride + row % 8 * pitch + half * step
    k, unit = np.arange(16)[:, None], np.arange(rows // 8)
    if not span:
        return k // 8 * leading + k % 8 * 16 + unit * stride
    each = span // 16
    return k // 8 * stride + k % 8 * span + unit // each * leading + unit % each * 16


def _one(group: "Group", site: "Site", descriptor: int, rows: int, across: bool, row: int) -> Array:
    """Returns the units of one descriptor as indices of 16 bytes; faults outside of the CTA's."""
    window = group.machine.shared
    start, leading, stride = (((descriptor >> shift) & 0x3FFF) << 4 for shift in (0, 16, 32))
    if descriptor >> 49 & 7:
        raise group.fault(site, "wgmma", "a base offset in a matrix descriptor is not covered")
    span = _SPANS[descriptor >> 62 & 3]
    address = start + _offsets(rows, across, span, leading, stride)
    if span:
        address ^= ((address >> 7) & (span // 16 - 1)) << 4
    end = int(address.max()) + 16
    if end > window.limit:
        message = f"the matrix at {start:#x} ends {end - window.limit} bytes past .shared memory"
        raise group.fault(site, "bounds", message, None, start)
    index = (address + row) >> 4
    marks = window.written_view("c16")
    if marks is not None and not marks[index].view(np.uint8).all():
        message = f"the matrix at {start:#x} of .shared memory has bytes that were not written"
        raise group.fault(site, "uninitialised", message, None, start)
    return index


def _matrix(
    group: "Group", site: "Site", descriptors: Lanes, rows: int, kind: str, across: bool
) -> Array:
    """Returns the matrices that descriptors name as f32 [warpgroups, rows, k]."""
    table = lanes_of(group, descriptors).reshape(-1, _GROUP)
    if (table != table[:, :1]).any():
        message = "the threads of a warpgroup give different matrix descriptors"
        raise group.fault(site, "wgmma", message)
    bases = group.row(group.machine.shared)
    begins = [0] * len(table) if bases is None else bases[::_GROUP].tolist()
    index = np.stack(
        [
            _one(group, site, descriptor, rows, across, begin)
            for descriptor, begin in zip(table[:, 0].tolist(), begins, strict=True)
        ]
    )
    if group.machine.shared.races is not None:
        _follow(group, site, index)
    units = group.machine.shared.view("c16")[index]
    values = _decode(units.view(np.uint8), kind)
    return values.transpose(0, 2, 1) if across else values


def _follow(group: "Group", site: "Site", index: Array) -> None:
    """Tells the race check which units of shared memory the products of warpgroups read."""
    machine = group.machine
    clocks: Any = machine.clocks
    for lane, units in zip(group.lanes()[::_GROUP].tolist(), index, strict=True):
        agent = lane // 32
        column = int(clocks.product_column(agent))
        time = int(clocks.committed[agent]) + 1
        machine.shared.races.engine_read(site, lane, units.reshape(-1), 16, column, time)


def commit(group: "Group") -> None:
    """Runs wgmma.commit_group."""
    if group.machine.clocks is not None:
        group.machine.clocks.commit(group.lanes())


def wait(group: "Group", pending: int) -> None:
    """Runs wgmma.wait_group: products are done when they are issued."""
    if group.machine.clocks is not None:
        group.machine.clocks.wait(group.lanes(), pending)


def _fragment(group: "Group", registers: tuple[Lanes, ...], kind: str) -> Array:
    """Returns A held in four registers a thread as f32 [warpgroups, 64, k]."""
    words = np.empty((group.n // _GROUP, 4, 2, 8, 2, 4), np.uint32)
    for number, register in enumerate(registers):
        value = lanes_of(group, register).reshape(-1, 4, 8, 4)
        words[:, :, number % 2, :, number // 2] = value
    raw = words.reshape(-1, _ROWS, 8).view(np.uint8)
    return _decode(raw, kind)


def multiply(
    group: "Group", site: "Site", scale: Lanes, left: tuple[Lanes, ...], right: Lanes, *d: Lanes
) -> tuple[Lanes, ...]:
    """
    Returns the accumulators after wgmma.mma_async; D counts from zero where `scale` is off.

    `site.extra` is (type of D, of A, of B, n, A across, B across, factor, saturated).
    """
    total, a_kind, b_kind, columns, a_across, b_across, factor, saturated = site.extra
    lanes = group.lanes()
    whole = group.machine.padded % _GROUP == 0 and group.n % _GROUP == 0
    if not whole or (lanes[::_GROUP] % _GROUP).any():
        message = "needs all 128 threads of the warpgroup"
        raise group.fault(site, "divergence", message)
    if len(left) == 1:
        a = _matrix(group, site, left[0], _ROWS, a_kind, a_across)
    else:
        a = _fragment(group, left, a_kind)
    b = _matrix(group, site, right, columns, b_kind, b_across)
    model = group.machine.launch.truncation
    if model is not None and total == "f32":
        held = np.stack([lanes_of(group, _former(old, scale)) for old in d])
        held = held.reshape(columns // 8, 2, 2, -1, 4, 8, 4).transpose(3, 4, 1, 5, 0, 6, 2)
        held = held.reshape(-1, _ROWS, columns)
        product = accumulate(model, (a_kind, b_kind), factor * a, b.transpose(0, 2, 1), held)
        scale = np.bool_(False)  # what D held is in the sums
    else:
        product = np.matmul(a, b.transpose(0, 2, 1))
        if factor < 0:
            product = -product
    split = product.reshape(-1, 4, 2, 8, columns // 8, 4, 2)
    if total == "f16":
        pairs = np.ascontiguousarray(split.transpose(4, 2, 0, 1, 3, 5, 6))
        return _halves(group, pairs.reshape(len(d), group.n, 2), scale, d)
    rows = np.ascontiguousarray(split.transpose(4, 2, 6, 0, 1, 3, 5)).reshape(len(d), group.n)
    if total == "s32":
        return tuple(_integer(row, old, scale, saturated) for row, old in zip(rows, d, strict=True))
    return tuple(
        row + _former(old, scale) if _uses(scale) else row for row, old in zip(rows, d, strict=True)
    )


def _uses(scale: Lanes) -> bool:
    """Says whether some warpgroup adds to what D held."""
    return bool(scale.any())


def _former(old: Lanes, scale: Lanes) -> Any:
    """Returns what D held, zero where it doesn't count."""
    if scale.ndim == 0:
        return old if scale else old.dtype.type(0)
    kept: Lanes = np.zeros(scale.size, old.dtype)
    kept[scale] = old[scale] if old.ndim else old
    return kept


def _integer(row: Array, old: Lanes, scale: Lanes, saturated: bool) -> Array:
    """Returns an s32 accumulator: the exact product added, wrapped or clamped."""
    total = row.astype(np.int64) + _former(old, scale)
    if saturated:
        limits = np.iinfo(np.int32)
        total = np.clip(total, limits.min, limits.max)
    return total.astype(np.int32)


def _halves(group: "Group", pairs: Array, scale: Lanes, d: tuple[Lanes, ...]) -> tuple[Array, ...]:
    """Returns f16 accumulators, two a register, rounded once from the f32 sum."""
    out: list[Array] = []
    for pair, old in zip(pairs, d, strict=True):
        held = lanes_of(group, _former(old, scale)).view(np.float16).reshape(-1, 2)
        out.append((pair + held.astype(np.float32)).astype(np.float16).view(np.uint32)[:, 0])
    return tuple(out)


def _flag(b: "BlockEmitter", operand: Operand, allowed: tuple[int, ...]) -> int:
    """Returns a constant operand, which must be one of some values."""
    if not isinstance(operand, Immediate) or operand.value not in allowed:
        raise b.error(f"expects constants out of {allowed} after scale-d")
    return operand.value


def _options(
    b: "BlockEmitter", rest: tuple[Operand, ...], kind: str, registers: bool
) -> tuple[int, bool, bool]:
    """Returns the factor of the product and which operands lie across."""
    if kind in ("s8", "u8"):
        if rest:
            raise b.error("takes no operand after scale-d for integers")
        return 1, False, False
    transposed = (1 if registers else 2) if _DEPTHS[kind] == 16 else 0
    if len(rest) != 2 + transposed:
        raise b.error(f"expects {2 + transposed} constants after scale-d, got {len(rest)}")
    factor = _flag(b, rest[0], (1, -1)) * _flag(b, rest[1], (1, -1))
    across = [bool(_flag(b, operand, (0, 1))) for operand in rest[2:]]
    across = [False] * (2 - len(across)) + across
    return factor, across[0], across[1]


def _registers(b: "BlockEmitter", operand: Operand, count: int) -> tuple[Operand, ...]:
    """Returns the registers of a vector operand, whose number must be `count`."""
    items = elements(b, operand, count)
    if not all(isinstance(item, Register) for item in items):
        raise b.error(f"expects a vector of {count} registers")
    return items


def _multiply(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits wgmma.mma_async."""
    total, kind, second, columns = fields["d"], fields["a"], fields["b"], int(fields["n"])
    _check(b, total, kind, second, int(fields["k"]), columns)
    d, a, x, *others = b.operands(*range(4, 9))
    scale, *rest = others
    registers = isinstance(a, Vector)
    factor, a_across, b_across = _options(b, tuple(rest), kind, registers)
    targets = _registers(b, d, columns // (4 if total == "f16" else 2))
    left = [b.read(v, "b32") for v in _registers(b, a, 4)] if registers else [b.read(a, "b64")]
    type = {"f16": "b32"}.get(total, total)
    code = {"f32": "f4", "f16": "u4", "s32": "i4"}[total]
    saturated = bool(fields.get("satfinite"))
    extra = (total, kind, second, columns, a_across, b_across, factor, saturated)
    held = [b.read(item, type) for item in targets]
    operands = [b.read(scale, "pred"), f"({', '.join(left)},)", b.read(x, "b64"), *held]
    b.call(multiply, b.site(extra=extra), operands, [(item, code) for item in targets])


def _check(b: "BlockEmitter", total: str, kind: str, second: str, depth: int, n: int) -> None:
    """Refuses combinations of types and shapes that the ISA doesn't have."""
    bytes_wide = kind in ("e4m3", "e5m2", "s8", "u8")
    integers = kind in ("s8", "u8")
    wrong = depth != _DEPTHS[kind] or (total == "s32") != integers
    wrong = wrong or (kind != second and not (bytes_wide and integers == (second in ("s8", "u8"))))
    wrong = wrong or depth != _DEPTHS[second] or (total == "f16" and kind in ("bf16", "tf32"))
    if wrong or (integers and n > 24 and n % 16):
        raise b.error("has types or a shape that the PTX ISA doesn't")


_N = "|".join(str(n) for n in range(8, 257, 8))
_HEAD = f"wgmma.mma_async.sync.aligned.m64n<n:{_N}>k<k:8|16|32>"
_FLOATS = "f16|bf16|tf32|e4m3|e5m2"
FORMS: Table = (
    (f"{_HEAD}.<d:f32|f16>.<a:{_FLOATS}>.<b:{_FLOATS}>", _multiply),
    (f"{_HEAD}[.satfinite].<d:s32>.<a:s8|u8>.<b:s8|u8>", _multiply),
    ("wgmma.fence.sync.aligned", emit_nothing),
    ("wgmma.commit_group.sync.aligned", group_end(commit)),
    ("wgmma.wait_group.sync.aligned", group_wait(wait)),
)
