"""
Gives one register to values that follow each other: an accumulator before and after `mma`.

Registers are compared by their place in the text: `b` may take over the register of `a` if it is
first written where `a` is last read or later. Control flow only goes forward, but for the back
edge of a loop, at whose end everything that it reads from outside is still live.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice, repeat
from typing import NamedTuple

from .assembly import Assembly, template
from .elements import CLASS_TYPE


class LoopStart(NamedTuple):
    """The number of instructions, of wishes and of registers before the body of a loop."""

    instruction: int
    wishes: int
    registers: int


class CoalescingAssembly(Assembly):
    """Collects the pairs that would like to share a register, and joins them at a loop's end."""

    def __init__(self) -> None:
        super().__init__()
        # (index of the instruction, its destination, the source that it would overwrite)
        self.wishes: list[tuple[int, str, str]] = []

    def wish(self, dests: Sequence[str], sources: Sequence[str]) -> None:
        """Notes that the next instruction would like to write over its sources."""
        index = len(self.names)
        self.wishes.extend(zip(repeat(index), dests, sources))

    def emit_over(
        self,
        text: str,
        cls: str,
        shared: tuple[str, ...],
        rows: Sequence[tuple[Sequence[str], Sequence[str]]],
    ) -> list[tuple[str, ...]]:
        """
        Appends an instruction for each row of sources, and returns the destinations of each.

        All have the `shared` sources in front; the last ones of a row would like to be written
        over. No row reads what another one wrote.
        """
        names, first, last = self.names, self.first, self.last
        written: list[tuple[str, ...]] = []
        for index, (sources, over) in enumerate(rows, len(names)):
            dests = self.registers(cls, len(over))
            written.append(dests)
            self.wishes.extend(zip(repeat(index), dests, over))
            names.append((*dests, *shared, *sources, *over))
            for register in chain(sources, over):
                last[register] = index
            for register in dests:
                first[register] = index
        for register in shared:
            last[register] = len(names) - 1
        self.texts += [text] * len(written)
        return written

    def _merge(self, kept: str, dropped: str) -> None:
        first, last = self.first, self.last
        self.renamed[dropped] = kept
        if first[dropped] < first[kept]:
            first[kept] = first[dropped]
        # What nobody reads has no last use.
        if (end := last.get(dropped, -1)) > last.get(kept, -2):
            last[kept] = end

    def _grant(self, wishes: list[tuple[int, str, str]], start: int, carried: set[str]) -> None:
        """Joins each destination with its source where nobody reads the source later."""
        first, last, find = self.first, self.last, self.find
        renamed = self.renamed
        for index, dest, source in wishes:
            kept = find(source) if source in renamed else source
            dropped = find(dest) if dest in renamed else dest
            is_ours = first[kept] >= start or kept in carried
            if is_ours and kept != dropped and last[kept] <= index <= first[dropped]:
                self._merge(kept, dropped)

    def end_of_kernel(self) -> None:
        """Joins what is left outside of loops."""
        self._grant(self.wishes, -1, set())
        self.wishes = []

    def start_of_loop(self) -> LoopStart:
        """Opens the body of a loop."""
        return LoopStart(len(self.names), len(self.wishes), len(self.first))

    def end_of_loop(self, loop: LoopStart, carried: Sequence[str], yielded: Sequence[str]) -> None:
        """
        Closes the body of a loop with its back-edge moves.

        `carried[k]` holds what goes around the loop and is to become `yielded[k]`, a register
        or an immediate.
        """
        start = loop.instruction
        first, last, find = self.first, self.last, self.find
        end = len(self.names)
        for register in yielded:
            if register[0] == "%":
                last[find(register)] = end
        inside = self.wishes[loop.wishes :]
        del self.wishes[loop.wishes :]
        ours = set(carried)
        self._grant(inside, start, ours)
        moves: list[tuple[str, str]] = []
        for register, value in zip(carried, yielded):
            value = find(value)
            if value == register:
                continue
            is_local = value[0] == "%" and value not in ours and first[value] >= start
            if is_local and first[value] >= last.get(register, -1):
                self._merge(register, value)
            else:
                moves.append((register, value))
        self.move_in_parallel([(dest, find(source)) for dest, source in moves])
        end = len(self.names)
        # What was defined before the body and is read in it, is read in its next iteration too.
        for register in self._named_before(loop):
            if last.get(register, -1) >= start:
                last[register] = end

    def _named_before(self, loop: LoopStart) -> Iterable[str]:
        """Returns, of what was defined before the body of a loop, at least all that it names."""
        first, start = self.first, loop.instruction
        if loop.registers < 2 * (len(self.names) - start):
            return chain(islice(first, loop.registers), self.at_the_entry)
        named = set(chain.from_iterable(islice(self.names, start, None)))
        renamed = self.renamed
        joined = named & renamed.keys()
        while joined:
            joined = {renamed[register] for register in joined}
            named |= joined
            joined &= renamed.keys()
        return [register for register in named & first.keys() if first[register] < start]

    def end_of_branch(self, start: int, results: Sequence[str], yielded: Sequence[str]) -> None:
        """Closes a branch that begins at instruction `start` and sets the results of an if."""
        first, last = self.first, self.last
        moves: list[tuple[str, str]] = []
        for result, value in zip(results, yielded):
            value = self.find(value)
            is_local = value[0] == "%" and first[value] >= start
            if is_local and value not in results:
                self.renamed[value] = result
                begin = first[value]
                first[result] = min(begin, first.get(result, begin))
                last[result] = max(last.get(value, begin), last.get(result, begin))
            else:
                moves.append((result, value))
        for result, value in moves:
            self.move(result, value)

    def move(self, dest: str, source: str) -> None:
        """Prints a copy of a register or immediate."""
        kind = CLASS_TYPE[dest.rstrip("0123456789")[1:]]
        if kind == "pred" and source[0] != "%":
            self.emit(template("setp.ne.u32", 3), (dest,), (source, "0"))
        else:
            self.emit(template(f"mov.{kind}", 2), (dest,), (source,))

    def move_in_parallel(self, moves: list[tuple[str, str]]) -> None:
        """Prints copies as if all sources were read before any destination is written."""
        while moves:
            sources = {source for _, source in moves}
            free = [move for move in moves if move[0] not in sources]
            if not free:
                dest, source = moves[0]
                spare = self.register(dest.rstrip("0123456789")[1:])
                self.move(spare, source)
                moves[0] = (dest, spare)
                continue
            for dest, source in free:
                self.move(dest, source)
            moves = [move for move in moves if move not in free]
