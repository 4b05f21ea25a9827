"""
Races of concurrent loops, where all extents are numbers.

Two iterations of a loop that is parallel, vectorised or bound may not touch an element that one of
them writes. What is proved disjoint needs no more; the rest is decided by enumerating all points,
predicates included. A buffer that each iteration has a copy of (a shared one for the grid's loops,
a local one for threads) may be written by several, but an iteration reads only what it wrote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..dialects.nest.program import Body, Loop, LoopKind, Scope
from ..dialects.sym import Expression
from .independence import Integers, Touch, conflict_of, evaluate_on, keys_of, touches_of

MAX_POINTS = 1 << 21


@dataclass(frozen=True)
class Race:
    """
    Two iterations of a loop that touch one element: who writes, who reads or writes.

    `iterations` and `element` are a witness; they are empty where there are too many points to
    enumerate, or an index depends on data, so that nothing is proved.
    """

    loop: str
    kind: LoopKind
    buffer: str
    blocks: tuple[str, str]
    iterations: tuple[int, ...] = ()
    element: tuple[int, ...] = ()

    def __str__(self) -> str:
        one, two = self.blocks
        where = f"{self.kind} loop '{self.loop}', buffer '{self.buffer}'"
        if not self.iterations:
            return f"{where}: not proved that '{one}' and '{two}' touch different elements"
        first, second = self.iterations
        return (
            f"{where}: iteration {first} writes {list(self.element)} in '{one}', "
            f"iteration {second} touches it in '{two}'"
        )


def races_of(body: Body, scopes: Mapping[str, Scope]) -> list[Race]:
    """Returns a race for each concurrent loop and buffer that has one; no axes, no calls."""
    inside: dict[str, list[Touch]] = {}
    loops: dict[str, Loop] = {}
    for touch in touches_of(body):
        for loop in touch.loops:
            if loop.kind.is_concurrent:
                loops[loop.name] = loop
                inside.setdefault(loop.name, []).append(touch)
    found: list[Race] = []
    for name, touches in inside.items():
        loop = loops[name]
        for buffer in dict.fromkeys(touch.buffer for touch in touches if touch.is_write):
            group = [touch for touch in touches if touch.buffer == buffer]
            if (conflict := conflict_of(loop, group)) is not None:
                is_private = _is_private(loop.kind, scopes.get(buffer, Scope.GLOBAL))
                race = Race(name, loop.kind, buffer, (conflict[0].block, conflict[1].block))
                found.extend(_race(loop, group, is_private, race))
    return found


def _is_private(kind: LoopKind, scope: Scope) -> bool:
    """Whether each iteration of a loop of a kind has a copy of a buffer of a scope."""
    if scope is Scope.GLOBAL or kind is LoopKind.VECTORIZED:
        return False
    if kind is LoopKind.THREAD_X:
        return scope is Scope.LOCAL
    # The lanes of a warp are thread.x: along the other axes each warp has its fragments.
    return not kind.is_thread or scope is not Scope.SHARED


def _race(loop: Loop, group: Sequence[Touch], is_private: bool, unproved: Race) -> list[Race]:
    tables = _tables(loop, group)
    if tables is None:
        return [unproved]
    rows = np.concatenate(tables)
    owners = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    if not len(rows):
        return []
    (keys, _), iterations = keys_of(rows[:, :-1]), rows[:, -1]
    is_write = np.array([touch.is_write for touch in group])[owners]
    pair = (_copied if is_private else _met)(keys, iterations, is_write)
    if pair is None:
        return []
    one, two = pair
    rank = len(group[0].indices)
    return [
        replace(
            unproved,
            blocks=(group[int(owners[one])].block, group[int(owners[two])].block),
            iterations=(int(iterations[one]), int(iterations[two])),
            element=tuple(int(index) for index in rows[one, -1 - rank : -1]),
        )
    ]


def _met(keys: Integers, iterations: Integers, is_write: Integers) -> tuple[int, int] | None:
    """Returns a write and an access of the same element in another iteration."""
    writer = np.full(int(keys.max()) + 1, -1)
    writes = np.flatnonzero(is_write)
    writer[keys[writes]] = writes
    other = (writer[keys] >= 0) & (iterations[writer[keys]] != iterations)
    if not other.any():
        return None
    second = int(np.flatnonzero(other)[0])
    return int(writer[keys[second]]), second


def _copied(keys: Integers, iterations: Integers, is_write: Integers) -> tuple[int, int] | None:
    """Returns a write, and a read in another iteration that doesn't write the element itself."""
    writes = np.flatnonzero(is_write)
    own = keys * (int(iterations.max()) + 1) + iterations
    writer = np.full(int(keys.max()) + 1, -1)
    writer[keys[writes]] = writes
    foreign = ~np.isin(own, own[writes]) & (writer[keys] >= 0)
    if not foreign.any():
        return None
    second = int(np.flatnonzero(foreign)[0])
    return int(writer[keys[second]]), second


def _tables(loop: Loop, group: Sequence[Touch]) -> list[Integers] | None:
    """Returns for each access its points: iteration around, element, iteration of the loop."""
    named = {name for touch in group for part in _parts(touch) for name in part.symbols()}
    tables: list[Integers] = []
    for touch in group:
        position = next(p for p, part in enumerate(touch.loops) if part.name == loop.name)
        around = [part for part in touch.loops[:position] if part.name in named]
        table = points_of(touch, around, loop)
        if table is None:
            return None
        tables.append(table)
    return tables


def _parts(touch: Touch) -> list[Expression]:
    indices = [index for index in touch.indices if isinstance(index, Expression)]
    return [*indices, *touch.where]


def points_of(touch: Touch, around: Sequence[Loop], loop: Loop) -> Integers | None:
    """
    Returns a row for each point at which an access is made: loops around, element, the loop.

    None for too many points, or an index that depends on data.
    """
    parts = _parts(touch)
    named = {name for part in parts for name in part.symbols()}
    known = {part.name for part in around} | {loop.name}
    inner = [part for part in touch.loops if part.name in named - known]
    loops = [*around, *inner, loop]
    sizes = [part.extent.constant_value for part in loops]
    counts = [size for size in sizes if size is not None]
    total = int(np.prod(counts, dtype=np.int64))
    if len(counts) < len(sizes) or total > MAX_POINTS:
        return None
    if not all(isinstance(index, Expression) for index in touch.indices):
        return None
    grids = np.indices(counts, dtype=np.int64).reshape(len(counts), -1)
    names = {part.name: grid for part, grid in zip(loops, grids, strict=True)}
    columns = [np.broadcast_to(evaluate_on(part, names), (total,)) for part in parts]
    rank = len(touch.indices)
    made = np.ones(total, np.bool_)
    for condition in columns[rank:]:
        made &= condition > 0
    rows = np.stack([*grids[: len(around)], *columns[:rank], grids[-1]], axis=1)
    return rows[made]
