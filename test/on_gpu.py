"""
A pytest plug-in that runs the tests of kernels on a GPU: `pytest -p tilewright.test.on_gpu`.

What asks for the simulator gets the first GPU, so that the same tests compare the same kernels with
the same expectations there. Tests of the simulator itself, and of what it counts, fail under it: it
is meant for the tests that `make test-gpu` names.
"""

import os

from tilewright.runtime import default_device, simulator_device

DEVICE = "cuda:0"


class OnGpu:
    """Stands in the place of SimulatorDevice: what is made is the GPU, which checks nothing."""

    def __new__(cls, checks: object = None, **options: object) -> object:  # pyright: ignore[reportInconsistentConstructor]
        """Returns the GPU."""
        return default_device.get_device(DEVICE)


# Plug-ins are imported before the modules of tests, which all get this name.
simulator_device.SimulatorDevice = OnGpu  # type: ignore[assignment,misc]
for variable in (default_device.VARIABLE, "TILEWRIGHT_TEST_DEVICE"):
    os.environ[variable] = DEVICE
