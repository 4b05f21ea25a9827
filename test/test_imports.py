"""Folders import each other only as the design allows, and no modules in a circle."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = (
    "attention",
    "bench",
    "cli",
    "dialects",
    "driver",
    "lowering",
    "nest",
    "runtime",
    "search",
    "testing",
    "transforms",
)
ROOT_MODULES = ("__init__", "__main__", "opt", "registry")

# What a folder or root module may import, besides itself.
ALLOWED: dict[str, set[str]] = {
    "dialects": set(),
    "transforms": {"dialects"},
    "lowering": {"dialects", "transforms"},
    "runtime": set(),
    "search": {"dialects", "transforms", "lowering", "runtime"},
    "driver": {"dialects"},
    "attention": {"dialects", "transforms", "lowering", "runtime", "search", "nest"},
    "nest": {"dialects", "transforms", "lowering", "runtime", "search"},
    "registry": {"dialects", "transforms", "lowering"},
    "testing": {"runtime"},
    "opt": {"registry", "driver", "dialects"},
    "bench": {"attention", "runtime"},
    "cli": {*FOLDERS, "__init__", "registry"} - {"testing", "bench"},
    "__init__": {"attention", "nest", "runtime"},
    "__main__": {"cli"},
}
# Packages of others that are imported where a module is imported; the rest is for extras, and is
# imported inside functions.
CORE = {"xdsl", "numpy"}
CORE_OF = {"runtime": {"numpy"}, "testing": {"numpy"}, "bench": {"numpy"}, "__init__": set[str]()}


@dataclass(frozen=True)
class Import:
    """One import in a module: the module named, and whether it runs when the importer is loaded."""

    importer: str
    line: int
    target: str
    ours: bool
    at_load: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


@cache
def _modules() -> dict[str, Path]:
    paths = [ROOT / f"{name}.py" for name in ROOT_MODULES if (ROOT / f"{name}.py").exists()]
    paths += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return {_module_name(path): path for path in paths}


def _package_of(module: str) -> list[str]:
    parts = [] if module in ROOT_MODULES else module.split(".")
    return parts if _modules()[module].name == "__init__.py" else parts[:-1]


def _resolve(module: str, node: ast.ImportFrom, name: str) -> str:
    package = _package_of(module)
    base = package[: len(package) - (node.level - 1)]
    base += node.module.split(".") if node.module else []
    full = ".".join([*base, name])
    return full if full in _modules() else ".".join(base) or "__init__"


def _walk(node: ast.AST, *, at_load: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, at_load
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        # What is under `if TYPE_CHECKING:` is for checkers alone.
        for_checkers = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        yield from _walk(child, at_load=at_load and not is_function and not for_checkers)


@cache
def _imports() -> tuple[Import, ...]:
    found: list[Import] = []
    for module, path in _modules().items():
        for node, at_load in _walk(ast.parse(path.read_text()), at_load=True):
            if isinstance(node, ast.ImportFrom) and node.level:
                targets = {_resolve(module, node, alias.name) for alias in node.names}
                found += [Import(module, node.lineno, t, True, at_load) for t in sorted(targets)]
            elif isinstance(node, ast.ImportFrom):
                found.append(Import(module, node.lineno, node.module or "", False, at_load))
            elif isinstance(node, ast.Import):
                found += [
                    Import(module, node.lineno, alias.name, False, at_load) for alias in node.names
                ]
    return tuple(found)


def _top(module: str) -> str:
    return module.split(".")[0]


def test_every_folder_of_the_package_has_a_rule():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(FOLDERS)
    assert {path.stem for path in ROOT.glob("*.py")} <= set(ROOT_MODULES)
    assert set(ALLOWED) == {*FOLDERS, *ROOT_MODULES}


def test_imports_are_found():
    assert any(i.importer == "registry" and i.target == "dialects.nvvm" for i in _imports())
    assert any(i.importer == "opt" and i.target == "xdsl.passes" and i.at_load for i in _imports())


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_go_in_the_allowed_direction(folder: str):
    allowed = ALLOWED[folder] | {folder}
    wrong = [
        str(i)
        for i in _imports()
        if i.ours and _top(i.importer) == folder and _top(i.target) not in allowed
    ]
    assert not wrong


def test_simulator_stands_alone():
    def is_outside(i: Import) -> bool:
        if i.ours:
            return not f"{i.target}.".startswith("runtime.simulator.")
        return _top(i.target) not in sys.stdlib_module_names | {"numpy"}

    inside = [i for i in _imports() if f"{i.importer}.".startswith("runtime.simulator.")]
    assert not [str(i) for i in inside if is_outside(i)]


def test_plug_in_imports_the_simulator_alone():
    inside = [i for i in _imports() if i.ours and _top(i.importer) == "testing"]
    allowed = ("testing.", "runtime.simulator.")
    assert not [str(i) for i in inside if not f"{i.target}.".startswith(allowed)]


def test_extras_are_not_imported_on_load():
    wrong: list[str] = []
    for i in _imports():
        core = CORE_OF.get(_top(i.importer), CORE) | sys.stdlib_module_names
        if not i.ours and i.at_load and _top(i.target) not in core:
            wrong.append(str(i))
    assert not wrong


def test_package_does_not_import_itself_by_name():
    assert not [str(i) for i in _imports() if not i.ours and _top(i.target) == "tilewright"]


def test_no_modules_import_each_other_in_a_circle():
    targets: dict[str, set[str]] = {module: set() for module in _modules()}
    for i in _imports():
        if i.ours and i.target != i.importer:
            targets[i.importer].add(i.target)
    # A module that imports nothing of what is left, or that nothing left imports, is in no circle.
    while outside := {
        module
        for module, after in targets.items()
        if not after & targets.keys() or not any(module in other for other in targets.values())
    }:
        for module in outside:
            del targets[module]
    assert not {module: sorted(after & targets.keys()) for module, after in targets.items()}


def test_the_compiler_of_attention_loads_no_loop_nests() -> None:
    code = (
        "import sys; import tilewright.attention.compiler; "
        "print([name for name in sys.modules if name.startswith('tilewright') and 'nest' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
