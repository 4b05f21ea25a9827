"""Distances between elements of a buffer, as far as alignment goes."""

from math import gcd

from ...dialects.nest.program import Buffer
from ...dialects.sym import Expression, constant


def divisible_strides(buffer: Buffer) -> tuple[Expression, ...]:
    """
    Returns for each axis a number that divides its stride, in elements.

    Without padding it is the stride itself. A padded axis has a stride of `offset` modulo
    `factor`, and what is around it multiples of that.
    """
    if buffer.strides is not None:
        return buffer.strides
    padded = {axis: gcd(factor, offset) for axis, factor, offset in buffer.padding}
    strides: list[Expression] = []
    step = constant(1)
    for axis in reversed(range(len(buffer.shape))):
        if axis in padded:
            step = constant(padded[axis])
        strides.append(step)
        step = step * buffer.shape[axis]
    return tuple(reversed(strides))
