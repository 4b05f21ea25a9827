"""Index expressions, loads and stores for many points at once: the axes of arrays are loops."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any

import numpy as np

from ..dialects.nest.scalars import Apply, Constant, Index, Load, Scalar, Subscript, Variable
from ..dialects.sym import Expression
from ..transforms.independence import evaluate_on, linear_terms
from .arithmetic import Arithmetic, Array
from .concrete import ExecutionError

_DIVISIONS = frozenset(
    f"arith.{name}" for name in "floordivsi ceildivsi divsi remsi divui remui".split()
)


@dataclass(frozen=True)
class Lane:
    """A loop that is an axis of the arrays: its iterations `start .. start + count - 1`."""

    name: str
    start: int
    count: int


@dataclass(frozen=True)
class Frame:
    """
    The points that a statement is executed for.

    `names` has the loops that are executed one iteration after the other. The points are those
    where all of `masks` hold; each broadcasts over the lanes, and has an axis for each.
    """

    names: Mapping[str, int]
    lanes: tuple[Lane, ...] = ()
    masks: tuple[Array, ...] = ()

    @cached_property
    def mask(self) -> Array | None:
        """Where the statement is executed, None for everywhere."""
        return reduce(np.logical_and, self.masks) if self.masks else None

    def with_name(self, name: str, value: int) -> "Frame":
        """Returns the points of one iteration of a loop."""
        return replace(self, names={**self.names, name: value})

    def with_lane(self, name: str, start: int, count: int) -> "Frame":
        """Returns the points of some iterations of a loop, as one more axis."""
        if count == 1:
            return self.with_name(name, start)
        masks = tuple(mask[..., np.newaxis] for mask in self.masks)
        return Frame(self.names, (*self.lanes, Lane(name, start, count)), masks)

    def where(self, condition: Array) -> "Frame | None":
        """Returns the points for which a condition holds; None if it holds nowhere."""
        if condition.all():
            return self
        if condition.ndim == 0 or not condition.any():
            return None
        return replace(self, masks=(*self.masks, condition))

    @property
    def shape(self) -> tuple[int, ...]:
        """How many iterations each lane has."""
        return tuple(lane.count for lane in self.lanes)

    @property
    def size(self) -> int:
        """The number of points, masked ones included."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass
