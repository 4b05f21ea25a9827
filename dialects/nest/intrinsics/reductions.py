"""Reductions across the lanes of a warp and the threads of a CTA."""

from functools import partial
from itertools import product

from ..program import AccessMode
from ..scalars import FLOAT_BITS, Apply
from .descriptions import buffer, description, element
from .model import IN_THREAD, ExecutionScope, Intrinsic, Requirement
from .registry import register_maker

WARP_SIZE = 32
CTA_SIZES = (64, 128, 192, 256, 384, 512, 768, 1024)
DTYPES = ("f32", "f64", "i32")
# What has few bits is only compared: its sums would be rounded at each step.
COMPARED = ("f16", "bf16")
COMBINERS = {
    "sum": ("arith.addf", "arith.addi"),
    "max": ("arith.maximumf", "arith.maxsi"),
    "min": ("arith.minimumf", "arith.minsi"),
}


def reduce(name: str, kind: str, dtype: str, count: int, execution: ExecutionScope) -> Intrinsic:
    """
    Returns `Y[] = Y[] combined with X[0], ..., X[count - 1]`.

    X has one element in each thread; all threads have the same Y, before and after.
    """
    extents, axes = {"i": count}, {"Y": "", "X": "i"}
    result, source = (buffer(side, axes[side], extents, dtype) for side in "YX")
    op = COMBINERS[kind][0 if dtype in FLOAT_BITS else 1]
    value = Apply(op, (element(result, ""), element(source, "i")), dtype)
    return Intrinsic(
        name,
        description("reduce", (result, source), axes, extents, result, value),
        (
            Requirement(AccessMode.UPDATE, IN_THREAD),
            Requirement(AccessMode.READ, IN_THREAD, is_spread=True),
        ),
        execution,
        "sm_80",
        f"{execution.value}.reduce",
        parameters=(("kind", kind), ("threads", count)),
    )


def register_reduction_intrinsics() -> None:
    """Makes the intrinsics of this module known."""
    compared = product(("max", "min"), COMPARED)
    for kind, dtype in (*product(COMBINERS, DTYPES), *compared):
        name = f"warp.reduce.{kind}.{dtype}"
        maker = partial(reduce, name, kind, dtype, WARP_SIZE, ExecutionScope.WARP)
        register_maker(name, maker)
        for count in CTA_SIZES:
            name = f"cta.reduce.{kind}.{dtype}.{count}"
            register_maker(name, partial(reduce, name, kind, dtype, count, ExecutionScope.CTA))
