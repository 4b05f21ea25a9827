"""
Applies schedule primitives to a program, step by step, by handles of loops and blocks.

```python
s = Schedule(matmul)
block = s.block("C")
i, j, k = s.loops(block)
i0, i1 = s.split(i, [None, 32])
s.reorder(i0, j, i1, k)
s.steps  # the primitives as data: apply(matmul, s.steps) is s.program
```
"""

from .data import DataSteps
from .loops import LoopSteps
from .queries import Queries
from .reductions import ReductionSteps
from .state import BlockHandle, LoopHandle, apply
from .tensors import TensorSteps

__all__ = ["BlockHandle", "LoopHandle", "Schedule", "apply"]


class Schedule(LoopSteps, ReductionSteps, DataSteps, TensorSteps, Queries):
    """
    A program, the steps applied to it, and a method for each primitive.

    A step that is refused raises ScheduleError and leaves the schedule as it was. Loops and blocks
    are named by handles, or by their names. A handle of a loop that a step took away is refused,
    with the step.
    """
