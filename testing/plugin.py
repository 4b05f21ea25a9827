"""
The pytest plug-in: fixture `simulator_device`, marker `simulator`, options `--simulator-*`.

pytest loads it in every run of an environment that holds tilewright. Nothing of the simulator is
imported before a test asks for its fixture.
"""

from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from .device import RecordingDevice

_MARKER = (
    "simulator(checks=..., seed=..., max_steps=...): the checks, the schedule and the limit of "
    "instructions issued of the launches on simulator_device"
)
_SETTINGS = ("checks", "seed", "max_steps")


def pytest_addoption(parser: "pytest.Parser") -> None:
    """Adds the options."""
    group = parser.getgroup("simulator", "the PTX simulator of tilewright")
    group.addoption(
        "--simulator-checks",
        metavar="CHECKS",
        default="all",
        help="checks of tests whose marker names none: none, default, all, or names: a,b",
    )
    group.addoption(
        "--simulator-seeds",
        metavar="N",
        type=int,
        default=1,
        help="run each test that uses simulator_device under N schedules",
    )


def pytest_configure(config: "pytest.Config") -> None:
    """Announces the marker and adds the fixtures."""
    import pytest

    config.addinivalue_line("markers", _MARKER)
    if _option(config, "--simulator-seeds") < 1:
        raise pytest.UsageError("--simulator-seeds: expected 1 or more")
    config.pluginmanager.register(_make_fixtures(), "tilewright-simulator")


def pytest_generate_tests(metafunc: "pytest.Metafunc") -> None:
    """Repeats a test for each schedule that is asked for, unless its marker names one."""
    import pytest

    count: int = _option(metafunc.config, "--simulator-seeds")
    if count == 1 or "simulator_device" not in metafunc.fixturenames:
        return
    if "seed" in settings_of(metafunc.definition):
        return
    from .device import LAUNCH_OPTIONS

    if "seed" not in LAUNCH_OPTIONS:
        raise pytest.UsageError("--simulator-seeds: launches of this simulator take no seed")
    metafunc.parametrize("simulator_seed", range(count), ids=[f"seed{n}" for n in range(count)])


def _option(config: "pytest.Config", name: str) -> Any:
    return config.getoption(name)


def settings_of(node: "pytest.Item") -> Mapping[str, Any]:
    """Returns what a test's markers say; the closest one wins. Raises pytest.UsageError."""
    import pytest

    settings: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers("simulator"))):
        unknown = [*map(repr, marker.args), *(key for key in marker.kwargs if key not in _SETTINGS)]
        if unknown:
            expected = ", ".join(_SETTINGS)
            raise pytest.UsageError(
                f"{node.nodeid}: marker simulator takes {expected}, got {', '.join(unknown)}"
            )
        settings.update(marker.kwargs)
    return settings


def make_device(node: "pytest.Item", seed: int | None) -> "RecordingDevice":
    """Returns the device of a test; raises pytest.UsageError for checks that there aren't."""
    import pytest

    from .device import RecordingDevice

    settings = dict(settings_of(node))
    if seed is not None:
        settings["seed"] = seed
    asked: str = _option(node.config, "--simulator-checks")
    checks = settings.pop("checks", asked.split(",") if "," in asked else asked)
    try:
        return RecordingDevice(checks, **settings)
    except ValueError as error:
        raise pytest.UsageError(f"{node.nodeid}: {error}") from None


def _failures(device: "RecordingDevice | None") -> str:
    """Returns what a device's launches have found, once."""
    text = "" if device is None else device.failures()
    if device is not None and text:
        device.launches.clear()
    return text


def _make_fixtures() -> object:
    """Returns the plug-in with the fixtures; only pytest's own process comes here."""
    import pytest

    devices: dict[str, RecordingDevice] = {}

    class Fixtures:
        """What pytest asks for while tests run."""

        @pytest.fixture
        def simulator_seed(self) -> int | None:
            """Returns the schedule that `--simulator-seeds` asks for, None for the marker's."""
            return None

        @pytest.fixture
        def simulator_device(
            self, request: pytest.FixtureRequest, simulator_seed: int | None
        ) -> "Iterator[RecordingDevice]":
            """Returns a simulator.Device with all checks; what its launches find fails the test."""
            node: Any = request.node  # pyright: ignore[reportUnknownMemberType]
            device = devices[node.nodeid] = make_device(node, simulator_seed)
            yield device
            run = devices.pop(node.nodeid, None) is None
            if run and device.launches and (text := device.failures()):
                pytest.fail(text, pytrace=False)

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
            """Fails a test that has passed for what was found; else adds it to the report."""
            try:
                result = yield
            except BaseException:
                if text := _failures(devices.pop(item.nodeid, None)):
                    item.add_report_section("call", "simulator", text)
                raise
            if text := _failures(devices.pop(item.nodeid, None)):
                pytest.fail(text, pytrace=False)
            return result

    return Fixtures()
