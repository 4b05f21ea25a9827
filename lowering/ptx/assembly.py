"""A growing list of PTX instructions over virtual registers."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, compress

from .elements import CLASS_TYPE

MOVES = frozenset(
    f"\tmov.{'pred' if kind == 'pred' else kind} %s, %s;" for kind in CLASS_TYPE.values()
)
_TEMPLATES: dict[tuple[str, int], str] = {}
# The registers of each class by their numbers, the same texts for all kernels.
_REGISTERS: dict[str, list[str]] = {cls: [] for cls in CLASS_TYPE}


def _named(cls: str, end: int) -> list[str]:
    """Returns the registers of a class, at least those before a number."""
    registers = _REGISTERS[cls]
    if len(registers) < end:
        # A list of its own: several threads may print at once.
        registers = _REGISTERS[cls] = [f"%{cls}{number}" for number in range(2 * end)]
    return registers


def template(mnemonic: str, operands: int) -> str:
    """Returns the template of a plain instruction with that many operands."""
    key = (mnemonic, operands)
    text = _TEMPLATES.get(key)
    if text is None:
        text = f"\t{mnemonic} " + ", ".join(["%s"] * operands) + ";"
        _TEMPLATES[key] = text
    return text


class Assembly:
    """
    Instructions in order, with the first definition and the last use of every register.

    Registers are written once, but for those that carry values around a loop. `compute` prints
    a pure instruction once in a scope and answers with the same register the next time.
    """

    def __init__(self) -> None:
        # Instructions that hold for the whole kernel: parameters, special registers.
        self.prelude: list[tuple[str, tuple[str, ...]]] = []
        self.at_the_entry: list[str] = []
        # Of each instruction a template, and the operands that it is filled with, in order.
        self.texts: list[str] = []
        self.names: list[tuple[str, ...]] = []
        self.first: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.renamed: dict[str, str] = {}
        self.counts: dict[str, int] = {cls: 0 for cls in CLASS_TYPE}
        self.known: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        # What was loaded since memory may have changed, by template and address.
        self.loaded: dict[tuple[str, str], tuple[str, ...]] = {}
        self._scope: list[tuple[str, tuple[str, ...]]] = []
        self._labels = 0

    def register(self, cls: str) -> str:
        """Returns a new register of a class of `CLASS_TYPE`."""
        number = self.counts[cls]
        self.counts[cls] = number + 1
        return _named(cls, number + 1)[number]

    def registers(self, cls: str, count: int) -> tuple[str, ...]:
        """Returns new registers of one class."""
        first = self.counts[cls]
        self.counts[cls] = end = first + count
        return tuple(_named(cls, end)[first:end])

    def label(self) -> str:
        """Returns a new label."""
        self._labels += 1
        return f"$L{self._labels}"

    def emit(self, text: str, dests: tuple[str, ...], sources: tuple[str, ...]) -> None:
        """Appends an instruction; the template takes the destinations before the sources."""
        names = self.names
        index = len(names)
        self.texts.append(text)
        names.append(dests + sources)
        first, last = self.first, self.last
        # There are few of them: a loop takes a fifth of the time of an update.
        for register in sources:
            last[register] = index
        for register in dests:
            first.setdefault(register, index)
        if not dests:
            # A store, a barrier, a branch: others may have written, or another path leads here.
            self.loaded.clear()

    def emit_new(self, text: str, cls: str, sources: tuple[str, ...]) -> str:
        """Appends an instruction of one new destination, and returns that."""
        counts, names, last = self.counts, self.names, self.last
        number, index = counts[cls], len(names)
        counts[cls] = number + 1
        registers = _REGISTERS[cls]
        dest = (registers if number < len(registers) else _named(cls, number + 1))[number]
        self.texts.append(text)
        names.append((dest, *sources))
        for register in sources:
            last[register] = index
        self.first[dest] = index
        return dest

    def emit_each(self, text: str, cls: str, rows: Iterable[tuple[str, ...]]) -> list[str]:
        """Appends an instruction of one new destination for each row of its sources."""
        names, first, last = self.names, self.first, self.last
        several = list(rows)
        dests = [*self.registers(cls, len(several))]
        for index, (dest, sources) in enumerate(zip(dests, several), len(names)):
            names.append((dest, *sources))
            for register in sources:
                last[register] = index
            first[dest] = index
        self.texts += [text] * len(dests)
        return dests

    def emit_text(
        self,
        text: str,
        order: tuple[str, ...],
        dests: tuple[str, ...],
        sources: tuple[str, ...],
    ) -> None:
        """Appends an instruction whose template takes its operands in an order of its own."""
        self.emit(text, dests, sources)
        self.names[-1] = order
        self.loaded.clear()

    def emit_guarded(self, text: str, guard: str | None, sources: tuple[str, ...]) -> None:
        """Appends an instruction without destinations, executed where the guard holds."""
        if guard is not None:
            text = f"\t@%s {text[1:]}"
            sources = (guard, *sources)
        self.emit(text, (), sources)

    def place(self, label: str) -> None:
        """Appends a label."""
        self.line(f"{label}:")
        self.loaded.clear()

    def line(self, text: str) -> None:
        """Appends a line that names no registers."""
        self.texts.append(text)
        self.names.append(())

    def compute(self, mnemonic: str, cls: str, *sources: str) -> str:
        """Returns the register of a pure instruction, which is printed once in a scope."""
        key = (mnemonic, sources)
        found = self.known.get(key)
        if found is not None:
            return found[0]
        text = _TEMPLATES.get((mnemonic, len(sources) + 1))
        if text is None:
            text = template(mnemonic, len(sources) + 1)
        dest = self.emit_new(text, cls, sources)
        self.known[key] = (dest,)
        self._scope.append(key)
        return dest

    def compute_many(
        self, text: str, classes: tuple[str, ...], sources: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Returns the registers of a pure instruction with several destinations."""
        key = (text, sources)
        found = self.known.get(key)
        if found is None:
            found = tuple(self.register(cls) for cls in classes)
            self.emit(text, found, sources)
            self.known[key] = found
            self._scope.append(key)
        return found

    def load(self, text: str, cls: str, count: int, base: str) -> tuple[str, ...]:
        """Returns the registers of a load, printed once while memory is as it was."""
        found = self.loaded.get((text, base))
        if found is None:
            found = self.registers(cls, count)
            self.emit(text, found, (base,))
            self.loaded[text, base] = found
        return found

    def at_entry(self, mnemonic: str, cls: str, source: str) -> str:
        """Returns the register of an instruction that is printed at the kernel's entry."""
        key = (mnemonic, (source,))
        found = self.known.get(key)
        if found is not None:
            return found[0]
        dest = self.register(cls)
        self.prelude.append((template(mnemonic, 2), (dest, source)))
        self.first[dest] = -1
        self.at_the_entry.append(dest)
        self.known[key] = (dest,)
        return dest

    @contextmanager
    def scope(self) -> Generator[None]:
        """Forgets, at its end, what was computed inside: a loop body or a branch."""
        outer = self._scope
        self._scope = []
        yield
        for key in self._scope:
            self.known.pop(key, None)
        self._scope = outer

    def forget(self) -> None:
        """
        Forgets what was computed so far, but for what is there from the entry on.

        It is computed again where it is asked for, and held by no register until then.
        """
        entry = {*self.at_the_entry}
        self.known = {key: dests for key, dests in self.known.items() if dests[0] in entry}

    def find(self, register: str) -> str:
        """Returns the register that stands for a register after coalescing."""
        renamed = self.renamed
        while (other := renamed.get(register)) is not None:
            register = other
        return register

    def lines(self) -> Iterator[str]:
        """Yields the body in parts of one or more lines: declarations, prelude and code."""
        for cls, count in self.counts.items():
            if count:
                yield f"\t.reg .{CLASS_TYPE[cls]} %{cls}<{count}>;"
        # Operands that it does not have keep their names.
        final = {register: self.find(register) for register in self.renamed}.get
        texts = [*(text for text, _ in self.prelude), *self.texts]
        names = [*(operands for _, operands in self.prelude), *self.names]
        kept = [True] * len(texts)
        for index, text in enumerate(texts):
            if text in MOVES:
                dest, source = names[index]
                kept[index] = final(dest, dest) != final(source, source)
        if any(kept):
            # One text is filled much faster than its lines one by one.
            operands = list(chain.from_iterable(compress(names, kept)))
            whole = "\n".join(compress(texts, kept))
            yield whole % tuple(map(final, operands, operands))
