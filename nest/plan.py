"""
How a concrete program is executed on whole arrays with the meaning of its order.

A loop whose iterations touch different elements becomes an axis of the arrays: each statement
inside is executed for all of its iterations at once. A chain of loops around one update
`B[f] = B[f] op v`, of which some are not in `f`, is a reduction, executed at once too. All other
loops are executed one iteration after the other.
"""

from dataclasses import dataclass, field

from ..dialects.nest.program import AxisKind, Block, Body, Call, Guard, Loop, Statement, Store
from ..dialects.nest.scalars import (
    Apply,
    Constant,
    Index,
    Load,
    Scalar,
    loads_of,
    walk_scalar,
)
from ..dialects.sym import Expression
from ..transforms.independence import Touch, conflict_of, linear_terms, touches_of

# Ops whose order of operands and of application doesn't matter, beyond rounding.
REDUCERS = frozenset(
    f"arith.{name}"
    for name in (
        "addf addi mulf muli maximumf minimumf maxnumf minnumf "
        "maxsi minsi maxui minui andi ori xori"
    ).split()
)
_PRODUCTS = frozenset((("arith.addf", "arith.mulf"), ("arith.addi", "arith.muli")))
# Rounded after each op, a sum in these is not that of its parts.
_NARROW = frozenset(("f16", "bf16", "f8E4M3FN", "f8E5M2"))
_UNROUNDED = frozenset(("arith.maximumf", "arith.minimumf", "arith.maxnumf", "arith.minnumf"))


@dataclass(frozen=True)
class Reduction:
    """A chain of loops around one update: `store` in `block`, after its `init`."""

    loops: tuple[Loop, ...]
    reduced: frozenset[str]
    guards: tuple[Scalar, ...]
    block: Block | None
    store: Store
    op: str
    value: Scalar
    update: Load
    product: Apply | None
    # How often an element of an operand is used, if the sum of products is a matrix product.
    reuse: int


@dataclass
class Plan:
    """Loops that become axes, reductions by their outermost loop, and how large arrays get."""

    lanes: set[str] = field(default_factory=set[str])
    reductions: dict[str, Reduction] = field(default_factory=dict[str, Reduction])
    sizes: dict[str, int] = field(default_factory=dict[str, int])


def plan_of(body: Body, is_exact: bool) -> Plan:
    """Returns the plan of a concrete program; `is_exact` says that nothing is rounded."""
    plan = Plan()
    _Planner(plan, touches_of(body), is_exact).body(body)
    return plan


