"""
The algebra of attention states: the output of attention over a part of the keys, and its lse.

A state is a pair of values v [..., heads, head_dim] and a log-sum-exp s f32 [..., heads], the
natural logarithm of the sum of the exponentials of the scores. States over disjoint sets of keys
merge into the state over their union (Ye et al., FlashInfer, MLSys 2025, section 2.2):

    lse = log(sum_j exp(s_j)),    out = sum_j exp(s_j - lse) v_j

The empty state has s = -inf; its v is not read, so it may hold anything. Merging only empty states
gives v = 0 and s = -inf. States are added in their order: the result does not depend on what else
is in a batch. Values are f16, bf16 or f32, computed in f32.
"""

from math import log2, prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..runtime.array import ArrayView, view_of
from ..runtime.device import Device
from ..runtime.errors import ArgumentError
from ..runtime.kernel_call import (
    call_kernel,
    check_array,
    device_of,
    flat,
    overlaps,
    result_array,
)
from ..runtime.stream import stream_handle
from .compiled_kernels import kernel

DTYPES = ("f16", "bf16", "f32")
LARGEST_HEAD_DIM = 1024
_LARGEST = 2**31 - 1
LOG2_E = log2(np.e)


class _Results(NamedTuple):
    out: tuple[object, ArrayView]
    lse: tuple[object, ArrayView]

    @property
    def arrays(self) -> tuple[Any, Any]:
        return self.out[0], self.lse[0]


def merge_state(
    v: object,
    s: object,
    v_other: object,
    s_other: object,
    *,
    out: object = None,
    lse: object = None,
    dtype: str | None = None,
    device: Device | str | None = None,
    stream: object = None,
    target: str = "sm_80",
) -> tuple[Any, Any]:
    """
    Merges two states of each row and head, and returns (out, lse), arrays of the kind of `v`.

    `v` and `v_other` are [n, heads, head_dim] of one dtype, `s` and `s_other` f32 [n, heads]. `out`
    and `lse` are written where given; given as the very arrays `v` and `s`, the merge is in place.
    `dtype` is that of a new `out`, by default that of `v`. Raises ArgumentError before anything is
    launched, also where results share memory with states in any other way.
    """
    views = _views({"v": v, "s": s, "v_other": v_other, "s_other": s_other}, stream)
    _check_states(views["v"], views["s"], 3)
    check_array(views["v_other"], (views["v"].dtype,), views["v"].shape)
    check_array(views["s_other"], ("f32",), views["s"].shape)
    where = device_of(views.values(), device)
    results = _results(views["v"], views["v"].shape, (out, lse), dtype, where, stream)
    in_place = _is_in_place(views["v"], views["s"], results)
    _check_apart(views, results, ("v", "s") if in_place else ())
    head_dim = views["v"].shape[-1]
    artifact = kernel(
        "merge_pair",
        target,
        head_dim=head_dim,
        dtype=views["v"].dtype,
        out_dtype=results.out[1].dtype,
        in_place=in_place,
    )
    rows = prod(views["s"].shape)
    if not in_place:
        views |= {"out": results.out[1], "lse": results.lse[1]}
    arrays = {
        name: flat(view, (rows, head_dim) if name in _VALUES else (rows,))
        for name, view in views.items()
    }
    call_kernel(artifact, arrays, where, stream=stream)
    return results.arrays


def merge_states(
    v: object,
    s: object,
    *,
    out: object = None,
    lse: object = None,
    dtype: str | None = None,
    device: Device | str | None = None,
    stream: object = None,
    target: str = "sm_80",
) -> tuple[Any, Any]:
    """
    Merges k states of each row and head, and returns (out, lse), arrays of the kind of `v`.

    `v` is [n, k, heads, head_dim] and `s` f32 [n, k, heads]; the results are [n, heads, head_dim]
    and f32 [n, heads]. Without states, k = 0, they are 0 and -inf. Raises ArgumentError before
    anything is launched.
    """
    views = _views({"v": v, "s": s}, stream)
    _check_states(views["v"], views["s"], 4)
    n, states, heads, head_dim = views["v"].shape
    where = device_of(views.values(), device)
    results = _results(views["v"], (n, heads, head_dim), (out, lse), dtype, where, stream)
    return _merge_many(views, results, where, stream, target, {"rows": n, "states": states})


def merge_states_ragged(
    v: object,
    s: object,
    indptr: object,
    *,
    longest: int | None = None,
    out: object = None,
    lse: object = None,
    dtype: str | None = None,
    device: Device | str | None = None,
    stream: object = None,
    target: str = "sm_80",
) -> tuple[Any, Any]:
    """
    Merges the states of each row, any number of them, and returns (out, lse).

    `v` is [nnz, heads, head_dim] and `s` f32 [nnz, heads]; row i has the states from `indptr[i]`
    to `indptr[i + 1] - 1`, int32 [n + 1]. A row without states gets 0 and -inf. `indptr` in host
    memory is checked; on a GPU it is not read by the host, and `longest`, a bound of the number of
    states of a row, must be given. Raises ArgumentError before anything is launched.
    """
    views = _views({"v": v, "s": s, "indptr": indptr}, stream)
    _check_states(views["v"], views["s"], 3)
    nnz, heads, head_dim = views["v"].shape
    check_array(views["indptr"], ("i32",), ("n + 1",))
    if not views["indptr"].shape[0]:
        raise ArgumentError("indptr", "at least one entry", "none")
    most = _longest(views["indptr"].host, nnz, longest)
    rows = views["indptr"].shape[0] - 1
    where = device_of(views.values(), device)
    results = _results(views["v"], (rows, heads, head_dim), (out, lse), dtype, where, stream)
    symbols = {"rows": rows, "states": most, "nnz": nnz}
    return _merge_many(views, results, where, stream, target, symbols)


