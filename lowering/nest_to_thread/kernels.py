"""The kernels of a program: one for each outermost nest, with its grid and its threads."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...dialects.diagnostic import DiagnosticError
from ...dialects.nest.intrinsics import ExecutionScope, intrinsic_named
from ...dialects.nest.program import (
    Body,
    Buffer,
    Call,
    Guard,
    Loop,
    LoopKind,
    Program,
    ScalarParameter,
    Scope,
    Statement,
    walk,
)
from ...dialects.nest.scalars import Scalar, Variable, walk_scalar
from ...dialects.sym import Expression, constant
from ...transforms.buffer_uses import Use, threads_of, uses_of
from ...transforms.conditions import names_of

WARP_SIZE = 32
MAX_THREADS = 1024
MAX_Z_THREADS = 64
# Bytes of shared memory a CTA may have (CUDA C++ Programming Guide, "Technical Specifications per
# Compute Capability").
SHARED_LIMITS = {
    "sm_80": 163 * 1024,
    "sm_86": 99 * 1024,
    "sm_89": 99 * 1024,
    "sm_90": 227 * 1024,
    "sm_90a": 227 * 1024,
}
_GRID = (LoopKind.BLOCK_X, LoopKind.BLOCK_Y, LoopKind.BLOCK_Z)
THREAD_AXES: tuple[str, str, str] = ("thread_x_", "thread_y_", "thread_z_")


@dataclass(frozen=True)
class Kernel:
    """
    One kernel of a program.

    `program` holds its nest alone. `blocks` are the loops bound to the grid, by axis; `threads`
    the extents of the CTA. `buffers` are those in global memory that it uses, in order, `numbers`
    the scalar parameters, `symbols` the symbols of the program.
    """

    name: str
    program: Program
    blocks: tuple[Loop, ...]
    body: Body
    threads: tuple[int, int, int]
    buffers: tuple[Buffer, ...]
    written: frozenset[str]
    read: frozenset[str]
    numbers: tuple[ScalarParameter, ...]
    symbols: tuple[str, ...]

    @property
    def has_warps(self) -> bool:
        """Whether lanes of warps act together; then `thread.x` is the lane."""
        return any(
            isinstance(s, Call) and intrinsic_named(s.intrinsic).execution is ExecutionScope.WARP
            for s in walk(self.body)
        )

    @property
    def grid(self) -> tuple[Expression, Expression, Expression]:
        """The extents of the grid in CTAs, over symbols."""
        extents = {loop.kind: loop.extent for loop in self.blocks}
        x, y, z = (extents.get(kind, constant(1)) for kind in _GRID)
        return x, y, z


def kernels_of(program: Program) -> list[Kernel]:
    """Returns the kernels of a program without blocks, in order; raises DiagnosticError."""
    kernels: list[Kernel] = []
    for position, statement in enumerate(program.body):
        name = program.name if len(program.body) == 1 else f"{program.name}_{position}"
        kernels.append(_kernel(name, replace(program, body=(statement,))))
    _check_buffers(kernels)
    return kernels


def _kernel(name: str, program: Program) -> Kernel:
    blocks, body = _grid_loops(program.body)
    for statement in walk(body):
        if isinstance(statement, Loop) and statement.kind.is_block:
            raise DiagnosticError(
                f"expected loops bound to the grid around all others, got '{statement.name}' "
                "inside; reorder it outwards"
            )
    uses = uses_of(program)
    names = _names(program)
    return Kernel(
        name,
        program,
        blocks,
        body,
        _thread_extents(program),
        tuple(b for b in program.buffers.values() if b.scope is Scope.GLOBAL and b.name in uses),
        _used(uses, True),
        _used(uses, False),
        tuple(
            p
            for p in program.parameters
            if isinstance(p, ScalarParameter) and p.name in names["numbers"]
        ),
        tuple(name for name in program.ranges if name in names["symbols"]),
    )


def _used(uses: Mapping[str, list[Use]], writes: bool) -> frozenset[str]:
    return frozenset(n for n, found in uses.items() if any(u.is_write == writes for u in found))


def _grid_loops(body: Body) -> tuple[tuple[Loop, ...], Body]:
    """Returns the loops bound to the grid, and what is inside, under the guards between them."""
    match body:
        case (Loop() as loop,) if loop.kind.is_block:
            inner, rest = _grid_loops(loop.body)
            if any(other.kind is loop.kind for other in inner):
                raise DiagnosticError(
                    f"expected one loop bound to {loop.kind} in a kernel, got '{loop.name}' "
                    "and another inside it"
                )
            return (loop, *inner), rest
        case (Guard(condition, guarded),):
            inner, rest = _grid_loops(guarded)
            return inner, (Guard(condition, rest),)
        case _:
            return (), body


def _thread_extents(program: Program) -> tuple[int, int, int]:
    extents: dict[str, int] = {}
    for axis, extent in threads_of(program).items():
        if (count := extent.constant_value) is None:
            raise DiagnosticError(
                f"expected a constant extent of {axis.rstrip('_').replace('_', '.')}, got {extent}"
            )
        extents[axis] = count
    for statement in walk(program.body):
        if isinstance(statement, Call):
            _add_warp(statement, extents)
    x, y, z = (extents.get(axis, 1) for axis in THREAD_AXES)
    for call in reductions_of(program.body):
        count = intrinsic_named(call.intrinsic).parameter("threads")
        if x * y * z != count:
            raise DiagnosticError(
                f"expected the {count} threads that '{call.intrinsic}' reduces in a CTA, got "
                f"{x} x {y} x {z}"
            )
    if x * y * z > MAX_THREADS or z > MAX_Z_THREADS:
        raise DiagnosticError(
            f"expected at most {MAX_THREADS} threads in a CTA, and {MAX_Z_THREADS} along z, "
            f"got {x} x {y} x {z}"
        )
    return x, y, z


def reductions_of(body: Body) -> list[Call]:
    """Returns the calls by which all threads of a CTA reduce what they hold."""
    calls = [statement for statement in walk(body) if isinstance(statement, Call)]
    return [call for call in calls if intrinsic_named(call.intrinsic).rule == "cta.reduce"]


def _add_warp(call: Call, extents: dict[str, int]) -> None:
    if intrinsic_named(call.intrinsic).execution is not ExecutionScope.WARP:
        return
    if extents.setdefault("thread_x_", WARP_SIZE) != WARP_SIZE:
        raise DiagnosticError(
            f"expected {WARP_SIZE} threads along x, the lanes of the warp that executes "
            f"'{call.intrinsic}', got {extents['thread_x_']}"
        )


def _names(program: Program) -> dict[str, set[str]]:
    symbols: set[str] = set()
    numbers: set[str] = set()
    for statement in walk(program.body):
        if isinstance(statement, Loop):
            symbols |= statement.extent.symbols()
        for scalar in _scalars(statement):
            symbols |= names_of(scalar)
            numbers |= {n.name for n in walk_scalar(scalar) if isinstance(n, Variable)}
        for expression in _expressions(statement):
            symbols |= expression.symbols()
    for name in uses_of(program):
        for extent in (*program.buffers[name].shape, *(program.buffers[name].strides or ())):
            symbols |= extent.symbols()
    return {"symbols": symbols, "numbers": numbers}


def _scalars(statement: Statement) -> list[Scalar]:
    if isinstance(statement, Guard):
        return [statement.condition]
    indices = getattr(statement, "indices", ())
    scalars = [index for index in indices if not isinstance(index, Expression)]
    value = getattr(statement, "value", None)
    return scalars if value is None else [value, *scalars]


def _expressions(statement: Statement) -> list[Expression]:
    if isinstance(statement, Call):
        return [part.start for operand in statement.operands for part in operand.region.ranges]
    return [i for i in getattr(statement, "indices", ()) if isinstance(i, Expression)]


def _check_buffers(kernels: list[Kernel]) -> None:
    """Refuses shared and local buffers that more than one kernel uses."""
    seen: dict[str, str] = {}
    for kernel in kernels:
        for name in kernel.written | kernel.read:
            if kernel.program.buffers[name].scope is Scope.GLOBAL:
                continue
            if name in seen:
                raise DiagnosticError(
                    f"expected the {kernel.program.buffers[name].scope} buffer '{name}' in one "
                    f"kernel, got it in {seen[name]} and {kernel.name}; make it global, or bring "
                    "both nests below the same loops bound to the grid"
                )
            seen[name] = kernel.name
