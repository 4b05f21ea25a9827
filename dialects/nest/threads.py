"""
Whether loops that are bound to the axes of the grid and of a CTA make kernels.

A kernel nest begins at the outermost bound loop. Source: CUDA C++ Programming Guide, "Compute
Capabilities", table of technical specifications (1,024 threads, 64 in z).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..sym import Expression, Ranges, prove_eq, prove_le
from .defects import ProgramError
from .program import Block, Body, Guard, Loop, LoopKind, Program

MAX_THREADS = 1024
MAX_EXTENTS = {
    LoopKind.THREAD_X: 1024,
    LoopKind.THREAD_Y: 1024,
    LoopKind.THREAD_Z: 64,
    LoopKind.BLOCK_X: (1 << 31) - 1,
    LoopKind.BLOCK_Y: (1 << 16) - 1,
    LoopKind.BLOCK_Z: (1 << 16) - 1,
}
_AROUND: tuple[Loop, ...] = ()


@dataclass(frozen=True)
class Kernel:
    """A kernel nest: its outermost bound loop, and the extent of each axis that is bound in it."""

    root: Loop
    extents: dict[LoopKind, Expression] = field(default_factory=dict[LoopKind, Expression])
    names: dict[LoopKind, str] = field(default_factory=dict[LoopKind, str])

    @property
    def threads(self) -> Expression:
        """The number of threads of a CTA."""
        product = Expression({(): 1})
        for kind, extent in self.extents.items():
            if kind.is_thread:
                product = product * extent
        return product


def kernels_of(program: Program) -> tuple[Kernel, ...]:
    """Returns the kernel nests of a program; raises ProgramError where bindings contradict."""
    kernels: list[Kernel] = []
    for root, around in _roots(program.body, _AROUND):
        for loop in around:
            if loop.kind in (LoopKind.PARALLEL, LoopKind.VECTORIZED):
                raise _refused(root, f"expects no {loop.kind} loop around it, got '{loop.name}'")
        kernel = Kernel(root)
        _collect(kernel, (root,), _AROUND, program.ranges)
        _check_threads(kernel, program.ranges)
        kernels.append(kernel)
    return tuple(kernels)


def check_threads(program: Program) -> None:
    """Raises ProgramError where the bound loops of a program make no kernels."""
    kernels_of(program)


def _refused(loop: Loop, message: str) -> ProgramError:
    return ProgramError(
        f"bound to {loop.kind} {message}", place=loop.name, condition="thread-binding"
    )


def _inside(statement: Loop | Block | Guard) -> Body:
    return (*statement.init, *statement.body) if isinstance(statement, Block) else statement.body


def _roots(body: Body, around: tuple[Loop, ...]) -> Iterator[tuple[Loop, tuple[Loop, ...]]]:
    for statement in body:
        if isinstance(statement, Loop) and statement.kind.is_bound:
            yield statement, around
        elif isinstance(statement, Loop | Block | Guard):
            loops = (*around, statement) if isinstance(statement, Loop) else around
            yield from _roots(_inside(statement), loops)


def _collect(kernel: Kernel, body: Body, around: tuple[Loop, ...], ranges: Ranges) -> None:
    for statement in body:
        if isinstance(statement, Loop):
            if statement.kind.is_bound:
                _check_place(statement, around)
                _record(kernel, statement, ranges)
            elif statement.kind is LoopKind.PARALLEL:
                raise ProgramError(
                    f"expects no parallel loop in a kernel, which begins at '{kernel.root.name}'",
                    place=statement.name,
                    condition="thread-binding",
                )
            _collect(kernel, statement.body, (*around, statement), ranges)
        elif isinstance(statement, Block | Guard):
            _collect(kernel, _inside(statement), around, ranges)


def _check_place(loop: Loop, around: tuple[Loop, ...]) -> None:
    for outer in around:
        if outer.kind is loop.kind:
            raise _refused(loop, f"expects no other such loop around it, got '{outer.name}'")
        if outer.kind is LoopKind.VECTORIZED:
            raise _refused(loop, f"expects no vectorized loop around it, got '{outer.name}'")
        if loop.kind.is_block and not outer.kind.is_block:
            raise _refused(
                loop,
                f"expects loops around it in the kernel to be bound to the grid too, "
                f"got the {outer.kind} loop '{outer.name}'",
            )


def _record(kernel: Kernel, loop: Loop, ranges: Ranges) -> None:
    known = kernel.extents.get(loop.kind)
    if known is None:
        kernel.extents[loop.kind], kernel.names[loop.kind] = loop.extent, loop.name
        if prove_le(MAX_EXTENTS[loop.kind] + 1, loop.extent, ranges):
            raise _refused(
                loop, f"expects an extent of at most {MAX_EXTENTS[loop.kind]}, got {loop.extent}"
            )
    elif known != loop.extent and not prove_eq(known, loop.extent, ranges):
        raise _refused(
            loop,
            f"expects the extent {known} of '{kernel.names[loop.kind]}', which is bound to the "
            f"same axis of the kernel, got {loop.extent}",
        )


def _check_threads(kernel: Kernel, ranges: Ranges) -> None:
    if not prove_le(kernel.threads, MAX_THREADS, ranges):
        raise ProgramError(
            f"expects a kernel of at most {MAX_THREADS} threads, got {kernel.threads}",
            place=kernel.root.name,
            condition="threads",
        )
