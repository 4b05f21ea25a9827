"""
Attention as an operator of torch, `torch.ops.tilewright.attention`, for torch.compile and export.

```python
from tilewright.attention import torch_op
attend = torch_op.bind(plan)
out, lse = torch.compile(lambda q, k, v: attend(q, k, v))(q, k_pages, v_pages)
```

torch is no dependency: it is imported when a plan is first bound. The operator has shapes for
fake tensors, and no gradient. A plan is passed by a number that stands for it; where it is changed
in place (`Plan.update`, `Plan.step`), what torch compiled stays valid.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from itertools import count
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..runtime.attention import Plan
from ..runtime.errors import ArgumentError, TilewrightError

NAME = "tilewright::attention"
SCHEMA = (
    "(Tensor q, Tensor k_pages, Tensor v_pages, int plan, Tensor[] tensors, float[] scalars, "
    "float? softmax_scale) -> (Tensor, Tensor)"
)

_plans: WeakValueDictionary[int, Plan] = WeakValueDictionary()
_numbers: WeakKeyDictionary[Plan, int] = WeakKeyDictionary()
_next = count(1)
_lock = Lock()


class BoundPlan:
    """
    The operator with a plan: a function of tensors, which torch.compile traces into.

    Raises TilewrightError where torch is not installed.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._operator, self._number = registered(), number_of(plan)
        names, pointers = plan.op.section.params, plan.op.signature.pointers
        self._arrays = [name for name in names if name in pointers]
        self._scalars = [name for name in names if name not in pointers]

    def __call__(
        self,
        q: Any,
        k_pages: Any,
        v_pages: Any,
        *,
        params: Mapping[str, Any] | None = None,
        softmax_scale: float | None = None,
    ) -> tuple[Any, Any]:
        """
        Returns new tensors (out, lse), as `Plan.run` does, `params` holding the variant's by name.

        Tensors on a GPU are used on torch's current stream. Raises ArgumentError.
        """
        given: Mapping[str, Any] = {} if params is None else params
        names = [*self._arrays, *self._scalars]
        if sorted(given) != sorted(names):
            expected = f"values for {', '.join(names) or 'nothing'}"
            raise ArgumentError("params", expected, ", ".join(sorted(given)) or "nothing")
        tensors = [given[name] for name in self._arrays]
        scalars = [given[name] for name in self._scalars]
        return self._operator(q, k_pages, v_pages, self._number, tensors, scalars, softmax_scale)


def bind(plan: Plan) -> BoundPlan:
    """Returns the operator with a plan; raises TilewrightError where torch is not installed."""
    return BoundPlan(plan)


def number_of(plan: Plan) -> int:
    """Returns the number that stands for a plan while it lives."""
    with _lock:
        number = _numbers.get(plan)
        if number is None:
            number = _numbers[plan] = next(_next)
            _plans[number] = plan
        return number


@lru_cache(maxsize=1)
def registered() -> Any:
    """Returns the operator, registered with torch; raises TilewrightError without torch."""
    try:
        library: Any = import_module("torch.library")
    except ImportError as error:
        raise TilewrightError(f"the operator of torch needs torch: {error}") from None
    operator = library.custom_op(NAME, _run, mutates_args=(), schema=SCHEMA)
    operator.register_fake(_shapes)
    return operator


def _run(
    q: Any,
    k_pages: Any,
    v_pages: Any,
    plan: int,
    tensors: list[Any],
    scalars: list[float],
    softmax_scale: float | None,
) -> tuple[Any, Any]:
    found = _plans.get(plan)
    if found is None:
        raise ArgumentError("plan", "the number of a plan that lives", str(plan))
    pointers = found.op.signature.pointers
    arrays, numbers = iter(tensors), iter(scalars)
    names = found.op.section.params
    params = {name: next(arrays if name in pointers else numbers) for name in names}
    stream = import_module("torch").cuda.current_stream(q.device) if q.is_cuda else None
    out, lse = _shapes(q, k_pages, v_pages, plan, tensors, scalars, softmax_scale)
    found.run(
        q,
        k_pages,
        v_pages,
        out=out,
        lse=lse,
        params=params,
        softmax_scale=softmax_scale,
        stream=stream,
    )
    return out, lse


def _shapes(
    q: Any,
    k_pages: Any,
    v_pages: Any,
    plan: int,
    tensors: list[Any],
    scalars: list[float],
    softmax_scale: float | None,
) -> tuple[Any, Any]:
    """Returns empty results: out as q, C-contiguous, and lse f32 [n, Hq]."""
    rows, heads, head_dim = q.shape
    float32: Any = import_module("torch").float32
    return q.new_empty((rows, heads, head_dim)), q.new_empty((rows, heads), dtype=float32)
