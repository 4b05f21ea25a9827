"""
The intrinsics that schedules and lowerings know by name.

An intrinsic is made when its name is looked up for the first time. To add one takes its
description, what its operands have to be, and a lowering for its rule:

```python
b = Builder("dot4")
y = b.buffer("Y", [], "i32", output=True)
a, x = b.buffer("A", [4], "i8"), b.buffer("X", [4], "i8")
with b.loop("k", 4) as k, b.block("dot", reduce={"v": (4, k)}) as (v,):
    y[()] = y[()] + cast(a[v], "i32") * cast(x[v], "i32")
result = Requirement(AccessMode.UPDATE, frozenset((Scope.LOCAL,)))
word = Requirement(AccessMode.READ, alignment=4)
operands = (result, word, word)
register(Intrinsic("dp4a", b.build(), operands, ExecutionScope.THREAD, "sm_61", "dp4a"))
```
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from ..program import Program
from .model import Intrinsic

Maker: TypeAlias = Callable[[], Intrinsic]

_MAKERS: dict[str, Maker] = {}
_KNOWN: dict[str, Intrinsic] = {}


class UnknownIntrinsicError(ValueError):
    """No intrinsic has the name, or more than one would have it."""


def register(intrinsic: Intrinsic) -> Intrinsic:
    """Makes an intrinsic known by its name; raises UnknownIntrinsicError for a name in use."""
    register_maker(intrinsic.name, lambda: intrinsic)
    return intrinsic


def register_maker(name: str, maker: Maker) -> None:
    """Makes an intrinsic known that is built when it is looked up."""
    if name in _MAKERS:
        raise UnknownIntrinsicError(f"expected a name that no intrinsic has, got '{name}'")
    _MAKERS[name] = maker


def unregister(name: str) -> None:
    """Makes an intrinsic unknown again."""
    _MAKERS.pop(name, None)
    _KNOWN.pop(name, None)


def intrinsic_named(name: str) -> Intrinsic:
    """Returns an intrinsic; raises UnknownIntrinsicError with the names that are alike."""
    known = _KNOWN.get(name)
    if known is None:
        if (maker := _MAKERS.get(name)) is None:
            raise UnknownIntrinsicError(_unknown(name))
        known = _KNOWN[name] = maker()
    return known


class _Descriptions(Mapping[str, Program]):
    """The descriptions of all intrinsics by name, each made when it is asked for."""

    def __getitem__(self, name: str) -> Program:
        try:
            return intrinsic_named(name).description
        except UnknownIntrinsicError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(_MAKERS)

    def __len__(self) -> int:
        return len(_MAKERS)


DESCRIPTIONS: Mapping[str, Program] = _Descriptions()


def variants_of(name: str) -> tuple[str, ...]:
    """Returns the intrinsic of that name, or all whose names begin with it and a dot."""
    if name in _MAKERS:
        return (name,)
    found = tuple(known for known in _MAKERS if known.startswith(f"{name}."))
    if not found:
        raise UnknownIntrinsicError(_unknown(name))
    return found


def intrinsic_names() -> tuple[str, ...]:
    """Returns the names of all intrinsics."""
    return tuple(_MAKERS)


def _unknown(name: str) -> str:
    alike = sorted(_MAKERS, key=lambda known: (-_in_common(name, known), known))
    return f"expected the name of an intrinsic, such as {', '.join(alike[:4])}, got '{name}'"


def _in_common(one: str, other: str) -> int:
    """Returns how many parts two names share; the first weighs more than all others."""
    parts, others = one.split("."), other.split(".")
    return sum(part in others for part in parts) + len(parts) * (parts[0] == others[0])
