"""Devices for the recorder's tests, in a process of their own: they fail in every way."""

import os
import time
from typing import Any

import numpy as np
from devices import Broken
from variants.variant import Array, Variant


class Faulty:
    """Refuses, fails, breaks, hangs or dies at some variants; gives ones for all others."""

    description = {"device": "faulty"}
    capability = (8, 0)

    def load(self, text: str) -> Any:
        """Refuses modules with mul.hi."""
        if "mul.hi" in text:
            raise RuntimeError("no such instruction")

    def run(self, module: Any, entry: str, variant: Variant) -> Array:
        """Returns ones for most variants."""
        if variant.name == "min.u32":
            raise RuntimeError("launch failed")
        if variant.name == "min.u64":
            raise Broken("an illegal address")
        if variant.name == "max.u16":
            time.sleep(600)
        if variant.name == "max.u32":
            os._exit(3)
        return np.ones(variant.count, "u4")


class Absent:
    """A machine without a GPU."""

    description: dict[str, str] = {}
    capability = (0, 0)

    def __init__(self) -> None:
        """Fails."""
        raise OSError("there is no libcuda")

    def load(self, text: str) -> Any:
        """Is never called."""

    def run(self, module: Any, entry: str, variant: Variant) -> Array:
        """Is never called."""
        raise AssertionError
