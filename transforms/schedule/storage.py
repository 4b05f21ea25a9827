"""Changes how a buffer of the program's own is stored: padding, scope, dtype."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.program import Block, Buffer, Loop, Program, Scope, Store, walk
from ...dialects.nest.rewriting import Rewriter
from ...dialects.nest.scalars import (
    DTYPE_BITS,
    FLOAT_BITS,
    INTEGER_BITS,
    Apply,
    Load,
    Scalar,
    Variable,
    is_float,
)
from .primitive import Primitive
from .stages import calls_on

# Bits of the significand, the hidden one included: integers up to 2**bits are exact.
_PRECISION = {"f8E4M3FN": 4, "f8E5M2": 3, "f16": 11, "bf16": 8, "f32": 24, "f64": 53}
_EXPONENT = {"f8E4M3FN": 4, "f8E5M2": 5, "f16": 5, "bf16": 8, "f32": 8, "f64": 11}


class Storage(Primitive):
    """What the primitives on a buffer have in common."""

    def own_buffer(self, program: Program, name: str) -> Buffer:
        """Returns a buffer of the program's own, or refuses."""
        buffer = self.buffer_of(program, name)
        if buffer not in program.allocations:
            raise self.refused(
                "output",
                f"expected a buffer of the program's own, got the parameter '{name}'",
                name,
                "cache it by cache_read or cache_write",
            )
        return buffer

    def with_buffer(self, program: Program, buffer: Buffer) -> Program:
        """Returns the program with a buffer of its own changed."""
        changed = tuple(buffer if old.name == buffer.name else old for old in program.allocations)
        return replace(program, allocations=changed)


@dataclass(frozen=True)
class StorageAlign(Storage):
    """
    Pads a buffer so that the stride of an axis is `offset` modulo `factor` elements.

        A_shared: f16[128, 32]    -->    A_shared: f16[128, 32] with strides [40, 1]
                                         (axis 0, factor 32, offset 8)

    So rows of a tile start in different banks of shared memory. Nothing is stored in the padding.

    Legal if the block writes the buffer (`writes`), which is the program's own (`output`) and
    shared or local (`scope`), with no strides or swizzle of its own (`layout`); the axis exists and
    is not the last (`axis`); `factor` is positive and `offset` is from 0 to `factor - 1`
    (`factor`).
    """

    name: ClassVar[str] = "storage_align"

    block: str
    buffer: str
    axis: int
    factor: int
    offset: int

    def apply(self, program: Program) -> Program:
        """Returns the program with the buffer padded."""
        block = self.block_of(program, self.block)
        buffer = self.own_buffer(program, self.buffer)
        if all(region.buffer != self.buffer for region in block.writes):
            raise self.refused(
                "writes", f"expected a block that writes '{self.buffer}'", f"@{self.block}"
            )
        if buffer.scope not in (Scope.SHARED, Scope.LOCAL):
            raise self.refused(
                "scope",
                f"expected a shared or local buffer, got one that is {buffer.scope}",
                self.buffer,
                "change it by set_scope before",
            )
        if buffer.strides is not None or buffer.swizzle:
            raise self.refused(
                "layout", "expected a buffer without strides or swizzle of its own", self.buffer
            )
        rank = len(buffer.shape)
        axis = self.axis + rank if self.axis < 0 else self.axis
        if not 0 <= axis < rank - 1:
            raise self.refused(
                "axis", f"expected an axis from 0 to {rank - 2}, got {self.axis}", self.buffer
            )
        if self.factor < 1 or not 0 <= self.offset < self.factor:
            raise self.refused(
                "factor",
                f"expected a positive factor and an offset below it, got {self.factor} and "
                f"{self.offset}",
                self.buffer,
            )
        kept = tuple(entry for entry in buffer.padding if entry[0] != axis)
        padding = tuple(sorted((*kept, (axis, self.factor, self.offset))))
        return self.with_buffer(program, replace(buffer, padding=padding))


@dataclass(frozen=True)
class SetScope(Storage):
    """
    Says where a buffer lives: `global`, `shared`, `fragment` or `local`.

        T: f32[128, 32]    -->    shared T: f32[128, 32]

    Legal if the buffer is the program's own (`output`), the scope is one of them (`scope`), and
    the new scope can hold the buffer's layout: swizzle in shared memory, padding in shared or local
    memory (`layout`). A buffer of a thread or warp must not be touched in loops over threads that
    are different ones (`threads`).
    """

    name: ClassVar[str] = "set_scope"

    buffer: str
    scope: Scope

    def apply(self, program: Program) -> Program:
        """Returns the program with the buffer in the scope."""
        buffer = self.own_buffer(program, self.buffer)
        if self.scope not in set(Scope):
            known = ", ".join(Scope)
            raise self.refused("scope", f"expected a scope among {known}, got '{self.scope}'")
        scope = Scope(self.scope)
        if (buffer.swizzle and scope is not Scope.SHARED) or (
            buffer.padding and scope not in (Scope.SHARED, Scope.LOCAL)
        ):
            raise self.refused(
                "layout",
                f"expected a buffer without swizzle or padding in the scope {scope}",
                self.buffer,
                "change the scope before the layout",
            )
        if scope in (Scope.LOCAL, Scope.FRAGMENT):
            self._check_threads(program)
        return self.with_buffer(program, replace(buffer, scope=scope))

    def _check_threads(self, program: Program) -> None:
        """Refuses a buffer of a thread that some blocks touch outside of the loops over threads."""
        found: dict[frozenset[str], str] = {}
        for path in program.places.values():
            block = path[-1]
            if isinstance(block, Block) and any(
                region.buffer == self.buffer for region in (*block.reads, *block.writes)
            ):
                if not any(isinstance(part, Block) for part in path[:-1]):
                    kinds = (part.kind for part in path if isinstance(part, Loop))
                    threads = frozenset(kind.value for kind in kinds if kind.is_thread)
                    found.setdefault(threads, block.name)
        if len(found) > 1:
            names = " and ".join(f"'{name}'" for name in found.values())
            raise self.refused(
                "threads",
                f"expected '{self.buffer}' to be touched by the same axes of threads, got {names}",
                self.buffer,
                "keep it in shared memory",
            )


