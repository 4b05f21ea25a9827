"""The kernels beside attention as loop nests, by kind; each is specialised on numbers alone."""

from collections.abc import Callable, Mapping

from ...dialects.nest.program import Program
from .merge import merge_many, merge_pair, scale_lse

PROGRAMS: Mapping[str, Callable[..., Program]] = {
    "merge_pair": merge_pair,
    "merge_many": merge_many,
    "scale_lse": scale_lse,
}
