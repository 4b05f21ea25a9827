"""Notes at loops and blocks that later steps and lowerings read."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.program import AnnotationValue, Block, Loop, Program
from .primitive import Primitive, place_of


@dataclass(frozen=True)
class Annotate(Primitive):
    """
    Notes a value at a loop or block.

        for i in 0..n   -->   for i in 0..n {unroll_limit = 16}

    Legal if `new`: the loop or block has no other value under the key.
    """

    name: ClassVar[str] = "annotate"

    target: str
    key: str
    value: AnnotationValue

    def apply(self, program: Program) -> Program:
        """Returns the program with the value noted."""
        target = loop_or_block(self, program, self.target)
        if target.annotations.get(self.key, self.value) != self.value:
            raise self.refused(
                "new",
                f"expected no value of '{self.key}' yet, got {target.annotations[self.key]!r}",
                place_of(program.places[self.target]),
                "unannotate it first",
            )
        annotations = {**target.annotations, self.key: self.value}
        return program.replace(self.target, replace(target, annotations=annotations))


@dataclass(frozen=True)
class Unannotate(Primitive):
    """
    Removes a note from a loop or block.

        for i in 0..n {unroll_limit = 16}   -->   for i in 0..n

    Legal if `known`: the loop or block has a value under the key.
    """

    name: ClassVar[str] = "unannotate"

    target: str
    key: str

    def apply(self, program: Program) -> Program:
        """Returns the program without the note."""
        target = loop_or_block(self, program, self.target)
        if self.key not in target.annotations:
            known = ", ".join(target.annotations) or "none"
            raise self.refused(
                "known",
                f"expected a key among {known}, got '{self.key}'",
                place_of(program.places[self.target]),
            )
        annotations = {key: v for key, v in target.annotations.items() if key != self.key}
        return program.replace(self.target, replace(target, annotations=annotations))


def loop_or_block(primitive: Primitive, program: Program, name: str) -> Loop | Block:
    """Returns a loop or block by name, or refuses."""
    target = program.places.get(name, (None,))[-1]
    if not isinstance(target, Loop | Block):
        known = ", ".join(program.places)
        raise primitive.refused("exists", f"expected one of {known}, got '{name}'")
    return target
