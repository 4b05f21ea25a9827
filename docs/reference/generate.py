"""
Writes the reference pages of the dialects, passes, targets and PTX instructions.

    python docs/reference/generate.py [--check]

With `--check` nothing is written; the exit code is 1 if a page is not up to date.
"""

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_type_hints

from xdsl.dialects.builtin import ArrayOfConstraint
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import Attribute, Dialect, Operation, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import (
    AllOf,
    AnyAttr,
    AnyOf,
    AnyRange,
    AttrConstraint,
    AttrSetConstraint,
    BaseAttr,
    EqAttrConstraint,
    IRDLOperation,
    MessageConstraint,
    OpDef,
    OptionalDef,
    ParamAttrConstraint,
    RangeConstraint,
    RangeLengthConstraint,
    RangeOf,
    RangeVarConstraint,
    TypeVarConstraint,
    VarConstraint,
    VariadicDef,
)
from xdsl.utils.arg_spec import ArgSpecConvertible
from xdsl.utils.hints import type_repr

from tilewright.registry import DIALECTS, PASSES, TARGETS
from tilewright.runtime.simulator.isa import FAMILIES
from tilewright.runtime.simulator.isa.forms import CLASSES

FOLDER = Path(__file__).parent
GENERATED = "<!-- Written by docs/reference/generate.py; change the docstrings instead. -->"


def attribute_name(attribute: type[Attribute]) -> str:
    """Returns the name of a kind of attribute as MLIR writes it: `!tile.fragment`, `#nvvm.x`."""
    sigil = "!" if issubclass(attribute, TypeAttribute) else "#"
    name = attribute.name.removeprefix("builtin.")
    return sigil + name if "." in name else name


def constraint_text(constraint: AttrConstraint | RangeConstraint) -> str:
    """Returns in words what attributes or types a constraint accepts."""
    match constraint:
        case AnyAttr() | AnyRange():
            return "any"
        case BaseAttr(attr=attribute) | ParamAttrConstraint(base_attr=attribute):
            return attribute_name(attribute) if attribute.__dict__.get("name") else "any"
        case EqAttrConstraint(attr=attribute):
            return str(attribute)
        case AttrSetConstraint(values=values):
            return " or ".join(sorted(map(str, values)))
        case AnyOf(attr_constrs=parts):
            return " or ".join(dict.fromkeys(map(constraint_text, parts)))
        case AllOf(attr_constrs=parts):
            told = [text for text in map(constraint_text, parts) if text != "any"]
            return " and ".join(dict.fromkeys(told)) or "any"
        case VarConstraint(name=name, constraint=inner):
            return f"{name}: {constraint_text(inner)}"
        case TypeVarConstraint(base_constraint=inner):
            return constraint_text(inner)
        case RangeVarConstraint(constraint=inner) | RangeLengthConstraint(constraint=inner):
            return constraint_text(inner)
        case RangeOf(constr=inner) | MessageConstraint(constr=inner):
            return constraint_text(inner)
        case ArrayOfConstraint(elem_range_constraint=inner):
            return f"array of {constraint_text(inner)}"
        case _:
            return type(constraint).__name__.removesuffix("Constraint")


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = list(rows)
    if not rows:
        return
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _count(definition: object) -> str:
    if isinstance(definition, OptionalDef):
        return "optional "
    return "any number of " if isinstance(definition, VariadicDef) else ""


def _code(text: str) -> str:
    return f"`{text}`"


def _op_rows(definition: OpDef) -> Iterator[tuple[str, ...]]:
    for kind, values in (("operand", definition.operands), ("result", definition.results)):
        for name, value in values:
            text = constraint_text(value.constr)
            yield _code(name), _count(value) + kind, _code(text)
    groups: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("property", definition.properties),
        ("attribute", definition.attributes),
    )
    for kind, group in groups:
        for name, value in group.items():
            constraint: AttrConstraint = getattr(value, "constr")
            if name.endswith("SegmentSizes"):
                continue
            yield _code(name), _count(value) + kind, _code(constraint_text(constraint))
    for name, region in definition.regions:
        yield _code(name), _count(region) + "region", ""
    for name, successor in definition.successors:
        yield _code(name), _count(successor) + "successor", ""


def _op_section(op: type[Operation]) -> Iterator[str]:
    yield f"### `{op.name}`"
    yield ""
    yield inspect.getdoc(op) or ""
    yield ""
    if not issubclass(op, IRDLOperation):
        return
    definition = op.get_irdl_definition()
    yield from _table(("name", "kind", "type or attribute"), _op_rows(definition))
    traits = sorted({type(trait).__name__ for trait in definition.traits})
    if traits:
        yield f"Traits: {', '.join(map(_code, traits))}."
        yield ""


