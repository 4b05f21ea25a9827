"""Prints the kernels of a thread-level module as one PTX text."""

from __future__ import annotations

from collections.abc import Iterator

from xdsl.dialects import gpu, llvm
from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, ModuleOp
from xdsl.ir import Operation

from ...dialects.diagnostic import DiagnosticError, error_at
from . import comparison, control, conversion, division, floating, integer, memory, vector, warp
from .elements import BITS, REGISTER_CLASS, SPACES, element_count, element_kind
from .kernel import KernelPrinter, Rule, kind_of
from .runs import join_runs

# The PTX version that each target needs at least for the instructions printed here.
TARGETS: dict[str, str] = {
    "sm_80": "7.4",
    "sm_86": "7.4",
    "sm_89": "7.8",
    "sm_90": "7.8",
    "sm_90a": "8.0",
}

RULES: dict[str, Rule] = {
    **integer.RULES,
    **division.RULES,
    **comparison.RULES,
    **floating.RULES,
    **conversion.RULES,
    **vector.RULES,
    **memory.RULES,
    **warp.RULES,
    **control.RULES,
}

# Function attributes to PTX directives (PTX ISA, "Performance-Tuning Directives").
_DIRECTIVES = {"nvvm.minctasm": ".minnctapersm", "nvvm.maxnreg": ".maxnreg"}


def print_ptx(module: ModuleOp, target: str = "sm_80", lines: bool = True) -> str:
    """
    Returns the PTX text of every `gpu.func` kernel in a thread-level module.

    With `lines` the places of the ops become `.loc` lines.

    Raises DiagnosticError for an op or type that has no PTX, at the op's place.
    """
    if target not in TARGETS:
        known = ", ".join(TARGETS)
        raise DiagnosticError(f"expected a target among {known}, got {target!r}")
    files: dict[str, int] | None = {} if lines else None
    body: list[str] = []
    versions = {TARGETS[target]}
    for device in module.body.block.ops:
        if not isinstance(device, gpu.ModuleOp):
            raise error_at(device, "expects only gpu.module around kernels")
        for op in device.body.block.ops:
            if isinstance(op, llvm.GlobalOp):
                body.append(_global(op))
            elif isinstance(op, gpu.FuncOp):
                body += ["", *_kernel(op, files, target, versions)]
            else:
                raise error_at(op, "expects llvm.mlir.global or gpu.func in gpu.module")
    version = max(versions, key=lambda text: [int(part) for part in text.split(".")])
    head = [f".version {version}", f".target {target}", ".address_size 64", ""]
    names = [f".file {number} {_quoted(name)}" for name, number in (files or {}).items()]
    return "\n".join([*head, *names, *body]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _global(op: llvm.GlobalOp) -> str:
    if op.addr_space.value.data != 3:
        raise error_at(op, f"expects shared memory (space 3), got {op.addr_space.value.data}")
    align = op.alignment.value.data if op.alignment is not None else 16
    type_ = op.global_type
    count = type_.size.data if isinstance(type_, llvm.LLVMArrayType) else 1
    element = type_.type if isinstance(type_, llvm.LLVMArrayType) else type_
    kind = element_kind(element)
    if kind is None:
        raise error_at(op, f"expects an array of scalars, got {type_}")
    size = count * element_count(element) * BITS[kind] // 8
    name = op.sym_name.data
    if size == 0:
        return f".extern .shared .align {align} .b8 {name}[];"
    return f".shared .align {align} .b8 {name}[{size}];"


def _block_size(op: gpu.FuncOp) -> tuple[int, ...]:
    for name in ("known_block_size", "gpu.known_block_size"):
        attribute = op.attributes.get(name)
        if isinstance(attribute, DenseArrayBase):
            extents = tuple(int(extent) for extent in attribute.get_values())
            if len(extents) != 3 or min(extents) < 1:
                raise error_at(op, f"expects three positive block extents, got {extents}")
            return extents
    return ()


def _kernel(
    op: gpu.FuncOp, files: dict[str, int] | None, target: str, versions: set[str]
) -> Iterator[str]:
    if op.kernel is None:
        raise error_at(op, "expects the attribute kernel: functions are inlined before PTX")
    block_size = _block_size(op)
    printer = KernelPrinter(RULES, files, target, block_size, join_runs)
    block = op.body.block
    names = [_bind_parameter(printer, op, index) for index in range(len(block.args))]
    printer.run(block)
    printer.end_of_kernel()
    versions |= printer.versions
    parameters = ",\n".join(f"\t{text}" for text in names)
    yield (
        f".visible .entry {op.sym_name.data}(\n{parameters}\n)"
        if names
        else (f".visible .entry {op.sym_name.data}()")
    )
    if block_size:
        yield ".reqntid " + ", ".join(map(str, block_size))
    for name, directive in _DIRECTIVES.items():
        attribute = op.attributes.get(name)
        if isinstance(attribute, IntegerAttr):
            yield f"{directive} {attribute.value.data}"
    yield "{"
    yield from printer.lines()
    yield "\tret;"
    yield "}"


def _bind_parameter(printer: KernelPrinter, op: gpu.FuncOp, index: int) -> str:
    """Loads a parameter at the kernel's entry and returns its declaration."""
    argument = op.body.block.args[index]
    kind = kind_of(op, argument)
    if element_count(argument.type) != 1 or kind == "i1":
        raise error_at(op, f"expects scalar parameters of 8 bits or more, got {argument.type}")
    name = f"{op.sym_name.data}_param_{index}"
    bits = BITS[kind]
    cls = REGISTER_CLASS[kind]
    # PTX has no 8-bit registers: a byte is loaded into a wider one.
    letter = "u" if kind in ("i8", "i16") else "b"
    register = printer.at_entry(f"ld.param.{letter}{bits}", cls, f"[{name}]")
    printer.bind(argument, [printer.wrapped(register, kind)])
    if kind[:3] == "ptr":
        return f".param .u64 .ptr {SPACES[kind] or ''} .align 1 {name}".replace("  ", " ")
    return f".param .{'f' if 'f' in kind and kind != 'bf16' and bits > 16 else 'b'}{bits} {name}"


def is_supported(op: Operation) -> bool:
    """Says whether the op has a rule."""
    return op.name in RULES