class Access:
    """The buffers of a program in execution, and what reads and writes them."""

    arithmetic: Arithmetic
    arrays: dict[str, Array]
    numbers: Mapping[str, Array]
    block: str = "the program"
    _linear: dict[Expression, tuple[int, dict[str, int], Expression]] = field(
        default_factory=dict[Expression, tuple[int, dict[str, int], Expression]]
    )

    def expression(self, value: Expression, frame: Frame) -> Array:
        """Returns the values of an index expression, one axis a lane; of size 1 where constant."""
        names: dict[str, Any] = {}
        used = value.symbols()
        for name in used & frame.names.keys():
            names[name] = frame.names[name]
        rank = len(frame.lanes)
        for position, lane in enumerate(frame.lanes):
            if lane.name in used:
                steps = np.arange(lane.start, lane.start + lane.count)
                names[lane.name] = steps.reshape([-1 if p == position else 1 for p in range(rank)])
        return np.asarray(evaluate_on(value, names), np.int64)

    def scalar(self, scalar: Scalar, frame: Frame, known: dict[int, Array] | None = None) -> Array:
        """Returns the values of a scalar; `known` has those of nodes that are shared."""
        known = {} if known is None else known
        if (values := known.get(id(scalar))) is None:
            values = known[id(scalar)] = self._scalar(scalar, frame, known)
        return values

    def _scalar(self, scalar: Scalar, frame: Frame, known: dict[int, Array]) -> Array:
        match scalar:
            case Constant(value, dtype):
                return self.arithmetic.constant(value, dtype)
            case Index(expression):
                return self.expression(expression, frame)
            case Variable(name):
                return self.numbers[name]
            case Load(buffer, indices):
                return self.load(buffer, indices, frame, known)
            case Apply(op, operands, dtype, predicate):
                values = [self.scalar(operand, frame, known) for operand in operands]
                if op in _DIVISIONS:
                    self._check_divisor(op, values[1], frame)
                return self.arithmetic.apply(op, values, operands[0].dtype, dtype, predicate)

    def _check_divisor(self, op: str, divisor: Array, frame: Frame) -> None:
        zero = divisor == 0
        if zero.any() and (frame.mask is None or (zero & frame.mask).any()):
            raise ExecutionError(f"{self.block}: expected a divisor of '{op}', got 0")

    def load(
        self,
        buffer: str,
        indices: tuple[Subscript, ...],
        frame: Frame,
        known: dict[int, Array] | None = None,
    ) -> Array:
        """Returns elements of a buffer; a view of it where the indices are linear."""
        view = self.view(buffer, indices, frame)
        if view is not None:
            return view
        return self.arrays[buffer][self.places(buffer, indices, frame, known)]

    def store(
        self, buffer: str, indices: tuple[Subscript, ...], values: Array, frame: Frame
    ) -> None:
        """Writes elements of a buffer; those of no two points are the same."""
        view = self.view(buffer, indices, frame)
        if view is not None and view.shape == frame.shape:
            where = True if frame.mask is None else frame.mask
            np.copyto(view, values, where=where)
            return
        places = self.places(buffer, indices, frame)
        array = self.arrays[buffer]
        if frame.mask is None or not frame.lanes:
            array[places] = values
            return
        mask = np.broadcast_to(frame.mask, frame.shape)
        chosen = tuple(np.broadcast_to(place, frame.shape)[mask] for place in places)
        array[chosen] = np.broadcast_to(values, frame.shape)[mask]

    def view(self, buffer: str, indices: tuple[Subscript, ...], frame: Frame) -> Array | None:
        """
        Returns elements of a buffer as a view, an axis a lane; of size 1 where all are the same.

        None where an index is not linear over the lanes, or a masked point is out of bounds.
        """
        array = self.arrays[buffer]
        offset: list[int] = []
        steps = dict.fromkeys((lane.name for lane in frame.lanes), 0)
        for axis, index in enumerate(indices):
            if not isinstance(index, Expression):
                return None
            if (linear := self._linear.get(index)) is None:
                linear = self._linear[index] = linear_terms(index)
            start, factors, rest = linear
            if rest.terms:
                if not rest.symbols().isdisjoint(steps):
                    return None
                start += rest.evaluate(frame.names)
            low, high = self._span(start, factors, frame)
            for lane in frame.lanes:
                if factor := factors.get(lane.name):
                    steps[lane.name] += factor * array.strides[axis]
                    start += factor * lane.start
            for name, factor in factors.items():
                if name not in steps:
                    start += factor * frame.names[name]
            if low < 0 or high >= array.shape[axis]:
                return None
            offset.append(start)
        shape = tuple(lane.count if steps[lane.name] else 1 for lane in frame.lanes)
        # Indices alone give a scalar; slices of one element, and the ellipsis, keep the memory.
        origin = array[(*(slice(start, start + 1) for start in offset), ...)]
        return np.lib.stride_tricks.as_strided(origin, shape, tuple(steps.values()))

    def _span(self, start: int, factors: Mapping[str, int], frame: Frame) -> tuple[int, int]:
        low = high = start
        lanes = {lane.name: lane for lane in frame.lanes}
        for name, factor in factors.items():
            if (lane := lanes.get(name)) is None:
                low += factor * frame.names[name]
                high += factor * frame.names[name]
                continue
            ends = factor * lane.start, factor * (lane.start + lane.count - 1)
            low, high = low + min(ends), high + max(ends)
        return low, high

    def places(
        self,
        buffer: str,
        indices: tuple[Subscript, ...],
        frame: Frame,
        known: dict[int, Array] | None = None,
    ) -> tuple[Array, ...]:
        """Returns the indices of an access as arrays; those of masked points are made legal."""
        places: list[Array] = []
        for axis, (index, size) in enumerate(zip(indices, self.arrays[buffer].shape, strict=True)):
            if isinstance(index, Expression):
                values = self.expression(index, frame)
            else:
                values = self.scalar(index, frame, known)
            outside = (values < 0) | (values >= size)
            if outside.any():
                self._check_outside(buffer, axis, size, values, outside, frame)
                values = np.clip(values, 0, max(size - 1, 0))
            places.append(values)
        return tuple(places)

    def _check_outside(
        self, buffer: str, axis: int, size: int, values: Array, outside: Array, frame: Frame
    ) -> None:
        illegal = outside if frame.mask is None else outside & frame.mask
        if illegal.any():
            first = np.broadcast_to(values, illegal.shape)[illegal][0]
            raise ExecutionError(
                f"{self.block}: expected an index of '{buffer}' axis {axis} in "
                f"0 .. {size - 1}, got {first}"
            )
