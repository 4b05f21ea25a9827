"""
Loops of one matrix instruction a step, printed without passing all their steps.

Around each mma.sync and ldmatrix stand a dozen ops that take vectors apart and put one together
again. Which elements they choose is found once, by passing them with names for elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from xdsl.ir import Block

from ...dialects.diagnostic import DiagnosticError
from .elements import Element, Half, element_count
from .kernel import KernelPrinter, Step, operand_kind, result_kind
from .runs import RENAMES
from .warp import MmaForm, form_of, is_ldmatrix, is_mma, matrices_of, sources_of


def _renames(step: Step) -> bool:
    """Whether a step gives elements another name, or reads a word as a pair of f16."""
    if step.op.name in RENAMES:
        return True
    is_cast = step.op.name == "llvm.bitcast"
    return is_cast and (operand_kind(step.op), result_kind(step.op)) == ("i32", "f16")


class Products(NamedTuple):
    """
    The products of a loop that carries one accumulator, step by step.

    Operand A is the same in all steps. Step `t` takes B from the elements of a value, from
    `b_begin + t * b_stride` on, and C from those that it carries, from `c_begin + t * c_stride` on.
    """

    product: Step
    form: MmaForm
    b: int
    b_begin: int
    b_stride: int
    c_begin: int
    c_stride: int

    def fit(self, p: KernelPrinter, trips: range, accumulator: Sequence[Element]) -> bool:
        """Whether the elements that all steps take are there."""
        form, first, last = self.form, trips[0], trips[-1]
        begins = self.b_begin + first * self.b_stride, self.c_begin + first * self.c_stride
        b_end = self.b_begin + last * self.b_stride + form.b
        c_end = self.c_begin + last * self.c_stride + form.c
        is_inside = b_end <= len(p.values[self.b]) and c_end <= len(accumulator)
        return is_inside and min(begins) >= 0 and self.c_stride >= form.c

    def print(self, p: KernelPrinter, trips: range, accumulator: list[Element]) -> list[Element]:
        """Prints the products and returns the accumulator behind them."""
        p.move_to(self.product.place)
        form, whole, words = self.form, list(accumulator), p.values[self.b]
        operands = [p.values[arg] for arg in self.product.args[: form.a]]
        a = sources_of(p, operands, form.kinds[: form.a])
        rows: list[tuple[list[str], list[str]]] = []
        for t in trips:
            begin, c = self.b_begin + t * self.b_stride, self.c_begin + t * self.c_stride
            b = _registers(p, words[begin : begin + form.b], "i32")
            rows.append((b, _registers(p, whole[c : c + form.c], "f32")))
        for t, sums in zip(trips, p.emit_over(form.text, form.cls, tuple(a), rows)):
            c = self.c_begin + t * self.c_stride
            whole[c : c + form.c] = sums
        return whole


class Loads(NamedTuple):
    """
    The ldmatrix of a loop that carries one operand, with the steps in front of it.

    `places` tells where the elements of a step's load begin in the operand, once it is known.
    """

    block: Block
    address: Sequence[Step]
    load: Step
    renames: Sequence[Step]
    end: Step
    places: dict[int, int | None]

    def fit(self, p: KernelPrinter, trips: range, begin: Callable[[int], None]) -> bool:
        """Whether the places of all steps are found; `begin` computes the numbers of a step."""
        for trip in trips:
            if trip not in self.places:
                begin(trip)
                self.places[trip] = self._place(p)
        return all(self.places[trip] is not None for trip in trips)

    def print(
        self,
        p: KernelPrinter,
        trips: range,
        operand: list[Element],
        begin: Callable[[int], None],
    ) -> list[Element]:
        """Prints the loads and returns the operand behind them."""
        p.move_to(self.load.place)
        whole, (out,) = list(operand), self.load.outs
        for trip in trips:
            begin(trip)
            for step in self.address:
                step.rule(p, step)
            self.load.rule(p, self.load)
            loaded, place = p.values[out], self.places[trip] or 0
            whole[place : place + len(loaded)] = loaded
        return whole

    def _place(self, p: KernelPrinter) -> int | None:
        count, operand = matrices_of(self.load), self.block.args[1]
        whole, loaded = _names("c", element_count(operand.type)), _names("d", count)
        values = p.values
        values.update({id(operand): [*whole], self.load.outs[0]: [*loaded]})
        try:
            for step in self.renames:
                step.rule(p, step)
        except DiagnosticError:
            # A position that is out of range is refused where the loop is printed.
            return None
        given = values[self.end.args[0]]
        if loaded[0] not in given:
            return None
        place = given.index(loaded[0])
        whole[place : place + count] = loaded
        return place if given == whole else None


def loads_of(p: KernelPrinter, block: Block) -> Loads | None:
    """Returns the loads of an unrolled loop's body, None where it does anything else."""
    *body, end = p.steps(block)
    loads = [step for step in body if is_ldmatrix(step)]
    if len(loads) != 1 or len(block.args) != 2 or len(end.args) != 1:
        return None
    (load,) = loads
    at = body.index(load)
    address, renames = body[:at], body[at + 1 :]
    if any(step.op.name not in RENAMES for step in renames):
        return None
    carried = id(block.args[1])
    if any(step.op.regions or carried in step.args for step in address):
        return None
    if any(step.place is not load.place for step in body):
        return None
    return Loads(block, address, load, renames, end, {})


