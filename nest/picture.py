"""Draws a program as a tree of loops and blocks: as text, and as a page for before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ..dialects.nest.program import (
    AxisKind,
    Block,
    Body,
    Buffer,
    Call,
    Guard,
    Loop,
    LoopKind,
    Program,
    Region,
    ScalarParameter,
    Statement,
    Store,
)
from ..dialects.nest.scalars import Apply, Constant, Index, Load, Scalar, Subscript, Variable
from ..dialects.sym import Expression
from .picture_style import STYLE

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "rem": "%", "and": "&", "or": "|"}
_PREDICATES = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


@dataclass(frozen=True)
class Node:
    """
    One box of the picture.

    `kind` is the loop's kind, or `block`, `buffer`, `guard`, `store`, `call`; `notes` are lines
    below the title.
    """

    kind: str
    title: str
    notes: tuple[str, ...] = ()
    children: "tuple[Node, ...]" = ()


def tree(program: Program) -> Node:
    """Returns the picture of a program: its buffers, then its nest."""
    buffers = tuple(
        Node("buffer", f"{buffer.scope} {_declared(buffer)}") for buffer in program.allocations
    )
    return Node("program", _signature(program), (), (*buffers, *_nodes(program.body)))


def draw(program: Program) -> str:
    """Returns the picture as text, a line for each loop, block and buffer."""
    root = tree(program)
    return "\n".join([root.title, *_lines(root.children)])


def _lines(children: Sequence[Node]) -> list[str]:
    lines: list[str] = []
    for number, node in enumerate(children):
        last = number == len(children) - 1
        branch, stem = ("└─ ", "   ") if last else ("├─ ", "│  ")
        lines.append(branch + node.title)
        inner = "│  " if node.children else "   "
        lines += [stem + inner + note for note in node.notes]
        lines += [stem + line for line in _lines(node.children)]
    return lines


def page(programs: Sequence[tuple[str, Program]]) -> str:
    """Returns an HTML page of programs beside one another, each with a heading."""
    panes = "".join(
        f"<section><h2>{escape(heading)}</h2>{_box(tree(program))}</section>"
        for heading, program in programs
    )
    name = escape(programs[0][1].name) if programs else "nest"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{name}</title>"
        f"<style>{STYLE}</style></head><body><header><h1>{name}</h1></header>"
        f"<main>{panes}</main></body></html>\n"
    )


def _box(node: Node) -> str:
    notes = "".join(f"<p>{escape(note)}</p>" for note in node.notes)
    children = "".join(map(_box, node.children))
    kind = node.kind.partition(".")[0]
    badge = f"<b>{escape(node.kind)}</b>" if node.kind in set(LoopKind) - {"serial"} else ""
    return f"<div class='{kind}'><span>{escape(node.title)}{badge}</span>{notes}{children}</div>"


def _signature(program: Program) -> str:
    parameters = ", ".join(
        f"{p.name}: {p.dtype}"
        if isinstance(p, ScalarParameter)
        else _declared(p) + (" (output)" if p.name in program.outputs else "")
        for p in program.parameters
    )
    ranges = f"  where {program.ranges}" if len(program.ranges) else ""
    return f"{program.name}({parameters}){ranges}"


def _declared(buffer: Buffer) -> str:
    details = ""
    if buffer.swizzle:
        details += f" swizzle {buffer.swizzle}"
    if buffer.padding:
        details += " padded"
    shape = ", ".join(map(str, buffer.shape))
    return f"{buffer.name}: {buffer.dtype}[{shape}]{details}"


def _nodes(body: Body) -> tuple[Node, ...]:
    return tuple(map(_node, body))


def _node(statement: Statement) -> Node:
    match statement:
        case Loop(name, extent, body, kind, annotations):
            title = f"for {name} in 0..{extent}"
            if kind is not LoopKind.SERIAL:
                title += f"  {kind}"
            notes = tuple(f"{key} = {value}" for key, value in annotations.items())
            return Node(kind, title, notes, _nodes(body))
        case Block():
            return _block(statement)
        case Guard(condition, body):
            return Node("guard", f"if {scalar_text(condition)}", (), _nodes(body))
        case Store(buffer, indices, value):
            return Node("store", f"{_access(buffer, indices)} = {scalar_text(value)}")
        case Call(intrinsic, operands):
            regions = ", ".join(region_text(operand.region) for operand in operands)
            return Node("call", f"{intrinsic}({regions})")


def _block(block: Block) -> Node:
    notes: list[str] = []
    for kind in AxisKind:
        if axes := block.axes_of(kind):
            bindings = ", ".join(f"{axis.name} = {axis.binding}" for axis in axes)
            notes.append(f"{kind} {bindings}")
    if block.predicate:
        bounds = " and ".join(f"{bound.left} < {bound.right}" for bound in block.predicate)
        notes.append(f"where {bounds}")
    notes += [f"{key} = {value}" for key, value in block.annotations.items()]
    init = (Node("init", "init", (), _nodes(block.init)),) if block.init else ()
    return Node("block", f"@{block.name}", tuple(notes), (*init, *_nodes(block.body)))


def region_text(region: Region) -> str:
    """Returns a region as text: `A[16*i .. 16*i + 15, k]`."""
    parts = (
        str(part.start) if part.extent == 1 else f"{part.start} .. {part.start + part.extent - 1}"
        for part in region.ranges
    )
    return f"{region.buffer}[{', '.join(parts)}]"


def _access(buffer: str, indices: Sequence[Subscript]) -> str:
    texts = (str(i) if isinstance(i, Expression) else scalar_text(i) for i in indices)
    return f"{buffer}[{', '.join(texts)}]"


def scalar_text(scalar: Scalar) -> str:
    """Returns a scalar as text, in infix where that is usual."""
    match scalar:
        case Constant(value):
            return f"{value:g}" if isinstance(value, float) else str(value)
        case Index(expression):
            return str(expression)
        case Variable(name):
            return name
        case Load(buffer, indices):
            return _access(buffer, indices)
        case Apply(op, operands, dtype, predicate):
            return _applied(op, [scalar_text(operand) for operand in operands], dtype, predicate)


def _applied(op: str, operands: list[str], dtype: str, predicate: str) -> str:
    name = op.partition(".")[2]
    if predicate:
        return f"({operands[0]} {_PREDICATES.get(predicate[1:], predicate)} {operands[1]})"
    if (infix := _INFIX.get(name[:-1])) and len(operands) == 2:
        return f"({operands[0]} {infix} {operands[1]})"
    if name.startswith(("ext", "trunc", "sito", "uito", "fpto", "index_cast")):
        return f"{dtype}({operands[0]})"
    return f"{name}({', '.join(operands)})"
