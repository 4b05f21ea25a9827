"""Turns elements into the operands of instructions, printing what was put off until now."""

from __future__ import annotations

from .coalesce import CoalescingAssembly
from .elements import (
    BITS,
    CLASS_TYPE,
    REGISTER_CLASS,
    Address,
    Element,
    Half,
    Product,
    Sum,
    WideProduct,
    bits_float,
    float_bits,
    literal,
    unsigned,
)

Bounds = tuple[int, int]

# Kinds whose constants stand in instructions as they are.
_WORDS = frozenset({"i32", "i64"})
_UNPACK = "\tmov.b32 {%s, %s}, %s;"
_PACK = "\tmov.b32 %s, {%s, %s};"


class Operands(CoalescingAssembly):
    """An assembly that knows the bounds of integer registers and how to materialise elements."""

    def __init__(self) -> None:
        super().__init__()
        # Registers known to hold a value of [low, high], both inclusive.
        self.bounds: dict[str, Bounds] = {}

    def operand(self, element: Element, kind: str) -> str:
        """Returns a register or an immediate that holds the element."""
        if type(element) is str:
            return element
        if type(element) is int and kind in _WORDS:
            return str(element)
        if isinstance(element, Sum):
            return self.materialise_sum(element, kind)
        if isinstance(element, Half):
            pair = self.compute_many(_UNPACK, ("h", "h"), (element.packed,))
            return pair[element.upper]
        if isinstance(element, int | float):
            if kind in ("f16", "bf16"):
                return self.compute("mov.b16", "h", literal(float(element), kind))
            if kind == "i1":
                return self.compute("setp.ne.u32", "p", str(int(element)), "0")
            return literal(element, kind)
        if isinstance(element, Product):
            return self.compute("mul.lo.s32", "r", element.lhs, element.rhs)
        if isinstance(element, WideProduct):
            return self.materialise_wide(element)
        if isinstance(element, Address):
            return self.pointer(element, kind)
        # A byte, which is a kind of str.
        return element

    def materialise_sum(self, element: Sum, kind: str) -> str:
        """Returns the register of a register plus a constant."""
        bits = 64 if kind in ("i64", "ptr", "ptr1") else 32
        cls = "rd" if bits == 64 else "r"
        register = self.compute(f"add.s{bits}", cls, element.base, str(element.offset))
        bounds = self.bounds.get(element.base)
        if bounds is not None:
            self.note_bounds(
                register, (bounds[0] + element.offset, bounds[1] + element.offset), bits
            )
        return register

    def materialise_wide(self, element: WideProduct) -> str:
        """Returns the 64-bit register of an extended register times a constant."""
        bounds = self.bounds_of(element)
        if element.factor == 1:
            # The upper half of a number that is not negative is no register of its own.
            sign = "u" if bounds is not None and bounds[0] >= 0 else "s"
            register = self.compute(f"cvt.{sign}64.{sign}32", "rd", element.register)
        else:
            factor = str(element.factor)
            register = self.compute("mul.wide.s32", "rd", element.register, factor)
        if bounds is not None:
            self.bounds[register] = bounds
        return register

    def register_of(self, element: Element, kind: str) -> str:
        """Returns a register that holds the element: never an immediate."""
        text = self.operand(element, kind)
        if text[0] == "%":
            return text
        cls = REGISTER_CLASS[kind]
        return self.compute(f"mov.{CLASS_TYPE[cls]}", cls, text)

    def base(self, address: Address, kind: str) -> str:
        """Returns a register that holds the base of an address."""
        if address.base[0] == "%":
            return address.base
        bits = BITS[kind]
        return self.at_entry(f"mov.u{bits}", REGISTER_CLASS[kind], address.base)

    def pointer(self, address: Address, kind: str) -> str:
        """Returns a register that holds a whole pointer."""
        base = self.base(address, kind)
        if address.offset == 0:
            return base
        return self.materialise_sum(Sum(base, address.offset), "i64" if BITS[kind] == 64 else "i32")

    def pack(self, low: Element, high: Element, kind: str) -> str:
        """Returns a 32-bit register that holds two 16-bit elements."""
        if isinstance(low, Half) and isinstance(high, Half) and low.packed == high.packed:
            if (low.upper, high.upper) == (0, 1):
                return low.packed
        if isinstance(low, int | float) and isinstance(high, int | float):
            bits = [
                unsigned(value, 16) if isinstance(value, int) else float_bits(value, kind)
                for value in (low, high)
            ]
            return self.compute("mov.b32", "r", f"0x{bits[0] | bits[1] << 16:08X}")
        if kind == "i16":
            lower = self.compute("and.b32", "r", self.operand(low, "i16"), "65535")
            upper = self.compute("shl.b32", "r", self.operand(high, "i16"), "16")
            return self.compute("or.b32", "r", lower, upper)
        sources = (self.operand(low, kind), self.operand(high, kind))
        return self.compute_many(_PACK, ("r",), sources)[0]

    def widened(self, element: Element, kind: str) -> str:
        """Returns an operand of f32 that holds a bf16 element; of other kinds as they are."""
        if kind != "bf16":
            return self.operand(element, kind)
        if isinstance(element, int | float):
            return literal(bits_float(float_bits(element, "bf16"), "bf16"), "f32")
        if isinstance(element, Half):
            if element.upper:
                return self.compute("and.b32", "f", element.packed, "0xFFFF0000")
            return self.compute("shl.b32", "f", element.packed, "16")
        bits = self.compute("cvt.u32.u16", "r", self.operand(element, kind))
        return self.compute("shl.b32", "f", bits, "16")

    def wrapped(self, element: Element, kind: str) -> Element:
        """Returns a register that holds a pointer as an address; other elements as they are."""
        if isinstance(element, str) and kind[:3] == "ptr":
            return Address(element, 0)
        return element

    def note_bounds(self, register: str, bounds: Bounds, bits: int) -> None:
        """Remembers the bounds of an integer register, unless the value may have wrapped."""
        limit = 1 << (bits - 1)
        if -limit <= bounds[0] and bounds[1] < limit:
            self.bounds[register] = bounds

    def bounds_of(self, element: Element) -> Bounds | None:
        """Returns the inclusive bounds of an integer element, or None."""
        # What is neither of these is a tuple, or a byte, which is a kind of str.
        if type(element) is str:
            return self.bounds.get(element)
        if type(element) is int:
            return element, element
        if isinstance(element, str):
            return self.bounds.get(element)
        if isinstance(element, WideProduct):
            low, high = self.bounds.get(element.register, (None, None))
            if low is None or high is None:
                return None
            ends = (low * element.factor, high * element.factor)
            return min(ends), max(ends)
        if isinstance(element, Sum):
            bounds = self.bounds.get(element.base)
            if bounds is not None:
                low, high = bounds[0] + element.offset, bounds[1] + element.offset
                if -(1 << 31) <= low and high < 1 << 31:
                    return low, high
        return None