def products_of(p: KernelPrinter, block: Block) -> Products | None:
    """Returns the products of an unrolled loop's body, None where it does anything else."""
    *body, end = p.steps(block)
    products = [step for step in body if is_mma(step)]
    if len(products) != 1 or len(block.args) != 2 or len(end.args) != 1:
        return None
    (product,) = products
    form, others = form_of(p, product), [step for step in body if step is not product]
    if form.packs_result or form.cls != "f" or not all(map(_renames, others)):
        return None
    made = {out for step in body for out in step.outs} | {id(argument) for argument in block.args}
    read = {arg for step in others for arg in step.args} - made
    if len(read) != 1 or not made.isdisjoint(product.args[: form.a]):
        return None
    if any(step.place is not product.place for step in body):
        return None
    (b,) = read
    places = [_places(p, block, (*body, end), form, b, trip) for trip in (0, 1)]
    if places[0] is None or places[1] is None:
        return None
    (b0, c0), (b1, c1) = places[0], places[1]
    return Products(product, form, b, b0, b1 - b0, c0, c1 - c0)


def _places(
    p: KernelPrinter,
    block: Block,
    steps: Sequence[Step],
    form: MmaForm,
    b: int,
    trip: int,
) -> tuple[int, int] | None:
    """
    Returns where a step's operands begin in B and in the accumulator.

    The step is passed with names for elements. None where they do not lie side by side, or where
    the result is not the accumulator with the product's elements in the place of C's.
    """
    *body, end = steps
    values, (induction, carried) = p.values, map(id, block.args)
    words, whole = _names("b", len(values[b])), _names("c", element_count(block.args[1].type))
    results = _names("d", form.c)
    kept, taken = values[b], list[str]()
    values.update({induction: [trip], carried: [*whole], b: [*words]})
    try:
        # A position that is out of range is refused where the loop is printed.
        for step in body:
            if is_mma(step):
                taken = [_name(values[arg]) for arg in step.args[form.a :]]
                values[step.outs[0]] = [*results]
            else:
                step.rule(p, step)
        given = values[end.args[0]]
    except DiagnosticError:
        return None
    finally:
        values[b] = kept
    if taken[0] not in words or taken[form.b] not in whole:
        return None
    at, place = words.index(taken[0]), whole.index(taken[form.b])
    if taken != [*words[at : at + form.b], *whole[place : place + form.c]]:
        return None
    whole[place : place + form.c] = results
    return (at, place) if given == whole else None


def _names(letter: str, count: int) -> list[str]:
    return [f"%{letter}{index}" for index in range(count)]


def _name(elements: Sequence[Element]) -> str:
    """Returns the name of one element, or of a word that is read as a pair; else no name."""
    first = elements[0]
    if len(elements) == 2 and isinstance(first, Half) and first.upper == 0:
        return first.packed if elements[1] == Half(first.packed, 1) else ""
    return first if len(elements) == 1 and type(first) is str else ""


def _registers(p: KernelPrinter, elements: Sequence[Element], kind: str) -> list[str]:
    return [e if type(e) is str else p.register_of(e, kind) for e in elements]
