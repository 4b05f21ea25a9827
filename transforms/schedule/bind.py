"""Binds a loop to an axis of the grid or of a CTA."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.dependences import Dependences
from ...dialects.nest.program import Loop, LoopKind, Program, Statement, walk
from ...dialects.sym import interval, prove_eq
from .legality import check_independent, check_kernels, check_serial
from .primitive import Primitive, place_of

MAX_THREADS = 1024  # of a CTA; CUDA C++ Programming Guide, "Compute Capabilities"
_GREATEST = {
    LoopKind.BLOCK_X: (1 << 31) - 1,
    LoopKind.BLOCK_Y: 65535,
    LoopKind.BLOCK_Z: 65535,
    LoopKind.THREAD_X: 1024,
    LoopKind.THREAD_Y: 1024,
    LoopKind.THREAD_Z: 64,
}


@dataclass(frozen=True)
class Bind(Primitive):
    """
    Executes the iterations of a loop as the CTAs of a grid, or as the threads of a CTA.

        for i in 0..n          block.x i in 0..n
            for j in 0..64  -->    thread.x j in 0..64

    A statement of the program becomes one kernel, with all loops inside it.

    Legal if

    - `axis`: the kind is one of block.x, .y, .z, thread.x, .y, .z,
    - `serial`: the loop is serial,
    - `invariant`: its extent is over symbols, not over loops,
    - `nested`: no loop around it or inside it is bound to the same axis,
    - `extent`: other loops of the statement that are bound to the axis have the same extent,
    - `limit`: the extent is at most what a GPU has, provably: 2**31 - 1 for block.x, 65535 for
      block.y and .z, 1024 for thread.x and .y, 64 for thread.z,
    - `threads`: the threads of a CTA are at most 1,024 for all values of the symbols,
    - `alone`: a loop bound to an axis of the grid is all that is in the loops around it,
    - `kernel`: in a kernel, which begins at the outermost bound loop, no loop is parallel, and
      loops around one that is bound to the grid are too; no loop around a kernel is parallel or
      vectorised,
    - `ordered`, `reduction`: it feeds no ordered and no reduce axis of a block,
    - `dependence`: no two iterations touch the same element, one of them to write it. For an axis
      of the grid, loops around count as iterations too. Local buffers of a thread, and all but
      global ones of a CTA, are an iteration's own if it writes what it reads.
    """

    name: ClassVar[str] = "bind"

    loop: str
    axis: str

    def apply(self, program: Program) -> Program:
        """Returns the program with the loop bound to the axis."""
        loop = self.loop_of(program, self.loop)
        kind = self._kind()
        check_serial(self, program, loop)
        self._check_extent(program, loop, kind)
        self._check_others(program, loop, kind)
        outermost = self._check_alone(program, loop) if kind.is_block else self.loop
        pairs = Dependences(program, outermost).carried_by(self.loop)
        check_independent(self, program, loop, kind, pairs)
        bound = program.replace(self.loop, replace(loop, kind=kind))
        check_kernels(self, bound, self.loop)
        return bound

    def _kind(self) -> LoopKind:
        for kind in _GREATEST:
            if kind.value == self.axis:
                return kind
        names = ", ".join(kind.value for kind in _GREATEST)
        raise self.refused("axis", f"expected an axis among {names}, got '{self.axis}'", self.loop)

    def _check_extent(self, program: Program, loop: Loop, kind: LoopKind) -> None:
        place = place_of(program.places[loop.name])
        if others := loop.extent.symbols() - set(program.ranges):
            raise self.refused(
                "invariant",
                f"expected an extent over symbols, got {loop.extent} over '{min(others)}'",
                place,
                "bind a loop outside of it",
            )
        greatest = interval(loop.extent, program.ranges).upper
        if greatest is None or greatest > _GREATEST[kind]:
            got = "no bound" if greatest is None else str(greatest)
            raise self.refused(
                "limit",
                f"expected at most {_GREATEST[kind]} iterations on {kind}, got {got}",
                place,
                "split the loop, or bind it to another axis",
            )

    def _check_others(self, program: Program, loop: Loop, kind: LoopKind) -> None:
        path = program.places[loop.name]
        place = place_of(path)
        inside = [part for part in walk(loop.body) if isinstance(part, Loop)]
        for other in (*inside, *(part for part in path[:-1] if isinstance(part, Loop))):
            if other.kind is kind:
                raise self.refused(
                    "nested",
                    f"expected one loop of a nest on {kind}, got '{other.name}' too",
                    place,
                    "bind one of them to another axis, or fuse them",
                )
        greatest = {kind: interval(loop.extent, program.ranges).upper or 0}
        for other in _bound_loops(path[0]):
            if other.kind is kind and not prove_eq(other.extent, loop.extent, program.ranges):
                raise self.refused(
                    "extent",
                    f"expected the extent {other.extent} that {kind} has in '{other.name}', "
                    f"got {loop.extent}",
                    place,
                    "split the loop by that extent first",
                )
            greatest[other.kind] = interval(other.extent, program.ranges).upper or 0
        threads = 1
        for axis, extent in greatest.items():
            threads *= extent if axis.is_thread else 1
        if threads > MAX_THREADS:
            sizes = " * ".join(f"{e} ({axis})" for axis, e in greatest.items() if axis.is_thread)
            raise self.refused(
                "threads",
                f"expected at most {MAX_THREADS} threads in a CTA, got {threads}: {sizes}",
                place,
                "split the loop by a smaller factor",
            )

    def _check_alone(self, program: Program, loop: Loop) -> str:
        """Returns the outermost loop around a loop of the grid."""
        path = program.places[loop.name]
        for outer in path[:-1]:
            if not isinstance(outer, Loop) or len(outer.body) > 1:
                name = f"'{outer.name}'" if isinstance(outer, Loop) else "a block or condition"
                raise self.refused(
                    "alone",
                    f"expected the loop to be all that is in the loops around it, got {name} "
                    "around more than that",
                    place_of(path),
                    "bind a loop outside of it to the grid",
                )
        outermost = path[0]
        return outermost.name if isinstance(outermost, Loop) else loop.name


def _bound_loops(top: Statement) -> list[Loop]:
    """Returns the bound loops of one statement of a program."""
    return [part for part in walk((top,)) if isinstance(part, Loop) and part.kind.is_bound]
