"""Parameters of which the default run takes a few, and `make test-full` all."""

from collections.abc import Iterable
from typing import Any

import pytest


def spread(cases: Iterable[object], keep: int) -> list[Any]:
    """
    Returns the cases; all but `keep` of them, evenly spread, are marked `full`.

    A case that is a tuple holds the values of several parameters.
    """
    given = [case if isinstance(case, tuple) else (case,) for case in cases]
    kept = {index * len(given) // keep for index in range(keep)}
    return [
        pytest.param(*case, marks=() if index in kept else pytest.mark.full)
        for index, case in enumerate(given)
    ]
