"""Reads an `.mlir` file for the commands that compile one."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from xdsl.context import Context
from xdsl.dialects import arith, func, scf
from xdsl.dialects import math as math_dialect
from xdsl.dialects.builtin import BFloat16Type, Builtin, ModuleOp

from ..attention.spec import AttentionSpec
from ..dialects.attn import AttendOp, PagedType, RaggedType
from ..dialects.diagnostic import DiagnosticError, error_at
from ..dialects.parsing import parse_module
from ..driver.report import reports_of
from ..registry import DIALECTS


@dataclass(frozen=True)
class Source:
    """A module and the text that it was read from."""

    module: ModuleOp
    filename: str
    text: str

    def print_error(self, error: DiagnosticError) -> None:
        """Prints a diagnostic with the line of the text that it points at."""
        for report in reports_of(error):
            sys.stderr.write(report.render({self.filename: self.text}))


def _context() -> Context:
    context = Context()
    upstream = (Builtin, arith.Arith, func.Func, math_dialect.Math, scf.Scf)
    for dialect in (*upstream, *DIALECTS):
        context.load_dialect(dialect)
    return context


def read_source(path: str) -> Source | None:
    """Returns the module of a file, or None after its diagnostics were printed."""
    text = Path(path).read_text()
    source = Source(ModuleOp([]), path, text)
    try:
        return Source(parse_module(text, path, _context()), path, text)
    except DiagnosticError as error:
        source.print_error(error)
        return None


def attention_of(module: ModuleOp) -> AttendOp:
    """Returns the module's one attention op; raises DiagnosticError."""
    found = [op for op in module.walk() if isinstance(op, AttendOp)]
    if len(found) != 1:
        raise DiagnosticError(f"expected one attn.attend, got {len(found)}", None, module.location)
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
    return AttentionSpec(
        num_qo_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        page_size=page_size,
        layout=str(keys.layout.data),
        dtype="bf16" if isinstance(query.element_type, BFloat16Type) else "f16",
        target=target,
        softmax_scale=1.0 / math.sqrt(head_dim),
    )
