"""What holds for all files: their length, and that they speak of no machine."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Folders that are made, not written.
MADE = {"build", "dist", "Output", "node_modules"}
LONGEST = 600

# The words are put together here, so that this file does not hold them.
_FOLDERS = "|".join(("wo" + "rk", "t" + "mp", "o" + "pt", "ro" + "ot", "ho" + "me"))
MACHINE_PATH = re.compile(rf"(?<![\w.$}}\])-])/(?:{_FOLDERS})/")
_HOSTS = "|".join(("py" + "pi", "python" + "hosted", "npm" + "js", "artifact" + "ory", "jfrog"))
REGISTRY_HOST = re.compile(rf"(?:{_HOSTS})\.(?:org|com|io|net)|index[-]url|://[\w.]*registry\.")


def _files() -> list[Path]:
    found: list[Path] = []
    folders = [ROOT]
    while folders:
        for path in folders.pop().iterdir():
            hidden = path.name.startswith(".") and path.name not in (".ci", ".gitignore")
            if path.is_symlink() or hidden or path.name in MADE or path.name == "__pycache__":
                continue
            if path.is_dir():
                folders.append(path)
            else:
                found.append(path)
    return found


def _lines_that_match(pattern: re.Pattern[str]) -> list[str]:
    found: list[str] = []
    for path in _files():
        try:
            lines = path.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        name = path.relative_to(ROOT)
        found += [f"{name}:{n}: {line}" for n, line in enumerate(lines, 1) if pattern.search(line)]
    return found


def test_no_python_file_is_too_long():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in _files()
        if path.suffix in (".py", ".pyi")
    }
    assert not {name: length for name, length in lengths.items() if length > LONGEST}


def test_no_file_names_a_path_of_a_machine():
    assert not _lines_that_match(MACHINE_PATH)


def test_no_file_names_a_package_registry():
    assert not _lines_that_match(REGISTRY_HOST)


def test_no_module_is_a_catch_all():
    catch_alls = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert not [path for path in _files() if path.stem in catch_alls]
