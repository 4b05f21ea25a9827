"""The kernels by which a deployment merges attention states, found by merging one row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..runtime.errors import ArgumentError
from .beside import NUMPY_DTYPES, Task
from .named_storage import SAME
from .state import (
    DTYPES,
    LARGEST_HEAD_DIM,
    lse_from_base2,
    lse_to_base2,
    merge_state,
    merge_states,
    merge_states_ragged,
)


@dataclass(frozen=True)
class MergeTask(Task):
    """
    Merging states of `num_qo_heads` heads: two, in place too, any number, and ragged ones.

    Values are of `dtype`, results of `out_dtype`, which is "same" or another. Log-sum-exps are
    brought to base 2 and back.
    """

    name: ClassVar[str] = "merge"
    integers: ClassVar[tuple[str, ...]] = ("num_qo_heads", "head_dim")
    defaults: ClassVar[Mapping[str, str]] = {"dtype": "bf16", "out_dtype": SAME}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "dtype": DTYPES,
        "out_dtype": (SAME, *DTYPES),
    }

    def check(self) -> None:
        """Raises ArgumentError for what no kernel does."""
        super().check()
        if self.number("head_dim") > LARGEST_HEAD_DIM:
            expected = f"an integer from 1 to {LARGEST_HEAD_DIM}"
            raise ArgumentError("head_dim", expected, str(self.number("head_dim")))

    def run(self, place: Mapping[str, Any]) -> None:
        """Merges states of one row in every way."""
        heads, dtype = self.number("num_qo_heads"), self.text("dtype")
        out = dtype if self.text("out_dtype") == SAME else self.text("out_dtype")
        shape = (1, heads, self.number("head_dim"))
        v, other = (np.zeros(shape, NUMPY_DTYPES[dtype]) for _ in range(2))
        s, s_other = (np.zeros(shape[:2], np.float32) for _ in range(2))
        merge_state(v, s, other, s_other, dtype=out, **place)
        if out == dtype:
            merge_state(v, s, other, s_other, out=v, lse=s, **place)
        merge_states(v[:, None], s[:, None], dtype=out, **place)
        merge_states_ragged(v, s, np.array([0, 1], np.int32), dtype=out, **place)
        lse_from_base2(lse_to_base2(s, **place), **place)
