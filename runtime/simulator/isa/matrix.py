"""Matrix instructions of a warp: ldmatrix, stmatrix, mma.sync (PTX ISA, "Warp Level Matrix")."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..ptx.syntax import Instruction, Operand, Register
from .forms import Fields, Table
from .fragments import Form, load_matrices, multiply, store_matrices
from .operands import elements
from .refusals import reason

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter, Value


_CODES = {"f32": "f4", "f16": "u4", "s32": "i4"}


def _chainable(first: Form, second: Form) -> bool:
    """
    Says whether two products may become one: integers wrap after each, f32 holds only short sums.
    """
    return first == second and first.total != "s32"


class _Node:
    """One mma.sync of a block; `previous` is the one whose result it adds to, if that waits."""

    __slots__ = ("a", "b", "c", "d", "form", "instruction", "previous")

    def __init__(self, instruction: Instruction, form: Form) -> None:
        self.instruction = instruction
        self.form = form
        self.a: tuple[Value, ...] = ()
        self.b: tuple[Value, ...] = ()
        self.c: tuple[Value, ...] = ()
        self.d: tuple[Value, ...] = ()
        self.previous: _Node | None = None

    def chain(self) -> "list[_Node]":
        """Returns the nodes that add up to this one's result, the first one first."""
        nodes: list[_Node] = []
        node: _Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.previous
        return nodes[::-1]


class MatrixQueue:
    """
    The mma.sync of a block whose results nobody has read yet.

    They are emitted together when the first result is read: chains over the same accumulators
    become longer products, chains that share A become wider ones. An mma only reads and writes
    registers, so nothing can tell when it runs.
    """

    def __init__(self, emitter: "BlockEmitter") -> None:
        self.emitter = emitter
        self._pending: dict[_Node, None] = {}
        self._made: dict[int, _Node] = {}  # id of a value: the node that makes it

    def add(self, node: _Node, made: "tuple[Value, ...]") -> None:
        """Takes a node that makes some values."""
        node.d = made
        first = self._made.get(id(node.c[0]))
        if first is not None and first in self._pending and _chainable(first.form, node.form):
            if all(c is d for c, d in zip(node.c, first.d, strict=True)):
                node.previous = first
        for value in made:
            self._made[id(value)] = node
            value.make = partial(self._force, node)
        self._pending[node] = None

    def _force(self, node: _Node, value: "Value") -> None:
        """Emits what computes a value, and everything else that waits."""
        if node in self._pending:
            self._flush()
        if not value.names:
            self._emit([node])

    def _flush(self) -> None:
        """Emits all ends of chains, those that share A together."""
        nodes = list(self._pending)
        self._pending.clear()
        inner = {node.previous for node in nodes if node.previous is not None}
        alike: dict[tuple[object, ...], list[_Node]] = {}
        for node in nodes:
            if node not in inner:
                lefts = tuple(id(value) for link in node.chain() for value in link.a)
                alike.setdefault((node.form, *lefts), []).append(node)
        for ends in alike.values():
            self._emit(ends)

    def _emit(self, ends: list[_Node]) -> None:
        """Emits the product of chains that share A and are equally long."""
        emitter = self.emitter
        chains = [node.chain() for node in ends]
        left = [self._operand(value) for link in chains[0] for value in link.a]
        right = [self._operand(v) for chain in chains for link in chain for v in link.b]
        code = _CODES[ends[0].form.total]
        start = [emitter.view(value, code) for chain in chains for value in chain[0].c]
        outer = emitter.instruction
        emitter.instruction = ends[0].instruction
        site = emitter.site(extra=(ends[0].form, len(chains[0]), len(ends)))
        emitter.instruction = outer
        arguments = ", ".join(f"({', '.join(names)},)" for names in (left, right, start))
        result = emitter.define(f"{emitter.use(multiply)}(g, {site}, {arguments})")
        values = [value for node in ends for value in node.d]
        for number, value in enumerate(values):
            value.names[code] = f"{result}[{number}]"
        for value in values:
            value.names[code] = emitter.define(value.names[code])

    def _operand(self, value: "Value") -> str:
        """Returns an operand: a fragment's register that nobody else reads stays in it."""
        if value.fragment:
            return value.fragment
        return self.emitter.view(value, "u4")


def _registers(b: "BlockEmitter", operand: Operand, count: int) -> tuple[Register, ...]:
    """Returns a destination vector of 32-bit registers."""
    items = elements(b, operand, count)
    for item in items:
        if not isinstance(item, Register) or item.type not in ("b32", "u32", "s32", "f32"):
            raise b.error("expects 32-bit registers as its destination")
    return tuple(item for item in items if isinstance(item, Register))


