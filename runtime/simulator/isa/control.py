"""Control flow and barriers: each of these ends its block (PTX ISA, "Control Flow", "bar")."""

from typing import TYPE_CHECKING

from ..ptx.syntax import Immediate, Instruction, Operand, Register
from .forms import Fields, Table

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter


def _branch(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits bra."""
    b.operands(1)
    b.end("jump" if b.guard is None else "branch", b.guard or "None")


def _table(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits brx.idx."""
    index, _ = b.operands(2)
    b.end("table", b.read(index, "u32"))


def _exit(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits ret and exit."""
    b.operands(0)
    b.end("exit", b.guard or "None")


def _trap(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits trap."""
    b.operands(0)
    b.end("trap", b.guard or "None")


def _thread_count(b: "BlockEmitter", operand: Operand | None) -> str:
    """Returns the number of threads that a barrier names, or "None"."""
    if operand is None:
        return "None"
    if isinstance(operand, Immediate) and (operand.value <= 0 or operand.value % 32):
        raise b.error(f"expects a multiple of 32 threads, got {operand.value}")
    return b.read(operand, "u32")


def _barrier(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits bar.sync, bar.arrive and their kin."""
    arrive = fields["what"] == "arrive"
    number, *rest = b.operands(2) if arrive else b.operands(1, 2)
    if isinstance(number, Immediate) and not 0 <= number.value < 16:
        raise b.error(f"expects a barrier from 0 to 15, got {number.value}")
    name = b.read(number, "u32")
    count = _thread_count(b, rest[0] if rest else None)
    aligned = fields["op"] == "bar" or bool(fields["aligned"])
    kind = "arrive" if arrive else "barrier"
    b.end(kind, f"({name}, {count})", aligned)


def _reduce(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits bar.red and barrier.red; the scheduler writes the result when the barrier completes."""
    d, number, *rest, predicate = b.operands(3, 4)
    if not isinstance(d, Register):
        raise b.error("expects a register as its destination")
    if isinstance(number, Immediate) and not 0 <= number.value < 16:
        raise b.error(f"expects a barrier from 0 to 15, got {number.value}")
    type = "b32" if fields["what"] == "popc" else "pred"
    name, vote = b.read(number, "u32"), b.read(predicate, "pred")
    count = _thread_count(b, rest[0] if rest else None)
    b.write(d, type, b.read(d, type))
    aligned = fields["op"] == "bar" or bool(fields["aligned"])
    flag = f"({name}, {count}, {vote})"
    b.end("reduce", flag, aligned, operation=fields["what"], count=d.index)


def _warp_barrier(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits bar.warp.sync."""
    (mask,) = b.operands(1)
    if not isinstance(mask, Immediate | Register):
        raise b.error("expects a member mask")
    b.end("warp", b.read(mask, "b32"))


FORMS: Table = (
    ("bra[.uni]", _branch),
    ("brx.idx[.uni]", _table),
    ("<op:ret|exit>[.uni]", _exit),
    ("trap", _trap),
    ("bar[.cta].<what:sync|arrive>[.aligned]", _barrier),
    ("barrier[.cta].<what:sync|arrive>[.aligned]", _barrier),
    ("<op:bar|barrier>[.cta].red.<what:popc>[.aligned].u32", _reduce),
    ("<op:bar|barrier>[.cta].red.<what:and|or>[.aligned].pred", _reduce),
    ("bar.warp.sync", _warp_barrier),
)
