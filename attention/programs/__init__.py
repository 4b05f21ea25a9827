"""The kernels beside attention as loop nests, by kind; each is specialised on numbers alone."""

from collections.abc import Callable, Mapping

from ...dialects.nest.program import Program
from .append import append
from .merge import merge_many, merge_pair, scale_lse

PROGRAMS: Mapping[str, Callable[..., Program]] = {
    "append": append,
    "merge_many": merge_many,
    "merge_pair": merge_pair,
    "scale_lse": scale_lse,
}
