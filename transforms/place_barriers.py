"""
Places the barriers of a CTA where one thread needs what another has written, or has read.

    for k in 0..4                          for k in 0..4
        for t: thread.x                        barrier
            S[t] = A[k, t]                     for t: thread.x
        for u: thread.x            -->             S[t] = A[k, t]
            .. = S[31 - u]                     barrier
                                               for u: thread.x
                                                   .. = S[31 - u]

The order of the program is that of its statements, one thread after the other. So a barrier is
needed between two accesses of a buffer that threads share, one of them a write, if different
threads may make them: to elements that are not proved to be others, or to be those of the same
thread. The second pass over the body of a loop is its next iteration. A barrier stands as late as
possible, outside all loops over threads or where all threads come by; elsewhere it is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..dialects.diagnostic import DiagnosticError
from ..dialects.nest.intrinsics import BARRIER, COMMIT, ExecutionScope, intrinsic_named, wait_for
from ..dialects.nest.program import (
    Body,
    Call,
    Guard,
    Loop,
    Program,
    Range,
    Region,
    Scope,
    Statement,
    Store,
    walk,
)
from ..dialects.sym import Expression, Ranges, constant, prove_le, symbol
from .buffer_uses import axis_name, loop_ranges, relax_over, threads_of, touches
from .conditions import names_of
from .nest_pass import NestPass
from .separation import are_separated

WARP_SIZE = 32
_PRIVATE = (Scope.LOCAL, Scope.FRAGMENT)
# What is behind a loop's name where an iteration before is meant.
_EARLIER = "_earlier"


@dataclass(frozen=True)
class _Access:
    """
    What threads read or write of a buffer that they share since the last barrier.

    The region is over loops around and the axes of threads; `axes` are those that are bound around
    the access: along the others one thread makes it, or all threads of a warp do together.
    `arrives_later` says that the data comes by an asynchronous copy. `nest` are the open loops
    over threads, if they are bound to all axes: their iterations hand nothing to one another.
    """

    region: Region
    is_write: bool
    axes: frozenset[str]
    arrives_later: bool = False
    nest: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Place:
    """Where statements stand: loops over threads around them, and whether all threads come by."""

    axes: Mapping[str, Expression] = field(default_factory=dict[str, Expression])
    varying: frozenset[str] = frozenset()
    is_uniform: bool = True

    @cached_property
    def names(self) -> frozenset[str]:
        """The axes of threads that are bound."""
        return frozenset(axis.symbol_name or "" for axis in self.axes.values())


@dataclass(frozen=True)
class PlaceBarriersPass(NestPass):
    """Places the barriers that the threads of a CTA need."""

    name = "place-barriers"

    def transform(self, program: Program) -> Program:
        """Returns the program with barriers."""
        return place_barriers(program)


def place_barriers(program: Program) -> Program:
    """Returns a program without blocks, with barriers; raises DiagnosticError."""
    if not any(isinstance(s, Loop) and s.kind.is_thread for s in walk(program.body)):
        return program
    body: list[Statement] = []
    for statement in program.body:
        placing = _Placing(program)
        placing.check_calls((statement,), _Place())
        changed, _ = placing.body((statement,), (), _Place())
        body += changed
    return replace(program, body=tuple(body))


class _Placing:
    """Places the barriers of one kernel."""

    def __init__(self, program: Program) -> None:
        self._buffers = program.buffers
        self._ranges = loop_ranges(program)
        self._threads = dict(threads_of(program))
        loops = (path[-1] for path in program.places.values())
        self._extents = {
            loop.name: loop.extent
            for loop in loops
            if isinstance(loop, Loop) and not loop.kind.is_bound
        } | self._threads
        self._separated: dict[tuple[Region, Region], bool] = {}
        self._around = {
            name: {loop.name for loop in program.loops_around(name)}
            for name in self._extents.keys() - self._threads.keys()
        }
        calls = [s for s in walk(program.body) if isinstance(s, Call)]
        if any(_execution(call) is ExecutionScope.WARP for call in calls):
            self._threads.setdefault("thread_x_", constant(WARP_SIZE))
        self._moving = {name for name, e in self._threads.items() if e.constant_value != 1}
        self._waits_by_itself = any(call.intrinsic.startswith("cp.async.wait") for call in calls)
        # Lanes of a warp that act together, and copies under way, need more than an order.
        self._acts_together = any(call.operands for call in calls)
        self._acts_as_cta = any(
            call.operands and _execution(call) is ExecutionScope.CTA for call in calls
        )
        self._written = _written(program.body)
        self._known: dict[int, tuple[Statement, tuple[_Access, ...]]] = {}
        self._writes_nothing: dict[int, tuple[Statement, bool]] = {}

    def check_calls(self, body: Body, place: _Place) -> None:
        """Refuses what all threads of a CTA do together where not all come by."""
        if not self._acts_as_cta:
            return
        for statement in body:
            if isinstance(statement, Loop | Guard):
                self.check_calls(statement.body, self._inside(place, statement))
            elif isinstance(statement, Call) and _execution(statement) is ExecutionScope.CTA:
                if statement.operands and (not place.is_uniform or place.axes):
                    raise DiagnosticError(
                        f"expected all threads of the CTA to come by '{statement.intrinsic}', got "
                        "it below a loop over threads, or a condition or loop that differs "
                        "between them"
                    )

    def body(
        self, body: Body, pending: tuple[_Access, ...], place: _Place
    ) -> tuple[Body, tuple[_Access, ...]]:
        """Returns statements with barriers, and what is accessed after the last of them."""
        result: list[Statement] = []
        for statement in body:
            if isinstance(statement, Call) and statement.intrinsic == BARRIER:
                result.append(statement)
                pending = ()
                continue
            inner = self._inside(place, statement)
            closed = self._is_closed(inner)
            if isinstance(statement, Loop | Guard) and inner.is_uniform and not closed:
                own = self._conflict(pending, self._condition(statement, place))
                if own is None and not self._is_read_only(statement, pending, place):
                    statements, pending = self._compound(statement, pending, place, inner)
                    result += statements
                    continue
            accesses = self._accesses_of(statement, place)
            if (found := self._conflict(pending, accesses)) is not None:
                result += self._barrier(found, pending, place)
                pending = ()
            if not closed and any(access.is_write for access in accesses):
                self._check_inside(statement, inner)
            result.append(statement)
            pending = _left(_joined(pending, accesses), place)
        return _kept(body, result), pending

    def _is_closed(self, place: _Place) -> bool:
        """Whether threads of a place hand nothing to one another: each has an iteration alone."""
        return not self._acts_together and self._moving <= place.names

    def _is_read_only(
        self, statement: Statement, pending: Sequence[_Access], place: _Place
    ) -> bool:
        """Whether a statement has nothing that a barrier would be needed for, inside or before."""
        known = self._writes_nothing.get(id(statement))
        if known is None:
            # The statement is kept, so that its identity stays its own.
            known = self._writes_nothing[id(statement)] = (
                statement,
                not any(
                    (isinstance(part, Call) and part.intrinsic == BARRIER)
                    or any(self._buffers[name].scope not in _PRIVATE for name in _written_by(part))
                    for part in walk((statement,))
                ),
            )
        return known[1] and self._conflict(pending, self._accesses_of(statement, place)) is None

    def _accesses_of(self, statement: Statement, place: _Place) -> tuple[_Access, ...]:
        known = self._known.get(id(statement))
        if known is None:
            known = self._known[id(statement)] = (statement, self._accesses((statement,), place))
        return known[1]

    def _compound(
        self, statement: Loop | Guard, pending: tuple[_Access, ...], place: _Place, inner: _Place
    ) -> tuple[list[Statement], tuple[_Access, ...]]:
        """A loop or guard that all threads come by; barriers may stand inside it."""
        if isinstance(statement, Guard) or statement.kind.is_bound:
            body, after = self.body(statement.body, pending, inner)
            left = _joined(pending, after) if isinstance(statement, Guard) else after
            first = _leading(body) if isinstance(statement, Loop) else 0
            rest = _with_body(statement, body[first:] if first else body)
            return [*body[:first], rest], _left(left, place)
        body, after = self.body(statement.body, (), inner)
        body, after = self.body(body, _earlier(after, statement, body), inner)
        again, last = self.body(body, pending, inner)
        looped = _with_body(statement, body)
        if again != body:
            # What is pending meets an access before the first barrier inside.
            found = self._conflict(pending, self._accesses((statement,), place))
            if found is not None:
                return [*self._barrier(found, pending, place), looped], after
        if _has_barrier(body) and prove_le(1, statement.extent, self._ranges):
            return [looped], last
        return [looped], _joined(pending, last)

    def _inside(self, place: _Place, statement: Statement) -> _Place:
        if isinstance(statement, Guard):
            varies = not names_of(statement.condition).isdisjoint(place.varying)
            varies = varies or any(True for _ in touches(statement, self._buffers))
            return replace(place, is_uniform=False) if varies and place.is_uniform else place
        if not isinstance(statement, Loop):
            return place
        uniform = place.is_uniform and statement.extent.symbols().isdisjoint(place.varying)
        if not statement.kind.is_thread:
            return place if uniform == place.is_uniform else replace(place, is_uniform=uniform)
        axis = axis_name(statement)
        uniform = uniform and statement.extent == self._threads[axis]
        axes = {**place.axes, statement.name: symbol(axis)}
        return _Place(axes, place.varying | {statement.name}, uniform)

    def _condition(self, statement: Statement, place: _Place) -> tuple[_Access, ...]:
        if not isinstance(statement, Guard):
            return ()
        return tuple(self._own(statement, place, ()))

    def _accesses(
        self, body: Body, place: _Place, loops: tuple[Loop, ...] = ()
    ) -> tuple[_Access, ...]:
        """Returns the accesses of statements, over the loops around them and axes of threads."""
        found: list[_Access] = []
        for statement in body:
            found += self._own(statement, place, loops)
            if isinstance(statement, Guard):
                found += self._accesses(statement.body, place, loops)
            elif isinstance(statement, Loop):
                inner = self._inside(place, statement)
                around = loops if statement.kind.is_bound else (*loops, statement)
                found += self._accesses(statement.body, inner, around)
        return tuple(dict.fromkeys(found))

    def _own(self, statement: Statement, place: _Place, loops: Sequence[Loop]) -> list[_Access]:
        result: list[_Access] = []
        later = isinstance(statement, Call) and statement.intrinsic.startswith("cp.async.")
        for region, is_write in touches(statement, self._buffers):
            buffer = self._buffers[region.buffer]
            if buffer.scope in _PRIVATE or buffer.name not in self._written:
                continue
            region = relax_over(region, loops, self._ranges, buffer)
            ranges = tuple(
                Range(part.start.substitute(place.axes), part.extent.substitute(place.axes))
                for part in region.ranges
            )
            axes = place.names
            nest = frozenset(place.axes) if self._moving <= axes else frozenset[str]()
            result.append(
                _Access(Region(region.buffer, ranges), is_write, axes, later and is_write, nest)
            )
        return result

    def _conflict(
        self, pending: Sequence[_Access], accesses: Sequence[_Access]
    ) -> tuple[_Access, _Access] | None:
        for earlier in pending:
            for later in accesses:
                if earlier.region.buffer != later.region.buffer:
                    continue
                if (earlier.is_write or later.is_write) and not self._agree(earlier, later):
                    return earlier, later
        return None

    def _agree(self, earlier: _Access, later: _Access) -> bool:
        """Whether no two threads touch the same element by these two accesses."""
        waits = earlier.arrives_later and not self._waits_by_itself
        if not waits and earlier.nest and earlier.nest == later.nest:
            return True
        if not waits and earlier.axes == later.axes and earlier.region == later.region:
            axes = {name: self._threads[name] for name in self._moving}
            if self._moving <= earlier.axes and are_separated(
                earlier.region.ranges, axes, self._ranges
            ):
                return True
        if not waits and self._are_of_others(earlier.region, later.region):
            return True
        return any(
            _is_before(one, two, self._ranges)
            or _is_before(two, one, self._ranges)
            or _differ_modulo(one, two)
            for one, two in zip(earlier.region.ranges, later.region.ranges, strict=True)
            if _names(one, two).isdisjoint(self._threads)
        )

    def _are_of_others(self, earlier: Region, later: Region) -> bool:
        known = self._separated.get((earlier, later))
        if known is None:
            known = self._separated[earlier, later] = self._found_separated(earlier, later)
        return known

    def _found_separated(self, earlier: Region, later: Region) -> bool:
        """
        Whether each iteration of all loops, by whichever thread, has elements of its own.

        Then those of two iterations of the same loop have none in common.
        """
        before = {name for part in earlier.ranges for name in part.start.symbols()}
        before = {n for n in before if n.endswith(_EARLIER) and n not in self._extents}
        again = {name: symbol(name.removesuffix(_EARLIER)) for name in before}
        if not again or _substituted(earlier, again) != later:
            return False
        names = {name for part in later.ranges for name in part.start.symbols()}
        # Loops around have the same index for both.
        names -= set[str].intersection(*(self._around[str(loop)] for loop in again.values()))
        loops = {name: self._extents[name] for name in names & self._extents.keys()}
        return are_separated(later.ranges, loops, self._ranges)

    def _barrier(
        self, found: tuple[_Access, _Access], pending: Sequence[_Access], place: _Place
    ) -> list[Statement]:
        if not place.is_uniform:
            raise DiagnosticError(
                f"expected all threads of the CTA to come by where a barrier is needed for the "
                f"buffer '{found[1].region.buffer}', got a place below a condition or loop that "
                "differs between threads; let loops over threads that share the buffer follow "
                "each other outside of it"
            )
        barrier = Call(BARRIER, ())
        if not self._waits_by_itself and any(access.arrives_later for access in pending):
            return [Call(COMMIT, ()), Call(wait_for(0), ()), barrier]
        return [barrier]

    def _check_inside(self, statement: Statement, inner: _Place) -> None:
        """Refuses statements that need a barrier inside, where not all threads come by."""
        if isinstance(statement, Loop | Guard):
            body, after = self.body(statement.body, (), inner)
            if isinstance(statement, Loop) and not statement.kind.is_bound:
                self.body(body, _earlier(after, statement, body), inner)


def _kept(body: Body, result: list[Statement]) -> Body:
    """Returns statements, the old tuple where all are the old ones: what is known of it stays."""
    same = len(body) == len(result) and all(a is b for a, b in zip(body, result, strict=True))
    return body if same else tuple(result)


def _with_body(statement: Loop | Guard, body: Body) -> Loop | Guard:
    return statement if body is statement.body else replace(statement, body=body)


def _execution(call: Call) -> ExecutionScope:
    return intrinsic_named(call.intrinsic).execution


def _written(body: Body) -> frozenset[str]:
    return frozenset(name for statement in walk(body) for name in _written_by(statement))


def _written_by(statement: Statement) -> tuple[str, ...]:
    if isinstance(statement, Store):
        return (statement.buffer,)
    if isinstance(statement, Call):
        return tuple(o.region.buffer for o in statement.operands if o.is_written)
    return ()


def _names(one: Range, two: Range) -> frozenset[str]:
    return one.start.symbols() | one.extent.symbols() | two.start.symbols() | two.extent.symbols()


def _is_before(one: Range, two: Range, ranges: Ranges) -> bool:
    return bool(prove_le(one.start + one.extent, two.start, ranges))


def _differ_modulo(one: Range, two: Range) -> bool:
    """
    Whether two intervals never meet because of what their starts are modulo some number.

    `k mod 3` and `(k + 2) mod 3`, the slots of a ring, differ by 1 or -2.
    """
    first, second = one.extent.constant_value, two.extent.constant_value
    if first is None or second is None:
        return False
    apart = one.start - two.start
    for divisor in {abs(factor) for factor in apart.terms.values()}:
        rest = Expression({m: f for m, f in apart.terms.items() if f % divisor})
        if divisor > 1 and (number := rest.constant_value) is not None:
            if second <= number % divisor <= divisor - first:
                return True
    return False


def _left(accesses: Sequence[_Access], place: _Place) -> tuple[_Access, ...]:
    """Returns accesses as they are seen behind loops over threads that are closed."""
    return tuple(
        access if access.nest <= place.axes.keys() else replace(access, nest=frozenset())
        for access in accesses
    )


def _leading(body: Body) -> int:
    """Returns how many statements there are up to a barrier that they begin with."""
    for position, statement in enumerate(body):
        if not isinstance(statement, Call) or statement.operands:
            return 0
        if statement.intrinsic == BARRIER:
            return position + 1
    return 0


def _has_barrier(body: Body) -> bool:
    return any(isinstance(s, Call) and s.intrinsic == BARRIER for s in body)


def _earlier(accesses: Sequence[_Access], loop: Loop, body: Body) -> tuple[_Access, ...]:
    """Returns accesses as those of the iteration before, or of any where no barrier is between."""
    earlier = loop.variable - 1 if _has_barrier(body) else symbol(f"{loop.name}{_EARLIER}")
    before = {loop.name: earlier}
    return tuple(replace(access, region=_substituted(access.region, before)) for access in accesses)


def _substituted(region: Region, names: Mapping[str, Expression]) -> Region:
    return Region(
        region.buffer,
        tuple(
            Range(part.start.substitute(names), part.extent.substitute(names))
            for part in region.ranges
        ),
    )


def _joined(first: Sequence[_Access], second: Sequence[_Access]) -> tuple[_Access, ...]:
    return tuple(dict.fromkeys((*first, *second)))
