"""Checks of the parameters of a variant of attention, before anything is launched."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .array import ArrayView
from .attention_kernel import TABLES
from .contract import AttentionContract
from .errors import ArgumentError

# Arrays of keys and values that may have strides, and the number of these.
_STRIDED = {"k": 2, "v": 2, "k_pages": 3, "v_pages": 3, "kv_pages": 4}
_STRIDES = tuple(f"{name}_stride_{axis}" for name, axes in _STRIDED.items() for axis in range(axes))
# What attention kernels call their own parameters and symbols; a variant cannot take these names.
KERNEL_NAMES = (
    "q",
    "k_pages",
    "v_pages",
    *TABLES,
    "partial_out",
    "partial_lse",
    "out",
    "lse",
    "softmax_scale",
    *("k", "v", "kv_pages", "k_scale", "v_scale", "k_scales", "v_scales", "kv_scales"),
    *("q_nope", "q_pe", "ckv_pages", "kpe_pages"),
    *_STRIDES,
)
KERNEL_SYMBOLS = (
    *("cta_bounds", "items", "merges", "slots", "table_rows", "request_bounds", "kv_rows"),
    *("listed", "parts"),
    *(f"{name}_elements" for name in _STRIDED),
    *_STRIDES,
)
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
    pages: int,
) -> None:
    """
    Checks that each tensor of a variant holds what a batch reads of it; raises ArgumentError.

    `tables` are the tables of the plan, `views` the arrays of the call by name; `pages` counts
    those of keys, or their rows where these are not in pages.
    """
    for name in section.params:
        if name in views and (size := int(np.prod(views[name].shape, dtype=np.int64))):
            if size > _MOST_ELEMENTS:
                raise ArgumentError(name, f"at most {_MOST_ELEMENTS} elements", str(size))
        elif name in views:
            raise ArgumentError(name, "at least one element", "none")
    if not section.reaches:
        return
    extents = _extents(section, tables, views[section.query_arrays[0]].shape[0], pages)
    for reach in section.reaches:
        needed, got = extents[reach.position], views[reach.param].shape[reach.axis]
        if got < needed:
            what = f"at least {needed} entries along axis {reach.axis}, {_MEANINGS[reach.position]}"
            raise ArgumentError(reach.param, what, str(got))


def _extents(
    section: AttentionContract, tables: Mapping[str, npt.NDArray[Any]], query_rows: int, pages: int
) -> dict[str, int]:
    columns = "columns" in section.kv
    longest = [pages] if columns else key_counts(section, tables)
    positions = max(int(np.max(longest, initial=0)), query_rows if columns else 0)
    return {
        "b": 1 if columns else len(tables["qo_indptr"]) - 1,
        "h": section.num_qo_heads,
        "kv_head": section.num_kv_heads,
        "q_idx": positions,
        "kv_idx": positions,
        "d": section.head_dim,
        "page": pages,
        "query_row": query_rows,
    }


def key_counts(
    section: AttentionContract, tables: Mapping[str, npt.NDArray[Any]]
) -> npt.NDArray[np.int64]:
    """Returns the number of keys of each row of the page table, or of each ragged request."""
    counts = np.diff(tables["kv_indptr"]).astype(np.int64)
    if "ragged" in section.kv:
        return counts
    last = tables["kv_last_page_len"]
    return np.where(counts > 0, (counts - 1) * section.page_size + last, 0)
