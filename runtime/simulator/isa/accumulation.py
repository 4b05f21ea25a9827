"""
Sums of products as tensor cores compute them: aligned, cut off, not rounded in between.

Terms of a block, the sum so far among them, are aligned to the largest exponent and lose the
bits below a fixed number of fraction bits; the result is cut off to f32. The model and its
parameters are those of Xie et al., "MMA-Sim", arXiv 2511.10909, and its published code
(github.com/microsoft/MMA-Sim); compare Khattak and Mikaitis, arXiv 2512.07004. Nothing here was
compared with a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import LaunchError
from ..scalars import Array

_LARGEST = 1 << 20  # products that are held at once
_BYTES = ("e4m3", "e5m2")
# Smallest exponent of a normal number; products of tf32 are those of f32.
_LOWEST = {"f16": -14, "bf16": -126, "tf32": -126, "e4m3": -6, "e5m2": -14}
_ZERO = -126  # exponent that a zero counts with
_QUIET = np.uint32(0x7FFFFFFF)  # the NaN of tensor cores


@dataclass(frozen=True, slots=True)
class Model:
    """
    The sums of one architecture.

    `bits` is the number of fraction bits that aligned terms keep, `terms` the bytes of A that
    make one block, `narrow` the fraction bits of sums and results for 8-bit floats.
    """

    bits: int
    terms: int
    narrow: int = 0

    def shape(self, kind: str, depth: int) -> tuple[int, int]:
        """Returns the terms of a block and the fraction bits, for A of a type and depth."""
        size = {"f16": 2, "bf16": 2, "tf32": 4}.get(kind, 1)
        narrow = self.narrow if kind in _BYTES else 0
        return min(self.terms // size, depth), narrow or self.bits


# MMA-Sim, mmasim/simulator/nv_ptx.py: on Ampere and Ada an mma of the largest depth is two blocks.
_MODELS = {
    8: Model(24, 16, narrow=13),
    9: Model(25, 32, narrow=13),
    10: Model(25, 32),
    12: Model(25, 32),
}


def model_of(target: Sequence[str]) -> Model:
    """Returns the model for the `.target` of a module; raises LaunchError where none is known."""
    name = target[0] if target else ""
    digits = "".join(character for character in name if character.isdigit())
    model = _MODELS.get(int(digits) // 10) if digits else None
    if model is None:
        known = ", ".join(f"sm_{major}x" for major in _MODELS)
        raise LaunchError(f"no model of truncating sums for {name or 'no target'}: only {known}")
    return model


def _exponents(values: Array, lowest: int) -> Array:
    """Returns the exponents that numbers count with."""
    exponents = np.maximum(np.frexp(values)[1] - 1, lowest)
    return np.where(values == 0, _ZERO, exponents)


def _block(a: Array, b: Array, c: Array, kinds: tuple[str, str], bits: int) -> Array:
    """Returns C + A B of one block as exact f64, cut off to `bits` below the largest term."""
    products = a[..., None] * b[..., None, :, :]
    first, second = (_LOWEST[kind] for kind in kinds)
    powers = _exponents(a, first)[..., None] + _exponents(b, second)[..., None, :, :]
    own = _exponents(c, -126)
    top = np.maximum(powers.max(axis=-2), own)
    cut = np.trunc(np.ldexp(products, bits - top[..., None, :])).sum(axis=-2)
    total = np.ldexp(cut + np.trunc(np.ldexp(c, bits - top)), top - bits)
    plain = products.sum(axis=-2) + c
    return np.where(np.isfinite(plain), total, plain)


def _single(total: Array, dropped: int) -> Array:
    """Returns f64 cut off to f32, with so many bits of the fraction dropped."""
    rounded = total.astype(np.float32)
    bits = rounded.view(np.uint32)
    with np.errstate(invalid="ignore"):
        beyond = np.abs(rounded.astype(np.float64)) > np.abs(total)
    bits = np.where(beyond, bits - np.uint32(1), bits)
    bits = bits & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    huge = np.abs(total) >= 2.0**128
    bits = np.where(huge, np.copysign(np.float32(np.inf), rounded).view(np.uint32), bits)
    return np.where(np.isnan(total), _QUIET, bits).astype(np.uint32).view(np.float32)


def accumulate(
    model: Model, kinds: tuple[str, str], a: Array, b: Array, c: Array, steps: int = 1
) -> Array:
    """
    Returns C + A B as f32 [batch, m, n], for A [batch, m, k], B [batch, k, n] and C in f32.

    `kinds` are the types of A and B, `steps` says how many instructions one after the other make
    up k.
    """
    depth = a.shape[2]
    terms, bits = model.shape(kinds[0], depth // steps)
    dropped = 23 - model.narrow if kinds[0] in _BYTES and model.narrow else 0
    left, right = a.astype(np.float64), b.astype(np.float64)
    out = np.empty(c.shape, np.float32)
    each = max(1, _LARGEST // (a.shape[1] * terms * b.shape[2]))
    for at in range(0, len(a), each):
        part = slice(at, at + each)
        total = c[part]
        for k in range(0, depth, terms):
            block = slice(k, k + terms)
            x, y = left[part, :, block], right[part, block]
            exact = _block(x, y, total.astype(np.float64), kinds, bits)
            total = _single(exact, dropped)
        out[part] = total
    return out
