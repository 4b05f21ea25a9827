"""The syntax tree of a PTX module, as the parser makes it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias


class Register:
    """A declared register; two scopes may declare the same name, hence identity equality."""

    __slots__ = ("index", "name", "type")

    def __init__(self, name: str, type: str, index: int) -> None:
        self.name = name
        self.type = type  # as declared, without the dot: b32, pred, f32...
        self.index = index  # position in the function's register file

    def __repr__(self) -> str:
        """Returns the register as PTX text."""
        return self.name


@dataclass(frozen=True, slots=True)
class Special:
    """A special register such as %tid.x."""

    name: str


@dataclass(frozen=True, slots=True)
class Immediate:
    """
    A constant: an integer, or the bits of a float.

    `kind` is "int", "f32" (written 0f...) or "f64" (0d... or decimal). `value` is the integer, or
    the bits of the float.
    """

    kind: str
    value: int


@dataclass(eq=False, slots=True)
class Variable:
    """A variable in a state space; `data` is its initial contents, `symbols` are relocations."""

    name: str
    space: str  # global, const, shared, local, param; reg of a function's .reg parameter
    type: str
    align: int
    size: int  # in bytes; 0 for `.extern .shared x[]`
    extern: bool = False
    data: bytes = b""
    symbols: tuple[tuple[int, str, int], ...] = ()  # (offset, name, addend)


@dataclass(frozen=True, slots=True)
class SymbolAddress:
    """The address of a variable plus a constant."""

    variable: Variable
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Name:
    """A label, a function name, or `_`."""

    text: str


@dataclass(frozen=True, slots=True)
class Negated:
    """A predicate operand `!p`."""

    register: Register


@dataclass(frozen=True, slots=True)
class Address:
    """`[base+offset]`, or with coordinates `[base, {x, y}]`."""

    base: "Register | Variable | Immediate"
    offset: int = 0
    coordinates: tuple["Operand", ...] = ()


@dataclass(frozen=True, slots=True)
class Vector:
    """`{a, b, c, d}`, or the operand list of a call in parentheses."""

    items: tuple["Operand", ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two destinations `p|q`."""

    first: "Operand"
    second: "Operand"


Operand: TypeAlias = (
    Register | Special | Immediate | SymbolAddress | Name | Negated | Address | Vector | Pair
)


def registers_of(operand: Operand) -> Iterator[Register]:
    """Yields the registers of an operand."""
    match operand:
        case Register():
            yield operand
        case Negated():
            yield operand.register
        case Pair():
            yield from registers_of(operand.first)
            yield from registers_of(operand.second)
        case Vector():
            for item in operand.items:
                yield from registers_of(item)
        case Address():
            if isinstance(operand.base, Register):
                yield operand.base
            for item in operand.coordinates:
                yield from registers_of(item)
        case _:
            pass


@dataclass(frozen=True, slots=True)
class Guard:
    """`@p` or `@!p`."""

    register: Register
    negated: bool


@dataclass(frozen=True, slots=True)
class Location:
    """One `.loc`: file number, line and column."""

    file: int
    line: int
    column: int


@dataclass(eq=False, slots=True)
class Instruction:
    """
    One instruction with its place: `line` and `column` in the PTX text, from 1.

    `calls` holds the calls that brought an inlined function's instruction here, innermost first.
    """

    opcode: str  # with all modifiers: "add.s32"
    operands: tuple[Operand, ...]
    guard: Guard | None
    line: int
    column: int
    location: Location | None
    span: tuple[int, int]  # positions in the text
    calls: tuple["Instruction", ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """A label in a function body."""

    name: str
    line: int


@dataclass(slots=True)
class Function:
    """An `.entry` or a `.func`."""

    name: str
    entry: bool
    line: int
    params: list[Variable] = field(default_factory=list[Variable])
    returns: list[Variable] = field(default_factory=list[Variable])
    formals: dict[Variable, Register] = field(default_factory=dict[Variable, Register])  # .reg
    body: list[Instruction | Label] | None = None
    registers: list[Register] = field(default_factory=list[Register])
    variables: list[Variable] = field(default_factory=list[Variable])
    branch_targets: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    maxntid: tuple[int, int, int] | None = None
    reqntid: tuple[int, int, int] | None = None
    cluster: tuple[int, int, int] | None = None  # .reqnctapercluster
    explicit_cluster: bool = False
    minnctapersm: int = 0  # 0 where the directive is not there, as for maxnreg
    maxnreg: int = 0


@dataclass(slots=True)
class Module:
    """A parsed PTX text."""

    text: str
    version: tuple[int, int] = (0, 0)
    target: tuple[str, ...] = ()
    address_size: int = 64
    variables: dict[str, Variable] = field(default_factory=dict[str, Variable])
    functions: dict[str, Function] = field(default_factory=dict[str, Function])
    files: dict[int, str] = field(default_factory=dict[int, str])

    def source_of(self, instruction: Instruction) -> str:
        """Returns `file:line:column` of the instruction's `.loc`, or the empty string."""
        place = instruction.location
        if place is None:
            return ""
        return f"{self.files.get(place.file, f'file{place.file}')}:{place.line}:{place.column}"

    def text_of(self, instruction: Instruction) -> str:
        """Returns the instruction as written, on one line."""
        start, end = instruction.span
        return " ".join(self.text[start:end].split())


def shown(operand: Operand) -> str:
    """Returns an operand for a message."""
    match operand:
        case Register():
            return f".{operand.type} {operand.name}"
        case Name(text):
            return text
        case Immediate():
            return f"the constant {operand.value}"
        case Address():
            return "an address in brackets"
        case SymbolAddress(variable):
            return f"the address of {variable.name}"
        case _:
            return f"a {type(operand).__name__.lower()}"
