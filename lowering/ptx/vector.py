"""
Rules for vectors, structs and constants: they rename elements and mostly print nothing.

A position in a vector is a constant, at the latest when the loop around it is unrolled.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import cast

from xdsl.dialects import llvm, vector
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IntegerAttr,
    IntegerType,
)
from xdsl.ir import Attribute, Operation

from ...dialects.diagnostic import DiagnosticError, error_at
from .conversion import bitcast
from .elements import (
    BITS,
    REGISTER_CLASS,
    Byte,
    Element,
    Half,
    element_count,
    element_kind,
    operand_type,
    result_type,
    shape_of,
    unsigned,
    wrap,
)
from .floating import INSTRUCTIONS, flags_of
from .integer import BINARY
from .kernel import KernelPrinter, Rule, Step, kind_of, operand_kind, result_kind


def _constant(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        step.memo = _constant_elements(step.op)
        if len(step.memo) == 1 and type(step.memo[0]) is int:
            p.constants.add(step.outs[0])
    p.values[step.outs[0]] = step.memo


def _constant_elements(op: Operation) -> list[Element]:
    value = op.properties.get("value")
    result = op.results[0]
    kind = kind_of(op, result)
    if isinstance(value, IntegerAttr):
        return [wrap(value.value.data, BITS[kind])]
    if isinstance(value, FloatAttr):
        return [float(value.value.data)]
    if isinstance(value, DenseIntOrFPElementsAttr):
        elements: list[Element] = [
            float(v) if "f" in kind else wrap(int(v), BITS[kind]) for v in value.get_values()
        ]
        count = element_count(result.type)
        return elements * count if len(elements) == 1 else elements
    raise error_at(op, f"expects a number or dense elements, got {value}")


def _zero(p: KernelPrinter, step: Step) -> None:
    """Gives `undef`, `poison` and `zero` zeros."""
    type_ = result_type(step.op)
    members = list(type_.types) if isinstance(type_, llvm.LLVMStructType) else [type_]
    elements: list[Element] = []
    for member in members:
        kind = _member_kind(step.op, member)
        zero: Element = 0.0 if "f" in kind else 0
        if kind[:3] == "ptr":
            zero = p.wrapped(p.register_of(0, "i64" if BITS[kind] == 64 else "i32"), kind)
        elements += [zero] * element_count(member)
    p.values[step.outs[0]] = elements


def _member_kind(op: Operation, type_: Attribute) -> str:
    kind = element_kind(type_)
    if kind is None:
        raise error_at(op, f"has a value of type {type_}, which PTX cannot hold")
    return kind


def _extract_value(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        step.memo = member_range(step.op, operand_type(step.op))
    begin, end = step.memo
    p.values[step.outs[0]] = p.values[step.args[0]][begin:end]


def _insert_value(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        step.memo = member_range(step.op, operand_type(step.op))
    begin, end = step.memo
    whole = list(p.elements(step, 0))
    whole[begin:end] = p.elements(step, 1)
    p.values[step.outs[0]] = whole


def member_range(op: Operation, type_: Attribute) -> tuple[int, int]:
    """Returns which elements of a struct are the member that an op reads or writes."""
    attribute = op.properties["position"]
    position = (
        cast(DenseArrayBase[IntegerType], attribute).get_values()
        if isinstance(attribute, DenseArrayBase)
        else ()
    )
    if len(position) != 1 or not isinstance(type_, llvm.LLVMStructType):
        raise error_at(op, "expects one position in a struct")
    counts = [element_count(member) for member in type_.types]
    begin = sum(counts[: position[0]])
    return begin, begin + counts[position[0]]


def _positions_of(op: vector.ExtractOp | vector.InsertOp) -> tuple[int, ...]:
    attribute = op.properties["static_position"]
    if not isinstance(attribute, DenseArrayBase):
        raise error_at(op, "expects positions")
    return tuple(memoryview(attribute.data.data).cast("q"))


class Position:
    """Where `vector.extract` and `vector.insert` find their part of a vector."""

    def __init__(
        self, op: vector.ExtractOp | vector.InsertOp, whole: Attribute, first: int
    ) -> None:
        shape = shape_of(whole)
        positions = _positions_of(op)
        self.op = op
        self.extents = shape[: len(positions)]
        self.count = prod(shape[len(positions) :])
        self.offset = 0
        # (index of the operand, extent, stride, axis) of positions that are values.
        self.dynamic: list[tuple[int, int, int, int]] = []
        for axis, position in enumerate(positions):
            stride = prod(shape[axis + 1 :])
            if position != DYNAMIC_INDEX:
                self.offset += position * stride
            else:
                operand = first + len(self.dynamic)
                self.dynamic.append((operand, self.extents[axis], stride, axis))

    def begin(self, p: KernelPrinter, step: Step) -> int:
        """Returns the index of the first element of the part."""
        offset, args, values = self.offset, step.args, p.values
        for operand, extent, stride, axis in self.dynamic:
            position = values[args[operand]][0]
            if type(position) is not int or not 0 <= position < extent:
                raise self._refused(position, axis)
            offset += position * stride
        return offset

    def _refused(self, position: Element, axis: int) -> DiagnosticError:
        if not isinstance(position, int):
            return error_at(
                self.op,
                "expects a position that is constant once loops are unrolled,"
                f" got a run-time value on axis {axis}",
            )
        return error_at(
            self.op,
            f"expects a position below {self.extents[axis]} on axis {axis}, got {position}",
        )


def _extract(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        if not isinstance(step.op, vector.ExtractOp):
            raise error_at(step.op, "expects vector.extract")
        step.memo = Position(step.op, operand_type(step.op), 1)
    position: Position = step.memo
    begin = position.begin(p, step) if position.dynamic else position.offset
    p.values[step.outs[0]] = p.values[step.args[0]][begin : begin + position.count]


def _insert(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        if not isinstance(step.op, vector.InsertOp):
            raise error_at(step.op, "expects vector.insert")
        step.memo = Position(step.op, operand_type(step.op, 1), 2)
    position: Position = step.memo
    begin = position.begin(p, step) if position.dynamic else position.offset
    whole = list(p.values[step.args[1]])
    whole[begin : begin + position.count] = p.values[step.args[0]]
    p.values[step.outs[0]] = whole


def _broadcast_order(source: tuple[int, ...], result: tuple[int, ...]) -> list[int]:
    """Returns, for each element of the result, the index of its element of the source."""
    padded = (1,) * (len(result) - len(source)) + source
    strides = [0 if extent == 1 else prod(padded[i + 1 :]) for i, extent in enumerate(padded)]
    return [
        sum(i * stride for i, stride in zip(index, strides))
        for index in product(*(range(extent) for extent in result))
    ]


def _broadcast(p: KernelPrinter, step: Step) -> None:
    """Gives each element of the result its element of the source: mostly there is only one."""
    elements = p.values[step.args[0]]
    if len(elements) > 1:
        _gather(p, step)
        return
    if step.memo is None:
        step.memo = element_count(result_type(step.op))
    p.values[step.outs[0]] = elements * step.memo


def _gather(p: KernelPrinter, step: Step) -> None:
    """Renames the elements of one or two vectors in an order known from the op."""
    if step.memo is None:
        step.memo = _order(step.op)
    pool = p.elements(step, 0)
    if len(step.args) == 2:
        pool = pool + p.elements(step, 1)
    p.values[step.outs[0]] = [pool[index] for index in step.memo]


def _order(op: Operation) -> list[int]:
    source, result = shape_of(operand_type(op)), shape_of(result_type(op))
    if isinstance(op, vector.BroadcastOp):
        return _broadcast_order(source, result)
    if isinstance(op, vector.ShuffleOp):
        inner = prod(source[1:])
        return [m * inner + i for m in op.mask.get_values() for i in range(inner)]
    raise error_at(op, "expects a broadcast or shuffle")


def _bitcast(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        step.memo = (operand_kind(step.op), result_kind(step.op))
    source, to = step.memo
    elements = p.elements(step, 0)
    p.values[step.outs[0]] = regroup(p, step.op, elements, source, to)


def regroup(
    p: KernelPrinter, op: Operation, elements: list[Element], source: str, to: str
) -> list[Element]:
    """Reads the bits of neighbouring elements as elements of another width."""
    widths = (BITS[source], BITS[to])
    if widths[0] == widths[1]:
        return [bitcast(p, source, to, element) for element in elements]
    if widths == (16, 32):
        pairs = zip(elements[::2], elements[1::2])
        return [p.pack(low, high, source) for low, high in pairs]
    if widths == (32, 16):
        return [part for e in elements for part in _halves(p, e, source, to)]
    if widths == (8, 32):
        groups = [elements[i : i + 4] for i in range(0, len(elements), 4)]
        return [_pack_bytes(p, group) for group in groups]
    if widths == (32, 8):
        words = [p.register_of(bitcast(p, source, "i32", e), "i32") for e in elements]
        return [_byte(p, word, index) for word in words for index in range(4)]
    if widths == (64, 32):
        split = "\tmov.b64 {%s, %s}, %s;"
        cls = REGISTER_CLASS[to]
        return [
            part
            for e in elements
            for part in p.compute_many(split, (cls, cls), (p.register_of(e, source),))
        ]
    if widths == (32, 64):
        join = "\tmov.b64 %s, {%s, %s};"
        words = [p.register_of(e, source) for e in elements]
        return [
            p.compute_many(join, (REGISTER_CLASS[to],), pair)[0]
            for pair in zip(words[::2], words[1::2])
        ]
    raise error_at(op, f"from {source} to {to} elements has no PTX instruction")


def _halves(p: KernelPrinter, element: Element, source: str, to: str) -> Sequence[Element]:
    if isinstance(element, int | float):
        bits = unsigned(int(bitcast_constant(p, element, source)), 32)
        return [bitcast(p, "i16", to, wrap(b, 16)) for b in (bits & 0xFFFF, bits >> 16)]
    register = p.register_of(element, source)
    if to != "i16":
        return Half(register, 0), Half(register, 1)
    return register, p.compute("shr.u32", "r", register, "16")


def bitcast_constant(p: KernelPrinter, element: int | float, source: str) -> int:
    """Returns the bits of a 32-bit constant."""
    bits = bitcast(p, source, "i32", element)
    return bits if isinstance(bits, int) else 0


def _byte(p: KernelPrinter, word: str, index: int) -> Element:
    return Byte(p.compute("shr.u32", "r", word, str(8 * index)) if index else word, word, index)


def _pack_bytes(p: KernelPrinter, group: list[Element]) -> Element:
    if all(isinstance(e, int) for e in group):
        bits = sum(unsigned(int(e), 8) << (8 * i) for i, e in enumerate(group) if type(e) is int)
        return wrap(bits, 32)
    # prmt takes bytes 0 and 4, then both halves (PTX ISA, "prmt").
    words = [p.operand(e, "i8") for e in group]
    low = p.compute("prmt.b32", "r", words[0], words[1], "0x0040")
    high = p.compute("prmt.b32", "r", words[2], words[3], "0x0040")
    return p.compute("prmt.b32", "r", low, high, "0x5410")


# vector.reduction kinds: the op that combines two elements, for integers and for floats.
_COMBINE: dict[str, str] = {
    "add": "arith.addi",
    "mul": "arith.muli",
    "minsi": "arith.minsi",
    "minui": "arith.minui",
    "maxsi": "arith.maxsi",
    "maxui": "arith.maxui",
    "and": "arith.andi",
    "or": "arith.ori",
    "xor": "arith.xori",
}
_COMBINE_FLOATS: dict[str, str] = {
    "add": "arith.addf",
    "mul": "arith.mulf",
    "minimumf": "arith.minimumf",
    "maximumf": "arith.maximumf",
    "minnumf": "arith.minnumf",
    "maxnumf": "arith.maxnumf",
}


def _reduction(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, vector.ReductionOp):
        raise error_at(op, "expects vector.reduction")
    kind = kind_of(op, op.vector)
    elements = list(p.elements(step, 0))
    if "f" in kind:
        name, combine = _float_combiner(p, op, kind)
        # Sums keep their order unless the op lets them be regrouped; minima have none.
        in_order = name in ("add", "mul") and "reassoc" not in flags_of(op)
    else:
        function, in_order = BINARY[_COMBINE[op.kind.data.value]], False

        def combine(lhs: Element, rhs: Element) -> Element:
            return function(p, kind, lhs, rhs)

    if op.acc is not None:
        elements.insert(0, p.element(step, 1))
    while len(elements) > 1:
        if in_order:
            elements[:2] = [combine(elements[0], elements[1])]
            continue
        odd = elements[-1:] if len(elements) % 2 else []
        pairs = zip(elements[::2], elements[1::2])
        elements = [combine(lhs, rhs) for lhs, rhs in pairs] + odd
    p.values[step.outs[0]] = elements


def _float_combiner(p: KernelPrinter, op: vector.ReductionOp, kind: str):
    name = op.kind.data.value
    mnemonic = INSTRUCTIONS[_COMBINE_FLOATS[name]](flags_of(op), kind)
    if mnemonic is None:
        raise error_at(op, f"of kind {name} on {kind} has no PTX instruction")

    def combine(lhs: Element, rhs: Element) -> Element:
        return p.compute(mnemonic, REGISTER_CLASS[kind], p.operand(lhs, kind), p.operand(rhs, kind))

    return name, combine


RULES: dict[str, Rule] = {
    "arith.constant": _constant,
    "llvm.mlir.constant": _constant,
    "llvm.mlir.undef": _zero,
    "llvm.mlir.zero": _zero,
    "llvm.extractvalue": _extract_value,
    "llvm.insertvalue": _insert_value,
    "llvm.bitcast": _bitcast,
    "vector.bitcast": _bitcast,
    "vector.extract": _extract,
    "vector.insert": _insert,
    "vector.broadcast": _broadcast,
    "vector.shuffle": _gather,
    "vector.reduction": _reduction,
}
