"""A compiled function: blocks ready to run, and what they know of their instructions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import Finding
from ..ptx.syntax import Function, Instruction, Module, Register
from ..scalars import Lanes, word_code
from .layout import Layout


@lru_cache
def _code(dtype: Any, size: int) -> str:
    """Returns the dtype code of an element, or of some bytes that move at once."""
    return np.dtype(dtype).str[1:] if dtype is not None else word_code(size)


@dataclass(eq=False, slots=True)
class Site:
    """What a run-time function has to know of the instruction that called it."""

    instruction: Instruction
    dtype: Any = None  # NumPy scalar type of one element
    size: int = 0  # bytes that one lane accesses
    count: int = 1  # elements of a vector access
    space: str = ""
    operation: str = ""  # of an atomic, or the order of another strong access
    order: str = ""  # of a strong access: relaxed, acquire, release, acq_rel; volatile is relaxed
    scope: str = ""  # of a strong access
    returns: bool = False  # an atomic that reads
    offset: int = 0  # constant part of the address
    extra: Any = None
    code: str = field(init=False)  # dtype code of what one lane accesses, as views have it

    def __post_init__(self) -> None:
        """Finds the dtype code: it is asked for at every access."""
        self.code = _code(self.dtype if self.count == 1 else None, self.size)

    def byte(self) -> "Site":
        """Returns the site of an access to single bytes at the same place."""
        return Site(self.instruction, np.uint8, 1, space=self.space, offset=self.offset)


@dataclass(eq=False, slots=True)
class Terminator:
    """
    How a block ends: `kind` is branch, jump, table, exit, trap, barrier, arrive,
    reduce, warp, park or fall.
    """

    kind: str = "fall"
    flag: str = "None"  # expression that the block function returns first
    site: Site | None = None


@dataclass(eq=False, slots=True)
class CompiledBlock:
    """A block ready to run: `run` compiles its source at the first call, many are never run."""

    index: int
    run: Callable[..., tuple[Any, ...]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    fetch: Callable[[list[Lanes]], tuple[Lanes, ...]]
    size: int
    terminator: Terminator
    targets: tuple[int, ...]
    follow: int
    mask: int | Register | None
    first: Instruction | None
    leaves: bool
    spins: bool


@dataclass(eq=False, slots=True)
class Program:
    """A compiled function: its blocks and the file of registers and constants they use."""

    name: str
    blocks: list[CompiledBlock]
    registers: int
    register_codes: list[tuple[str, int]]
    pseudo: dict[tuple[str, str], int]
    layout: Layout
    source: str
    module: Module
    function: Function
    hazards: tuple[Finding, ...] | None = None  # what the text alone shows, once it was asked for
