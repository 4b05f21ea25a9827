"""CUDA streams as callers name them."""

from typing import cast

from .errors import ArgumentError


def stream_handle(stream: object) -> int | None:
    """
    Returns the integer handle of a CUDA stream, None for the default stream.

    Takes None, an integer, an object with `__cuda_stream__` (the protocol of cuda.core: a method
    that gives a version and a handle), or one with `cuda_stream` (torch) or `ptr` (CuPy). Raises
    ArgumentError.
    """
    if stream is None:
        return None
    protocol: object = getattr(stream, "__cuda_stream__", None)
    handle: object = stream
    if callable(protocol):
        handle = _second(protocol())
    elif not isinstance(stream, int):
        handle = getattr(stream, "cuda_stream", getattr(stream, "ptr", None))
    if not isinstance(handle, int) or isinstance(handle, bool) or handle < 0:
        raise ArgumentError("stream", "a CUDA stream or its integer handle", repr(stream))
    return handle


def _second(answer: object) -> object:
    parts = cast("tuple[object, ...]", answer) if isinstance(answer, tuple) else ()
    return parts[1] if len(parts) == 2 else None