class _Planner:
    def __init__(self, plan: Plan, touches: list[Touch], is_exact: bool) -> None:
        self.plan = plan
        self.is_exact = is_exact
        self.around: list[Loop] = []
        self.independent: dict[str, bool] = {}
        self.inside: dict[str, list[Touch]] = {}
        for touch in touches:
            for loop in touch.loops:
                self.inside.setdefault(loop.name, []).append(touch)

    def body(self, body: Body) -> int:
        """Plans statements; returns how many points they are executed for at once."""
        return max((self.statement(statement) for statement in body), default=1)

    def statement(self, statement: Statement) -> int:
        match statement:
            case Loop():
                return self.loop(statement)
            case Block():
                return max(self.body(statement.init), self.body(statement.body))
            case Guard(_, body):
                return self.body(body)
            case Store() | Call():
                return 1

    def loop(self, loop: Loop) -> int:
        extent = loop.extent.constant_value
        if self.is_independent(loop):
            self.plan.lanes.add(loop.name)
            self.around.append(loop)
            size = self.body(loop.body) * (extent or 1)
            self.around.pop()
        elif (reduction := self.reduction(loop)) is not None:
            self.plan.reductions[loop.name] = reduction
            size = 1
            for part in reduction.loops:
                size *= part.extent.constant_value or 1
            size = max(1, size // reduction.reuse)
        else:
            size = self.body(loop.body)
        self.plan.sizes[loop.name] = size
        return size

    def is_independent(self, loop: Loop) -> bool:
        if loop.name not in self.independent:
            self.independent[loop.name] = self._is_independent(loop)
        return self.independent[loop.name]

    def _is_independent(self, loop: Loop) -> bool:
        if loop.extent.constant_value is None or _names_in_extents(loop.body, loop.name):
            return False
        return conflict_of(loop, self.inside.get(loop.name, [])) is None

    def reduction(self, loop: Loop) -> Reduction | None:
        """Returns the reduction whose outermost loop this is, if it is one."""
        loops = [loop]
        guards: list[Scalar] = []
        body = loop.body
        while len(body) == 1 and isinstance(inner := body[0], Loop | Guard):
            if isinstance(inner, Loop):
                loops.append(inner)
            elif next(loads_of(inner.condition), None) is None:
                guards.append(inner.condition)
            else:
                return None
            body = inner.body
        if len(body) != 1:
            return None
        block = body[0] if isinstance(body[0], Block) else None
        inside = block.body if block is not None else body
        if len(inside) != 1 or not isinstance(store := inside[0], Store):
            return None
        if (parts := self._update(store)) is None:
            return None
        op, update, value = parts
        places = {name for index in _indices(store) for name in index.symbols()}
        reduced = frozenset(part.name for part in loops if part.name not in places)
        kept = [part for part in loops if part.name in places]
        if any(part.extent.constant_value is None for part in loops):
            return None
        if not all(self.is_independent(part) for part in kept):
            return None
        if block is not None and not _begins_first(block, store, loops, reduced):
            return None
        product = value if isinstance(value, Apply) and (op, value.op) in _PRODUCTS else None
        reuse = 1 if product is None else self._reuse(product.operands, loops)
        return Reduction(
            tuple(loops), reduced, tuple(guards), block, store, op, value, update, product, reuse
        )

    def _reuse(self, operands: tuple[Scalar, ...], loops: list[Loop]) -> int:
        """Returns how many points there are for one element of the larger operand."""
        points = [1 for _ in operands]
        total = 1
        named = [symbols_of(operand) for operand in operands]
        for loop in (*self.around, *loops):
            extent = loop.extent.constant_value or 1
            total *= extent
            points = [
                p * extent if loop.name in n else p for p, n in zip(points, named, strict=True)
            ]
        return max(1, total // max(points))

    def _update(self, store: Store) -> tuple[str, Load, Scalar] | None:
        """Returns op, old value and new part of `B[f] = B[f] op v`."""
        value = store.value
        if not isinstance(value, Apply) or value.op not in REDUCERS:
            return None
        if value.dtype in _NARROW and value.op not in _UNROUNDED and not self.is_exact:
            return None
        if not all(isinstance(index, Expression) for index in store.indices):
            return None
        left, right = value.operands
        for old, new in ((left, right), (right, left)):
            if (
                isinstance(old, Load)
                and (old.buffer, old.indices) == (store.buffer, store.indices)
                and all(load.buffer != store.buffer for load in loads_of(new))
            ):
                return value.op, old, new
        return None


def symbols_of(scalar: Scalar) -> frozenset[str]:
    """Returns the loops that a scalar names."""
    names: set[str] = set()
    for node in walk_scalar(scalar):
        if isinstance(node, Index):
            names |= node.expression.symbols()
        elif isinstance(node, Load):
            names |= {s for i in node.indices if isinstance(i, Expression) for s in i.symbols()}
    return frozenset(names)


def _indices(store: Store) -> list[Expression]:
    return [index for index in store.indices if isinstance(index, Expression)]


def _names_in_extents(body: Body, name: str) -> bool:
    for statement in body:
        match statement:
            case Loop(_, extent, inner):
                if name in extent.symbols() or _names_in_extents(inner, name):
                    return True
            case Block():
                if _names_in_extents((*statement.init, *statement.body), name):
                    return True
            case Guard(_, inner):
                if _names_in_extents(inner, name):
                    return True
            case Store() | Call():
                pass
    return False


def _begins_first(block: Block, store: Store, loops: list[Loop], reduced: frozenset[str]) -> bool:
    """Whether the init of a reduction runs once for an element, at the first of its points."""
    if not block.init:
        return True
    match block.init:
        case (Store(buffer, indices, Constant()),):
            if (buffer, indices) != (store.buffer, store.indices):
                return False
        case _:
            return False
    advancing: set[str] = set()
    for axis in block.axes_of(AxisKind.REDUCE):
        start, factors, rest = linear_terms(axis.binding)
        if start < 0 or rest.terms or any(factor < 0 for factor in factors.values()):
            return False
        advancing.update(factors)
    return all(
        part.name in advancing or part.extent.constant_value == 1
        for part in loops
        if part.name in reduced
    )
