"""Parameters of which the default run takes a few, and `make test-full` all."""

from collections.abc import Iterable
from typing import Any, cast

import pytest


def spread(cases: Iterable[object], keep: int) -> list[Any]:
    """
    Returns the cases; all but `keep` of them, evenly spread, are marked `full`.

    A case that is a tuple holds the values of several parameters.
    """
    given = [cast("tuple[object, ...]", c) if isinstance(c, tuple) else (c,) for c in cases]
    kept = {index * len(given) // keep for index in range(keep)}
    return [
        pytest.param(*case, marks=() if index in kept else pytest.mark.full)
        for index, case in enumerate(given)
    ]
