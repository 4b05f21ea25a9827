"""The operator of torch: its shapes, what torch checks of it, and torch.compile."""

import sys
from typing import Any

import numpy as np
import pytest

from tilewright.attention import Plan, attention_sinks, causal, scalar, soft_cap, tensor, torch_op
from tilewright.runtime.errors import ArgumentError, TilewrightError
from tilewright.test.attention.reference import Geometry
from tilewright.test.runtime.attention_case import Geometry as Stub
from tilewright.test.runtime.attention_case import batch_of, op_of

GEOMETRY = Geometry(group=2, num_kv_heads=2, head_dim=32, page_size=4, dtype="bf16")


def test_without_torch_the_operator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.library", None)
    torch_op.registered.cache_clear()
    plan = op_of(Stub()).plan(*batch_of(Stub(), [1], [7]).tables)
    with pytest.raises(TilewrightError, match="^the operator of torch needs torch: "):
        torch_op.bind(plan)


def case() -> tuple[Any, Plan, tuple[Any, ...], dict[str, Any]]:
    """Returns torch, a plan with parameters, and tensors for it; skips where torch is missing."""
    torch: Any = pytest.importorskip("torch")
    capped = soft_cap(scalar("cap"), causal().mask_mod) & attention_sinks(tensor("sinks", (4,)))
    tables = ([0, 3, 4], [0, 3, 5], [4, 1, 2, 3, 0], [2, 4])
    plan = GEOMETRY.compile(capped).plan(*(np.array(table, np.int32) for table in tables))
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator).to(torch.bfloat16)

    tensors = (normal(4, 4, 32), normal(5, 4, 2, 32), normal(5, 4, 2, 32))
    return torch, plan, tensors, {"cap": 20.0, "sinks": torch.linspace(-1, 1, 4)}


def test_the_operator_gives_what_the_plan_gives() -> None:
    torch, plan, tensors, params = case()
    out, lse = torch_op.bind(plan)(*tensors, params=params)
    expected, expected_lse = plan.run(*tensors, params=params)
    assert torch.equal(out, expected)
    assert torch.equal(lse, expected_lse)


def test_torch_finds_nothing_wrong_with_the_operator() -> None:
    torch, plan, tensors, params = case()
    number = torch_op.number_of(plan)
    arguments = (*tensors, number, [params["sinks"]], [params["cap"]], None)
    torch.library.opcheck(torch_op.registered(), arguments)


def test_torch_compile_traces_through_the_operator() -> None:
    torch, plan, (q, k, v), params = case()
    attend = torch_op.bind(plan)

    def layer(q: Any) -> Any:
        return 2 * attend(q + 1, k, v, params=params)[0]

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(q), layer(q))


def test_missing_parameters_are_refused() -> None:
    _, plan, tensors, _ = case()
    with pytest.raises(ArgumentError, match="expected values for sinks, cap, got nothing"):
        torch_op.bind(plan)(*tensors)
