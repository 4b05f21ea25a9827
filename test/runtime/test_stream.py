"""CUDA streams in the forms that libraries give them."""

from types import SimpleNamespace

import pytest

from tilewright.runtime.errors import ArgumentError
from tilewright.runtime.stream import stream_handle


class _CudaCore:
    def __init__(self, answer: object) -> None:
        self._answer = answer

    def __cuda_stream__(self) -> object:
        return self._answer


@pytest.mark.parametrize(
    ("stream", "handle"),
    [
        (None, None),
        (0, 0),
        (0x7F00, 0x7F00),
        (_CudaCore((0, 17)), 17),
        (SimpleNamespace(cuda_stream=18), 18),
        (SimpleNamespace(ptr=19), 19),
    ],
)
def test_a_stream_has_a_handle(stream: object, handle: int | None) -> None:
    assert stream_handle(stream) == handle


@pytest.mark.parametrize(
    "stream",
    ["0", 1.0, True, -1, _CudaCore(None), _CudaCore(7), _CudaCore((0,)), SimpleNamespace(ptr="x")],
)
def test_what_is_no_stream_is_refused(stream: object) -> None:
    with pytest.raises(ArgumentError, match="'stream': expected a CUDA stream or its integer"):
        stream_handle(stream)
