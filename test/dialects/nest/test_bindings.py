"""Bindings are accepted if each point is visited, and the answer says how often."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod

import pytest

from tilewright.dialects.nest.bindings import BindingFailure, BindingMap, map_bindings
from tilewright.dialects.nest.program import Axis, AxisKind, Block, Bound, Loop
from tilewright.dialects.sym import Expression, Ranges, constant, parse_expression, symbol

NO_RANGES = Ranges({})


def _block(bindings: Mapping[str, tuple[str, str]], where: Sequence[tuple[str, str]] = ()) -> Block:
    axes = tuple(
        Axis(name, parse_expression(extent), parse_expression(binding))
        for name, (extent, binding) in bindings.items()
    )
    bounds = tuple(Bound(parse_expression(a), parse_expression(b)) for a, b in where)
    return Block("B", axes, (), (), (), (), bounds)


def _map(
    loops: Mapping[str, str],
    bindings: Mapping[str, tuple[str, str]],
    where: Sequence[tuple[str, str]] = (),
    ranges: str = "",
):
    nest = [Loop(name, parse_expression(extent), ()) for name, extent in loops.items()]
    return map_bindings(_block(bindings, where), nest, Ranges.parse(ranges))


def _accepted(*arguments: object, **named: object) -> BindingMap:
    found = _map(*arguments, **named)  # pyright: ignore[reportArgumentType]
    assert isinstance(found, BindingMap), found
    return found


def _refused(*arguments: object, **named: object) -> BindingFailure:
    found = _map(*arguments, **named)  # pyright: ignore[reportArgumentType]
    assert isinstance(found, BindingFailure), found
    return found


def _places(found: BindingMap, axis: str) -> list[tuple[str, str]]:
    return [(str(p.digit.value), str(p.scale)) for p in found.axis(axis).places]


def test_plain_loop_is_one_digit():
    found = _accepted({"i": "n"}, {"v": ("n", "i")}, ranges="n in [1, ...]")
    assert found.is_exact
    assert _places(found, "v") == [("i", "1")]


def test_guarded_split_is_exact_and_restricts_nothing():
    found = _accepted(
        {"a": "(n + 31) floordiv 32", "b": "32"},
        {"v": ("n", "32*a + b")},
        [("32*a + b", "n")],
        "n in [1, 8192]",
    )
    assert found.is_exact
    assert found.restricting == ()
    assert _places(found, "v") == [("b", "1"), ("a", "32")]


def test_fused_loops_of_symbolic_extent_are_taken_apart():
    found = _accepted(
        {"f": "n*m"},
        {"v": ("n", "f floordiv m"), "w": ("m", "f mod m")},
        ranges="n in [1, ...], m in [1, ...]",
    )
    assert found.is_exact
    assert _places(found, "v") == [("f floordiv m", "1")]


def test_fused_and_split_loops_are_taken_apart_by_their_sum():
    found = _accepted(
        {"f": "15", "g": "128"},
        {"v": ("160", "(128*f + g) floordiv 12"), "w": ("12", "(128*f + g) mod 12")},
    )
    assert found.is_exact


def test_fused_and_split_loops_of_symbolic_extent_are_bounded_by_their_guard():
    found = _accepted(
        {"f": "(n*m + 127) floordiv 128", "g": "128"},
        {"v": ("n", "(128*f + g) floordiv m"), "w": ("m", "(128*f + g) mod m")},
        [("128*f + g", "n*m")],
        "n in [1, ...], m in [1, ...]",
    )
    assert found.is_exact
    assert found.restricting == ()


def test_guards_of_two_splits_restrict_nothing():
    found = _accepted(
        {"a": "(((n + 31) floordiv 32) + 6) floordiv 7", "b": "7", "c": "32"},
        {"v": ("n", "32*(7*a + b) + c")},
        [("32*(7*a + b) + c", "n"), ("7*a + b", "(n + 31) floordiv 32")],
        "n in [1, 8192]",
    )
    assert found.is_exact
    assert found.restricting == ()


def test_triangular_bound_restricts():
    found = _accepted(
        {"i": "n", "j": "n"},
        {"v": ("n", "i"), "w": ("n", "j")},
        [("j", "i")],
        "n in [1, ...]",
    )
    assert [str(bound.left) for bound in found.restricting] == ["j"]


def test_halo_overlaps():
    found = _accepted(
        {"t": "8", "a": "18"},
        {"v": ("128", "16*t + a - 1")},
        [("-1", "16*t + a - 1"), ("16*t + a - 1", "128")],
    )
    assert found.axis("v").overlap == 1
    assert found.recomputing_loops() == {"t"}


def test_loop_that_no_axis_depends_on_repeats():
    found = _accepted({"r": "4", "i": "8"}, {"v": ("8", "i")})
    assert [str(digit.value) for digit in found.repeated] == ["r"]
    assert not found.is_exact


def test_unit_loop_does_not_repeat():
    assert _accepted({"r": "1", "i": "8"}, {"v": ("8", "i + r")}).is_exact


def test_two_axes_of_one_loop_are_refused():
    assert _refused({"i": "8"}, {"v": ("8", "i"), "w": ("8", "i")}).condition == "independent"


def test_gap_is_refused():
    assert _refused({"i": "8", "j": "3"}, {"v": ("32", "4*i + j")}).condition == "covers"


def test_extent_that_is_not_reached_is_refused():
    assert _refused({"i": "7"}, {"v": ("8", "i")}).condition == "covers"


def test_missing_guard_is_refused():
    assert _refused({"i": "4", "j": "3"}, {"v": ("10", "3*i + j")}).condition == "inside"


_TILES = {"a": "3", "b": "4", "c": "2"}


def test_guard_of_whole_tiles_guards_what_is_in_them():
    bindings = {"v": ("22", "8*a + 2*b + c")}
    assert _accepted(_TILES, bindings, [("4*a + b", "11")]).is_exact


def test_guard_of_too_many_tiles_is_refused():
    bindings = {"v": ("22", "8*a + 2*b + c")}
    assert _refused(_TILES, bindings, [("4*a + b", "12")]).condition == "inside"


def test_product_of_loops_is_refused():
    assert _refused({"i": "4", "j": "3"}, {"v": ("7", "i*j")}).condition == "affine"


def test_divisors_that_do_not_divide_one_another_are_refused():
    failure = _refused({"f": "24"}, {"v": ("6", "f floordiv 4"), "w": ("4", "f floordiv 6")})
    assert failure.condition == "affine"


# A nest whose bindings come from random splits and fusions, and then from random mistakes.


class _Nest:
    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.loops: dict[str, int] = {
            f"i{n}": draw.randint(1, 6) for n in range(draw.randint(1, 3))
        }
        self.axes = dict(self.loops)
        self.bindings: dict[str, Expression] = {name: symbol(name) for name in self.loops}
        self.bounds: list[tuple[Expression, Expression]] = []
        self.count = 0

    def step(self) -> None:
        if len(self.loops) > 1 and self.draw.random() < 0.5:
            self.fuse()
        else:
            self.split()
        if self.draw.random() < 0.3:
            names = list(self.loops)
            self.draw.shuffle(names)
            self.loops = {name: self.loops[name] for name in names}

    def fresh(self) -> str:
        self.count += 1
        return f"x{self.count}"

    def split(self) -> None:
        name = self.draw.choice(list(self.loops))
        extent, factor = self.loops[name], self.draw.randint(1, 5)
        outer, inner = self.fresh(), self.fresh()
        index = factor * symbol(outer) + symbol(inner)
        self.replace({name: index})
        if extent % factor:
            self.bounds.append((index, constant(extent)))
        self.put(name, {outer: -(-extent // factor), inner: factor})

    def fuse(self) -> None:
        names = list(self.loops)
        place = self.draw.randrange(len(names) - 1)
        first, second = names[place : place + 2]
        fused, by = self.fresh(), self.loops[second]
        self.replace({first: symbol(fused) // by, second: symbol(fused) % by})
        extent = self.loops[first] * by
        del self.loops[second]
        self.put(first, {fused: extent})

    def put(self, name: str, new: dict[str, int]) -> None:
        loops: dict[str, int] = {}
        for loop, extent in self.loops.items():
            loops |= new if loop == name else {loop: extent}
        self.loops = loops

    def replace(self, names: Mapping[str, Expression]) -> None:
        self.bindings = {axis: b.substitute(names) for axis, b in self.bindings.items()}
        self.bounds = [(a.substitute(names), b.substitute(names)) for a, b in self.bounds]

    def mistake(self) -> None:
        axis = self.draw.choice(list(self.axes))
        loop = self.draw.choice(list(self.loops))
        match self.draw.randrange(6):
            case 0:
                self.bindings[axis] += self.draw.randint(-2, 2)
            case 1:
                self.bindings[axis] += self.draw.randint(-2, 2) * symbol(loop)
            case 2:
                self.loops[loop] = max(1, self.loops[loop] + self.draw.randint(-1, 2))
            case 3:
                self.axes[axis] = max(1, self.axes[axis] + self.draw.randint(-1, 2))
            case 4 if self.bounds:
                self.bounds.pop(self.draw.randrange(len(self.bounds)))
            case _:
                self.bindings[axis] = self.bindings[axis] // self.draw.randint(1, 3)

    def found(self):
        axes = tuple(
            Axis(name, constant(extent), self.bindings[name], AxisKind.SPATIAL)
            for name, extent in self.axes.items()
        )
        block = Block("B", axes, (), (), (), (), tuple(Bound(a, b) for a, b in self.bounds))
        loops = [Loop(name, constant(extent), ()) for name, extent in self.loops.items()]
        return map_bindings(block, loops, NO_RANGES)

    def visits(self) -> Counter[tuple[int, ...]]:
        visits: Counter[tuple[int, ...]] = Counter()
        for point in product(*map(range, self.loops.values())):
            values = dict(zip(self.loops, point, strict=True))
            if all(a.evaluate(values) < b.evaluate(values) for a, b in self.bounds):
                visits[tuple(b.evaluate(values) for b in self.bindings.values())] += 1
        return visits


@pytest.mark.parametrize("seed", range(300))
def test_random_splits_and_fusions_are_exact(seed: int):
    nest = _Nest(random.Random(seed))
    for _ in range(nest.draw.randint(1, 5)):
        nest.step()
    found = nest.found()
    if isinstance(found, BindingFailure):
        # Fusing loops of which one was split with a tail, and splitting again, mixes the divisors.
        assert found.condition == "affine"
        return
    assert found.is_exact
    assert found.restricting == ()
    assert set(nest.visits().values()) == {1}


@pytest.mark.parametrize("seed", range(600))
def test_what_is_accepted_visits_each_point_as_said(seed: int):
    nest = _Nest(random.Random(-seed - 1))
    for _ in range(nest.draw.randint(0, 4)):
        nest.step()
    for _ in range(nest.draw.randint(1, 2)):
        nest.mistake()
    if prod(nest.loops.values()) > 20000 or isinstance(found := nest.found(), BindingFailure):
        return
    visits = nest.visits()
    domain = set(product(*map(range, nest.axes.values())))
    assert set(visits) <= domain
    if not found.restricting:
        assert set(visits) == domain
    if found.is_exact:
        assert set(visits.values()) <= {1}
