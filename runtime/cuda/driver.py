"""Calls of the CUDA driver: every result is checked, every failure is an error with its name."""

import importlib
from functools import lru_cache
from typing import Any

from ..errors import CudaError, DeviceUnavailable


class Driver:
    """
    The driver behind its bindings, a module of the form of `cuda.bindings.driver`.

    A function of the bindings returns a tuple: the CUresult, then its outputs.
    """

    def __init__(self, bindings: Any) -> None:
        self.bindings = bindings
        self._success: int = bindings.CUresult.CUDA_SUCCESS

    def call(self, function: str, *args: object) -> Any:
        """Returns the output of `function`, None without one; raises CudaError."""
        result: tuple[Any, ...] = getattr(self.bindings, function)(*args)
        if result[0] != self._success:
            raise self.error(function, result[0])
        return result[1] if len(result) > 1 else None

    def error(self, function: str, code: Any) -> CudaError:
        """Returns the error of a call that gave `code`, with the driver's own words."""
        name = self._words("cuGetErrorName", code) or f"CUresult {int(code)}"
        return CudaError(
            function, name, self._words("cuGetErrorString", code) or "no more is known"
        )

    def _words(self, function: str, code: Any) -> str:
        result, text = getattr(self.bindings, function)(code)
        return text.decode() if result == self._success and text else ""


@lru_cache(maxsize=1)
def load_driver() -> Driver:
    """Returns the initialised driver; raises DeviceUnavailable where there is none."""
    try:
        bindings = importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        message = f"no bindings to the CUDA driver ({error}); pip install 'tilewright[cuda]'"
        raise DeviceUnavailable(message) from None
    return initialise(bindings)


def initialise(bindings: Any) -> Driver:
    """Returns the driver behind `bindings`, initialised; raises DeviceUnavailable."""
    driver = Driver(bindings)
    try:
        driver.call("cuInit", 0)
    except CudaError as error:
        raise DeviceUnavailable(f"the CUDA driver can't start: {error}") from None
    except Exception as error:
        # The bindings find the driver's library at the first call, and say so in their own way.
        first = str(error).partition("\n")[0]
        raise DeviceUnavailable(f"no CUDA driver: {first}") from None
    return driver
