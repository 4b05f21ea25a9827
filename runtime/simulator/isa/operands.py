"""What several families ask of operands, and how they emit what ends or waits for groups."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..ptx.syntax import Immediate, Instruction, Operand, Vector
from .forms import Emit, Fields

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter


def elements(b: "BlockEmitter", operand: Operand, count: int) -> tuple[Operand, ...]:
    """Returns the elements of a vector operand, or the operand alone; there must be `count`."""
    items = operand.items if isinstance(operand, Vector) else (operand,)
    if len(items) != count:
        raise b.error(f"expects a vector of {count} elements, got {len(items)}")
    return items


def constant(b: "BlockEmitter", operand: Operand, what: str) -> int:
    """Returns an operand that must be a constant integer; `what` names it in the refusal."""
    if not isinstance(operand, Immediate) or operand.kind != "int":
        raise b.error(f"expects a constant as {what}")
    return operand.value


def _unguarded(b: "BlockEmitter") -> None:
    """Refuses a guard on the instructions that end or wait for groups."""
    if b.guard is not None:
        raise b.error("with a guard is not covered")


def group_end(function: Callable[[Any], None]) -> Emit:
    """Returns what emits a commit_group; `function` takes the group of lanes."""

    def emit(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
        b.operands(0)
        _unguarded(b)
        b.lines.append(f"{b.use(function)}(g)")

    return emit


def group_wait(function: Callable[[Any, int], None]) -> Emit:
    """Returns what emits a wait_group; `function` takes the lanes and how many may be pending."""

    def emit(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
        (pending,) = b.operands(1)
        count = constant(b, pending, "the number of groups")
        _unguarded(b)
        b.lines.append(f"{b.use(function)}(g, {count})")

    return emit
