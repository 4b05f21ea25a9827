"""What a kernel that appends is specialised on, for each tensor."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """
    One tensor of what is appended: its rows are [nnz, heads, dim], a row goes to a slot of a page.

    `rope` is "", "half" (pairs d, d + dim / 2) or "interleaved" (pairs 2d, 2d + 1). `pages` names
    the buffer of pages; `which` is its index there where a page holds keys and values. `row_step`
    and `page_step` are powers of two that divide all strides of rows and pages, 0 for arrays
    without gaps.
    """

    name: str
    dim: int
    rope: str = ""
    pages: str = ""
    which: int | None = None
    row_step: int = 0
    page_step: int = 0


@dataclass(frozen=True)
class Line:
    """
    The numbers of a batch's work in one line: of `heads` KV heads, in granules of `granule` rows.

    `item` and `partial` are what an item and a split cost, in granules; `page_size` is in tokens.
    """

    heads: int
    page_size: int
    granule: int
    item: int
    partial: int