def _attribute_section(attribute: type[Attribute]) -> Iterator[str]:
    yield f"### `{attribute_name(attribute)}`"
    yield ""
    yield inspect.getdoc(attribute) or ""
    yield ""
    if issubclass(attribute, EnumAttribute):
        yield f"Values: {', '.join(_code(str(value)) for value in attribute.enum_type)}."
        yield ""
    elif issubclass(attribute, ParametrizedAttribute):
        parameters = attribute.get_irdl_definition().parameters
        rows = ((_code(name), _code(constraint_text(p.constr))) for name, p in parameters)
        yield from _table(("parameter", "type or attribute"), rows)


def dialect_page(dialect: Dialect) -> str:
    """Returns the page of a dialect: its types, attributes and ops, in alphabetical order."""
    module = sys.modules.get(f"tilewright.dialects.{dialect.name}")
    lines = [GENERATED, "", f"# Dialect `{dialect.name}`", "", inspect.getdoc(module) or "", ""]
    attributes = sorted(dialect.attributes, key=attribute_name)
    if attributes:
        lines += ["## Types and attributes", ""]
        lines += [line for attribute in attributes for line in _attribute_section(attribute)]
    operations = sorted(dialect.operations, key=lambda op: op.name)
    if operations:
        lines += ["## Operations", ""]
        lines += [line for op in operations for line in _op_section(op)]
    return _joined(lines)


def _option_rows(cls: type[ArgSpecConvertible]) -> Iterator[tuple[str, ...]]:
    types = get_type_hints(cls)
    for option in fields(cls):
        default = "required" if option.default is MISSING else _code(str(option.default).lower())
        name, kind = option.name.replace("_", "-"), type_repr(types[option.name])
        yield _code(name), _code(kind), default, option.metadata.get("doc", "")


def _section(cls: type[ArgSpecConvertible]) -> Iterator[str]:
    yield f"## `{cls.name}`"
    yield ""
    yield inspect.getdoc(cls) or ""
    yield ""
    yield from _table(("option", "type", "default", "meaning"), _option_rows(cls))


def _page(title: str, classes: Iterable[type[ArgSpecConvertible]]) -> str:
    lines = [GENERATED, "", f"# {title}", ""]
    return _joined([*lines, *(line for cls in classes for line in _section(cls))])


def passes_page() -> str:
    """Returns the page of all passes, in the order in which a pipeline runs them."""
    return _page("Passes", PASSES)


def targets_page() -> str:
    """Returns the page of all targets of `tilewright-opt -t`."""
    return _page("Targets", TARGETS)


def instructions_page() -> str:
    """Returns the page of the PTX instructions that the simulator covers."""
    lines = [GENERATED, "", "# PTX instructions that the simulator covers", ""]
    lines += [
        "`[.x]` may be left out, `<name:a|b>` is one of the choices, `[.<name:a|b>]` is both. What",
        "else a text uses is refused when it is loaded. These choices have names:",
        "",
        *(f"- `{name}`: {choices.replace('|', ', ')}" for name, choices in CLASSES.items()),
    ]
    for family in FAMILIES:
        lines += ["", f"## {_summary(family)}", "", "```"]
        lines += [form for form, _ in family.FORMS]
        lines += ["```"]
    return _joined(lines)


def _summary(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def index_page() -> str:
    """Returns the page that leads to the others."""
    lines = [GENERATED, "", "# Reference", "", "## Dialects, from the highest level down", ""]
    for dialect in DIALECTS:
        summary = _summary(sys.modules.get(f"tilewright.dialects.{dialect.name}"))
        lines.append(f"- [`{dialect.name}`](dialects/{dialect.name}.md): {summary}")
    lines += ["", "## [Passes](passes.md)", ""]
    lines += [f"- [`{p.name}`](passes.md#{p.name}): {_summary(p)}" for p in PASSES]
    lines += ["", "## [Targets](targets.md)", ""]
    lines += [f"- [`{t.name}`](targets.md#{t.name}): {_summary(t)}" for t in TARGETS]
    lines += ["", "## [PTX instructions](instructions.md) that the simulator covers"]
    return _joined(lines)


def _joined(lines: list[str]) -> str:
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.rstrip() + "\n"


def pages() -> dict[str, str]:
    """Returns all pages by their path in this folder."""
    by_path = {"README.md": index_page(), "passes.md": passes_page()}
    by_path |= {"targets.md": targets_page(), "instructions.md": instructions_page()}
    by_path |= {f"dialects/{dialect.name}.md": dialect_page(dialect) for dialect in DIALECTS}
    return by_path


def out_of_date() -> list[str]:
    """Returns the paths of pages that differ from what the registry says, or should not exist."""
    wanted = pages()
    there = {str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.rglob("*.md")}
    return sorted(name for name in wanted.keys() | there if wanted.get(name) != there.get(name))


def main(args: list[str]) -> int:
    """Writes the pages, or with `--check` lists those that are not up to date."""
    stale = out_of_date()
    if "--check" in args:
        for name in stale:
            print(f"docs/reference/{name} is not up to date: run `make reference`", file=sys.stderr)
        return int(bool(stale))
    wanted = pages()
    for name in stale:
        path = FOLDER / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name])
        else:
            path.unlink()
        print(f"docs/reference/{name} {'written' if name in wanted else 'removed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
