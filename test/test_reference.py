"""The generated reference is up to date, and says what a reader looks up."""

import importlib.util
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
from xdsl.dialects.builtin import IntegerAttr, StringAttr, f16, f32, i32
from xdsl.ir import Dialect
from xdsl.irdl import AnyAttr, AnyOf, AttrConstraint, BaseAttr, EqAttrConstraint, VarConstraint
from xdsl.utils.arg_spec import ArgSpecConvertible

from tilewright.registry import DIALECTS, PASSES, TARGETS

SCRIPT = Path(__file__).parent.parent / "docs" / "reference" / "generate.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = _load()


def test_pages_are_up_to_date():
    assert not GENERATE.out_of_date(), "run `make reference`"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_page_has_every_op_and_attribute_of_its_dialect(dialect: Dialect):
    page = GENERATE.dialect_page(dialect)
    for op in dialect.operations:
        assert f"### `{op.name}`" in page
    for attribute in dialect.attributes:
        assert f"{attribute.name}`" in page


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_op_and_attribute_has_a_docstring(dialect: Dialect):
    documented = [*dialect.operations, *dialect.attributes]
    assert not [entry.name for entry in documented if not entry.__dict__.get("__doc__")]


@pytest.mark.parametrize("registered", [*PASSES, *TARGETS], ids=lambda cls: cls.name)
def test_every_option_says_what_it_means(registered: type[ArgSpecConvertible]):
    undocumented = [f.name for f in fields(registered) if not f.metadata.get("doc")]
    assert not undocumented


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (AnyAttr(), "any"),
        (BaseAttr(StringAttr), "string"),
        (EqAttrConstraint(f32), "f32"),
        (AnyOf((EqAttrConstraint(f16), EqAttrConstraint(f32))), "f16 or f32"),
        (VarConstraint("T", BaseAttr(IntegerAttr)), "T: integer"),
        (VarConstraint("T", EqAttrConstraint(i32)), "T: i32"),
    ],
)
def test_constraint_is_told_in_words(constraint: AttrConstraint, text: str):
    assert GENERATE.constraint_text(constraint) == text
