"""
A small language for the spellings of an instruction, and the search in tables of them.

`<op:add|sub>[.sat].<t:int>` admits `add.s32` and `sub.sat.u64`: `[.x]` is optional and recorded
under its name without the dot, `<name:choices>` is one of the choices separated by `|`,
`[.<name:choices>]` is both. A choice may be the name of a class of types in CLASSES.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from ..ptx.syntax import Instruction

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter

Fields: TypeAlias = Mapping[str, str]
Emit: TypeAlias = "Callable[[BlockEmitter, Instruction, Fields], None]"
Table: TypeAlias = Sequence[tuple[str, Emit]]

CLASSES: dict[str, str] = {
    "int": "u16|s16|u32|s32|u64|s64",
    "bits": "b16|b32|b64",
    "order": "eq|ne|lt|le|gt|ge",
    "round": "rn|rz|rm|rp",
    "scope": "cta|cluster|gpu|sys",
    "value": "b8|u8|s8|b16|u16|s16|b32|u32|s32|f32|b64|u64|s64|f64",
    "space": "global|shared::cta|shared::cluster|shared|local|const|param::entry|param::func|param",
}

_PIECE = re.compile(
    r"\[\.<(?P<on>\w+):(?P<oc>[^>]+)>\]|\[\.(?P<flag>[\w:.]+)\]|<(?P<name>\w+):(?P<choices>[^>]+)>"
)


def _choices(text: str) -> str:
    """Returns the choices as a regular expression, classes replaced."""
    expanded = "|".join(CLASSES.get(part, part) for part in text.split("|"))
    return "|".join(re.escape(part) for part in expanded.split("|"))


def translate(form: str) -> re.Pattern[str]:
    """Returns the regular expression of a form."""
    out: list[str] = []
    end = 0
    for match in _PIECE.finditer(form):
        out.append(re.escape(form[end : match.start()]))
        end = match.end()
        if match["on"]:
            out.append(rf"(?:\.(?P<{match['on']}>{_choices(match['oc'])}))?")
        elif match["flag"]:
            flag = match["flag"]
            name = re.sub(r"\W+", "_", flag)
            out.append(rf"(?:\.(?P<{name}>{re.escape(flag)}))?")
        else:
            out.append(f"(?P<{match['name']}>{_choices(match['choices'])})")
    out.append(re.escape(form[end:]))
    return re.compile("".join(out))


def _heads(form: str) -> list[str]:
    """Returns the first parts of the opcodes that a form admits."""
    if form.startswith("<op:"):
        return form[4 : form.index(">")].split("|")
    return [re.split(r"[.\[]", form, maxsplit=1)[0]]


class Forms:
    """All tables together, found by the first part of the opcode."""

    def __init__(self, *tables: Table) -> None:
        self._rows: dict[str, list[tuple[str, Emit]]] = {}
        self._patterns: dict[str, list[tuple[re.Pattern[str], Emit]]] = {}
        for table in tables:
            for form, emit in table:
                for head in _heads(form):
                    self._rows.setdefault(head, []).append((form, emit))
        self.find = cache(self._find)

    def heads(self) -> frozenset[str]:
        """Returns the first parts that some form has."""
        return frozenset(self._rows)

    def _find(self, opcode: str) -> tuple[Emit, Fields] | None:
        """Returns what emits an opcode and the fields of its spelling, or None."""
        head = opcode.partition(".")[0]
        if head not in self._patterns:
            rows = self._rows.get(head, [])
            self._patterns[head] = [(translate(form), emit) for form, emit in rows]
        for pattern, emit in self._patterns[head]:
            match = pattern.fullmatch(opcode)
            if match is not None:
                fields = {key: value or "" for key, value in match.groupdict().items()}
                return emit, {**fields, "op": head}
        return None
