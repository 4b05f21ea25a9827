"""Conditions that several primitives have in common."""

from collections.abc import Iterable

from ...dialects.nest.coverage import reader_not_covered
from ...dialects.nest.defects import ProgramError
from ...dialects.nest.dependences import (
    Dependence,
    feeds,
    feeds_only_reduce,
    is_first_at_zero,
    is_private,
)
from ...dialects.nest.program import (
    Annotations,
    AxisKind,
    Block,
    Bound,
    Loop,
    LoopKind,
    Program,
    Scope,
)
from ...dialects.nest.rewriting import Substitution
from ...dialects.nest.structure import blocks_in, combiner_of
from ...dialects.nest.threads import check_threads
from .primitive import Primitive, place_of

# The scopes of which each iteration of a loop of a kind has memory of its own.
_OWN_SCOPES = {
    LoopKind.PARALLEL: frozenset((Scope.SHARED, Scope.FRAGMENT, Scope.LOCAL)),
    LoopKind.VECTORIZED: frozenset[Scope](),
}
_OF_CTA = frozenset((Scope.SHARED, Scope.FRAGMENT, Scope.LOCAL))
_OF_THREAD = frozenset((Scope.LOCAL,))


def own_scopes(kind: LoopKind) -> frozenset[Scope]:
    """Returns the scopes of which each iteration of a loop of the kind has its own memory."""
    if kind.is_bound:
        return _OF_CTA if kind.is_block else _OF_THREAD
    return _OWN_SCOPES[kind]


def check_serial(primitive: Primitive, program: Program, loop: Loop) -> None:
    """Refuses a loop that has been given a kind."""
    if loop.kind is not LoopKind.SERIAL:
        raise primitive.refused(
            "serial",
            f"expected a serial loop, got one that is {loop.kind}",
            place_of(program.places[loop.name]),
            "a loop is given one kind only",
        )


def check_independent(
    primitive: Primitive,
    program: Program,
    loop: Loop,
    kind: LoopKind,
    dependences: Iterable[Dependence],
) -> None:
    """Refuses a loop whose iterations may not run at the same time."""
    if loop.extent == 1:
        return
    place = place_of(program.places[loop.name])
    for block in blocks_in(loop.body):
        kinds = feeds(block, loop.name)
        if AxisKind.ORDERED in kinds:
            raise primitive.refused(
                "ordered",
                f"expected a loop that feeds no ordered axis, got one of '{block.name}'",
                place,
                "choose another loop: the points of an ordered axis run one after the other",
            )
        if AxisKind.REDUCE in kinds:
            raise primitive.refused(
                "reduction",
                f"expected a loop that feeds no reduce axis, got one of '{block.name}'",
                place,
                f"`rfactor` the loop: its partial results can be made {kind}",
            )
    scopes = own_scopes(kind)
    for pair in dependences:
        buffer = pair.first.buffer
        if program.buffers[buffer].scope in scopes and is_private(program, loop.name, buffer):
            continue
        raise primitive.refused(
            "dependence",
            f"expected iterations that touch different elements, but {pair.text}",
            place,
            "choose a loop that carries no dependence, or move the producer out of it",
        )


def check_written(
    primitive: Primitive, program: Program, buffers: Iterable[str], place: str
) -> None:
    """Refuses a program, after a step, that reads what is not proved to be written before."""
    own = {buffer.name for buffer in program.allocations}
    for buffer in sorted(own.intersection(buffers)):
        if (reader := reader_not_covered(program, buffer)) is not None:
            raise primitive.refused(
                "written-before",
                f"expected what '{reader}' reads of '{buffer}' to be written before, provably",
                place,
                "take the step before blocks that write it are moved, or their loops changed",
            )


def check_kernels(primitive: Primitive, program: Program, loop: str) -> None:
    """Refuses a loop of a kind with which the bound loops of the program make no kernels."""
    try:
        check_threads(program)
    except ProgramError as error:
        raise primitive.refused(
            "kernel",
            f"expected bound loops that make kernels, but {error}",
            place_of(program.places[loop]),
            "give other loops kinds, or none",
        ) from None


def merged_annotations(primitive: Primitive, loops: list[Loop]) -> Annotations:
    """Returns the annotations of several loops together; refuses two values of one key."""
    merged: Annotations = loops[0].annotations
    for loop in loops[1:]:
        for key, value in loop.annotations.items():
            if merged.get(key, value) != value:
                raise primitive.refused(
                    "annotations",
                    f"expected one value of '{key}', got {merged[key]!r} and {value!r}",
                    loop.name,
                    "unannotate one of the loops",
                )
        merged = {**merged, **loop.annotations} if loop.annotations else merged
    return merged


def check_first_at_zero(primitive: Primitive, program: Program, block: Block) -> None:
    """Refuses a reduction whose init is not proved to be in the first iterations."""
    around = program.loops_around(block.name)
    reducing = frozenset(loop.name for loop in around if feeds_only_reduce(block, loop.name))
    if not is_first_at_zero(block, reducing, program):
        raise primitive.refused(
            "first",
            f"expected the reduce axes to be 0 in the first iterations of "
            f"{', '.join(sorted(reducing))} only; it is not proved",
            place_of(program.places[block.name]),
            "bind reduce axes to loops that are split and fused at most",
        )


def check_any_order(primitive: Primitive, program: Program, block: Block) -> None:
    """Refuses a reduction whose result depends on the order of its points."""
    if combiner_of(block) is None:
        raise primitive.refused(
            "combiner",
            f"expected a reduction by one combiner, got '{block.name}', of which the order "
            "of points may matter",
            f"@{block.name}",
        )
    check_first_at_zero(primitive, program, block)


def substituted_bounds(bounds: Iterable[Bound], images: Substitution) -> tuple[Bound, ...]:
    """Returns bounds with loops replaced, each of them once."""
    replaced = (Bound(b.left.substitute(images), b.right.substitute(images)) for b in bounds)
    return tuple(dict.fromkeys(replaced))
