"""The kernels of sparse decoding beside attention, found by choosing one page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..runtime.errors import ArgumentError
from ..runtime.page_table import PageTable
from .beside import NUMPY_DTYPES, Task
from .quest import LARGEST_DIM, LARGEST_GROUP, plan_choice, summarize_pages
from .spec import LAYOUTS


@dataclass(frozen=True)
class ChoiceTask(Task):
    """
    Choosing pages for sparse decoding: summaries of keys, bounds of scores, the highest pages.

    How many pages are chosen is a number of each call. The attention to them is a kernel of storage
    "paged-by-head" or "combined-by-head".
    """

    name: ClassVar[str] = "page_choice"
    integers: ClassVar[tuple[str, ...]] = ("num_qo_heads", "num_kv_heads", "head_dim", "page_size")
    defaults: ClassVar[Mapping[str, str]] = {
        "storage": "paged",
        "layout": "NHD",
        "dtype": "bf16",
    }
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "storage": ("paged", "combined"),
        "layout": LAYOUTS,
        "dtype": tuple(NUMPY_DTYPES),
    }

    def check(self) -> None:
        """Raises ArgumentError for what no kernel does."""
        super().check()
        heads, kv_heads = self.number("num_qo_heads"), self.number("num_kv_heads")
        if heads % kv_heads or heads // kv_heads > LARGEST_GROUP:
            expected = f"a multiple of the {kv_heads} KV heads, up to {LARGEST_GROUP} times"
            raise ArgumentError("num_qo_heads", expected, str(heads))
        if self.number("head_dim") > LARGEST_DIM:
            expected = f"an integer from 1 to {LARGEST_DIM}"
            raise ArgumentError("head_dim", expected, str(self.number("head_dim")))

    def run(self, place: Mapping[str, Any]) -> None:
        """Summarises a page of one token, and chooses it."""
        heads, size = self.number("num_kv_heads"), self.number("page_size")
        dim, dtype = self.number("head_dim"), NUMPY_DTYPES[self.text("dtype")]
        page = (size, heads) if self.text("layout") == "NHD" else (heads, size)
        both = (2,) if self.text("storage") == "combined" else ()
        k_pages = np.zeros((1, *both, *page, dim), dtype)
        summaries = np.zeros((1, 2, heads, dim), dtype)
        table = PageTable(*(np.array(t, np.int32) for t in ([0, 1], [0], [1])), page_size=size)
        listed = (np.zeros(1, np.int32), np.ones(1, np.int32))
        summarize_pages(k_pages, summaries, *listed, layout=self.text("layout"), **place)
        q = np.zeros((1, self.number("num_qo_heads"), dim), dtype)
        plan_choice(table, heads, budget=1).run(q, summaries, **place)
