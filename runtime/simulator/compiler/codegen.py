"""Turns a PTX function into a program: its blocks as Python source."""

from collections.abc import Iterable

from ..errors import PTXError
from ..isa import FORMS
from ..ptx.syntax import Function, Module
from .blocks import cut, liveness
from .emitter import BlockEmitter, FindForm
from .inlining import inline
from .program import Program
from .scope import FunctionScope


def compile_function(
    module: Module,
    function: Function,
    emitter_class: type[BlockEmitter] = BlockEmitter,
    find: FindForm = FORMS.find,
) -> Program:
    """
    Returns the program of an entry; raises PTXError that lists what isn't covered.

    `find` gives what emits an instruction.
    """
    whole = inline(module, function)
    scope, blocks = FunctionScope(module, whole), cut(whole)
    emitters = [emitter_class(scope, block, find) for block in blocks]
    problems: list[PTXError] = []
    for emitter in emitters:
        problems.extend(emitter.emit())
    if problems:
        raise _together(problems)
    reads = [_bits(emitter.inputs) for emitter in emitters]
    writes = [_bits(emitter.values.keys() - emitter.inputs_only) for emitter in emitters]
    _, live_out = liveness(blocks, reads, writes)
    sources = ["\n".join(emitter.finish(live_out[emitter.block.index])) for emitter in emitters]
    compiled = [
        emitter.result(source, function.name)
        for emitter, source in zip(emitters, sources, strict=True)
    ]
    return Program(
        function.name,
        compiled,
        len(whole.registers) + len(scope.pseudo),
        [(code, index) for index, code in scope.codes.items()],
        scope.pseudo,
        scope.layout,
        "\n".join(sources),
        module,
        function,
    )


def _bits(indices: Iterable[int]) -> int:
    """Returns a set of small integers as bits."""
    bits = 0
    for index in indices:
        bits |= 1 << index
    return bits


def _together(problems: list[PTXError]) -> PTXError:
    """Returns one error at the first place that lists all places."""
    first = problems[0]
    if len(problems) == 1:
        return first
    rest = "".join(f"\n  line {p.line}: {p.message}" for p in problems)
    return PTXError(
        f"{len(problems)} instructions are not covered:{rest}", first.line, first.column
    )
