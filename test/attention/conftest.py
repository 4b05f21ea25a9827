"""Tests of attention compile into a cache of their own, and run on the simulator."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a cache that all tests of this process share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _on_the_simulator(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(session_cache))
    monkeypatch.setenv("TILEWRIGHT_DEVICE", "simulator")
