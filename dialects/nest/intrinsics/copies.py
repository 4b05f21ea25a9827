"""Copies of 4, 8 and 16 bytes by a thread, and what orders those that run in the background."""

from functools import partial

from ..program import AccessMode, Scope
from ..scalars import DTYPE_BITS
from .descriptions import buffer, description, element, no_description, zero
from .model import IN_GLOBAL, IN_SHARED, ExecutionScope, Intrinsic, Requirement
from .registry import register_maker

WIDTHS = (4, 8, 16)
ADDRESSABLE = frozenset((Scope.GLOBAL, Scope.SHARED, Scope.LOCAL))
# Waits for groups of copies are made for as many groups as a pipeline may have under way.
MAX_GROUPS = 8

COMMIT = "cp.async.commit"
BARRIER = "cta.barrier"


def wait_for(groups: int) -> str:
    """Returns the name of the wait that leaves at most `groups` groups of copies under way."""
    return f"cp.async.wait.{groups}"


def copy(width: int, dtype: str) -> Intrinsic:
    """Returns the copy of `width` bytes with one load and one store."""
    return _copy(f"copy.{width}.{dtype}", "copy", width, dtype, (ADDRESSABLE, ADDRESSABLE), "")


def copy_async(width: int, dtype: str) -> Intrinsic:
    """
    Returns the copy of `width` bytes from global to shared memory in the background.

    In the order of the program it is a copy as any other: who lowers it waits before the first
    read. Under a guard, with `zero` on the other side, it is the copy that fills with zero.
    """
    name = f"cp.async.{width}.{dtype}"
    return _copy(name, "cp.async", width, dtype, (IN_SHARED, IN_GLOBAL), "sm_80")


def _copy(
    name: str,
    rule: str,
    width: int,
    dtype: str,
    scopes: tuple[frozenset[Scope], frozenset[Scope]],
    target: str,
) -> Intrinsic:
    extents, axes = _extents(width, dtype), {"T": "i", "S": "i"}
    to, source = (buffer(side, "i", extents, dtype) for side in "TS")
    return Intrinsic(
        name,
        description("copy", (to, source), axes, extents, to, element(source, "i")),
        (
            Requirement(AccessMode.WRITE, scopes[0], alignment=width),
            Requirement(AccessMode.READ, scopes[1], alignment=width),
        ),
        ExecutionScope.THREAD,
        target,
        rule,
        parameters=(("width", width),),
    )


def fill_zero(width: int, dtype: str) -> Intrinsic:
    """Returns the store of `width` bytes of zero."""
    extents = _extents(width, dtype)
    to = buffer("T", "i", extents, dtype)
    return Intrinsic(
        f"zero.{width}.{dtype}",
        description("zero", (to,), {"T": "i"}, extents, to, zero(dtype)),
        (Requirement(AccessMode.WRITE, ADDRESSABLE, alignment=width),),
        ExecutionScope.THREAD,
        "",
        "zero",
        parameters=(("width", width),),
    )


def _extents(width: int, dtype: str) -> dict[str, int]:
    return {"i": width * 8 // DTYPE_BITS[dtype]}


def _commit() -> Intrinsic:
    return Intrinsic(
        COMMIT, no_description("commit"), (), ExecutionScope.THREAD, "sm_80", "cp.async.commit"
    )


def _wait(groups: int) -> Intrinsic:
    return Intrinsic(
        wait_for(groups),
        no_description("wait"),
        (),
        ExecutionScope.THREAD,
        "sm_80",
        "cp.async.wait",
        parameters=(("groups", groups),),
    )


def _barrier() -> Intrinsic:
    return Intrinsic(
        BARRIER, no_description("barrier"), (), ExecutionScope.CTA, "sm_80", "cta.barrier"
    )


def register_copy_intrinsics() -> None:
    """Makes the intrinsics of this module known."""
    for dtype, bits in DTYPE_BITS.items():
        if bits < 8 or dtype == "index":
            continue
        for width in WIDTHS:
            if width * 8 > bits:
                register_maker(f"copy.{width}.{dtype}", partial(copy, width, dtype))
                register_maker(f"zero.{width}.{dtype}", partial(fill_zero, width, dtype))
                register_maker(f"cp.async.{width}.{dtype}", partial(copy_async, width, dtype))
    register_maker(COMMIT, _commit)
    register_maker(BARRIER, _barrier)
    for groups in range(MAX_GROUPS):
        register_maker(wait_for(groups), partial(_wait, groups))
