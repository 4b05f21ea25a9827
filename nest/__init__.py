"""
Tensor programs as loop nests: built in Python, scheduled step by step, run on every device.

```python
b = nest.Builder("matmul", "n in [1, 8192]")
A, B = b.buffer("A", ["n", 512], "f16"), b.buffer("B", [512, 256], "f16")
C = b.buffer("C", ["n", 256], "f32", output=True)
i, j, k = b.axes(i="n", j=256, k=512)
C[i, j] += A[i, k] * B[k, j]
matmul = b.build()

s = nest.Schedule(matmul)
i, j, k = s.loops(s.block("C"))
i_0, i_1 = s.split(i, [None, 32])
s.parallel(i_0)
nest.check_schedule(matmul, s.program).require()
nest.compile(s.program, target="host")(a, b, c)
```
"""

from ..dialects.nest.program import Program
from ..transforms.schedule.primitive import Primitive, ScheduleError
from .builder import Builder, maximize, minimize
from .check import check_schedule
from .compiler import Compiled, compile
from .default_schedule import default_gpu_schedule
from .interpreter import interpret
from .picture import draw, page
from .schedule import Schedule, apply
from .values import (
    NestError,
    Value,
    absolute,
    cast,
    cos,
    erf,
    exp,
    exp2,
    inside,
    log,
    maximum,
    minimum,
    round_even,
    rsqrt,
    select,
    sigmoid,
    sin,
    sqrt,
    tanh,
)

__all__ = [
    "Builder",
    "Compiled",
    "NestError",
    "Primitive",
    "Program",
    "Schedule",
    "ScheduleError",
    "Value",
    "absolute",
    "apply",
    "cast",
    "check_schedule",
    "compile",
    "cos",
    "default_gpu_schedule",
    "draw",
    "erf",
    "exp",
    "exp2",
    "inside",
    "interpret",
    "log",
    "maximize",
    "maximum",
    "minimize",
    "minimum",
    "page",
    "round_even",
    "rsqrt",
    "select",
    "sigmoid",
    "sin",
    "sqrt",
    "tanh",
]
