"""Makes the recorder's modules importable, and runs all variants of a family."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from devices import Simulator
from record import compute
from variants import Variant, differences, variants
from variants.variant import Array

Meaning = Callable[[Variant, list[Array]], Array]
Check = Callable[[str, Meaning], dict[str, str]]


@pytest.fixture(scope="session")
def known() -> dict[str, Variant]:
    """Returns all variants by name."""
    return {variant.name: variant for variant in variants()}


@pytest.fixture
def wrong(known: dict[str, Variant]) -> Check:
    """
    Returns a function that runs a family's promised variants on the simulator.

    It gets what a variant and its operands mean as raw results of any shape and integer type, and
    returns the variants that differ, with the first place.
    """

    def run(family: str, meaning: Meaning) -> dict[str, str]:
        chosen = [v for v in known.values() if v.family == family and v.promised]
        assert chosen
        found: dict[str, str] = {}
        for name, got, problem in compute(Simulator(), chosen):
            if got is None:
                found[name] = problem
                continue
            means = np.ascontiguousarray(meaning(known[name], known[name].inputs()))
            expected = means.reshape(-1).view(got.dtype)
            places = differences(known[name], expected, got)
            if places.size:
                first = int(places[0])
                pair = f"{int(expected[first]):#x} is meant, got {int(got[first]):#x}"
                found[name] = f"{places.size} of {got.size} differ, at {first}: {pair}"
        return found

    return run
