"""
What a deployment does beside attention, as manifests list it, and the kernels that it takes.

They are found by doing it once, on the simulator: what serving asks for is what is recorded. A task
is told apart by finite numbers; arrays are C-contiguous, lengths and page tables are no part of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from ..runtime.artifact import KernelArtifact
from ..runtime.contract import JsonScalar
from ..runtime.errors import ArgumentError
from .compiled_kernels import LOWEST_TARGET, recorded

NUMPY_DTYPES: dict[str, Any] = {"f16": np.float16, "bf16": np.uint16, "f32": np.float32}
_LARGEST = 2**20


@dataclass(frozen=True)
class Task(ABC):
    """
    One task of a table `[[name]]`: the values of its fields.

    `integers` are its fields that hold numbers, `defaults` the values of those that hold words, and
    `choices` which words these may be.
    """

    numbers: Mapping[str, JsonScalar]

    name: ClassVar[str]
    integers: ClassVar[tuple[str, ...]]
    defaults: ClassVar[Mapping[str, str]]
    choices: ClassVar[Mapping[str, tuple[str, ...]]]

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Returns the names of its fields."""
        return *cls.integers, *cls.defaults

    @property
    def key(self) -> dict[str, JsonScalar]:
        """What its kernels are found by in a kernel set."""
        return {"task": self.name, **self.numbers}

    def check(self) -> None:
        """Raises ArgumentError for what no kernel does."""
        for name, choices in self.choices.items():
            if self.numbers[name] not in choices:
                expected = f"one of {', '.join(choices)}"
                raise ArgumentError(name, expected, repr(self.numbers[name]))
        for name in self.integers:
            if not 1 <= self.number(name) <= _LARGEST:
                expected = f"an integer from 1 to {_LARGEST}"
                raise ArgumentError(name, expected, str(self.number(name)))

    def number(self, name: str) -> int:
        """Returns the value of a field that holds a number."""
        return cast("int", self.numbers[name])

    def text(self, name: str) -> str:
        """Returns the value of a field that holds a word."""
        return cast("str", self.numbers[name])

    def record(self) -> dict[str, KernelArtifact]:
        """Returns the kernels that the task takes, by name; raises ArgumentError."""
        with recorded() as found:
            self.run({"device": "simulator", "target": LOWEST_TARGET})
        return found

    @abstractmethod
    def run(self, place: Mapping[str, Any]) -> None:
        """Does the task once, for the least of rows; `place` are options of what is called."""
