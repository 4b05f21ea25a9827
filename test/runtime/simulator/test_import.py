"""Importing the simulator is cheap: NumPy, the standard library, and no compiler."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
before = set(sys.modules)
from tilewright.runtime import simulator
print(*sorted(set(sys.modules) - before))
"""


@pytest.fixture(scope="module")
def imported() -> list[str]:
    """Returns the modules that an import of the simulator adds to a new process."""
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_others_are_numpy_and_the_standard_library(imported: list[str]) -> None:
    tops = {name.partition(".")[0] for name in imported}
    assert tops - sys.stdlib_module_names <= {"numpy", "tilewright"}


def test_ours_are_the_simulators(imported: list[str]) -> None:
    ours = [name for name in imported if name.startswith("tilewright")]
    inside = "tilewright.runtime.simulator"
    assert inside in ours
    assert {name for name in ours if not name.startswith(inside)} == {
        "tilewright",
        "tilewright.runtime",
    }


def test_the_compiler_is_imported_when_a_text_is_loaded(imported: list[str]) -> None:
    last = {name.rpartition(".")[2] for name in imported if ".simulator." in name}
    assert not last & {"parser", "lexer", "codegen", "emitter", "isa", "scheduler", "tensor_map"}
