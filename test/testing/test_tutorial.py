"""The tutorial's tests run, and fail as it shows."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "testing_kernels.md"
BLOCK = re.compile(r"^```\w+ (\w+)=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(PAGE.read_text())
SHOWN = {name: text for kind, name, text in BLOCKS if kind == "output"}


@pytest.mark.parametrize("name", [name for kind, name, _ in BLOCKS if kind == "file"])
def test_the_tests_of_the_page_do_what_it_says(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(pytester.path / "cache"))
    monkeypatch.syspath_prepend(pytester.path)  # pyright: ignore[reportUnknownMemberType]
    for kind, file, text in BLOCKS:
        if kind == "file":
            (pytester.path / file).write_text(text)
    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest", "--strict-markers", name)
    if name not in SHOWN:
        result.assert_outcomes(passed=1)
        return
    result.assert_outcomes(failed=1)
    printed = result.stdout.str()
    start = printed.index("race: ")
    assert printed[start : start + len(SHOWN[name])] == SHOWN[name]
