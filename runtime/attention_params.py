"""Checks of the parameters of a variant of attention, before anything is launched."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .array import ArrayView
from .contract import AttentionContract
from .errors import ArgumentError

# What attention kernels call their own parameters and symbols; a variant cannot take these names.
KERNEL_NAMES = (
    "q",
    "k_pages",
    "v_pages",
    "qo_indptr",
    "kv_indptr",
    "kv_indices",
    "kv_last_page_len",
    "cta_indptr",
    "items",
    "item_merge",
    "merges",
    "counters",
    "partial_out",
    "partial_lse",
    "out",
    "lse",
    "softmax_scale",
)
KERNEL_SYMBOLS = ("cta_bounds", "items", "merges", "slots")
# Kernels count the elements of a parameter in 32 bits.
_MOST_ELEMENTS = 2**31 - 1
_MEANINGS = {
    "b": "the requests",
    "h": "the query heads",
    "kv_head": "the KV heads",
    "q_idx": "the positions of the longest request",
    "kv_idx": "the positions of the longest request",
    "d": "the elements of a head",
    "page": "the pages of k_pages",
    "query_row": "the rows of q",
}


def check_params(
    section: AttentionContract,
    tables: Mapping[str, npt.NDArray[Any]],
    views: Mapping[str, ArrayView],
) -> None:
    """
    Checks that each tensor of a variant holds what a batch reads of it; raises ArgumentError.

    `tables` are the tables of the plan, `views` the arrays of the call by name.
    """
    for name in section.params:
        if name in views and (size := int(np.prod(views[name].shape, dtype=np.int64))):
            if size > _MOST_ELEMENTS:
                raise ArgumentError(name, f"at most {_MOST_ELEMENTS} elements", str(size))
        elif name in views:
            raise ArgumentError(name, "at least one element", "none")
    if not section.reaches:
        return
    extents = _extents(section, tables, views)
    for reach in section.reaches:
        needed, got = extents[reach.position], views[reach.param].shape[reach.axis]
        if got < needed:
            what = f"at least {needed} entries along axis {reach.axis}, {_MEANINGS[reach.position]}"
            raise ArgumentError(reach.param, what, str(got))


def _extents(
    section: AttentionContract,
    tables: Mapping[str, npt.NDArray[Any]],
    views: Mapping[str, ArrayView],
) -> dict[str, int]:
    pages, last = np.diff(tables["kv_indptr"]).astype(np.int64), tables["kv_last_page_len"]
    lengths = np.where(pages > 0, (pages - 1) * section.page_size + last, 0)
    longest = int(lengths.max(initial=0))
    return {
        "b": len(last),
        "h": section.num_qo_heads,
        "kv_head": section.num_kv_heads,
        "q_idx": longest,
        "kv_idx": longest,
        "d": section.head_dim,
        "page": views["k_pages"].shape[0],
        "query_row": views["q"].shape[0],
    }
