"""Where the elements of a buffer lie: strides, and how much memory they span."""

from math import prod

from ..sym import Expression, constant
from .program import Buffer


def row_major(shape: tuple[Expression, ...]) -> tuple[Expression, ...]:
    """Returns the strides of a dense array, in elements."""
    strides: list[Expression] = []
    step = constant(1)
    for extent in reversed(shape):
        strides.insert(0, step)
        step = step * extent
    return tuple(strides)


def strides_of(buffer: Buffer) -> tuple[Expression, ...]:
    """Returns the strides of a buffer in elements."""
    return row_major(buffer.shape) if buffer.strides is None else buffer.strides


def span_of(buffer: Buffer) -> Expression:
    """Returns how many elements of memory a buffer takes."""
    if buffer.strides is None:
        return prod(buffer.shape, start=constant(1))
    steps = zip(buffer.shape, buffer.strides, strict=True)
    return sum(((extent - 1) * stride for extent, stride in steps), start=constant(1))