def lse_to_base2(lse: Any, **where: Any) -> Any:
    """
    Returns log-sum-exps in base 2, `log2(sum(2^(s log2(e))))`, from natural ones, f32 of any shape.

    FlashInfer's kernels exchange base 2. `where` may have `out`, `device`, `stream` and `target`.
    """
    return _scaled(lse, LOG2_E, **where)


def lse_from_base2(lse: Any, **where: Any) -> Any:
    """Returns natural log-sum-exps from those in base 2; see `lse_to_base2`."""
    return _scaled(lse, 1.0 / LOG2_E, **where)


_VALUES = ("v", "v_other", "out")


def _views(arrays: dict[str, object], stream: object) -> dict[str, ArrayView]:
    handle = stream_handle(stream)
    return {name: view_of(array, name, handle) for name, array in arrays.items()}


def _check_states(v: ArrayView, s: ArrayView, axes: int) -> None:
    names = ("n", "k", "heads", "head_dim") if axes == 4 else ("n", "heads", "head_dim")
    check_array(v, DTYPES, names)
    check_array(s, ("f32",), v.shape[:-1])
    for view in (v, s):
        if not view.contiguous:
            raise ArgumentError(view.name, "a C-contiguous array", "other strides")
    if not 1 <= v.shape[-1] <= LARGEST_HEAD_DIM:
        raise ArgumentError("v", f"a head_dim of 1 to {LARGEST_HEAD_DIM}", str(v.shape[-1]))
    if prod(s.shape) > _LARGEST:
        raise ArgumentError("v", f"at most {_LARGEST} states", str(prod(s.shape)))


def _results(
    v: ArrayView,
    shape: tuple[int, ...],
    given: tuple[object, object],
    dtype: str | None,
    device: Device,
    stream: object,
) -> _Results:
    out, lse = given
    if dtype is None:
        dtype = v.dtype if out is None else view_of(out, "out", stream_handle(stream)).dtype
    if dtype not in DTYPES:
        raise ArgumentError("out" if out is not None else "dtype", f"one of {DTYPES}", repr(dtype))
    if prod(shape[:-1]) > _LARGEST:
        raise ArgumentError("v", f"at most {_LARGEST} rows and heads", str(prod(shape[:-1])))
    return _Results(
        result_array("out", out, v, device, shape, dtype, stream),
        result_array("lse", lse, v, device, shape[:-1], "f32", stream),
    )


def _is_in_place(v: ArrayView, s: ArrayView, results: _Results) -> bool:
    same = [
        mine.address == theirs.address and mine.place == theirs.place and prod(mine.shape) > 0
        for mine, theirs in ((results.out[1], v), (results.lse[1], s))
    ]
    if any(same) and not all(same):
        raise ArgumentError("out", "both results in place of v and s, or none", "one of them")
    return all(same) and results.out[1].dtype == v.dtype


def _check_apart(views: dict[str, ArrayView], results: _Results, shared: tuple[str, ...]) -> None:
    for result in (results.out[1], results.lse[1]):
        for name, view in views.items():
            if name not in shared and overlaps(result, view):
                raise ArgumentError(result.name, "memory of its own", f"memory of '{name}'")


def _merge_many(
    views: dict[str, ArrayView],
    results: _Results,
    device: Device,
    stream: object,
    target: str,
    symbols: dict[str, int],
) -> tuple[Any, Any]:
    _check_apart(views, results, ())
    heads, head_dim = views["v"].shape[-2:]
    if not heads:
        return results.arrays
    artifact = kernel(
        "merge_many",
        target,
        heads=heads,
        head_dim=head_dim,
        dtype=views["v"].dtype,
        out_dtype=results.out[1].dtype,
        ragged="indptr" in views,
    )
    arrays = views | {"out": results.out[1], "lse": results.lse[1]}
    call_kernel(artifact, arrays, device, symbols=symbols, stream=stream)
    return results.arrays


def _longest(indptr: npt.NDArray[Any] | None, nnz: int, longest: int | None) -> int:
    if indptr is None:
        if longest is None:
            raise ArgumentError("longest", "a bound, where indptr is on a GPU", "nothing")
        return longest
    counts = np.diff(indptr)
    if indptr[0] != 0 or int(indptr[-1]) != nnz or (counts < 0).any():
        expected = f"entries from 0 to {nnz}, the states, that never decrease"
        raise ArgumentError("indptr", expected, np.array2string(indptr, threshold=8))
    most = int(counts.max(initial=0))
    if longest is not None and longest < most:
        raise ArgumentError("longest", f"at least {most}, the states of a row", str(longest))
    return most


def _scaled(
    lse: object,
    factor: float,
    *,
    out: object = None,
    device: Device | str | None = None,
    stream: object = None,
    target: str = "sm_80",
) -> object:
    view = view_of(lse, "lse", stream_handle(stream))
    check_array(view, ("f32",), tuple(f"n_{axis}" for axis in range(len(view.shape))))
    where = device_of([view], device)
    array, result = result_array("out", out, view, where, view.shape, "f32", stream)
    count = (prod(view.shape),)
    if result.address != view.address and overlaps(result, view):
        raise ArgumentError("out", "memory of its own, or lse itself", "a part of lse")
    arrays = {"lse": flat(view, count), "out": flat(result, count)}
    call_kernel(kernel("scale_lse", target, factor=factor), arrays, where, stream=stream)
    return array
