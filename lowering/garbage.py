"""Keeps Python's garbage collector out of a compilation."""

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def paused_collection() -> Generator[None]:
    """
    Pauses the collector of cycles, unless it is paused already.

    A compilation makes many objects and drops few of them before its end. The collector would look
    at all of them several times, and now and then at everything that the process has imported,
    which takes longer than the compilation.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
