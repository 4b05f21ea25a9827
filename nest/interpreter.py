"""The meaning of a program: what it computes when its statements are executed in order."""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np

from ..dialects.nest.program import (
    AxisKind,
    Block,
    Body,
    Bound,
    Call,
    Guard,
    Loop,
    Program,
    ScalarParameter,
    Statement,
    Store,
)
from ..dialects.nest.program import walk as walk_statements
from .arguments import check_arrays, solve_symbols
from .arithmetic import Arithmetic, Array, decode, encode
from .concrete import Concrete, Descriptions, ExecutionError, concrete
from .contraction import contracted, identity_of, masked, reduced
from .lanes import Access, Frame
from .plan import Plan, Reduction, plan_of

__all__ = ["ExecutionError", "interpret"]

NO_DESCRIPTIONS: Descriptions = {}
MAX_POINTS = 1 << 22  # statements are executed for at most about as many points at once


def interpret(
    program: Program,
    arrays: Mapping[str, Array],
    scalars: Mapping[str, Any] | None = None,
    symbols: Mapping[str, int] | None = None,
    *,
    descriptions: Descriptions = NO_DESCRIPTIONS,
    is_exact: bool = False,
) -> dict[str, Array]:
    """
    Executes a program on arrays, and returns those of all parameters that are buffers.

    Arrays are written in place. `bf16` and 8-bit floats are passed as their bits. Symbols are
    solved from the shapes; `symbols` has those that no shape determines. `descriptions` are the
    programs of the tensor intrinsics that are called. Loops are executed in order, whatever their
    kind; only the order of the points of a reduction is not kept. With `is_exact` all floats are
    computed and returned in f64, and no array is written.

    Raises ArgumentError for arguments that do not match, ExecutionError for an access out of
    bounds, a division by zero or an unknown intrinsic.
    """
    given = scalars or {}
    check_arrays(program, arrays, given)
    values = solve_symbols(program, arrays, symbols)
    arithmetic = Arithmetic(is_exact)
    numbers = _numbers(program, given, arithmetic)
    made = concrete(program, values, descriptions)
    held = {name: _held(array, made.dtypes[name], arithmetic) for name, array in arrays.items()}
    if is_exact:
        held = {name: array.copy() for name, array in held.items()}
    execute(made, dict(held), numbers, arithmetic)
    if is_exact:
        return held
    written = _written(made.body)
    for name, array in arrays.items():
        if name in written and held[name] is not array:
            array[...] = encode(held[name], made.dtypes[name])
    return dict(arrays)


def _numbers(
    program: Program, given: Mapping[str, Any], arithmetic: Arithmetic
) -> dict[str, Array]:
    return {
        parameter.name: arithmetic.rounded(np.asarray(given[parameter.name]), parameter.dtype)
        for parameter in program.parameters
        if isinstance(parameter, ScalarParameter)
    }


def _held(array: Array, dtype: str, arithmetic: Arithmetic) -> Array:
    held = np.asarray(arithmetic.rounded(decode(array, dtype), dtype))
    # NumPy makes a number of an array without axes, which nothing can be written to.
    return held if held.flags.writeable else np.array(held)


def _written(body: Body) -> set[str]:
    return {part.buffer for part in walk_statements(body) if isinstance(part, Store)}


def execute(
    made: Concrete, arrays: dict[str, Array], numbers: Mapping[str, Array], arithmetic: Arithmetic
) -> None:
    """Executes a concrete program; `arrays` are of the dtypes in which numbers are held."""
    for name, shape in made.shapes.items():
        if name not in arrays:
            held = arithmetic.held(made.dtypes[name])
            # What was never written is no number, so that reading it shows.
            arrays[name] = np.full(shape, np.nan if held.kind == "f" else 85).astype(held)
    plan = plan_of(made.body, arithmetic.is_exact)
    with np.errstate(all="ignore"):
        _Execution(plan, Access(arithmetic, arrays, numbers)).body(made.body, Frame({}))


