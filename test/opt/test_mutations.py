"""Damaged programs are answered with diagnostics: no tracebacks, no internal errors."""

import random
import re
from pathlib import Path

import pytest

from tilewright.opt import main

TEST = Path(__file__).parent.parent
TOKEN = re.compile(r'"[^"]*"|[%@#!^]?[\w.$-]+|->|[^\s\w]|\n')
MUTATIONS = 200


def _programs() -> list[str]:
    texts = [re.sub("//.*", "", part) for path in TEST.rglob("*.mlir") for part in _parts(path)]
    return [text for text in texts if text.strip()]


def _parts(path: Path) -> list[str]:
    return re.split(r"(?m)^// -----$", path.read_text())


def _mutated(rng: random.Random, program: str, words: list[str]) -> str:
    """Leaves out, doubles or replaces a token, or cuts the program off there."""
    token = rng.choice(list(TOKEN.finditer(program)))
    before, after = program[: token.start()], program[token.end() :]
    replacement = rng.choice(["", f"{token.group()} {token.group()}", f" {rng.choice(words)} "])
    return before if rng.random() < 0.2 else before + replacement + after


def test_damaged_programs_are_answered_with_diagnostics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rng = random.Random()
    programs = _programs()
    words = [word for program in programs for word in TOKEN.findall(program)]
    file = tmp_path / "damaged.mlir"
    answers: set[int] = set()
    for _ in range(MUTATIONS):
        program = _mutated(rng, rng.choice(programs), words)
        file.write_text(program)
        code = main([str(file)])
        stderr = capsys.readouterr().err
        answers.add(code)
        assert code in (0, 1), f"{stderr}\n{program}"
        if code == 1:
            assert re.match(re.escape(str(file)) + r":\d+:\d+: error: ", stderr), program
    assert 1 in answers