@dataclass(frozen=True)
class SetDtype(Storage):
    """
    Stores a buffer in another dtype: values are converted when stored, and back when loaded.

        T: f16[64]                  -->    T: f32[64]
        T[i] = f(A[i])                     T[i] = extf(f(A[i]))
        C[i] = g(T[i])                     C[i] = g(truncf(T[i]))

    A wider dtype changes no value. A narrower one rounds what is stored, or loses high bits of
    integers: that is refused unless `rounds` asks for it.

    Legal if the buffer is the program's own (`output`), the dtype is one that converts to and from
    the buffer's (`dtype`), holds all of its values or `rounds` is set (`rounds`), and no intrinsic
    works on the buffer (`intrinsic`).
    """

    name: ClassVar[str] = "set_dtype"

    buffer: str
    dtype: str
    rounds: bool = False

    def apply(self, program: Program) -> Program:
        """Returns the program with the buffer in the dtype."""
        buffer = self.own_buffer(program, self.buffer)
        old, new = buffer.dtype, self.dtype
        if new not in DTYPE_BITS or conversion(old, new) is None or conversion(new, old) is None:
            raise self.refused(
                "dtype", f"expected a dtype that converts to and from {old}, got '{new}'"
            )
        if not self.rounds and not holds(new, old):
            raise self.refused(
                "rounds",
                f"expected a dtype that holds all values of {old}, got {new}",
                self.buffer,
                "set `rounds` if the values may be rounded",
            )
        for statement in walk(program.body):
            if isinstance(statement, Block) and calls_on(statement, self.buffer):
                raise self.refused(
                    "intrinsic",
                    f"expected no intrinsic on '{self.buffer}'",
                    f"@{statement.name}",
                    "change the dtype before its blocks are tensorised",
                )

        def of_leaf(leaf: Load | Variable) -> Scalar | None:
            if not isinstance(leaf, Load) or leaf.buffer != self.buffer:
                return None
            return converted(replace(leaf, dtype=new), old)

        def of_store(store: Store) -> Store:
            if store.buffer != self.buffer:
                return store
            return replace(store, value=converted(store.value, new))

        body = Rewriter(of_leaf=of_leaf, of_store=of_store).body(program.body)
        return self.with_buffer(replace(program, body=body), replace(buffer, dtype=new))


def holds(dtype: str, other: str) -> bool:
    """Whether each number of the other dtype is one of the dtype, and survives conversion."""
    if dtype == other:
        return True
    if is_float(dtype) and is_float(other):
        wider = _PRECISION[dtype] >= _PRECISION[other] and _EXPONENT[dtype] >= _EXPONENT[other]
        return wider and DTYPE_BITS[dtype] > DTYPE_BITS[other]
    if is_float(dtype):
        return INTEGER_BITS[other] <= _PRECISION[dtype]
    return not is_float(other) and INTEGER_BITS[dtype] > INTEGER_BITS[other]


def conversion(source: str, target: str) -> str | None:
    """Returns the op of `arith` between two dtypes, signed; empty for one, None without an op."""
    if source == target:
        return ""
    wider = DTYPE_BITS[target] > DTYPE_BITS[source]
    if source in FLOAT_BITS and target in FLOAT_BITS:
        if DTYPE_BITS[target] == DTYPE_BITS[source]:
            return None
        return "arith.extf" if wider else "arith.truncf"
    if "index" in (source, target):
        return None if is_float(source) or is_float(target) else "arith.index_cast"
    if is_float(source):
        return None if target == "i1" else "arith.fptosi"
    if is_float(target):
        return "arith.uitofp" if source == "i1" else "arith.sitofp"
    if wider:
        return "arith.extui" if source == "i1" else "arith.extsi"
    return "arith.trunci"


def converted(value: Scalar, dtype: str) -> Scalar:
    """Returns a scalar in another dtype, which its own converts to."""
    op = conversion(value.dtype, dtype)
    return Apply(op, (value,), dtype) if op else value
