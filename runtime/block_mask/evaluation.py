"""Evaluates a mask program element by element, in 32-bit integers, and takes its parameters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..array import HOST, view_of
from ..errors import ArgumentError
from .forms import INT32
from .program import POSITIONS, Instruction, MaskProgram
from .tables import Int32Array

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Parameters:
    """What a mask program is given at run time, by name."""

    scalars: Mapping[str, int]
    tensors: Mapping[str, Int32Array]


def bind(program: MaskProgram, parameters: Mapping[str, object]) -> Parameters:
    """
    Returns the scalars and tensors that a program asks for; raises ArgumentError.

    Scalars are integers of 32 bits; tensors are arrays of integers in host memory with as many
    dimensions as the program has indices, and at least one entry.
    """
    wanted = {*program.scalars, *program.tensors}
    for name in (*wanted, *parameters):
        if name not in parameters:
            raise ArgumentError(name, "a value of this parameter of the mask", "none")
        if name not in wanted:
            expected = f"parameters of the mask: {', '.join(sorted(wanted)) or 'none'}"
            raise ArgumentError(name, expected, "a value of another name")
    scalars = {name: _scalar(name, parameters[name]) for name in program.scalars}
    ranks = program.tensors.items()
    return Parameters(scalars, {name: _tensor(name, parameters[name], r) for name, r in ranks})


def _scalar(name: str, value: object) -> int:
    number = cast("Any", value).item() if isinstance(value, np.generic) else value
    if type(number) is not int or not INT32[0] <= number <= INT32[1]:
        raise ArgumentError(name, "an integer of 32 bits", repr(number))
    return number


def _tensor(name: str, value: object, rank: int) -> Int32Array:
    if isinstance(value, np.ndarray):
        array = cast("Array", value)
    else:
        view = view_of(value, name)
        if view.place != HOST or view.host is None:
            raise ArgumentError(name, "integers in host memory", f"{view.dtype} on {view.place}")
        array = view.host
    if array.dtype.kind not in "iub":
        raise ArgumentError(name, "an array of integers", f"dtype {array.dtype}")
    if array.ndim != rank:
        raise ArgumentError(name, f"an array of {rank} dimensions", str(array.ndim))
    if array.size == 0:
        raise ArgumentError(name, "an array with at least one entry", "none")
    if array.dtype != np.int32 and array.dtype.itemsize >= 4:
        if int(array.min()) < INT32[0] or int(array.max()) > INT32[1]:
            raise ArgumentError(name, "integers of 32 bits", f"dtype {array.dtype} with larger")
    return array.astype(np.int32, copy=False)


def _where(condition: Array, yes: Array, no: Array) -> Array:
    return np.where(condition, yes, no)


_OPERATIONS: dict[str, Callable[..., Array]] = {
    "abs": np.abs,
    "add": np.add,
    "and": np.bitwise_and,
    "eq": np.equal,
    "floordiv": np.floor_divide,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,
    "mul": np.multiply,
    "ne": np.not_equal,
    "not": np.logical_not,
    "or": np.bitwise_or,
    "shl": np.left_shift,
    "shr": np.right_shift,
    "sub": np.subtract,
    "where": _where,
    "xor": np.bitwise_xor,
}


def evaluate(
    program: MaskProgram,
    parameters: Parameters,
    b: object,
    h: object,
    q_idx: object,
    kv_idx: object,
    q_row: object = None,
) -> npt.NDArray[np.bool_]:
    """
    Returns the mask at positions, broadcast to one shape; raises ArgumentError.

    Refuses programs with parts that could not be expressed, and positions that
    read outside of a tensor.
    """
    positions = {"b": b, "h": h, "q_idx": q_idx, "kv_idx": kv_idx}
    if any(instruction.op == "q_row" for instruction in program.instructions):
        if q_row is None:
            raise ArgumentError("q_row", "the rows of the queries, which the mask reads", "none")
        positions["q_row"] = q_row
    arguments = {name: np.asarray(value, np.int32) for name, value in positions.items()}
    results: list[Array] = []
    with np.errstate(all="ignore"):
        for instruction in program.instructions:
            results.append(_result(program, instruction, parameters, arguments, results))
    shape = np.broadcast_shapes(*(array.shape for array in arguments.values()))
    return np.broadcast_to(results[-1], shape)


def _result(
    program: MaskProgram,
    instruction: Instruction,
    parameters: Parameters,
    arguments: Mapping[str, Array],
    results: Sequence[Array],
) -> Array:
    """Returns what an instruction computes from the results of those before it."""
    operands = [results[operand] for operand in instruction.operands]
    op, value = instruction.op, instruction.value
    if op in arguments:
        return arguments[op]
    if op == "opaque":
        raise ArgumentError("mask program", "a mask of integers", str(value))
    if op == "load":
        are_positions = (program.instructions[i].op in POSITIONS for i in instruction.operands)
        indices = list(zip(operands, are_positions, strict=True))
        return _load(str(value), parameters.tensors[str(value)], indices)
    if op in ("constant", "scalar"):
        number = parameters.scalars[str(value)] if op == "scalar" else value
        return np.asarray(number, np.bool_ if isinstance(number, bool) else np.int32)
    return _OPERATIONS[op](*operands)


def _load(name: str, tensor: Int32Array, indices: Sequence[tuple[Array, bool]]) -> Array:
    """Reads elements; an index that is no bare position is clamped into the tensor."""
    places: list[Array] = []
    for extent, (index, is_position) in zip(tensor.shape, indices, strict=True):
        if is_position and index.size and (index.min() < 0 or index.max() >= extent):
            raise index_error(name, extent, int(index.min()), int(index.max()))
        places.append(np.clip(index, 0, extent - 1))
    return tensor[tuple(places)]


def index_error(name: str, extent: int, lo: int, hi: int) -> ArgumentError:
    """Returns the error of a mask that reads outside of a tensor."""
    return ArgumentError(name, f"indices from 0 to {extent - 1} in the mask", f"{lo} to {hi}")
