"""Replaces a tile of a computation by a tensor intrinsic."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.intrinsics import (
    ExecutionScope,
    Intrinsic,
    UnknownIntrinsicError,
    intrinsic_named,
    variants_of,
)
from ...dialects.nest.program import Block, Body, Call, Guard, Loop, LoopKind, Program, walk
from ...dialects.nest.regions import ranges_inside
from ...dialects.nest.scalars import Apply, Constant
from ...dialects.sym import Ranges
from .blockize import Blockize
from .intrinsic_match import Difference, Match, match
from .primitive import Primitive, place_of


@dataclass(frozen=True)
class Tensorize(Primitive):
    """
    Replaces the body of a block by a call of an intrinsic that does the same.

        @C_o vi_o = i_0, ...                            @C_o vi_o = i_0, ...
            for i_1 in 0..16, j_1 in 0..8, k_1 in 0..16     -->     mma(C[16*vi_o..+16, ...], ...)
                @C ... C[vi, vj] += A[vi, vk] * B[vk, vj]

    `target` is a block, or a loop, which is made a block first as `Blockize` does. `intrinsic` is
    the name of an intrinsic or the beginning of the names of several
    (`mma.m16n8k16.bf16.f32`), of which the first that matches is taken. `arch` refuses what a GPU
    does not have. `precision` agrees that operands are rounded to that format.

    Refused with the first difference, as "where: expected ..., got ...":
    - `exists`: no intrinsic has the name;
    - `target`: the architecture lacks the intrinsic;
    - `precision`: the intrinsic rounds its operands, and the caller has not agreed;
    - `execution`: the lanes that execute the intrinsic together are iterations of a loop around it;
    - `matches`: the block computes something else, on other extents, dtypes, scopes or strides;
    - `fragment`: another call holds the same fragment in another layout.

    Source: TensorIR, ASPLOS 2023, section 4.1.
    """

    name: ClassVar[str] = "tensorize"

    target: str
    intrinsic: str
    arch: str = ""
    precision: str = ""
    names: tuple[str, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the call."""
        variants = self._variants()
        target = program.places.get(self.target, (None,))[-1]
        name = self.target
        if not isinstance(target, Block) or not _has_tile(target):
            step = Blockize(self.target, self.names)
            (name,) = step.result_names(program) if target is not None else ("",)
            # The call says by itself what it reads and writes.
            program = step.blockized(program)
        block = self.block_of(program, name)
        place = place_of(program.places[name])
        ranges = ranges_inside(program, name)
        for axis in block.axes:
            ranges = ranges if axis.name in ranges else ranges.also(axis.name, 0, axis.extent - 1)
        intrinsic, found = self._match(program, block, variants, ranges, place)
        self._check_execution(program, name, intrinsic, place)
        self._check_fragments(program, intrinsic, found, place)
        return program.replace(name, replace(block, body=_calls(intrinsic, found)))

    def _variants(self) -> tuple[Intrinsic, ...]:
        try:
            variants = tuple(map(intrinsic_named, variants_of(self.intrinsic)))
        except UnknownIntrinsicError as error:
            raise self.refused("exists", str(error)) from None
        first = variants[0]
        if self.arch and not first.is_on(self.arch):
            raise self.refused(
                "target",
                f"expected a target that has '{first.name}' ({first.target}), got {self.arch}",
            )
        if first.precision and first.precision != self.precision:
            raise self.refused(
                "precision",
                f"expected the caller to agree that operands are rounded to {first.precision}",
                cure=f'say precision="{first.precision}"',
            )
        return variants

    def _match(
        self,
        program: Program,
        block: Block,
        variants: tuple[Intrinsic, ...],
        ranges: Ranges,
        place: str,
    ) -> tuple[Intrinsic, Match]:
        first: Difference | None = None
        for intrinsic in variants:
            try:
                return intrinsic, match(block, intrinsic, program, ranges)
            except Difference as difference:
                if first is None or difference.agreed > first.agreed:
                    first = difference
        if first is None:
            raise AssertionError("there is an intrinsic to match")
        raise self.refused("matches", f"{first}", place, first.cure)

    def _check_execution(
        self, program: Program, name: str, intrinsic: Intrinsic, place: str
    ) -> None:
        kinds = {
            ExecutionScope.WARP: (LoopKind.THREAD_X,),
            ExecutionScope.CTA: (LoopKind.THREAD_X, LoopKind.THREAD_Y, LoopKind.THREAD_Z),
        }.get(intrinsic.execution, ())
        for loop in program.loops_around(name):
            if loop.kind in kinds:
                raise self.refused(
                    "execution",
                    f"expected no loop bound to {loop.kind} around what a {intrinsic.execution} "
                    f"executes together, got '{loop.name}'",
                    place,
                )

    def _check_fragments(
        self, program: Program, intrinsic: Intrinsic, found: Match, place: str
    ) -> None:
        tiles = {
            operand.region.buffer: requirement.tile
            for operand, requirement in zip(found.operands, intrinsic.operands, strict=True)
            if requirement.tile is not None
        }
        for call in (part for part in walk(program.body) if isinstance(part, Call)):
            other = intrinsic_named(call.intrinsic)
            for operand, requirement in zip(call.operands, other.operands, strict=True):
                tile = tiles.get(operand.region.buffer)
                if tile is not None and requirement.tile not in (None, tile):
                    raise self.refused(
                        "fragment",
                        f"expected '{operand.region.buffer}' to be held as {requirement.tile}, "
                        f"as '{other.name}' has it, got {tile}",
                        place,
                    )


def _has_tile(block: Block) -> bool:
    """Whether a block is one around a tile, and not the point of a computation."""
    return any(isinstance(part, Block | Loop) for part in block.body)


def _calls(intrinsic: Intrinsic, found: Match) -> Body:
    call = Call(intrinsic.name, found.operands)
    if found.condition is None:
        return (call,)
    width = intrinsic.parameter("width")
    target = found.operands[0]
    dtype = intrinsic.buffers[0].dtype
    otherwise = Apply("arith.xori", (found.condition, Constant(1, "i1")), "i1")
    zero = Call(f"zero.{width}.{dtype}", (target,))
    return Guard(found.condition, (call,)), Guard(otherwise, (zero,))