class _Execution:
    def __init__(self, plan: Plan, access: Access) -> None:
        self.plan = plan
        self.access = access

    def body(self, body: Body, frame: Frame) -> None:
        for statement in body:
            self.statement(statement, frame)

    def statement(self, statement: Statement, frame: Frame) -> None:
        match statement:
            case Loop():
                self.loop(statement, frame)
            case Block():
                self.block(statement, frame)
            case Guard(condition, body):
                inner = frame.where(self.access.scalar(condition, frame))
                if inner is not None:
                    self.body(body, inner)
            case Store(buffer, indices, value):
                self.access.store(buffer, indices, self.access.scalar(value, frame), frame)
            case Call(intrinsic):
                raise ExecutionError(f"expected a program without calls, got '{intrinsic}'")

    def loop(self, loop: Loop, frame: Frame) -> None:
        extent = loop.extent.evaluate(frame.names)
        if loop.name in self.plan.lanes:
            self.lanes(loop, extent, frame, lambda inner: self.body(loop.body, inner))
        elif (reduction := self.plan.reductions.get(loop.name)) is not None:
            self.reduction(reduction, frame)
        else:
            for value in range(extent):
                self.body(loop.body, frame.with_name(loop.name, value))

    def lanes(self, loop: Loop, extent: int, frame: Frame, run: Callable[[Frame], None]) -> None:
        """Executes a loop for all iterations at once, or for as many as arrays may have points."""
        each = frame.size * max(1, self.plan.sizes[loop.name] // max(extent, 1))
        step = max(1, MAX_POINTS // each)
        for start in range(0, extent, step):
            run(frame.with_lane(loop.name, start, min(step, extent - start)))

    def block(self, block: Block, frame: Frame) -> None:
        outer, self.access.block = self.access.block, f"block '{block.name}'"
        inner = self.inside(block, frame)
        if inner is not None:
            first = self.first(block, inner) if block.init else None
            if first is not None:
                self.body(block.init, first)
            self.body(block.body, inner)
        self.access.block = outer

    def inside(self, block: Block, frame: Frame) -> Frame | None:
        """Returns the points where the predicate of a block holds; None for no point."""
        inner: Frame | None = frame
        for bound in block.predicate:
            if inner is not None:
                inner = inner.where(self.holds(bound, inner))
        return inner

    def holds(self, bound: Bound, frame: Frame) -> Array:
        return self.access.expression(bound.right - bound.left, frame) > 0

    def first(self, block: Block, frame: Frame) -> Frame | None:
        """Returns the points where every reduce axis is at 0; None for no point."""
        inner: Frame | None = frame
        for axis in block.axes_of(AxisKind.REDUCE):
            if inner is not None:
                inner = inner.where(self.access.expression(axis.binding, inner) == 0)
        return inner

    def reduction(self, reduction: Reduction, frame: Frame, position: int = 0) -> None:
        """Executes a reduction, loop after loop in parts of as many points as arrays may have."""
        if position == len(reduction.loops):
            self.reduce(reduction, frame)
            return
        loop = reduction.loops[position]
        extent = loop.extent.constant_value or 0
        inner = 1
        for part in reduction.loops[position + 1 :]:
            inner *= part.extent.constant_value or 1
        limit = MAX_POINTS * reduction.reuse
        step = max(1, limit // (frame.size * inner))
        for start in range(0, extent, step):
            part = frame.with_lane(loop.name, start, min(step, extent - start))
            self.reduction(reduction, part, position + 1)

    def reduce(self, reduction: Reduction, frame: Frame) -> None:
        for condition in reduction.guards:
            guarded = frame.where(self.access.scalar(condition, frame))
            if guarded is None:
                return
            frame = guarded
        block = reduction.block
        if block is None:
            self.update(reduction, frame)
            return
        outer, self.access.block = self.access.block, f"block '{block.name}'"
        inner = self.inside(block, frame)
        if inner is not None:
            if block.init:
                self.begin(reduction, block, inner)
            self.update(reduction, inner)
        self.access.block = outer

    def begin(self, reduction: Reduction, block: Block, frame: Frame) -> None:
        """Executes the init of a reduction at the first points of its loops."""
        first = _at_first(frame, reduction.reduced)
        begun = None if first is None else self.first(block, first)
        if begun is not None:
            self.body(block.init, begun)

    def update(self, reduction: Reduction, frame: Frame) -> None:
        """Combines the elements with what all points contribute."""
        access, store = self.access, reduction.store
        axes = tuple(
            axis for axis, lane in enumerate(frame.lanes) if lane.name in reduction.reduced
        )
        total = self.product(reduction, frame, axes)
        if total is None:
            total = self.combined(reduction, frame, axes)
        kept = _without(frame, axes)
        dtype = reduction.update.dtype
        old = access.load(store.buffer, store.indices, kept)
        new = access.arithmetic.apply(reduction.op, [old, total], dtype, dtype)
        access.store(store.buffer, store.indices, new, kept)

    def product(self, reduction: Reduction, frame: Frame, axes: tuple[int, ...]) -> Array | None:
        """Returns the sum of products as a matrix product, if it is one."""
        value = reduction.product
        if value is None:
            return None
        known: dict[int, Array] = {}
        left, right = (self.access.scalar(part, frame, known) for part in value.operands)
        for mask in frame.masks:
            if any(mask.shape[axis] > 1 for axis in axes):
                if (pair := masked(left, right, mask) or masked(right, left, mask)) is None:
                    return None
                left, right = pair
        return contracted(left, right, frame.shape, axes)

    def combined(self, reduction: Reduction, frame: Frame, axes: tuple[int, ...]) -> Array:
        values = np.broadcast_to(self.access.scalar(reduction.value, frame), frame.shape)
        if frame.mask is not None:
            values = np.where(frame.mask, values, identity_of(reduction.op, values.dtype))
        return reduced(reduction.op, values, axes) if axes else values


def _at_first(frame: Frame, reduced: frozenset[str]) -> Frame | None:
    """Returns the points at which all of the reduced loops are at 0; None for no point."""
    axes = tuple(axis for axis, lane in enumerate(frame.lanes) if lane.name in reduced)
    if any(frame.lanes[axis].start for axis in axes):
        return None
    if any(value for name, value in frame.names.items() if name in reduced):
        return None
    names = {**frame.names, **{frame.lanes[axis].name: 0 for axis in axes}}
    lanes = tuple(lane for axis, lane in enumerate(frame.lanes) if axis not in axes)
    masks: list[Array] = []
    for mask in frame.masks:
        first = mask[tuple(0 if axis in axes else slice(None) for axis in range(mask.ndim))]
        if not first.any():
            return None
        masks.append(np.asarray(first))
    return Frame(names, lanes, tuple(masks))


def _without(frame: Frame, axes: tuple[int, ...]) -> Frame:
    """Returns the points of the other axes, those with any point in these."""
    lanes = tuple(lane for axis, lane in enumerate(frame.lanes) if axis not in axes)
    masks: list[Array] = []
    along: list[Array] = []
    for mask in frame.masks:
        is_along = any(mask.shape[axis] > 1 for axis in axes)
        (along if is_along else masks).append(mask)
    masks = [mask.squeeze(axes) for mask in masks]
    if along:
        # A point of the other axes is in if one point is where all hold, not one for each.
        masks.append(np.asarray(np.any(reduce(np.logical_and, along), axis=axes)))
    return Frame(frame.names, lanes, tuple(masks))