def _load(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits ldmatrix; its registers are made when something other than mma reads them."""
    d, address = b.operands(2)
    count = int(fields["num"][1:])
    targets = _registers(b, d, count)
    base, offset = b.address(address)
    site = b.site(
        dtype=np.complex128,
        size=16,
        space="shared",
        offset=offset,
        extra=(count, bool(fields["trans"])),
    )
    fragment = b.define(f"{b.use(load_matrices)}(g, {site}, {base})")
    for index, target in enumerate(targets):
        b.put_fragment(target, fragment, index)


def _store(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits stmatrix."""
    address, s = b.operands(2)
    count = int(fields["num"][1:])
    values = [b.read(item, "b32") for item in elements(b, s, count)]
    base, offset = b.address(address)
    site = b.site(
        dtype=np.complex128,
        size=16,
        space="shared",
        offset=offset,
        extra=(count, bool(fields["trans"])),
    )
    b.call(store_matrices, site, [base, *values])


def _transpose(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits movmatrix."""
    d, s = b.operands(2)
    b.write(d, "b32", f"{b.use(transposed)}({b.read(s, 'b32')})")


def transposed(value: "np.ndarray[tuple[int], np.dtype[np.uint32]]") -> object:
    """Returns 8x8 matrices of 16-bit elements, one a warp, transposed (movmatrix)."""
    if value.ndim == 0:
        return value
    halves = np.ascontiguousarray(value).view(np.uint16).reshape(-1, 8, 8)
    return np.ascontiguousarray(halves.transpose(0, 2, 1)).reshape(-1).view(np.uint32)


# Shape and bits of an element of A: registers of A and of B, blocks of 8 rows.
_SHAPES = {
    ("m16n8k16", 16): (4, 2, 2),
    ("m16n8k8", 16): (2, 1, 2),
    ("m16n8k8", 32): (4, 2, 2),
    ("m16n8k4", 32): (2, 1, 2),
    ("m16n8k32", 8): (4, 2, 2),
    ("m16n8k16", 8): (2, 1, 2),
    ("m8n8k16", 8): (1, 1, 1),
    ("m16n8k64", 4): (4, 2, 2),
    ("m16n8k32", 4): (2, 1, 2),
    ("m8n8k32", 4): (1, 1, 1),
    ("m16n8k256", 1): (4, 2, 2),
    ("m16n8k128", 1): (2, 1, 2),
    ("m8n8k128", 1): (1, 1, 1),
}
_WIDTHS = {
    **{"f16": 16, "bf16": 16, "tf32": 32, "e4m3": 8, "e5m2": 8},
    **{"s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1},
}


def _multiply(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits mma.sync."""
    kinds, total = (fields["a"], fields["b"]), fields["d"]
    width = _WIDTHS[kinds[0]]
    found = _SHAPES.get((fields["shape"], width))
    same = kinds[0] == kinds[1] or (width == _WIDTHS[kinds[1]] and width < 16)
    if found is None or not same or total != fields["c"]:
        raise b.error(f"has no such shape or types{reason(instruction.opcode)}")
    if total == "f16" and kinds[0] not in ("f16", "e4m3", "e5m2"):
        raise b.error("has f16 accumulators for operands of f16, e4m3 and e5m2 only")
    left, right, halves = found
    d, a, x, c = b.operands(4)
    accumulators = halves if total == "f16" else 2 * halves
    if width == 1:
        kinds = (fields["bits"], fields["bits"])
    node = _Node(instruction, Form(*kinds, total, halves, bool(fields.get("satfinite"))))
    node.a = tuple(b.operand(o, "b32") for o in elements(b, a, left))
    node.b = tuple(b.operand(o, "b32") for o in elements(b, x, right))
    wanted = "b32" if total == "f16" else total
    node.c = tuple(b.operand(o, wanted) for o in elements(b, c, accumulators))
    targets = _registers(b, d, accumulators)
    b.kept(MatrixQueue).add(node, b.put_lazily(targets, _CODES[total]))


_FLOATS = "f16|bf16|tf32|e4m3|e5m2"
_INTEGERS = "s8|u8|s4|u4"
_MMA = "mma.sync.aligned.<shape:m16n8k8|m16n8k4|m16n8k16|m16n8k32>.row.col"
_MMA_INTEGER = "mma.sync.aligned.<shape:m8n8k16|m8n8k32|m16n8k16|m16n8k32|m16n8k64>.row.col"
_MMA_BIT = "mma.sync.aligned.<shape:m8n8k128|m16n8k128|m16n8k256>.row.col"
FORMS: Table = (
    ("ldmatrix.sync.aligned.m8n8.<num:x1|x2|x4>[.trans][.shared][.shared::cta].b16", _load),
    ("stmatrix.sync.aligned.m8n8.<num:x1|x2|x4>[.trans][.shared][.shared::cta].b16", _store),
    ("movmatrix.sync.aligned.m8n8.trans.b16", _transpose),
    (f"{_MMA}.<d:f32|f16>.<a:{_FLOATS}>.<b:{_FLOATS}>.<c:f32|f16>", _multiply),
    (f"{_MMA_INTEGER}[.satfinite].<d:s32>.<a:{_INTEGERS}>.<b:{_INTEGERS}>.<c:s32>", _multiply),
    (f"{_MMA_BIT}.<d:s32>.<a:b1>.<b:b1>.<c:s32>.<bits:xor|and>.popc", _multiply),
)
