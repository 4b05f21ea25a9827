"""Says how the iterations of a loop are executed: in parallel, as a vector, unrolled."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.dependences import Dependences
from ...dialects.nest.program import Loop, LoopKind, Program, walk
from .legality import check_independent, check_kernels, check_serial
from .primitive import Primitive, place_of


@dataclass(frozen=True)
class Parallel(Primitive):
    """
    Executes the iterations of a loop on the threads of a CPU.

        for i in 0..n   -->   parallel i in 0..n

    Legal if

    - `serial`: the loop is serial,
    - `ordered`, `reduction`: it feeds no ordered and no reduce axis of a block,
    - `kernel`: it is in no kernel of a GPU, and around none,
    - `dependence`: no two iterations touch the same element, one of them to write it; buffers
      that are shared, local or fragments are each iteration's own if it writes what it reads.
    """

    name: ClassVar[str] = "parallel"

    loop: str

    def apply(self, program: Program) -> Program:
        """Returns the program with the loop parallel."""
        loop = self.loop_of(program, self.loop)
        check_serial(self, program, loop)
        pairs = Dependences(program, self.loop).carried_by(self.loop)
        check_independent(self, program, loop, LoopKind.PARALLEL, pairs)
        parallel = program.replace(self.loop, replace(loop, kind=LoopKind.PARALLEL))
        check_kernels(self, parallel, self.loop)
        return parallel


@dataclass(frozen=True)
class Vectorize(Primitive):
    """
    Executes the iterations of a loop as the elements of vectors.

        for j in 0..8          vectorized j in 0..8
            @B vj = j    -->       @B vj = j

    Legal if

    - `serial`: the loop is serial,
    - `constant`: its extent is a number,
    - `innermost`: no loop is inside it, nor in a block there, but one of a single iteration,
    - `kernel`: no bound loop is inside it,
    - `ordered`, `reduction`, `dependence`: as for `parallel`; no buffer is an iteration's own.
    """

    name: ClassVar[str] = "vectorize"

    loop: str

    def apply(self, program: Program) -> Program:
        """Returns the program with the loop vectorised."""
        loop = self.loop_of(program, self.loop)
        check_serial(self, program, loop)
        check_constant(self, program, loop)
        for part in walk(loop.body):
            if isinstance(part, Loop) and part.extent != 1:
                raise self.refused(
                    "innermost",
                    f"expected an innermost loop, got one around '{part.name}'",
                    place_of(program.places[self.loop]),
                    f"reorder the loop to the inside of '{part.name}', or unroll it",
                )
        pairs = Dependences(program, self.loop).carried_by(self.loop)
        check_independent(self, program, loop, LoopKind.VECTORIZED, pairs)
        vectorized = program.replace(self.loop, replace(loop, kind=LoopKind.VECTORIZED))
        check_kernels(self, vectorized, self.loop)
        return vectorized


@dataclass(frozen=True)
class Unroll(Primitive):
    """
    Writes the iterations of a loop one after the other when it is lowered.

        for u in 0..4   -->   unrolled u in 0..4

    Legal if

    - `serial`: the loop is serial,
    - `constant`: its extent is a number.
    """

    name: ClassVar[str] = "unroll"

    loop: str

    def apply(self, program: Program) -> Program:
        """Returns the program with the loop unrolled."""
        loop = self.loop_of(program, self.loop)
        check_serial(self, program, loop)
        check_constant(self, program, loop)
        return program.replace(self.loop, replace(loop, kind=LoopKind.UNROLLED))


def check_constant(primitive: Primitive, program: Program, loop: Loop) -> None:
    """Refuses a loop whose number of iterations is not known."""
    if loop.extent.constant_value is None:
        raise primitive.refused(
            "constant",
            f"expected a constant extent, got {loop.extent}",
            place_of(program.places[loop.name]),
            "split the loop by a constant, and take the inner one",
        )
