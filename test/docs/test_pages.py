"""The pages of the documentation say what the compiler does."""

import re
import shlex
from pathlib import Path

import pytest

from tilewright.attention import causal
from tilewright.attention.compiler import Levels, compile_attention
from tilewright.attention.spec import AttentionSpec, PagedKV
from tilewright.cli import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """Returns the code blocks of a page in a language: their attributes and their text."""
    found = BLOCK.findall(page.read_text())
    return [(attributes.strip(), text) for name, attributes, text in found if name == language]


@pytest.fixture(scope="module")
def levels() -> dict[str, str]:
    spec = AttentionSpec(
        num_qo_heads=32,
        num_kv_heads=8,
        head_dim=128,
        kv=PagedKV(16),
        dtype="bf16",
        target="sm_80",
        softmax_scale=128**-0.5,
    )
    kept = Levels()
    compile_attention(spec, causal().traced, kept)
    return kept.texts


def pattern_of(line: str) -> str:
    return r"[^\n]*".join(re.escape(part) for part in line.strip().split("..."))


def test_levels_page_quotes_lines_in_order(levels: dict[str, str]) -> None:
    quoted = blocks(DOCS / "levels.md", "mlir") + blocks(DOCS / "levels.md", "ptx")
    assert quoted
    for attributes, text in quoted:
        level = attributes.removeprefix("level=")
        place = 0
        for line in text.splitlines():
            found = re.compile(pattern_of(line)).search(levels[level], place)
            assert found, f"level {level}: '{line}' in\n{text}"
            place = found.end()


PAGES_OF_TESTS = [DOCS / "tutorials" / "testing_kernels.md"]  # pytest runs their blocks
PAGES_THAT_RUN = [
    ROOT / "README.md",
    DOCS / "serving.md",
    *(page for page in sorted(DOCS.glob("tutorials/*.md")) if page not in PAGES_OF_TESTS),
]


@pytest.mark.parametrize("page", PAGES_THAT_RUN, ids=lambda page: page.stem)
def test_page_runs_and_prints_what_it_shows(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A block of `text` shows what the block of Python above it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    names: dict[str, object] = {"__name__": "page"}
    for number, (language, _, text) in enumerate(BLOCK.findall(page.read_text())):
        if language == "python":
            capsys.readouterr()
            exec(compile(text, f"{page.name}, block {number + 1}", "exec"), names)
        elif language == "text":
            assert capsys.readouterr().out == text


def without_numbers(text: str) -> list[str]:
    # The blanks before a number go with it: how many there are depends on its digits.
    return [re.sub(r" *\d[\d.]*(?:e[+-]?\d+)?", " #", line) for line in text.splitlines()]


def test_readme_shows_what_the_demo_prints(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TILEWRIGHT_DEVICE", "simulator")
    assert main(["demo"]) == 0
    printed = without_numbers(capsys.readouterr().out)
    shown = next(text for _, text in blocks(ROOT / "README.md", "") if "attention 'causal'" in text)
    # Without ptxas the line on registers says so.
    for lines in (printed, expected := without_numbers(shown)):
        lines[:] = [line for line in lines if "ptxas" not in line]
    assert printed == expected


def test_readme_shows_what_the_simulator_finds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    shown = next(text for _, text in blocks(ROOT / "README.md", "") if "tilewright sim" in text)
    command, _, expected = shown.partition("\n")
    assert main(shlex.split(command.removeprefix("$ tilewright "))) == 1
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))], ids=str
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page}: {target}"
