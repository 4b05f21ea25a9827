"""Merges loops that stand side by side."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.dependences import Dependences, leaves
from ...dialects.nest.program import Block, Body, Loop, Program
from ...dialects.nest.regions import ranges_inside
from ...dialects.nest.rewriting import substitute_loops
from ...dialects.sym import prove_eq, symbol
from .legality import merged_annotations
from .primitive import Primitive, place_of


@dataclass(frozen=True)
class Merge(Primitive):
    """
    Makes one loop of two or more that stand side by side (horizontal fusion).

        for i in 0..n              for i_j in 0..n
            @A vi = i        -->       @A vi = i_j
        for j in 0..n                  @B vi = i_j
            @B vi = j

    Loops inside them are merged by further steps.

    Legal if

    - `siblings`: the loops follow one another directly in one body, in the order given,
    - `kind`: they are of one kind,
    - `extent`: their extents are equal provably,
    - `annotations`: no two of them carry different values under one key,
    - `dependence`: an element that one loop writes and another touches is touched in the same
      iteration of both.
    """

    name: ClassVar[str] = "merge"

    loops: tuple[str, ...]
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with one loop in place of the loops."""
        if len(self.loops) < 2 or len(set(self.loops)) < len(self.loops):
            raise self.refused(
                "loops", f"expected two different loops or more, got {', '.join(self.loops)}"
            )
        loops = [self.loop_of(program, name) for name in self.loops]
        self._check_siblings(program, loops)
        self._check_alike(program, loops)
        annotations = merged_annotations(self, loops)
        (name,) = self.result_names(program)
        bodies = [substitute_loops(loop.body, {loop.name: symbol(name)}) for loop in loops]
        body = tuple(statement for part in bodies for statement in part)
        merged = replace(loops[0], name=name, body=body, annotations=annotations)
        result = program.replace(loops[0].name, merged)
        for loop in loops[1:]:
            result = result.replace(loop.name)
        self._check_dependences(result, name, bodies)
        return result

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the name of the loop that the step makes."""
        return self.new_names(program, self.names, ("_".join(self.loops),))

    def _check_siblings(self, program: Program, loops: list[Loop]) -> None:
        siblings = _siblings(program, loops[0].name)
        start = next(at for at, part in enumerate(siblings) if part is loops[0])
        behind = siblings[start : start + len(loops)]
        for place, loop in enumerate(loops):
            if place < len(behind) and behind[place] is loop:
                continue
            got = behind[place] if place < len(behind) else None
            text = f"'{got.name}'" if isinstance(got, Loop) else "something else"
            raise self.refused(
                "siblings",
                f"expected '{loop.name}' to follow '{loops[place - 1].name}' directly, got "
                f"{text if got is not None else 'the end of the body'} there",
                place_of(program.places[loop.name]),
                "merge the loops around them first, or move what is between",
            )

    def _check_alike(self, program: Program, loops: list[Loop]) -> None:
        first = loops[0]
        ranges = ranges_inside(program, first.name)
        for loop in loops[1:]:
            place = place_of(program.places[loop.name])
            if loop.kind is not first.kind:
                raise self.refused(
                    "kind", f"expected a {first.kind} loop, got one that is {loop.kind}", place
                )
            if not prove_eq(loop.extent, first.extent, ranges):
                raise self.refused(
                    "extent",
                    f"expected the extent {first.extent} of '{first.name}', got {loop.extent}",
                    place,
                    "partition the longer loop",
                )

    def _check_dependences(self, result: Program, name: str, bodies: list[Body]) -> None:
        part_of = [part for part, body in enumerate(bodies) for _ in leaves(body)]
        for pair in Dependences(result, name).carried_by(name):
            if part_of[pair.first.place] != part_of[pair.second.place]:
                raise self.refused(
                    "dependence",
                    f"expected an element to be touched in the same iteration, but {pair.text}",
                    name,
                    "merge loops whose bodies meet in the same iteration only",
                )


def _siblings(program: Program, name: str) -> Body:
    path = program.places[name]
    if len(path) == 1:
        return program.body
    parent = path[-2]
    body = parent.body
    if any(part is path[-1] for part in body):
        return body
    return parent.init if isinstance(parent, Block) else body
