"""Rules for pointers, loads, stores and asynchronous copies."""

from __future__ import annotations

from typing import NamedTuple

from xdsl.dialects import llvm
from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr
from xdsl.ir import Attribute, Operation, SSAValue

from ...dialects import nvvm
from ...dialects.diagnostic import error_at
from .elements import (
    BITS,
    REGISTER_CLASS,
    SPACES,
    Address,
    Element,
    Sum,
    element_count,
    element_kind,
    new_address,
    new_half,
    wrap,
)
from .integer import add, multiply, signed
from .kernel import KernelPrinter, Rule, Step, kind_of, operand_kind

_DYNAMIC = -(1 << 31)
# The flag of an address that lies at a distance that is not negative.
_NO_UNSIGNED_WRAP = 4
# An instruction holds offsets of 32 bits with a sign.
_REACH = 1 << 31


def address_of(p: KernelPrinter, step: Step, index: int) -> Address:
    """Returns a pointer operand as base and offset."""
    element = p.values[step.args[index]][0]
    if type(element) is not Address:
        raise error_at(step.op, "expects a pointer made by llvm.getelementptr or a parameter")
    return element


def bracketed(address: Address) -> tuple[str, tuple[str, ...]]:
    """Returns the template and the sources of a memory operand."""
    if address.offset == 0:
        return "[%s]", (address.base,)
    # PTX adds offsets, negative ones as well.
    return f"[%s+{address.offset}]", (address.base,)


