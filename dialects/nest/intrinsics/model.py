"""What a tensor intrinsic is: a description, what its operands must be, and who executes it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from ..program import AccessMode, Buffer, Program, Region, Scope

ANYWHERE = frozenset(Scope)
IN_FRAGMENT = frozenset((Scope.FRAGMENT,))
IN_SHARED = frozenset((Scope.SHARED,))
IN_GLOBAL = frozenset((Scope.GLOBAL,))
IN_MEMORY = frozenset((Scope.GLOBAL, Scope.SHARED))
IN_THREAD = frozenset((Scope.LOCAL,))


class ExecutionScope(StrEnum):
    """
    Who executes an intrinsic together.

    Lanes of a warp are `thread.x`: an intrinsic of a warp stands in no loop bound to it, and one of
    a CTA in no loop bound to threads at all.
    """

    THREAD = "thread"
    WARP = "warp"
    CTA = "cta"
    HOST = "host"


class MatrixRole(StrEnum):
    """Which matrix of `mma.sync` a fragment is: D = A B + C."""

    A = "a"
    B = "b"
    C = "c"


@dataclass(frozen=True)
class FragmentTile:
    """
    How the lanes of a warp hold one tile of a fragment buffer.

    PTX ISA, "Matrix Fragments for mma", says which lane has which element of A [m, k], B [k, n] and
    C [m, n]. `transposed` says that the axes of the buffer are the other way round: A [k, m],
    B [n, k]. All intrinsics on a fragment buffer have to agree.
    """

    role: MatrixRole
    rows: int
    columns: int
    transposed: bool = False

    def __str__(self) -> str:
        axes = {"a": "mk", "b": "kn", "c": "mn"}[self.role.value]
        first, second = axes[:: -1 if self.transposed else 1]
        return f"{self.role.value.upper()}[{first}, {second}] of {self.rows}x{self.columns}"


@dataclass(frozen=True)
class Requirement:
    """
    What an operand of an intrinsic has to be.

    The operand's region, without its axes of extent 1, has the shape of the description's
    parameter. Its buffer is in one of `scopes`. `alignment` in bytes holds for the address of each
    row, and asks for neighbours on the last axis to be neighbours in memory; 0 asks for neither.
    `is_spread` says that each thread of those that execute it together holds one element, in their
    order.
    """

    mode: AccessMode
    scopes: frozenset[Scope] = ANYWHERE
    tile: FragmentTile | None = None
    alignment: int = 0
    is_spread: bool = False


@dataclass(frozen=True)
class Intrinsic:
    """
    A piece of a computation that one instruction, or a few, does.

    `description` says what it computes: a program of loops around one block with one store, whose
    parameters are the operands, without axes of extent 1. `operands` says what each has to be.
    `target` is the least architecture (`sm_80`) or the feature of a CPU (`avx2`) that has it.
    `rule` names the lowering. `precision` names the format that operands are rounded to where it
    has fewer bits than their dtype: who uses the intrinsic has to agree.
    """

    name: str
    description: Program
    operands: tuple[Requirement, ...]
    execution: ExecutionScope
    target: str = ""
    rule: str = ""
    precision: str = ""
    parameters: tuple[tuple[str, int | str], ...] = field(default=())

    @cached_property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers of the description in the order of the operands."""
        return tuple(p for p in self.description.parameters if isinstance(p, Buffer))

    def parameter(self, name: str) -> int | str:
        """Returns a number or word that tells the lowering which form of the rule is meant."""
        return dict(self.parameters)[name]

    def is_on(self, target: str, features: Collection[str] = ()) -> bool:
        """Whether a GPU of architecture `target` (`sm_90a`), or a CPU with features, has it."""
        if not self.target:
            return True
        if not self.target.startswith("sm_"):
            return self.target == target or self.target in features
        return target.startswith("sm_") and _generation(target) >= _generation(self.target)


def _generation(target: str) -> int:
    digits = "".join(letter for letter in target.removeprefix("sm_") if letter.isdigit())
    return int(digits) if digits else 0


def kept_axes(region: Region) -> tuple[int, ...]:
    """Returns the axes of a region that are axes of an intrinsic's parameter: those not of 1."""
    return tuple(axis for axis, part in enumerate(region.ranges) if part.extent != 1)
