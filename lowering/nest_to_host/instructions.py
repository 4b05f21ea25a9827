"""Intrinsics of a CPU that LLVM does not make of the loops that describe them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from ...dialects.nest.intrinsics.model import Intrinsic, kept_axes
from ...dialects.nest.intrinsics.registry import intrinsic_named
from ...dialects.nest.program import Call, Operand
from ...dialects.nest.strides import strides_of
from .memory import Memory, Place
from .scalars import Scalars
from .writer import Value, Writer


class Instructions:
    """Writes calls of intrinsics as the instructions of a CPU with some features."""

    def __init__(
        self, writer: Writer, memory: Memory, scalars: Scalars, features: Collection[str]
    ) -> None:
        self._writer = writer
        self._memory = memory
        self._scalars = scalars
        self._features = features
        self._rules: Mapping[str, Callable[[Intrinsic, Call], bool]] = {"host.dot": self._dot}

    def write(self, call: Call) -> bool:
        """Writes a call, or returns False where its description has to be written instead."""
        intrinsic = intrinsic_named(call.intrinsic)
        rule = self._rules.get(intrinsic.rule)
        return rule is not None and intrinsic.target in self._features and rule(intrinsic, call)

    def _dot(self, intrinsic: Intrinsic, call: Call) -> bool:
        """Writes `vpdpbusd`: each i32 lane adds four products of unsigned and signed bytes."""
        c, a, b = call.operands
        if not self._are_words(b):
            return False
        lanes = int(intrinsic.parameter("columns"))
        target = self._place(c)
        one = self._words(self._memory.read(self._place(a), 4), 1)
        left = self._writer.broadcast(self._writer.extract(one, 0), lanes)
        right = self._words(self._memory.read(self._place(b), 4 * lanes), lanes)
        total = self._memory.read(target, lanes)
        # The types of LLVM's intrinsic differ between its versions, those of the assembler do not.
        prefix = "{{vex}} " if intrinsic.target == "avxvnni" else ""
        kinds = ", ".join([total.type] * 3)
        text = f'llvm.inline_asm asm_dialect = att "{prefix}vpdpbusd $2, $1, $0", "=v,v,v,0"'
        text += f" {{1}}, {{2}}, {{0}} : ({kinds}) -> {total.type}"
        total = self._writer.effect(text, "i32", lanes, total, left, right)
        self._memory.write(target, total)
        return True

    def _are_words(self, operand: Operand) -> bool:
        """Whether the rows of four bytes of an operand are neighbours in memory."""
        strides = strides_of(self._place(operand).buffer)
        kept = [strides[axis] for axis in kept_axes(operand.region)]
        return kept == [4, 1]

    def _place(self, operand: Operand) -> Place:
        starts = tuple(part.start for part in operand.region.ranges)
        return self._scalars.place(operand.region.buffer, starts, None)

    def _words(self, values: Value, lanes: int) -> Value:
        text = f"vector.bitcast {{0}} : {values.type} to vector<{lanes}xi32>"
        return self._writer.pure(text, "i32", lanes, values)
