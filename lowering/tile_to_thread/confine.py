"""
NaN and infinities of a B operand, kept to the rows that see them: `tile.confine` for one thread.

Registers hold two elements of 16 bits. Numbers are told apart from others by additions that carry
into the sign of each half: an exponent of ones plus the distance to 0x8000, and nothing less, sets
it. A warp whose operand has numbers alone, as all have but for bad input, goes on after that test.
Otherwise products of ones count how often each element of the result meets a plus or a minus
infinity that is seen; NaN is both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

from xdsl.dialects.builtin import BFloat16Type, f32
from xdsl.ir import Attribute, Operation, SSAValue

from ...dialects import nvvm, tile
from ..emitter import Emitter, vector_type
from .compute import FULL_WARP, a_operands, element_of_fragment, mma_of_8_columns
from .fragments import broadcast, extract, insert, shape_of, zeros
from .rules import Rule
from .thread import Thread

SIGN = 0x8000
MAGNITUDE = 0x7FFF
# A count times this squared is 0 or infinity.
LARGE = 2.0**127


def lower_confine(thread: Thread, op: tile.ConfineOp) -> None:
    """A test of B that the warp shares; behind it, for each 8 columns, what reaches the rows."""
    emit, b, c = thread.emit, thread[op.b], thread[op.c]
    halves = _Halves(emit, element_of_fragment(op.a))

    def confined() -> Sequence[SSAValue]:
        return _confined(halves, op.signed is not None, thread[op.a], b, c)

    def unchanged() -> Sequence[SSAValue]:
        return b, c

    found = _in_any_lane(halves, _not_finite(halves, b))
    finite, reached = emit.choose(found, (b.type, c.type), confined, unchanged)
    thread.set(op.finite, finite)
    thread.set(op.reached, reached)


@dataclass(frozen=True)
class _Halves:
    """Arithmetic on two elements of 16 bits in a register, whose results are signs of halves."""

    emit: Emitter
    element: Attribute

    @property
    def exponent(self) -> int:
        """The exponent of NaN and infinities."""
        return 0x7F80 if isinstance(self.element, BFloat16Type) else 0x7C00

    @property
    def one(self) -> int:
        """The number 1."""
        return 0x3F80 if isinstance(self.element, BFloat16Type) else 0x3C00

    def both(self, half: int) -> SSAValue:
        """Appends a constant for both halves."""
        bits = half << 16 | half
        return self.emit.integer(bits - (bits >> 31 << 32))

    def masked(self, register: SSAValue, half: int) -> SSAValue:
        """Appends some bits of both halves."""
        return self.emit.binary("and", register, self.both(half))

    def inverted(self, register: SSAValue) -> SSAValue:
        """Appends all bits inverted."""
        return self.emit.binary("xor", register, self.emit.integer(-1))

    def at_least(self, register: SSAValue, mask: int, least: int) -> SSAValue:
        """Appends signs where the masked half is at least so much; other bits are left over."""
        return self.emit.add(self.masked(register, mask), self.both(SIGN - least))

    def spread(self, signs: SSAValue, half: int) -> SSAValue:
        """Appends a constant in the halves whose sign is set, 0 in the others."""
        bits = self.emit.binary("shru", self.masked(signs, SIGN), self.emit.integer(15))
        return self.emit.mul(bits, half)

    def not_finite(self, register: SSAValue) -> SSAValue:
        """Appends signs where a half is NaN or an infinity."""
        return self.at_least(register, self.exponent, self.exponent)

    def infinite(self, register: SSAValue, below: bool) -> SSAValue:
        """Appends ones where a half is a plus infinity, or one below 0; NaN is both."""
        emit = self.emit
        nan = self.at_least(register, MAGNITUDE, self.exponent + 1)
        sign = register if below else self.inverted(register)
        signed = emit.binary("and", self.not_finite(register), emit.binary("or", nan, sign))
        return self.spread(signed, self.one)

    def finite(self, register: SSAValue) -> SSAValue:
        """Appends a register with 0 in the place of NaN and infinities."""
        others = self.spread(self.not_finite(register), 0xFFFF)
        return self.emit.binary("and", register, self.inverted(others))

    def positive(self, register: SSAValue) -> SSAValue:
        """Appends ones where a half has no sign."""
        return self.spread(self.inverted(register), self.one)

    def negative(self, register: SSAValue) -> SSAValue:
        """Appends ones where a half is below 0, which -0.0 is not."""
        nonzero = self.at_least(register, MAGNITUDE, 1)
        return self.spread(self.emit.binary("and", register, nonzero), self.one)


def _not_finite(halves: _Halves, b: SSAValue) -> SSAValue:
    """Appends signs where a lane has elements of B that are no finite numbers."""
    emit = halves.emit

    def step(n: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        (found,) = carried
        for k in range(2):
            found = emit.binary("or", found, halves.not_finite(extract(emit, b, n, k)))
        return (found,)

    return emit.unrolled(shape_of(b)[0], (emit.integer(0),), step)[0]


def _in_any_lane(halves: _Halves, signs: SSAValue) -> SSAValue:
    """Appends whether a lane of the warp has signs of halves that are set."""
    emit = halves.emit
    found = emit.compare("ne", halves.masked(signs, SIGN), 0)
    return emit.result(nvvm.VoteSyncOp, nvvm.VoteSyncKind.ANY, emit.integer(FULL_WARP), found)


def _on_registers(
    emit: Emitter, rule: Callable[[SSAValue], SSAValue], registers: SSAValue
) -> SSAValue:
    """Appends what a rule makes of each register of a vector."""
    after = registers
    for place in product(*map(range, shape_of(registers))):
        after = insert(emit, rule(extract(emit, registers, *place)), after, *place)
    return after


def _as_infinities(emit: Emitter, plus: SSAValue, minus: SSAValue) -> SSAValue:
    """Appends 0 where both counts are, an infinity where one is not, NaN where neither is."""
    large = broadcast(emit, emit.float32(LARGE), shape_of(plus))
    for _ in range(2):
        plus, minus = emit.binary("mulf", plus, large), emit.binary("mulf", minus, large)
    return emit.binary("subf", plus, minus)


def _confined(
    halves: _Halves, signed: bool, a: SSAValue, b: SSAValue, c: SSAValue
) -> Sequence[SSAValue]:
    emit, element = halves.emit, halves.element
    # Weights, and whether they turn infinities around.
    signs = [(halves.positive, False), *([(halves.negative, True)] if signed else [])]

    def reach(pair: SSAValue, sums: SSAValue) -> Sequence[SSAValue]:
        counts = [zeros(emit, vector_type(f32, (4,)))] * 2
        for weight, turned in signs:
            ones = a_operands(emit, _on_registers(emit, weight, a), element)
            for number, below in enumerate((turned, not turned)):
                met = _on_registers(emit, partial(halves.infinite, below=below), pair)
                counts[number] = mma_of_8_columns(emit, ones, met, counts[number], element)
        infinities = _as_infinities(emit, *counts)
        return _on_registers(emit, halves.finite, pair), emit.binary("addf", sums, infinities)

    def step(n: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        finite, reached = carried
        pair, sums = extract(emit, b, n), extract(emit, c, n)
        # A branch for each, so that ptxas does not compute all at once, in too many registers.
        signs = [halves.not_finite(extract(emit, pair, k)) for k in range(2)]
        found = _in_any_lane(halves, emit.binary("or", *signs))
        types = (pair.type, sums.type)
        after = emit.choose(found, types, lambda: reach(pair, sums), lambda: (pair, sums))
        return [insert(emit, new, to, n) for new, to in zip(after, (finite, reached), strict=True)]

    return emit.unrolled(shape_of(b)[0], (b, c), step)


CONFINE_RULES: Mapping[type[Operation], Rule] = {tile.ConfineOp: lower_confine}
