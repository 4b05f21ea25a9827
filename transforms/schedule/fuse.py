"""Makes one loop of a nest of loops."""

from dataclasses import dataclass
from typing import ClassVar

from ...dialects.nest.program import Loop, LoopKind, Program
from ...dialects.nest.regions import ranges_inside
from ...dialects.nest.rewriting import Substitution, substitute_loops
from ...dialects.sym import Expression, constant, prove_lt, symbol
from .legality import merged_annotations
from .primitive import Primitive, place_of


@dataclass(frozen=True)
class Fuse(Primitive):
    """
    Makes one loop of two or more that are nested directly, given outermost first.

        for i in 0..n              for i_j in 0..16*n
            for j in 0..16   -->       @B vi = i_j floordiv 16, vj = i_j mod 16
                @B vi = i, vj = j

    Legal if

    - `adjacent`: each loop is all that the body of the one before it holds,
    - `serial`: all of them are serial,
    - `rectangular`: no extent names another of the loops,
    - `positive`: the extents of all but the first are positive provably,
    - `annotations`: no two of them carry different values under one key.
    """

    name: ClassVar[str] = "fuse"

    loops: tuple[str, ...]
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with one loop in place of the nest."""
        if len(self.loops) < 2 or len(set(self.loops)) < len(self.loops):
            raise self.refused(
                "loops", f"expected two different loops or more, got {', '.join(self.loops)}"
            )
        loops = [self.loop_of(program, name) for name in self.loops]
        for outer, inner in zip(loops, loops[1:], strict=False):
            self._check_adjacent(program, outer, inner)
        for loop in loops:
            self._check(program, loop)
        (name,) = self.result_names(program)
        images = _indices(loops, symbol(name))
        extent = constant(1)
        for loop in loops:
            extent = extent * loop.extent
        body = substitute_loops(loops[-1].body, images)
        fused = Loop(name, extent, body, annotations=merged_annotations(self, loops))
        return program.replace(self.loops[0], fused)

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the name of the loop that the step makes."""
        return self.new_names(program, self.names, ("_".join(self.loops),))

    def _check_adjacent(self, program: Program, outer: Loop, inner: Loop) -> None:
        if len(outer.body) == 1 and outer.body[0] is inner:
            return
        place = place_of(program.places[inner.name])
        if any(part is inner for part in outer.body):
            got, cure = f"{len(outer.body)} statements there", "move the others out first"
        elif any(part is outer for part in inner.body):
            got, cure = f"'{outer.name}' inside it", "name the loops outermost first"
        else:
            got, cure = "another place", "reorder the loops first"
        raise self.refused(
            "adjacent",
            f"expected '{inner.name}' to be all that is in the body of '{outer.name}', got {got}",
            place,
            cure,
        )

    def _check(self, program: Program, loop: Loop) -> None:
        place = place_of(program.places[loop.name])
        if loop.kind is not LoopKind.SERIAL:
            raise self.refused(
                "serial",
                f"expected serial loops, got '{loop.name}', which is {loop.kind}",
                place,
                "fuse loops before they are given a kind",
            )
        if others := loop.extent.symbols() & set(self.loops):
            raise self.refused(
                "rectangular",
                f"expected an extent that depends on none of the loops, got {loop.extent} "
                f"over '{min(others)}'",
                place,
                "fuse only the loops inside it",
            )
        if loop.name != self.loops[0]:
            if not prove_lt(0, loop.extent, ranges_inside(program, loop.name)):
                raise self.refused(
                    "positive",
                    f"expected a positive extent, got {loop.extent}",
                    place,
                    "give its symbols a range that begins at 1",
                )


def _indices(loops: list[Loop], fused: Expression) -> Substitution:
    """Returns each loop's index from that of the fused loop."""
    images: dict[str, Expression] = {}
    inside = constant(1)
    # Loops of one iteration stay at 0: in front, no quotient and no remainder stands for them.
    leading = next((loop for loop in loops if loop.extent != 1), loops[0])
    for loop in reversed(loops):
        if loop is leading:
            images[loop.name] = fused // inside
        elif loop.extent == 1:
            images[loop.name] = constant(0)
        else:
            images[loop.name] = (fused // inside) % loop.extent
        inside = inside * loop.extent
    return images
