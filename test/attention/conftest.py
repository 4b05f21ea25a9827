"""Tests of attention compile into a cache of their own, and run on the simulator."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp

from tilewright.attention import compiler
from tilewright.lowering.ptx import print_ptx
from tilewright.lowering.upstream import verify_upstream


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a cache that all tests of this process share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _on_the_simulator(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(session_cache))
    monkeypatch.setenv("TILEWRIGHT_DEVICE", "simulator")


@pytest.fixture(autouse=True)
def _upstream_verifies_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    def verified(module: ModuleOp, target: str) -> str:
        verify_upstream(module)
        return print_ptx(module, target)

    if find_spec("torch_mlir") is not None or find_spec("mlir") is not None:
        monkeypatch.setattr(compiler, "print_ptx", verified)
