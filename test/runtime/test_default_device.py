"""Which device is chosen, and what is said where there is none."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tilewright.runtime import default_device as module
from tilewright.runtime.cuda.driver import initialise
from tilewright.runtime.default_device import default_device, get_device
from tilewright.runtime.errors import DeviceError, DeviceUnavailable
from tilewright.test.runtime.cuda.fake_driver import FakeBindings


@pytest.fixture(autouse=True)
def _no_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TILEWRIGHT_DEVICE", raising=False)
    caches = (module.simulator_device, module.cuda_device, module.best_device)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def _drive(monkeypatch: pytest.MonkeyPatch, bindings: FakeBindings) -> None:
    target = "tilewright.runtime.cuda.device.load_driver"
    monkeypatch.setattr(target, lambda: initialise(bindings))


def test_a_gpu_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    _drive(monkeypatch, FakeBindings())
    assert default_device().name == "cuda:0"


@pytest.mark.parametrize("failure", [{"cuInit": 100}, {"cuInit": 34}])
def test_without_a_gpu_the_simulator_runs(
    monkeypatch: pytest.MonkeyPatch, failure: dict[str, int]
) -> None:
    _drive(monkeypatch, FakeBindings(failures=failure))
    assert default_device().kind == "simulator"


def test_a_driver_without_gpus_leaves_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    _drive(monkeypatch, FakeBindings(gpus=0))
    assert default_device().kind == "simulator"


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    _drive(monkeypatch, FakeBindings(gpus=2))
    chosen: list[str] = []
    for name in ("simulator", "cuda:1", "cuda"):
        monkeypatch.setenv("TILEWRIGHT_DEVICE", name)
        chosen.append(default_device().name)
    assert chosen == ["simulator", "cuda:1", "cuda:0"]


def test_a_device_that_is_wished_for_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    _drive(monkeypatch, FakeBindings(gpus=1))
    monkeypatch.setenv("TILEWRIGHT_DEVICE", "cuda:3")
    with pytest.raises(DeviceUnavailable, match="no GPU 'cuda:3': the driver sees 1"):
        default_device()


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "simulator:0", "CUDA"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        get_device(name)
    assert str(caught.value) == (
        f"unknown device '{name}': expected 'simulator', 'host', 'cuda' or 'cuda:<ordinal>'"
    )


def test_a_device_is_opened_once() -> None:
    assert get_device("simulator") is get_device("simulator")


def test_without_the_bindings_the_extra_is_named() -> None:
    code = (
        "import sys\n"
        "sys.modules['cuda'] = None\n"
        "from tilewright.runtime.default_device import get_device\n"
        "try:\n"
        "    get_device('cuda')\n"
        "except ValueError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("DeviceUnavailable no bindings to the CUDA driver (")
    assert done.stdout.rstrip().endswith("pip install 'tilewright[cuda]'")


def test_a_driver_library_that_is_missing_is_said_in_one_line() -> None:
    class Missing(FakeBindings):
        def cuInit(self, flags: int) -> tuple[int]:
            raise RuntimeError("libcuda.so can't be found\nmore")

    with pytest.raises(DeviceUnavailable) as caught:
        initialise(Missing())
    assert str(caught.value) == "no CUDA driver: libcuda.so can't be found"
