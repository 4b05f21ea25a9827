"""Block masks: which KV tiles each query tile needs, without evaluating a mask of S x S."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from ..runtime.block_mask import DEFAULT_BUDGET, BlockMask, Grid, MaskProgram, derive
from ..runtime.errors import ArgumentError
from .expression import is_integer
from .mask_program import mask_program
from .variants import as_variant

_LARGEST = 2**31 - 1
Lengths = int | Sequence[int]


def block_mask(
    mask: object,
    q_len: Lengths,
    kv_len: Lengths,
    block: tuple[int, int] = (128, 128),
    *,
    batch: int | None = None,
    heads: int | None = None,
    q_first: Lengths | None = None,
    parameters: Mapping[str, object] | None = None,
    budget: int = DEFAULT_BUDGET,
) -> BlockMask:
    """
    Returns which KV tiles each tile of queries needs: none, all of one, or some of its elements.

    `mask` is a variant, a mask_mod `(b, h, q_idx, kv_idx)`, or a `MaskProgram`. `q_len` and
    `kv_len` are the numbers of queries and keys, one each or one for every request; `block` is the
    queries and keys of a tile. `batch` and `heads` count requests and query heads that the mask
    tells apart; a mask that uses neither needs neither. `q_first` is the position of the first
    query, by default such that the last query stands at the last key. `parameters` gives the
    run-time scalars and tensors of the mask by name.

    The result is sound whatever the mask: a tile that is called empty or full is so. A tile that
    overhangs the queries or the keys is never full, as in FlexAttention's BlockMask. At most about
    `budget` parts of tiles are evaluated to settle what the analysis leaves open.

    Raises `VariantError` for a function that cannot be traced, `ArgumentError` for numbers that
    no mask can have, and for a tensor that a position indexes out of its bounds.
    """
    program = mask if isinstance(mask, MaskProgram) else mask_program(as_variant(mask).traced.mask)
    grid = _grid(program, q_len, kv_len, block, batch, heads, q_first)
    if not is_integer(budget) or budget < 0:
        raise ArgumentError("budget", "an integer from 0", repr(budget))
    return derive(program, grid, parameters or {}, budget)


def _grid(
    program: MaskProgram,
    q_len: Lengths,
    kv_len: Lengths,
    block: tuple[int, int],
    batch: int | None,
    heads: int | None,
    q_first: Lengths | None,
) -> Grid:
    given = {"q_len": q_len, "kv_len": kv_len, "q_first": 0 if q_first is None else q_first}
    arrays = {name: _integers(name, values) for name, values in given.items()}
    sizes = {array.size for array in arrays.values() if array.ndim == 1}
    if batch is not None:
        sizes.add(_count("batch", batch, 0))
    if len(sizes) > 1:
        raise ArgumentError("q_len", "as many lengths as requests", f"{sorted(sizes)} of them")
    used = {instruction.op for instruction in program.instructions}
    for name, missing in (("batch", not sizes), ("heads", heads is None)):
        if name[0] in used and missing:
            raise ArgumentError(name, f"a number of them, as the mask uses {name[0]}", "none")
    requests = sizes.pop() if sizes else 1
    per_request = _count("heads", 1 if heads is None else heads, 1)
    queries, keys, first = (np.broadcast_to(array, (requests,)) for array in arrays.values())
    if q_first is None:
        first = keys - queries
    for name, lengths in (("q_len", queries), ("kv_len", keys)):
        if (lengths < 0).any():
            raise ArgumentError(name, "lengths from 0", str(int(lengths.min())))
    return Grid(
        np.repeat(np.arange(requests), per_request),
        np.tile(np.arange(per_request), requests),
        np.repeat(queries, per_request),
        np.repeat(keys, per_request),
        np.repeat(first, per_request),
        _block(block),
    )


def _count(name: str, value: object, least: int) -> int:
    if not is_integer(value) or not least <= cast("int", value) <= _LARGEST:
        raise ArgumentError(name, f"an integer from {least}", repr(value))
    return cast("int", value)


def _block(block: object) -> tuple[int, int]:
    kind = type(block).__name__
    sizes = cast("tuple[object, ...]", block) if isinstance(block, tuple) else ()
    if len(sizes) != 2:
        got = f"{len(sizes)} numbers" if sizes else kind
        raise ArgumentError("block", "the queries and the keys of a tile", got)
    return _count("block", sizes[0], 1), _count("block", sizes[1], 1)


def _integers(name: str, values: object) -> npt.NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim > 1 or (array.dtype.kind not in "iu" and array.size):
        got = f"{array.ndim} dimensions of dtype {array.dtype}"
        raise ArgumentError(name, "an integer, or one for each request", got)
    array = array.astype(np.int64)
    if array.size and max(abs(int(array.min())), abs(int(array.max()))) > _LARGEST:
        raise ArgumentError(name, "integers of 32 bits", "larger ones")
    return array
