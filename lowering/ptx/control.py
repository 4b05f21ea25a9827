"""
Rules for loops and branches.

Loops marked `tilewright.unroll` have constant bounds and are unrolled while they are printed.
Other loops keep their carried values in registers that each iteration writes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from xdsl.dialects import scf
from xdsl.dialects.llvm import LLVMStructType
from xdsl.ir import Attribute, Block, Operation, SSAValue

from ...dialects.diagnostic import error_at
from .comparison import compare, select
from .elements import REGISTER_CLASS, Element, element_count, element_kind, new_half
from .kernel import KernelPrinter, Rule, Step, is_pure, kind_of
from .matrix_loops import Loads, Products, loads_of, products_of

UNROLL = "tilewright.unroll"
# The largest `if` that is printed without a branch: in ops, and in elements of one op.
_SMALL_OPS = 8
_SMALL_ELEMENTS = 8
# Beside so many registers that a loop carries, others that are kept for what follows are spilled.
_MANY_CARRIED = 96
# A loop that carries more leaves no register for a condition.
_CROWDED = 136
_GUARDED = frozenset({"llvm.store", "nvvm.cp.async.shared.global", "nvvm.prefetch"})


class Slot(NamedTuple):
    """How one SSA value is held in registers: its elements, two to a register if packed."""

    kind: str
    elements: int
    packed: bool

    @property
    def cls(self) -> str:
        """The register class of the slot."""
        return "r" if self.packed else REGISTER_CLASS[self.kind]

    @property
    def registers(self) -> int:
        """The number of registers of the slot."""
        return self.elements // 2 if self.packed else self.elements


def slots_of(op: Operation, types: Sequence[Attribute]) -> list[Slot]:
    """Returns the slots of values of these types."""
    slots: list[Slot] = []
    for type_ in types:
        for member in type_.types if isinstance(type_, LLVMStructType) else (type_,):
            kind = element_kind(member)
            if kind is None:
                raise error_at(op, f"carries a value of type {member}, which PTX cannot hold")
            count = element_count(member)
            slots.append(Slot(kind, count, kind in ("f16", "bf16") and count % 2 == 0))
    return slots


def lower(p: KernelPrinter, slots: Sequence[Slot], values: list[Element]) -> list[str]:
    """Returns the registers and immediates of flattened elements, slot by slot."""
    texts: list[str] = []
    begin = 0
    for slot in slots:
        part = values[begin : begin + slot.elements]
        begin += slot.elements
        if slot.packed:
            texts += [p.pack(a, b, slot.kind) for a, b in zip(part[::2], part[1::2])]
        else:
            texts += [p.operand(element, slot.kind) for element in part]
    return texts


def lift(p: KernelPrinter, slots: Sequence[Slot], registers: Sequence[str]) -> list[Element]:
    """Returns the flattened elements that registers hold."""
    elements: list[Element] = []
    rest = iter(registers)
    for slot in slots:
        own = islice(rest, slot.registers)
        if slot.packed:
            elements += [new_half((register, upper)) for register in own for upper in (0, 1)]
        elif slot.kind[:3] == "ptr":
            elements += [p.wrapped(register, slot.kind) for register in own]
        else:
            elements += own
    return elements


def new_registers(p: KernelPrinter, slots: Sequence[Slot]) -> list[str]:
    """Returns fresh registers for the slots."""
    return [register for slot in slots for register in p.registers(slot.cls, slot.registers)]


def _flat(p: KernelPrinter, keys: Sequence[int]) -> list[Element]:
    return [element for key in keys for element in p.values[key]]


def _bind_all(p: KernelPrinter, values: Sequence[SSAValue], elements: list[Element]) -> None:
    begin = 0
    for value in values:
        end = begin + element_count(value.type)
        p.bind(value, elements[begin:end])
        begin = end


class _Body(NamedTuple):
    """What is known of a loop however often it is printed."""

    op: scf.ForOp
    block: Block
    unrolls: bool
    induction: int
    carried: tuple[int, ...]
    # The steps that compute numbers from the index of an unrolled loop, what they give, and the
    # elements of that by the index: a loop is often printed many times.
    numbers: Sequence[Step]
    outs: tuple[int, ...]
    table: dict[int, list[list[Element]]]
    matrices: Products | Loads | None


def _body_of(p: KernelPrinter, op: Operation) -> _Body:
    if not isinstance(op, scf.ForOp):
        raise error_at(op, "expects scf.for")
    block = op.body.block
    induction, *carried = map(id, block.args)
    unrolls = UNROLL in op.attributes
    numbers = p.number_steps(block) if unrolls else []
    outs = tuple([out for step in numbers for out in step.outs])
    matrices = None
    if unrolls:
        matrices = loads_of(p, block) or (None if numbers else products_of(p, block))
    return _Body(op, block, unrolls, induction, tuple(carried), numbers, outs, {}, matrices)


def _for(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        step.memo = _body_of(p, step.op)
    body: _Body = step.memo
    values, op = p.values, body.op
    low, high, stride = bounds = tuple([values[arg][0] for arg in step.args[:3]])
    if type(stride) is int and stride <= 0:
        raise error_at(op, f"expects a positive step, got {stride}")
    if type(low) is int and type(high) is int and type(stride) is int:
        trips = range(low, high, stride)
        if body.unrolls or len(trips) <= 1:
            _unroll(p, step, body, trips)
            return
    if body.unrolls:
        names = ("lower bound", "upper bound", "step")
        which = ", ".join(n for n, value in zip(names, bounds) if not isinstance(value, int))
        raise error_at(op, f"expects constant bounds to unroll, got a run-time {which}")
    _loop(p, step, op, bounds)


def _unroll(p: KernelPrinter, step: Step, body: _Body, trips: range) -> None:
    values, block, carried = p.values, body.block, body.carried
    again, get = False, values.__getitem__
    current = list(map(get, step.args[3:]))
    if body.matrices is not None and trips:
        if (result := _print_matrices(p, body, trips, current[0])) is not None:
            values[step.outs[0]] = result
            return
    for trip in trips:
        _begin_trip(p, body, trip)
        if current:
            values.update(zip(carried, current))
        end = p.run(block, again)
        current = list(map(get, end.args))
        again = True
    values.update(zip(step.outs, current))


def _print_matrices(
    p: KernelPrinter, body: _Body, trips: range, carried: list[Element]
) -> list[Element] | None:
    """Prints a loop of matrix instructions and returns what it carries, None if it is none."""
    match body.matrices:
        case Products() as products if products.fit(p, trips, carried):
            return products.print(p, trips, carried)
        case Loads() as loads:
            begin = partial(_begin_trip, p, body)
            if loads.fit(p, trips, begin):
                return loads.print(p, trips, carried, begin)
        case _:
            pass
    return None


def _begin_trip(p: KernelPrinter, body: _Body, trip: int) -> None:
    """Gives the index of an unrolled loop its number, and computes what depends on it alone."""
    values = p.values
    values[body.induction] = [trip]
    if not body.outs:
        return
    if (known := body.table.get(trip)) is not None:
        values.update(zip(body.outs, known))
        return
    for step in body.numbers:
        step.rule(p, step)
    elements = list(map(values.__getitem__, body.outs))
    if all(type(element) is int for (element,) in elements):
        body.table[trip] = elements


def _start_carried(p: KernelPrinter, carried: list[str], initial: list[str]) -> None:
    for register, text in zip(carried, initial):
        if text[0] == "%":
            p.wish((register,), (text,))
        p.move(register, text)


def _loop(p: KernelPrinter, step: Step, op: scf.ForOp, bounds: tuple[Element, ...]) -> None:
    block = op.body.block
    kind = kind_of(op, op.lb)
    cls, word = REGISTER_CLASS[kind], 64 if kind == "i64" else 32
    low, high, stride = (p.operand(element, kind) for element in bounds)
    slots = slots_of(op, [value.type for value in op.iter_args])
    carried = new_registers(p, slots)
    _start_carried(p, carried, lower(p, slots, _flat(p, step.args[3:])))
    induction = p.register(cls)
    p.emit(f"\tmov.b{word} %s, %s;", (induction,), (low,))
    _note_induction(p, induction, word, bounds)
    begin, end = p.label(), p.label()
    enters = compare(p, "lt", True, kind, bounds[0], bounds[1])
    if not isinstance(enters, int):
        p.emit(f"\t@!%s bra {end};", (), (p.operand(enters, "i1"),))
    elif not enters:
        p.emit(f"\tbra {end};", (), ())
    p.place(begin)
    loop = p.start_of_loop()
    p.lost_place()
    _bind_all(p, block.args[1:], lift(p, slots, carried))
    p.bind(block.args[0], [induction])
    with p.scope():
        terminator = p.run(block)
        yielded = lower(p, slots, _flat(p, terminator.args))
    again = p.register("p")
    p.emit(f"\tadd.s{word} %s, %s, %s;", (induction,), (induction, stride))
    if len(carried) > _CROWDED:
        # Not as the body may ask whether there is a next step: ptxas keeps the answer until here.
        p.emit(f"\tsetp.gt.s{word} %s, %s, %s;", (again,), (high, induction))
    else:
        p.emit(f"\tsetp.lt.s{word} %s, %s, %s;", (again,), (induction, high))
    p.end_of_loop(loop, carried, yielded)
    p.emit(f"\t@%s bra {begin};", (), (again,))
    p.place(end)
    p.lost_place()
    if len(carried) >= _MANY_CARRIED:
        p.forget()
    _bind_all(p, op.results, lift(p, slots, carried))


def _note_induction(
    p: KernelPrinter, register: str, bits: int, bounds: tuple[Element, ...]
) -> None:
    low, high, _ = (p.bounds_of(element) for element in bounds)
    if low is not None:
        top = high[1] - 1 if high is not None else (1 << (bits - 1)) - 2
        p.bounds[register] = (low[0], max(low[0], top))


def _while(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, scf.WhileOp):
        raise error_at(op, "expects scf.while")
    before, after = op.before_region.block, op.after_region.block
    slots = slots_of(op, [value.type for value in op.arguments])
    carried = new_registers(p, slots)
    _start_carried(p, carried, lower(p, slots, _flat(p, step.args)))
    begin, end = p.label(), p.label()
    p.place(begin)
    loop = p.start_of_loop()
    p.lost_place()
    _bind_all(p, before.args, lift(p, slots, carried))
    with p.scope():
        condition = p.run(before)
        forwarded = slots_of(op, [value.type for value in op.results])
        # The results stand in registers of their own: `carried` changes in the body.
        passed = new_registers(p, forwarded)
        for register, text in zip(passed, lower(p, forwarded, _flat(p, condition.args[1:]))):
            p.move(register, text)
        p.emit(f"\t@!%s bra {end};", (), (p.register_of(p.element(condition, 0), "i1"),))
        _bind_all(p, after.args, lift(p, forwarded, passed))
        terminator = p.run(after)
        yielded = lower(p, slots, _flat(p, terminator.args))
    for register in passed:
        p.last[register] = len(p.names)
    p.end_of_loop(loop, carried, yielded)
    p.emit(f"\tbra {begin};", (), ())
    p.place(end)
    p.lost_place()
    _bind_all(p, op.results, lift(p, forwarded, passed))


def _if(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, scf.IfOp):
        raise error_at(op, "expects scf.if")
    if step.memo is None:
        step.memo = _arms_of(op)
    yes, no, form = step.memo
    condition = p.values[step.args[0]][0]
    if isinstance(condition, int):
        taken = yes if condition else no
        results: tuple[int, ...] = p.run(taken).args if taken is not None else ()
        for key, result in zip(step.outs, results):
            p.values[key] = p.values[result]
        return
    predicate = p.operand(condition, "i1")
    if form == "select" and no is not None:
        _select(p, step, op, (yes, no), predicate)
    elif form == "guard" and p.guard is None:
        p.guard = predicate
        p.run(yes)
        p.guard = None
    else:
        _branch(p, step, op, (yes, no), predicate)


def _arms_of(op: scf.IfOp) -> tuple[Block, Block | None, str]:
    """Returns the blocks of an if, and how it is printed: `select`, `guard` or `branch`."""
    yes = op.true_region.block
    no = op.false_region.block if op.false_region.blocks else None
    return yes, no, _shape_of_if(op, yes, no)


def _shape_of_if(op: scf.IfOp, yes: Block, no: Block | None) -> str:
    if op.results:
        pure = no is not None and _is_small(yes, frozenset()) and _is_small(no, frozenset())
        return "select" if pure else "branch"
    return "guard" if no is None and _is_small(yes, _GUARDED) else "branch"


def _is_small(block: Block, allowed: frozenset[str]) -> bool:
    count = 0
    for op in block.ops:
        if isinstance(op, scf.YieldOp):
            continue
        count += 1
        if count > _SMALL_OPS or not (is_pure(op) or op.name in allowed):
            return False
        if any(element_count(result.type) > _SMALL_ELEMENTS for result in op.results):
            return False
    return True


def _select(
    p: KernelPrinter, step: Step, op: scf.IfOp, blocks: tuple[Block, Block], predicate: str
) -> None:
    yes = _flat(p, p.run(blocks[0]).args)
    no = _flat(p, p.run(blocks[1]).args)
    slots = slots_of(op, [result.type for result in op.results])
    kinds = [slot.kind for slot in slots for _ in range(slot.elements)]
    chosen = [
        p.wrapped(select(p, kind, predicate, a, b), kind) for kind, a, b in zip(kinds, yes, no)
    ]
    _bind_all(p, op.results, chosen)


def _branch(
    p: KernelPrinter, step: Step, op: scf.IfOp, blocks: tuple[Block, Block | None], predicate: str
) -> None:
    yes, no = blocks
    slots = slots_of(op, [result.type for result in op.results])
    results = new_registers(p, slots)
    otherwise, end = p.label(), p.label()
    p.emit(f"\t@!%s bra {otherwise if no else end};", (), (predicate,))
    guard, p.guard = p.guard, None
    _arm(p, yes, slots, results)
    if no is not None:
        p.emit(f"\tbra {end};", (), ())
        p.place(otherwise)
        _arm(p, no, slots, results)
    p.place(end)
    p.lost_place()
    p.guard = guard
    _bind_all(p, op.results, lift(p, slots, results))


def _arm(p: KernelPrinter, block: Block, slots: Sequence[Slot], results: Sequence[str]) -> None:
    start = len(p.names)
    p.lost_place()
    with p.scope():
        terminator = p.run(block)
        texts = lower(p, slots, _flat(p, terminator.args))
    p.end_of_branch(start, results, texts)


RULES: dict[str, Rule] = {
    "scf.for": _for,
    "scf.while": _while,
    "scf.if": _if,
    # Terminators are read by the op that they end.
    **{name: lambda p, step: None for name in ("scf.yield", "scf.condition", "gpu.return")},
}
