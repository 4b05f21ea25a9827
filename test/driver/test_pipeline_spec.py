"""Pipelines as text: what is understood, and the one line that answers what is not."""

from dataclasses import dataclass, field

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from tilewright.driver.pipeline_spec import PipelineSpecError, parse_pipeline_spec


@dataclass(frozen=True)
class SplitPass(ModulePass):
    """Stands for a pass with options of all kinds."""

    name = "split-loops"

    factor: int
    loop_names: tuple[str, ...] = ()
    tail: str = "none"
    limit: float | None = None
    depth: int = field(default=1)

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"expects a factor of at least 1, got {self.factor}")

    def apply(self, ctx: Context, op: ModuleOp) -> None: ...


@dataclass(frozen=True)
class FusePass(ModulePass):
    """Stands for a pass without options."""

    name = "fuse-loops"

    def apply(self, ctx: Context, op: ModuleOp) -> None: ...


AVAILABLE = {"split-loops": lambda: SplitPass, "fuse-loops": lambda: FusePass}


def test_passes_come_in_the_order_of_the_text():
    spec = 'split-loops{factor=4 loop-names=i,"j" limit=0.5},fuse-loops'
    expected = (SplitPass(4, ("i", "j"), limit=0.5), FusePass())
    assert parse_pipeline_spec(spec, AVAILABLE) == expected


def test_empty_text_is_an_empty_pipeline():
    assert parse_pipeline_spec("", AVAILABLE) == ()


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("split-loop", ["no pass 'split-loop'", "there are split-loops"]),
        ("zzz", ["no pass 'zzz'", "fuse-loops"]),
        ("split-loops{factor=1 dept=2}", ["no option 'dept'", "it has depth, factor"]),
        ("split-loops{factor=1 loop_name=i}", ["no option 'loop-name'", "it has loop-names"]),
        ("fuse-loops{factor=1}", ["'fuse-loops' has no options, got 'factor'"]),
        ("split-loops", ["'split-loops' needs option 'factor'"]),
        ("split-loops{factor=wide}", ["option 'factor'", "expects int", 'got "wide"']),
        ("split-loops{factor=1,2}", ["option 'factor'", "got 1,2"]),
        ("split-loops{factor}", ["option 'factor'", "got nothing"]),
        ("split-loops{factor=0}", ["'split-loops'", "at least 1, got 0"]),
        ("split-loops{factor=1", ["pipeline 'split-loops{factor=1'", "column 21"]),
        ("split-loops;fuse-loops", ["column 12"]),
    ],
)
def test_what_is_misspelt_is_answered_in_one_line(spec: str, parts: list[str]):
    with pytest.raises(PipelineSpecError) as info:
        parse_pipeline_spec(spec, AVAILABLE, own=list(AVAILABLE))
    message = str(info.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
