"""
The arrays of a case: page tables, and rows of random numbers that repeat.

A cache of many gigabytes is not made on the host. All rows of an array repeat a block of a prime
number of rows, so that no two heads or pages meet the same rows at the same places, and the value
at any place is known without reading the array.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..runtime.bfloat16 import from_float32, to_float32
from ..runtime.buffer import Buffer
from ..runtime.cuda.device import CudaDevice
from .case import ROTATED, Case
from .variants import VARIANTS

Int32 = npt.NDArray[np.int32]
Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
# Prime, and at head_dim 128 a block of 4 MB.
PERIOD = 16_381


@dataclass(frozen=True)
class Rows:
    """
    An array of rows of head_dim numbers: row i is `block[i % len(block)]`.

    They are f16, bf16 as bits, or codes of e4m3 (u8).
    """

    shape: tuple[int, ...]
    dtype: str
    block: Array

    @property
    def count(self) -> int:
        """The number of rows."""
        return prod(self.shape[:-1])

    def at(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Returns some rows in float64."""
        chosen = self.block[rows % len(self.block)]
        if self.dtype == "u8":
            return E4M3[chosen]
        return as_float(chosen).astype(np.float64)

    def host(self) -> Array:
        """Returns the array in host memory; bf16 as its bits."""
        return np.resize(self.block, self.shape)

    def on(self, device: CudaDevice, name: str, stream: object) -> Buffer:
        """Returns the array on a GPU: one block goes there, and is copied over and over."""
        array = device.empty(self.shape, self.dtype, name)
        width = self.block.shape[1] * self.block.itemsize
        filled = min(len(self.block), self.count)
        if filled:
            first = device.array(np.ascontiguousarray(self.block[:filled]), name)
            device.copy(_part(array, 0, filled, width), first, stream)
            device.synchronize(stream)
        while filled < self.count:
            # What is filled holds whole blocks, so what follows begins as it does.
            more = min(filled, self.count - filled)
            device.copy(_part(array, filled, more, width), _part(array, 0, more, width), stream)
            filled += more
        return array


def _e4m3_values() -> npt.NDArray[np.float64]:
    """Returns what each code of e4m3 stands for (OCP, "8-bit floating point", section 5.1)."""
    codes = np.arange(256)
    exponent, fraction = (codes >> 3) & 15, codes & 7
    small = fraction * 2.0**-9
    values = np.where(exponent == 0, small, (8 + fraction) * 2.0 ** (exponent - 10.0))
    values[(codes & 127) == 127] = np.nan
    return np.where(codes < 128, values, -values)


E4M3 = _e4m3_values()


def to_e4m3(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Returns codes near numbers: of two neighbours the one nearer to zero."""
    codes = np.searchsorted(E4M3[:127], np.abs(numbers), side="right") - 1
    return (codes + np.where(numbers < 0, 128, 0)).astype(np.uint8)


def _part(array: Buffer, first: int, rows: int, width: int) -> Buffer:
    elements = rows * array.shape[-1]
    return replace(array, shape=(elements,), address=array.address + first * width)


def as_float(array: Array) -> npt.NDArray[np.float32]:
    """Returns 16-bit values, f16 or the bits of bf16, in float32."""
    return to_float32(array) if array.dtype == np.uint16 else array.astype(np.float32)


@dataclass(frozen=True)
class Data:
    """The page table and the arrays of a case, the same ones each time."""

    case: Case
    seed: int = 0

    @cached_property
    def tables(self) -> tuple[Int32, Int32, Int32, Int32]:
        """The arguments of `plan`: qo_indptr, kv_indptr, kv_indices, kv_last_page_len."""
        case, size = self.case, self.case.kernel.page_size
        rows, keys = np.array(case.requests, np.int64).T
        pages = -(-keys // size)
        shared = case.prefix // size
        own = pages - shared
        ends = np.cumsum(own)
        names = np.arange(case.pages)
        if case.shuffled:
            names = self._generator("pages").permutation(names)
        indices: list[Array] = []
        for first, last in zip((ends - own).tolist(), ends.tolist(), strict=True):
            indices += [names[:shared], names[shared + first : shared + last]]
        last_page = np.where(pages > 0, keys - (pages - 1) * size, 0)
        return (
            _offsets(rows),
            _offsets(pages),
            np.concatenate(indices).astype(np.int32),
            last_page.astype(np.int32),
        )

    @cached_property
    def q(self) -> Rows:
        """The queries, [n, Hq, D]; of latent attention what has no position."""
        kernel = self.case.kernel
        shape = (self.case.query_rows, kernel.num_qo_heads, kernel.head_dim)
        return self._rows("q", shape)

    @cached_property
    def k(self) -> Rows:
        """The pages of keys, [pages, page_size, Hkv, D]."""
        return self._rows("k", self._cache_shape, self.case.kernel.kv_format)

    @cached_property
    def v(self) -> Rows:
        """The pages of values."""
        return self._rows("v", self._cache_shape, self.case.kernel.kv_format)

    @cached_property
    def arrays(self) -> dict[str, Rows]:
        """What a launch takes, by the names of the kernel: queries, then the cache."""
        case, kernel = self.case, self.case.kernel
        if not kernel.latent:
            return {"q": self.q, "k_pages": self.k, "v_pages": self.v}
        rows, cache = (case.query_rows, kernel.num_qo_heads), (case.pages, kernel.page_size)
        return {
            "q_nope": self.q,
            "q_pe": self._rows("q_pe", (*rows, ROTATED)),
            "ckv_pages": self._rows("ckv", (*cache, kernel.head_dim)),
            "kpe_pages": self._rows("kpe", (*cache, ROTATED)),
        }

    def query(self, rows: Places) -> Float64:
        """Returns rows of queries, each a query row times the heads and a head, in float64."""
        return self._joined(rows, ("q", "q_nope", "q_pe"))

    def key(self, places: Places) -> Float64:
        """Returns keys, each a place in the cache times the KV heads and a head, in float64."""
        return self._joined(places, ("k_pages", "ckv_pages", "kpe_pages"))

    def value(self, places: Places) -> Float64:
        """Returns values, as `key`; a latent row is both."""
        return self._joined(places, ("v_pages", "ckv_pages"))

    def _joined(self, rows: Places, names: tuple[str, ...]) -> Float64:
        found = [self.arrays[name].at(rows) for name in names if name in self.arrays]
        return np.concatenate(found, axis=1)

    @property
    def params(self) -> dict[str, npt.NDArray[np.float32]]:
        """The parameters of the variant."""
        kernel = self.case.kernel
        return VARIANTS[kernel.variant].params(kernel.num_qo_heads, kernel.head_dim)

    @property
    def _cache_shape(self) -> tuple[int, int, int, int]:
        kernel = self.case.kernel
        return (self.case.pages, kernel.page_size, kernel.num_kv_heads, kernel.head_dim)

    def _rows(self, name: str, shape: tuple[int, ...], form: str = "same") -> Rows:
        rows = min(PERIOD, max(prod(shape[:-1]), 1))
        numbers = self._generator(name).standard_normal((rows, shape[-1]), np.float32)
        dtype = self.case.kernel.dtype
        if form == "e4m3":
            return Rows(shape, "u8", to_e4m3(numbers))
        block = from_float32(numbers) if dtype == "bf16" else numbers.astype(np.float16)
        return Rows(shape, dtype, block)

    def _generator(self, name: str) -> np.random.Generator:
        text = f"{self.case.name} {name} {self.seed}".encode()
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()[:8], "little"))


def _offsets(lengths: npt.NDArray[np.int64]) -> Int32:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
