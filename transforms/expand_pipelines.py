"""
Writes out loops that are marked as software pipelines: prologue, steady state, epilogue.

    for k in 0..8  {stages = 0, 2}         X: [3, 16]
        X[i] = A[k, i]                     X[0, i] = A[0, i]
        B[k, i] = X[i]             -->     X[1, i] = A[1, i]
                                           for k in 0..6
                                               X[(k + 2) mod 3, i] = A[k + 2, i]
                                               B[k, i] = X[k mod 3, i]
                                           B[6, i] = X[0, i]
                                           B[7, i] = X[1, i]

Where the loop may have fewer iterations than the pipeline has stages, what may be beyond the last
iteration is guarded. Copies of asynchronous stages are committed as a group for each iteration,
and waited for before the iteration that uses them; calls say so, which compute nothing. A barrier
behind the wait tells the CTA that the copies of all threads have arrived, and that buffers of the
iteration before are free again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..dialects.diagnostic import DiagnosticError
from ..dialects.nest.intrinsics import BARRIER, COMMIT, wait_for
from ..dialects.nest.program import (
    Block,
    Body,
    Buffer,
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
from ..dialects.nest.regions import ranges_inside
from ..dialects.nest.rewriting import Rewriter
from ..dialects.nest.scalars import Apply, Index, Load, Variable
from ..dialects.sym import Expression, Ranges, constant, maximum, mod, prove_le, simplify, symbol
from .nest_pass import NestPass
from .pipelines import ASYNCHRONOUS, ORDER, STAGES, Pipeline, PipelineError, pipeline_of

MARKS = (STAGES, ORDER, ASYNCHRONOUS)
ONE = constant(1)
ZERO = constant(0)


@dataclass(frozen=True)
class ExpandPipelinesPass(NestPass):
    """Writes out loops that are marked as software pipelines."""

    name = "expand-pipelines"

    def transform(self, program: Program) -> Program:
        """Returns the program without marks."""
        return expand_pipelines(program)


def expand_pipelines(program: Program) -> Program:
    """Returns the program, which has no blocks, with its pipelines written out."""
    for statement in walk(program.body):
        if isinstance(statement, Block):
            raise DiagnosticError(f"expected no blocks, got '{statement.name}'; lower them first")
    while (loop := _innermost(program)) is not None:
        try:
            program = _expanded(program, loop)
        except PipelineError as error:
            raise DiagnosticError(f"pipeline of '{loop.name}': {error.message}") from None
    return program


def _innermost(program: Program) -> Loop | None:
    marked = [s for s in walk(program.body) if isinstance(s, Loop) and STAGES in s.annotations]
    return marked[-1] if marked else None


def _expanded(program: Program, loop: Loop) -> Program:
    pipeline = pipeline_of(program, loop, *(_numbers(loop, name) for name in MARKS))
    ranges = ranges_inside(program, loop.name)
    body = _Expansion(program, pipeline, ranges).body()
    around = [outer.name for outer in program.loops_around(loop.name)]
    program = program.replace(loop.name, *body)
    place = around[-1] if around else None
    buffers = tuple(_with_versions(b, pipeline, place) for b in program.allocations)
    return replace(program, allocations=buffers)


def _numbers(loop: Loop, name: str) -> tuple[int, ...]:
    value = loop.annotations.get(name, ())
    if not isinstance(value, tuple) or not all(isinstance(part, int) for part in value):
        raise DiagnosticError(f"expected '{name}' of '{loop.name}' to be integers, got {value}")
    return tuple(int(part) for part in value)


def _with_versions(buffer: Buffer, pipeline: Pipeline, place: str | None) -> Buffer:
    """Returns a buffer with an axis for the iterations under way; it outlives an iteration."""
    if buffer.name not in pipeline.versions:
        return buffer
    count = pipeline.versions[buffer.name]
    strides = buffer.strides
    if strides:
        # The first axis has the widest steps: rows, and what pads them.
        strides = (buffer.shape[0] * strides[0], *strides)
    padding = tuple((axis + 1, factor, offset) for axis, factor, offset in buffer.padding)
    shape = (constant(count), *buffer.shape)
    return replace(buffer, shape=shape, strides=strides, padding=padding, place=place)


@dataclass
class _Expansion:
    """Writes one pipeline out; names of loops stay unique."""

    program: Program
    pipeline: Pipeline
    ranges: Ranges
    taken: set[str] = field(default_factory=set[str])

    def body(self) -> Body:
        """Returns the prologue, the steady state and the epilogue."""
        loop, depth = self.pipeline.loop, self.pipeline.depth
        self.taken = set(self.program.names)
        prologue = [s for time in range(depth) for s in self._step(constant(time), time, None)]
        steps = simplify(maximum(loop.extent - depth, 0), self.ranges)
        steady: Body = ()
        if steps != ZERO:
            inner = self._step(loop.variable + depth, None, None)
            kept = {name: value for name, value in loop.annotations.items() if name not in MARKS}
            steady = (replace(loop, extent=steps, body=inner, annotations=kept),)
        epilogue = [s for late in range(depth) for s in self._step(loop.extent + late, None, late)]
        # An iteration of a loop around must not overwrite what the one before still uses.
        around = self.program.loops_around(loop.name)
        again = any(not outer.kind.is_bound for outer in around)
        return (*(self._barrier() if again else ()), *prologue, *steady, *epilogue)

    def _step(self, time: Expression, early: int | None, late: int | None) -> Body:
        """
        Returns what runs at one time: each statement for the iteration `time - stage`.

        `early` is the time in the prologue, `late` the time in the epilogue after the extent.
        """
        result: list[Statement] = list(self._waits(early, late))
        for position in self.pipeline.sequence:
            stage = self.pipeline.stages[position]
            if (early is not None and stage > early) or (late is not None and stage <= late):
                continue
            iteration = time - stage
            steady = early is None and late is None
            copy = self._statement(self.pipeline.loop.body[position], iteration, not steady)
            result.append(copy if steady else self._guarded(copy, iteration))
        first = self.pipeline.asynchronous
        if first is not None and (late is None or late < first):
            result.append(Call(COMMIT, ()))
        return tuple(result)

    def _waits(self, early: int | None, late: int | None) -> Body:
        """Returns the wait and the barrier before statements that use what others made earlier."""
        running = [
            stage
            for stage in self.pipeline.stages
            if (early is None or stage <= early) and (late is None or stage > late)
        ]
        first = self.pipeline.asynchronous
        behind = [stage for stage in running if stage > (first or 0)]
        if not behind:
            return ()
        calls: list[Statement] = []
        if first is not None:
            # The copies of an iteration are the group of their time, one group a time.
            left = min(behind) - first - 1 - max(0, (late or 0) - first)
            calls.append(Call(wait_for(max(0, left)), ()))
        return (*calls, *self._barrier())

    def _barrier(self) -> Body:
        buffers = self.program.buffers
        shared = (buffers[name].scope is Scope.SHARED for name in self.pipeline.versions)
        return (Call(BARRIER, ()),) if any(shared) else ()

    def _guarded(self, statement: Statement, iteration: Expression) -> Statement:
        """Returns a statement that runs if its iteration is one of the loop."""
        for left, right in ((ZERO, iteration), (iteration + 1, self.pipeline.loop.extent)):
            if not prove_le(left, right, self.ranges):
                condition = Apply("arith.cmpi", (Index(left), Index(right)), "i1", "sle")
                statement = Guard(condition, (statement,))
        return statement

    def _statement(self, statement: Statement, iteration: Expression, is_copy: bool) -> Statement:
        """Returns a statement for one iteration; a copy of it has loops of other names."""
        names: dict[str, Expression] = {self.pipeline.loop.name: iteration}
        if is_copy:
            loops = [part.name for part in walk((statement,)) if isinstance(part, Loop)]
            renamed = {name: self._fresh(name) for name in loops}
            names |= {old: symbol(new) for old, new in renamed.items()}
            (statement,) = _with_loops_named((statement,), renamed)
        versions = {
            buffer: simplify(mod(iteration, count), self.ranges)
            for buffer, count in self.pipeline.versions.items()
        }
        return _Versioned(names, versions).statement(statement)

    def _fresh(self, name: str) -> str:
        free, number = name, 1
        while free in self.taken:
            free, number = f"{name}_{number}", number + 1
        self.taken.add(free)
        return free


class _Versioned(Rewriter):
    """Replaces names, and puts the iteration that is meant before the indices of buffers."""

    def __init__(self, names: Mapping[str, Expression], versions: Mapping[str, Expression]) -> None:
        super().__init__(names, self._load, self._store, self._version_of)
        self._versions = versions

    def _load(self, leaf: Load | Variable) -> Load | None:
        if isinstance(leaf, Load) and (version := self._versions.get(leaf.buffer)) is not None:
            return replace(leaf, indices=(version, *leaf.indices))
        return None

    def _store(self, store: Store) -> Statement:
        version = self._versions.get(store.buffer)
        return store if version is None else replace(store, indices=(version, *store.indices))

    def _version_of(self, region: Region) -> Region:
        version = self._versions.get(region.buffer)
        if version is None:
            return region
        return Region(region.buffer, (Range(version, ONE), *region.ranges))


def _with_loops_named(body: Body, names: Mapping[str, str]) -> Body:
    result: list[Statement] = []
    for statement in body:
        match statement:
            case Loop(name, _, inner):
                inner = _with_loops_named(inner, names)
                result.append(replace(statement, name=names[name], body=inner))
            case Guard(_, inner):
                result.append(replace(statement, body=_with_loops_named(inner, names)))
            case _:
                result.append(statement)
    return tuple(result)
