"""What a peer is: found or missing, and for a case ready to be launched or not applicable."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...runtime.buffer import Buffer
from ..case import Case
from ..data import Data


class Missing(Exception):
    """A peer can't be used on this machine; the text is the reason."""


class NotApplicable(Exception):
    """A peer has nothing that computes a case; the text is the reason."""


@dataclass(frozen=True)
class OnDevice:
    """A case with its arrays on a GPU, by the names of the kernel: see `Data.arrays`."""

    data: Data
    arrays: Mapping[str, Buffer]
    ordinal: int
    stream: int

    @property
    def case(self) -> Case:
        """The case."""
        return self.data.case

    @property
    def attended(self) -> tuple[Buffer, Buffer, Buffer]:
        """q [n, Hq, D], and pages of keys and values [pages, page_size, Hkv, D]."""
        if self.case.kernel.latent:
            raise NotApplicable("no latent attention")
        return self.arrays["q"], self.arrays["k_pages"], self.arrays["v_pages"]


@dataclass(frozen=True)
class Runnable:
    """
    Work of an engine that is ready: `launch` starts it on the stream of the benchmark.

    `captured` returns a replay of it as a CUDA graph, None where it can't be captured. `result`
    returns out [n, Hq, D] and, where the engine gives it, lse [n, Hq] of the last launch.
    """

    launch: Callable[[], None]
    captured: Callable[[], Callable[[], None]] | None
    result: Callable[[], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]]
    plan_us: float | None = None


class Peer(Protocol):
    """An implementation of attention."""

    @property
    def name(self) -> str:
        """Its name in the results."""
        ...

    def open(self) -> str:
        """Returns its version; raises Missing."""
        ...

    def prepare(self, inputs: OnDevice) -> Runnable:
        """Returns the case, ready to be launched; raises NotApplicable, and what a peer raises."""
        ...


def imported(name: str) -> Any:
    """Returns a module of a peer; raises Missing."""
    from importlib import import_module

    try:
        return import_module(name)
    except Exception as error:  # a module may fail in its own ways where its libraries are not
        first = str(error).partition("\n")[0] or type(error).__name__
        raise Missing(f"can't import {name}: {first}") from None
