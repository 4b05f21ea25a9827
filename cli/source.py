"""Reads an `.mlir` file for the commands that compile one."""

import math
import sys
from pathlib import Path

from xdsl.context import Context
from xdsl.dialects import arith, func, scf
from xdsl.dialects import math as math_dialect
from xdsl.dialects.builtin import BFloat16Type, Builtin, ModuleOp

from ..attention.spec import TARGETS, AttentionSpec, PagedKV
from ..dialects.attn import AttendOp, PagedType, RaggedType
from ..dialects.diagnostic import DiagnosticError, error_at
from ..dialects.parsing import parse_module
from ..registry import DIALECTS
from ..runtime.errors import ArgumentError, TilewrightError


def check_target(target: str) -> None:
    """Raises ArgumentError for a target that is none."""
    if target not in TARGETS:
        raise ArgumentError("--target", f"one of {', '.join(TARGETS)}", repr(target))


def read_source(path: str) -> tuple[str, str]:
    """Returns the name and the text of a file, `-` being stdin; raises OSError and others."""
    filename = "<stdin>" if path == "-" else path
    content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        return filename, content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise TilewrightError(f"{filename}:{line}:{column}: error: expected UTF-8") from None


def parse_source(filename: str, text: str) -> ModuleOp:
    """Returns the module of a text; raises DiagnosticError."""
    context = Context()
    upstream = (Builtin, arith.Arith, func.Func, math_dialect.Math, scf.Scf)
    for dialect in (*upstream, *DIALECTS):
        context.load_dialect(dialect)
    return parse_module(text, filename, context)


def attention_of(module: ModuleOp) -> AttendOp:
    """Returns the module's one attention op; raises DiagnosticError."""
    found = [op for op in module.walk() if isinstance(op, AttendOp)]
    if not found:
        raise DiagnosticError("expected one attn.attend, got none", None, module.location)
    if len(found) > 1:
        raise error_at(found[1], f"expects to be the only one in a file, got {len(found)}")
    return found[0]


def spec_of_op(op: AttendOp, target: str) -> AttentionSpec:
    """Returns the numbers of an attention op; raises DiagnosticError."""
    query, keys = op.query.type, op.keys.type
    if not isinstance(query, RaggedType) or not isinstance(keys, PagedType):
        raise error_at(op, "expects a ragged query and paged keys")
    numbers: list[int] = []
    for extent in (*query.extents.data[1:], *keys.extents.data[1:3]):
        if (constant := extent.data.constant_value) is None:
            raise error_at(op, f"expects constant extents of heads and pages, got {extent.data}")
        numbers.append(constant)
    heads, head_dim, page_size, kv_heads = numbers
    try:
        return AttentionSpec(
            num_qo_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            kv=PagedKV(page_size, str(keys.layout.data)),
            dtype="bf16" if isinstance(query.element_type, BFloat16Type) else "f16",
            target=target,
            softmax_scale=1.0 / math.sqrt(head_dim),
        )
    except ArgumentError as error:
        message = f"expects as {error.name} {error.expected}, got {error.got}"
        raise error_at(op, message) from None
