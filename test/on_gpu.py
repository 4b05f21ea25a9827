"""
A pytest plug-in that runs the tests of kernels on a GPU: `make test-gpu`.

What asks for the simulator gets the first GPU, so that the same tests compare the same kernels with
the same expectations there. Tests of what only the simulator does are left out.
"""

import os
from collections.abc import Sequence

import pytest

from tilewright.runtime import default_device, simulator_device
from tilewright.runtime.errors import DeviceUnavailable

DEVICE = "cuda:0"
# Parts of the names of tests that are left out, and why.
LEFT_OUT = {
    "test_bad_input.py": "passes addresses that a GPU would follow",
    "test_upstream_agrees.py": "compares two ways to PTX",
    "test_kernel_resources.py": "runs nothing",
    "test_device_plan.py": "writes into the memory of the simulator",
    "test_host_and_device_find_the_same_places": "reads the memory of the simulator",
    "test_a_plan_on_the_device_is_written_again": "reads the memory of the simulator",
    "test_tables_on_the_device_cannot_make_a_write": "reads the memory of the simulator",
    "test_one_compilation_serves_all_lengths": "counts the cache, which holds machine code too",
    "test_other_parameters_are_refused": "quotes Python, whose words differ between versions",
}


class OnGpu:
    """Stands in the place of SimulatorDevice: what is made is the GPU, which checks nothing."""

    def __new__(cls, checks: object = None, **options: object) -> object:  # pyright: ignore[reportInconsistentConstructor]
        """Returns the GPU."""
        return default_device.get_device(DEVICE)


# Plug-ins are imported before the modules of tests, which all get this name.
simulator_device.SimulatorDevice = OnGpu  # type: ignore[assignment,misc]
for variable in (default_device.VARIABLE, "TILEWRIGHT_TEST_DEVICE"):
    os.environ[variable] = DEVICE


def pytest_configure(config: pytest.Config) -> None:
    """Refuses a machine without a GPU."""
    try:
        default_device.get_device(DEVICE)
    except DeviceUnavailable as reason:
        raise pytest.UsageError(f"expected a GPU: {reason}") from None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what a GPU can not show."""
    kept = [item for item in items if not any(part in item.nodeid for part in LEFT_OUT)]
    left: Sequence[pytest.Item] = [item for item in items if item not in set(kept)]
    config.hook.pytest_deselected(items=left)
    items[:] = kept
