"""setmaxnreg (PTX ISA, "Miscellaneous Instructions: setmaxnreg")."""

from typing import TYPE_CHECKING

from ..checks.registers import change
from ..ptx.syntax import Immediate, Instruction
from .forms import Fields, Table

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter


def _change(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits setmaxnreg: a note in the ledger of the batch; it changes no value."""
    (count,) = b.operands(1)
    if not isinstance(count, Immediate) or not 24 <= count.value <= 256 or count.value % 8:
        got = count.value if isinstance(count, Immediate) else "no constant"
        raise b.error(f"expects a multiple of 8 from 24 to 256, got {got}")
    b.call(change, b.site(operation=fields["what"], extra=count.value), [])


FORMS: Table = (("setmaxnreg.<what:inc|dec>.sync.aligned.u32", _change),)