def _address_of_global(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if isinstance(op, llvm.AddressOfOp):
        p.values[step.outs[0]] = [Address(op.global_name.string_value(), 0)]


def _size_of(op: Operation, type_: Attribute) -> int:
    # Attributes are of an abstract class: to ask for the very class is many times faster.
    if type(type_) is llvm.LLVMArrayType:
        return type_.size.data * _size_of(op, type_.type)
    kind = element_kind(type_)
    if kind is None:
        raise error_at(op, f"steps over elements of type {type_}, whose size is not known")
    return element_count(type_) * ((BITS[kind] + 7) // 8)


def _getelementptr(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        op = step.op
        indices = op.properties["rawConstantIndices"]
        if not isinstance(indices, DenseArrayBase):
            raise error_at(op, f"expects indices, got {indices}")
        numbers = memoryview(indices.data.data).cast("i")
        if len(numbers) != 1:
            raise error_at(op, f"expects one index, got {len(numbers)}")
        kind = operand_kind(op)
        index_kind = operand_kind(op, 1) if numbers[0] == _DYNAMIC else "i32"
        size = _size_of(op, op.properties["elem_type"])
        step.memo = (kind, index_kind, size, numbers[0], _goes_forward(op))
    kind, index_kind, size, constant, forward = step.memo
    values = p.values
    address = values[step.args[0]][0]
    if type(address) is not Address:
        raise error_at(step.op, "expects a pointer made by llvm.getelementptr or a parameter")
    index = constant if constant != _DYNAMIC else values[step.args[1]][0]
    if type(index) is not int:
        moved = offset_by(p, kind, address, index_kind, index, size, forward)
        values[step.outs[0]] = [moved]
        return
    base, offset = address
    offset += index * size
    if -_REACH <= offset < _REACH:
        values[step.outs[0]] = [new_address((base, offset))]
    else:
        values[step.outs[0]] = [_in_reach(p, kind, base, offset)]


def _goes_forward(op: Operation) -> bool:
    flags = op.properties.get("noWrapFlags")
    return isinstance(flags, IntegerAttr) and bool(flags.value.data & _NO_UNSIGNED_WRAP)


def offset_by(
    p: KernelPrinter,
    kind: str,
    address: Address,
    index_kind: str,
    index: Element,
    size: int,
    forward: bool = False,
) -> Address:
    """Returns an address moved by an index, not negative if `forward`, times a size in bytes."""
    word = "i64" if BITS[kind] == 64 else "i32"
    if isinstance(index, int):
        return _in_reach(p, kind, address.base, address.offset + index * size)
    index = signed(p, index, index_kind)
    if word == "i64" and index_kind != "i64":
        scaled = _wide_offset(p, index, size, forward)
    else:
        if word != index_kind and index_kind == "i64":
            index = p.compute("cvt.u32.u64", "r", p.operand(index, "i64"))
        scaled = multiply(p, word, index, size)
    offset = address.offset
    if isinstance(scaled, Sum):
        scaled, offset = scaled.base, offset + scaled.offset
    base = p.operand(add(p, word, p.base(address, kind), scaled), word)
    return _in_reach(p, kind, base, offset)


def _in_reach(p: KernelPrinter, kind: str, base: str, offset: int) -> Address:
    """Returns an address whose offset an instruction can hold, 32 bits with a sign."""
    if -_REACH <= offset < _REACH:
        return new_address((base, offset))
    if BITS[kind] == 32:
        return Address(base, wrap(offset, 32))
    return Address(p.materialise_sum(Sum(p.base(Address(base, 0), kind), offset), "i64"), 0)


def _wide_offset(p: KernelPrinter, index: Element, size: int, forward: bool) -> Element:
    """Returns a 32-bit index, not negative if `forward`, times a size as a 64-bit number."""
    constant = 0
    # Where a sum is not negative, what a positive constant is added to is above -2**31.
    if isinstance(index, Sum) and (
        p.bounds_of(index) is not None or (forward and index.offset > 0)
    ):
        constant = index.offset * size
        index = index.base
    register = p.operand(index, "i32")
    if size == 1:
        wide = p.compute("cvt.s64.s32", "rd", register)
    else:
        wide = p.compute("mul.wide.s32", "rd", register, str(size))
    return Sum(wide, constant) if constant else wide


class Access(NamedTuple):
    """How a value is moved: chunks of (first element, registers, mnemonic suffix, bytes)."""

    kind: str
    # Elements that share a register, 2 for packed 16-bit pairs.
    packed: int
    chunks: tuple[tuple[int, int, str], ...]
    bytes_per_register: int


def plan_access(op: Operation, value: SSAValue, alignment: int | None) -> Access:
    """Splits the access of a value into the widest aligned pieces of up to 16 bytes."""
    kind = kind_of(op, value)
    count = element_count(value.type)
    size = max(BITS[kind], 8) // 8
    if kind == "i1" and count > 1:
        raise error_at(op, "expects a scalar where it moves i1")
    total = 1 << (count * size - 1).bit_length()
    align = min(alignment or total, 16)
    packed = 2 if size == 2 and kind != "i16" and count % 2 == 0 and align >= 4 else 1
    registers, width = count // packed, size * packed
    chunks: list[tuple[int, int, str]] = []
    begin = 0
    while begin < registers:
        length = 4 if width < 8 else 2
        while length > 1:
            fits = begin + length <= registers and (begin * width) % (length * width) == 0
            if fits and length * width <= align:
                break
            length //= 2
        suffix = f".v{length}" if length > 1 else ""
        chunks.append((begin, length, f"{suffix}.b{8 * width}"))
        begin += length
    if align < width:
        raise error_at(op, f"expects an alignment of at least {width} bytes, got {align}")
    return Access(kind, packed, tuple(chunks), width)


def _alignment(op: Operation) -> int | None:
    attribute = op.properties.get("alignment")
    return attribute.value.data if isinstance(attribute, IntegerAttr) else None


def _check_plain(op: Operation) -> None:
    ordering = op.properties.get("ordering")
    if isinstance(ordering, IntegerAttr) and ordering.value.data:
        raise error_at(op, "expects a plain access, got an atomic ordering")


def _braced(count: int) -> str:
    return "{" + ", ".join(["%s"] * count) + "}" if count > 1 else "%s"


def _load(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if step.memo is None:
        _check_plain(op)
        step.memo = _plan_load(op)
    kind, packed, cls, pieces = step.memo
    base, begin = address_of(p, step, 0)
    registers: list[str] = []
    for distance, length, text in pieces:
        offset = begin + distance
        registers += p.load(f"{text}+{offset}];" if offset else f"{text}];", cls, length, base)
    p.values[step.outs[0]] = _loaded(p, kind, packed, registers)


# Pieces of a load: distance in bytes, registers, and the text up to the base of the address.
Load = tuple[str, int, str, tuple[tuple[int, int, str], ...]]


def _plan_load(op: Operation) -> Load:
    space = SPACES[operand_kind(op)]
    access = plan_access(op, op.results[0], _alignment(op))
    kind = access.kind
    cls = "r" if access.packed == 2 else REGISTER_CLASS["i8" if kind == "i1" else kind]
    pieces: list[tuple[int, int, str]] = []
    for begin, length, suffix in access.chunks:
        suffix = suffix.replace(".b8", ".u8").replace(".b16", ".u16") if cls == "r" else suffix
        text = f"\tld{space}{suffix} {_braced(length)}, [%s"
        pieces.append((begin * access.bytes_per_register, length, text))
    return kind, access.packed, cls, tuple(pieces)


def _loaded(p: KernelPrinter, kind: str, packed: int, registers: list[str]) -> list[Element]:
    if packed == 2:
        return [new_half((register, upper)) for register in registers for upper in (0, 1)]
    if kind == "i1":
        return [p.compute("setp.ne.s32", "p", register, "0") for register in registers]
    if kind[:3] == "ptr":
        return [p.wrapped(register, kind) for register in registers]
    return [*registers]


def _store(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        _check_plain(step.op)
        step.memo = _plan_store(step.op)
    kind, packed, pieces = step.memo
    elements = p.elements(step, 0)
    base, begin = address_of(p, step, 1)
    if packed == 2:
        registers = [p.pack(a, b, kind) for a, b in zip(elements[::2], elements[1::2])]
    elif kind == "i1":
        registers = [p.compute("selp.b32", "r", "1", "0", p.operand(elements[0], kind))]
    else:
        registers = [p.register_of(element, kind) for element in elements]
    for distance, first, length, text, rest in pieces:
        offset = begin + distance
        text = f"{text}+{offset}{rest}" if offset else text + rest
        p.emit_guarded(text, p.guard, (base, *registers[first : first + length]))


# Pieces of a store: distance in bytes, first register and number of registers, and the text up to
# the base of the address and behind its offset.
Store = tuple[str, int, tuple[tuple[int, int, int, str, str], ...]]


def _plan_store(op: Operation) -> Store:
    volatile = ".volatile" if "volatile_" in op.properties else ""
    space = volatile + SPACES[operand_kind(op, 1)]
    access = plan_access(op, op.operands[0], _alignment(op))
    kind = access.kind
    is_word = access.packed == 2 or REGISTER_CLASS["i8" if kind == "i1" else kind] == "r"
    pieces: list[tuple[int, int, int, str, str]] = []
    for begin, length, suffix in access.chunks:
        suffix = suffix.replace(".b8", ".u8").replace(".b16", ".u16") if is_word else suffix
        distance = begin * access.bytes_per_register
        text, rest = f"\tst{space}{suffix} [%s", f"], {_braced(length)};"
        pieces.append((distance, begin, length, text, rest))
    return kind, access.packed, tuple(pieces)


def _cp_async(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        op = step.op
        if not isinstance(op, nvvm.CpAsyncOp):
            raise error_at(op, "expects nvvm.cp.async.shared.global")
        size = op.size.value.data
        step.memo = (f"\tcp.async.{op.modifier.data.value}.shared.global", size)
    mnemonic, size = step.memo
    to, to_sources = bracketed(address_of(p, step, 0))
    source, from_sources = bracketed(address_of(p, step, 1))
    sources = (*to_sources, *from_sources)
    text = f"{mnemonic} {to}, {source}, {size}"
    if len(step.args) == 3:
        text += ", %s"
        sources += (p.operand(p.element(step, 2), "i32"),)
    p.emit_guarded(text + ";", p.guard, sources)


def _prefetch(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, nvvm.PrefetchOp):
        raise error_at(op, "expects nvvm.prefetch")
    space = SPACES[kind_of(op, op.addr)]
    if space == ".shared":
        raise error_at(op, "expects a pointer into global memory")
    where, sources = bracketed(address_of(p, step, 0))
    p.emit_guarded(f"\tprefetch{space}.{op.cacheLevel.data.value} {where};", p.guard, sources)


RULES: dict[str, Rule] = {
    "llvm.mlir.addressof": _address_of_global,
    "llvm.getelementptr": _getelementptr,
    "llvm.load": _load,
    "llvm.store": _store,
    "nvvm.cp.async.shared.global": _cp_async,
    "nvvm.prefetch": _prefetch,
}
