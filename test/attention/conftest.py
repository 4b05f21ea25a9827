"""Tests of attention compile into a cache of their own, and run on the simulator or a GPU."""

import os
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp

from tilewright.attention import compiler
from tilewright.lowering.ptx import print_ptx
from tilewright.lowering.upstream import verify_upstream


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a cache that all tests of this run share, whatever their process."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "attention-cache"


@pytest.fixture(autouse=True)
def _on_the_simulator(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(session_cache))
    device = os.environ.get("TILEWRIGHT_TEST_DEVICE", "simulator")  # test/on_gpu.py sets it
    monkeypatch.setenv("TILEWRIGHT_DEVICE", device)


@pytest.fixture(autouse=True)
def _upstream_verifies_kernels(  # pyright: ignore[reportUnusedFunction]
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream verifies what a quarter of the tests compile, and with `make test-full` all."""

    def verified(module: ModuleOp, target: str) -> str:
        verify_upstream(module)
        return print_ptx(module, target)

    every = str(request.config.getoption("markexpr")) != "not full"
    chosen = every or zlib.crc32(request.node.nodeid.encode()) % 4 == 0
    if chosen and (find_spec("torch_mlir") is not None or find_spec("mlir") is not None):
        monkeypatch.setattr(compiler, "print_ptx", verified)
