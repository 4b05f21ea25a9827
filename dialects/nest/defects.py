"""What a verifier of programs finds."""

from dataclasses import dataclass

from ..diagnostic import DiagnosticError


@dataclass(eq=False)
class ProgramError(DiagnosticError):
    """
    A program is refused: `message` says what was expected and got, beginning with "expects".

    `place` names the loop or block at fault, and is empty for the program itself. `condition` is a
    short fixed name of what does not hold.
    """

    place: str = ""
    condition: str = ""

    def __str__(self) -> str:
        return f"'{self.place}' {self.message}" if self.place else self.message
