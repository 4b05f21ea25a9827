"""Exchanges the 16-byte chunks of a shared buffer, so that columns of chunks spread over banks."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.program import Program, Scope
from .storage import Storage

PERIODS = (32, 64, 128)


@dataclass(frozen=True)
class SetSwizzle(Storage):
    """
    Exchanges 16-byte chunks of a shared buffer, within a period of some bytes, by their row.

        A_shared: f16[128, 32]    -->    A_shared: f16[128, 32], swizzle 64

    The chunk at `(row, chunk)` is stored at `chunk ^ row` within the period of 32, 64 or 128 bytes
    (0 takes the exchange away). Rows are those of the buffer, but at least 128 bytes long, a pass
    over all banks. So 8 neighbours of a column of chunks, which `ldmatrix` reads at once, lie in
    different banks, and no memory is lost. The program computes the same: only addresses change.

    Legal if the buffer is the program's own (`output`) and shared (`scope`), without strides or
    padding of its own (`layout`); the period is 0, 32, 64 or 128 (`period`).
    """

    name: ClassVar[str] = "set_swizzle"

    buffer: str
    period: int

    def apply(self, program: Program) -> Program:
        """Returns the program with the buffer swizzled."""
        buffer = self.own_buffer(program, self.buffer)
        if buffer.scope is not Scope.SHARED:
            raise self.refused(
                "scope",
                f"expected a shared buffer, got one that is {buffer.scope}",
                self.buffer,
                "change it by set_scope before",
            )
        if buffer.strides is not None or buffer.padding:
            raise self.refused(
                "layout", "expected a buffer without strides or padding of its own", self.buffer
            )
        if self.period not in (0, *PERIODS):
            known = ", ".join(map(str, PERIODS))
            raise self.refused(
                "period", f"expected a period of {known} bytes, or 0, got {self.period}"
            )
        return self.with_buffer(program, replace(buffer, swizzle=self.period))
