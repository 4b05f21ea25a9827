"""What all schedule primitives have in common: data, one function, and how they refuse."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import ClassVar

from ...dialects.diagnostic import DiagnosticError
from ...dialects.nest.program import Block, Buffer, Loop, Path, Program


@dataclass(eq=False)
class ScheduleError(DiagnosticError):
    """A primitive is refused: which one, where, the condition that failed, and what would help."""

    primitive: str = ""
    condition: str = ""
    place: str = ""
    cure: str = ""

    def __str__(self) -> str:
        where = f" at {self.place}" if self.place else ""
        cure = f"; {self.cure}" if self.cure else ""
        return f"'{self.primitive}'{where}: {self.message}{cure}"


class Primitive(ABC):
    """A step of a schedule. Subclasses are frozen dataclasses; their fields are its data."""

    name: ClassVar[str]

    @abstractmethod
    def apply(self, program: Program) -> Program:
        """Returns the program after the step; raises ScheduleError where it is not legal."""

    def result_names(self, program: Program) -> tuple[str, ...]:
        """Returns the names of the loops and blocks that the step makes, given or fresh."""
        return ()

    def named(self, program: Program) -> "Primitive":
        """Returns the step with the names that it would give, so that it replays by itself."""
        if not is_dataclass(self) or all(part.name != "names" for part in fields(self)):
            return self
        return replace(self, names=self.result_names(program))

    def refused(
        self, condition: str, message: str, place: str = "", cure: str = ""
    ) -> ScheduleError:
        """
        Returns the refusal, which the caller raises.

        `condition` is a short fixed name of what failed (`divides`), `message` says what was
        expected and what was got, `place` names the loop or block, `cure` says what would help.
        """
        return ScheduleError(
            message, primitive=self.name, condition=condition, place=place, cure=cure
        )

    def loop_of(self, program: Program, name: str) -> Loop:
        """Returns a loop by name, or refuses."""
        found = self._named(program, name, "loop")
        if not isinstance(found, Loop):
            raise self.refused("is-loop", f"expected a loop, got the block '{name}'")
        return found

    def block_of(self, program: Program, name: str) -> Block:
        """Returns a block by name, or refuses."""
        found = self._named(program, name, "block")
        if not isinstance(found, Block):
            raise self.refused("is-block", f"expected a block, got the loop '{name}'")
        return found

    def buffer_of(self, program: Program, name: str) -> Buffer:
        """Returns a buffer by name, or refuses."""
        if (buffer := program.buffers.get(name)) is None:
            known = ", ".join(program.buffers)
            raise self.refused("exists", f"expected a buffer among {known}, got '{name}'")
        return buffer

    def _named(self, program: Program, name: str, kind: str) -> Loop | Block:
        path = program.places.get(name)
        if path is None or not isinstance(found := path[-1], Loop | Block):
            wanted = Loop if kind == "loop" else Block
            known = ", ".join(n for n, p in program.places.items() if isinstance(p[-1], wanted))
            raise self.refused("exists", f"expected a {kind} among {known}, got '{name}'")
        return found

    def new_names(
        self, program: Program, given: tuple[str, ...], defaults: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Returns the names that the step gives: those asked for, which must be free, or fresh."""
        if not given:
            names: list[str] = []
            for name in defaults:
                fresh = program.fresh_name(name)
                while fresh in names:
                    fresh += "_"
                names.append(fresh)
            return tuple(names)
        if len(given) != len(defaults):
            raise self.refused("names", f"expected {len(defaults)} names, got {len(given)}")
        for name in given:
            if name in program.names or given.count(name) > 1:
                raise self.refused("names", f"expected a name that is free, got '{name}'")
        return given


def place_of(path: Path) -> str:
    """Returns the way to a loop or block as text: `i > j > @C`."""
    return " > ".join(
        part.name if isinstance(part, Loop) else f"@{part.name}"
        for part in path
        if isinstance(part, Loop | Block)
    )
