"""A batch of requests with random arrays, as the demonstration runs it."""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..attention.interpreter import Batch
from ..attention.spec import AttentionSpec
from ..runtime.bfloat16 import from_float32, to_float32
from ..runtime.errors import ArgumentError

LARGEST_LENGTH = 2**20


class Request(NamedTuple):
    """One request: `rows` queries that attend to `keys` keys, the last of which are their own."""

    rows: int
    keys: int

    def __str__(self) -> str:
        return f"{self.rows}/{self.keys}"


# Prefill, a prefill that continues, and decode.
REQUESTS = (
    Request(70, 70),
    Request(33, 161),
    Request(1, 200),
    Request(1, 37),
    Request(1, 512),
    Request(1, 1),
    Request(5, 90),
    Request(1, 129),
)


def parse_requests(text: str) -> tuple[Request, ...]:
    """Returns the requests of a text such as `5/9,1/40`; raises ArgumentError."""
    requests: list[Request] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,7})/([0-9]{1,7})\s*", part, re.ASCII)
        request = Request(int(found[1]), int(found[2])) if found else None
        if request is None or max(request) > LARGEST_LENGTH:
            expected = f"QUERIES/KEYS of each request, at most {LARGEST_LENGTH}, such as 5/9,1/40"
            raise ArgumentError("--requests", expected, repr(part))
        requests.append(request)
    return tuple(requests)


@dataclass(frozen=True)
class Inputs:
    """The arrays of a batch; q and pages in the kernel's dtype, bf16 as uint16 bits."""

    batch: Batch
    q: npt.NDArray[Any]
    k_pages: npt.NDArray[Any]
    v_pages: npt.NDArray[Any]


def numbers(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns an array that can be computed with: bits of bf16 as float32, others as they are."""
    return to_float32(array) if array.dtype == np.uint16 else array


def random_inputs(
    spec: AttentionSpec, requests: tuple[Request, ...], generator: np.random.Generator
) -> Inputs:
    """Returns requests over shuffled pages, with normal random numbers."""
    rows, keys = np.array(requests, np.int64).T
    pages = -(-keys // spec.page_size)
    count = int(pages.sum())
    batch = Batch(
        qo_indptr=_offsets(rows),
        kv_indptr=_offsets(pages),
        kv_indices=generator.permutation(count).astype(np.int32),
        kv_last_page_len=np.where(pages > 0, keys - (pages - 1) * spec.page_size, 0).astype(
            np.int32
        ),
    )
    page = (spec.page_size, spec.num_kv_heads)
    if spec.layout == "HND":
        page = page[::-1]

    def normal(*shape: int) -> npt.NDArray[Any]:
        values = generator.standard_normal(shape, np.float32)
        return from_float32(values) if spec.dtype == "bf16" else values.astype(np.float16)

    return Inputs(
        batch,
        normal(int(rows.sum()), spec.num_qo_heads, spec.head_dim),
        normal(count, *page, spec.head_dim),
        normal(count, *page, spec.head_dim),
    )


def _offsets(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
