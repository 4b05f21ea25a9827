"""
Writes a module of upstream dialects for one program: its entry, its body, its parallel loops.

The entry takes an array of 8-byte slots (the addresses of buffers and the numbers in the order of
the parameters, then the symbols), the address of a function that runs parallel loops, or null, and
that of an i32 that says what went wrong: 1 where there was no memory, 2 + 64 * b + a where an index
that is read from an array is out of bounds of axis a of buffer b, the parameters first:

    entry(slots, parallel, status)          parallel(body, context, extent)

`parallel` calls `body(context, begin, end)` for parts of `0 .. extent - 1`, in any order and on
any thread, and returns when all are done.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...dialects.nest.program import Buffer, Loop, Program
from ...dialects.sym import Ranges
from ...transforms.compact_buffers import compact_buffers
from ...transforms.lower_blocks import lower_blocks
from ...transforms.shorten_loops import shorten_loops
from .elements import HELD
from .options import Options
from .scalars import declaration
from .statements import Argument, FunctionBody, Role
from .writer import POINTER, Value, Writer

_MEMORY = f"""llvm.func @aligned_alloc(i64, i64) -> ({POINTER} {{llvm.noalias}})
llvm.func @free({POINTER})"""


def host_module(program: Program, options: Options | None = None) -> str:
    """Returns MLIR text with one function that callers see, named as the program."""
    lowered = shorten_loops(compact_buffers(lower_blocks(program)))
    return _Module(lowered, options or Options()).text()


class _Module:
    def __init__(self, program: Program, options: Options) -> None:
        self._program = program
        self._options = options
        self._ranges = _all_ranges(program)
        self._functions: list[str] = []
        self._library: set[tuple[str, int]] = set()
        self._loops = 0

    def text(self) -> str:
        """Returns the text of the module."""
        program = self._program
        arguments = [
            Argument(Role.BUFFER, p.name, POINTER)
            if isinstance(p, Buffer)
            else Argument(Role.NUMBER, p.name, HELD[p.dtype])
            for p in program.parameters
        ]
        arguments += [Argument(Role.INDEX, name, "i64") for name in program.ranges]
        tail = [Argument(Role.RUNNER, "", POINTER), Argument(Role.STATUS, "", POINTER)]
        body = FunctionBody(program, self._ranges, self._options, self)
        header = _header(f"{program.name}.body", [(a, body.bind(a)) for a in (*arguments, *tail)])
        body.write(None, program.body)
        self._close(body, header)
        self._functions.append(_entry(program, arguments))
        declarations = [declaration(*entry) for entry in sorted(self._library)]
        return "\n".join([_MEMORY, *declarations, *self._functions])

    def loop(self, function: FunctionBody, loop: Loop) -> None:
        """Writes a parallel loop into a function, its body as a function of its own."""
        self._loops += 1
        name = f"{self._program.name}.loop{self._loops}"
        captured = function.captures()
        arguments = [argument for argument, _ in captured]
        self._outlined(name, function, loop, arguments)
        self._functions.append(_unpacked(name, arguments))
        _write_call(function, loop, name, [value for _, value in captured])

    def _outlined(
        self, name: str, function: FunctionBody, loop: Loop, arguments: Sequence[Argument]
    ) -> None:
        """Writes the function that runs a part of a parallel loop."""
        body = FunctionBody(self._program, self._ranges, self._options, None)
        header = _header(
            f"{name}.body",
            [(argument, body.bind(argument)) for argument in arguments],
            low := body.writer.argument("i64"),
            end := body.writer.argument("i64"),
        )
        body.scalars.names = dict(function.scalars.names)
        body.serial(loop, None, low, end)
        self._close(body, header)

    def _close(self, body: FunctionBody, header: str) -> None:
        self._library |= body.scalars.library
        self._functions.append(f"{header} {{\n{body.writer.text}\nllvm.return\n}}")


def _all_ranges(program: Program) -> Ranges:
    """Returns the ranges of symbols and loops."""
    ranges = program.ranges
    for path in program.places.values():
        if isinstance(path[-1], Loop):
            ranges = ranges.also(path[-1].name, 0, path[-1].extent - 1)
    return ranges


def _header(name: str, arguments: Sequence[tuple[Argument, Value]], *more: Value) -> str:
    """Returns the head of a function; no two of its buffers overlap."""
    texts = [
        f"{value.name}: {value.element}"
        + (" {llvm.noalias}" if argument.role is Role.BUFFER else "")
        for argument, value in arguments
    ]
    texts += [f"{value.name}: {value.element}" for value in more]
    return f"llvm.func internal @{name}({', '.join(texts)})"


def _from_slots(writer: Writer, slots: Value, arguments: Sequence[Argument]) -> list[Value]:
    """Returns the values that stand in slots of 8 bytes."""
    values: list[Value] = []
    for position, argument in enumerate(arguments):
        slot = _slot(writer, slots, position)
        stored = "i8" if argument.element == "i1" else argument.element
        text = f"llvm.load {{0}} : {POINTER} -> {stored}"
        value = writer.effect(text, stored, 0, slot)
        if argument.element == "i1":
            value = writer.convert("arith.trunci", value, "i1")
        values.append(value)
    return values


def _slot(writer: Writer, slots: Value, position: int) -> Value:
    text = f"llvm.getelementptr {{0}}[{position}] : ({POINTER}) -> {POINTER}, i64"
    return writer.pure(text, POINTER, 0, slots)


def _call_of(name: str, values: Sequence[Value]) -> str:
    names = ", ".join(value.name for value in values)
    kinds = ", ".join(value.element for value in values)
    return f"llvm.call @{name}({names}) : ({kinds}) -> ()"


def _entry(program: Program, arguments: Sequence[Argument]) -> str:
    """Returns the function that callers see."""
    writer = Writer()
    slots, runner, status = (writer.argument(POINTER) for _ in range(3))
    values = _from_slots(writer, slots, arguments)
    writer.do(_call_of(f"{program.name}.body", [*values, runner, status]))
    heads = ", ".join(f"{value.name}: {POINTER}" for value in (slots, runner, status))
    return f"llvm.func @{program.name}({heads}) {{\n{writer.text}\nllvm.return\n}}"


def _unpacked(name: str, arguments: Sequence[Argument]) -> str:
    """Returns the function of a parallel loop as threads call it: context, begin, end."""
    writer = Writer()
    context, low, end = (writer.argument(element) for element in (POINTER, "i64", "i64"))
    values = _from_slots(writer, context, arguments)
    writer.do(_call_of(f"{name}.body", [*values, low, end]))
    heads = ", ".join(f"{value.name}: {value.element}" for value in (context, low, end))
    return f"llvm.func internal @{name}({heads}) {{\n{writer.text}\nllvm.return\n}}"


def _write_call(function: FunctionBody, loop: Loop, name: str, captured: Sequence[Value]) -> None:
    """Writes the context of a parallel loop and the call that runs it."""
    writer, runner = function.writer, function.runner
    assert runner is not None
    text = f"llvm.alloca {{0}} x !llvm.array<{len(captured)} x i64> : (i64) -> {POINTER}"
    context = writer.at_entry(text, POINTER, writer.integer(1))
    for position, value in enumerate(captured):
        slot = _slot(writer, context, position)
        if value.element == "i1":
            value = writer.convert("arith.extui", value, "i8")
        writer.do(f"llvm.store {{0}}, {{1}} : {value.element}, {POINTER}", value, slot)
    extent, zero = function.indices.value(loop.extent), writer.integer(0)
    null = writer.pure(f"llvm.mlir.zero : {POINTER}", POINTER, 0)
    alone = writer.pure(f'llvm.icmp "eq" {{0}}, {{1}} : {POINTER}', "i1", 0, runner, null)
    with writer.condition(alone):
        writer.do(_call_of(name, [context, zero, extent]))
    with writer.otherwise():
        address = writer.pure(f"llvm.mlir.addressof @{name} : {POINTER}", POINTER, 0)
        kinds = f"{POINTER}, ({POINTER}, {POINTER}, i64) -> ()"
        writer.do(
            f"llvm.call {{0}}({{1}}, {{2}}, {{3}}) : {kinds}", runner, address, context, extent
        )
