"""Descriptions of callers' arrays: NumPy, DLPack of both forms, the CUDA array interface."""

import gc
from dataclasses import replace
from typing import Any, cast

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from tilewright.runtime.array import HOST, check, empty_like, view_of
from tilewright.runtime.errors import ArgumentError
from tilewright.test.runtime.foreign_array import CudaArray, Producer, Refusing, random_bits


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float16, "f16"),
        (np.uint16, "bf16"),
        (ml_dtypes.bfloat16, "bf16"),
        (np.float32, "f32"),
        (np.int32, "i32"),
        (np.float64, "float64"),
        (">f4", "byte-swapped float32"),
    ],
)
def test_numpy_types_are_named(dtype: npt.DTypeLike, expected: str) -> None:
    assert view_of(np.zeros((2, 3), dtype), "q").dtype == expected


def test_numpy_memory_is_not_copied() -> None:
    array = np.zeros((3, 4), np.float32)
    host = view_of(array, "q").host
    assert host is not None
    host[1, 2] = 5
    assert array[1, 2] == 5


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize(
    ("code", "dtype"), [("bf16", "bf16"), ("f16", "f16"), ("u16", "bf16"), ("f32", "f32")]
)
def test_dlpack_memory_is_not_copied(code: str, dtype: str, versioned: bool) -> None:
    bits = random_bits((3, 8))
    memory = bits.view(np.float32) if code == "f32" else bits
    view = view_of(Producer(memory, code, versioned=versioned), "q")
    assert (view.dtype, view.shape, view.place) == (dtype, memory.shape, HOST)
    assert view.host is not None
    np.testing.assert_array_equal(view.host.view(np.uint16), bits)
    view.host.view(np.uint16)[0, 0] ^= 1
    assert view.host.view(np.uint16)[0, 0] == bits[0, 0]


@pytest.mark.parametrize("versioned", [True, False])
def test_the_deleter_runs_once_after_the_last_view(versioned: bool) -> None:
    producer = Producer(random_bits((4,)), "bf16", versioned=versioned)
    part = view_of(producer, "q").host
    assert part is not None
    part = part[1:]
    gc.collect()
    assert producer.deleted == 0
    del part
    gc.collect()
    assert producer.deleted == 1


def test_numpys_own_capsules_are_read() -> None:
    class Wrapped:
        def __init__(self, array: npt.NDArray[Any]) -> None:
            self._array = array

        def __dlpack__(self, **options: Any) -> object:
            return self._array.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    view = view_of(Wrapped(array), "x")
    assert (view.dtype, view.contiguous, view.address) == ("i32", True, array.ctypes.data)
    assert not view_of(Wrapped(array.T), "x").contiguous


def test_a_read_only_capsule_is_not_written() -> None:
    view = view_of(Producer(random_bits((4,)), "bf16", read_only=True), "out")
    assert view.host is not None
    assert not view.host.flags.writeable
    with pytest.raises(ArgumentError, match="'out': expected a writable array, got a read-only"):
        check(view, "bf16", (4,), "(4,)", write=True)


@pytest.mark.parametrize(
    ("shape", "strides", "contiguous"),
    [
        ((2, 3), (3, 1), True),
        ((2, 3), (4, 1), False),
        ((2, 3), (1, 2), False),
        ((1, 3), (99, 1), True),
        ((0, 3), (7, 7), True),
        ((2, 3), None, True),
    ],
)
def test_strides_decide_contiguity(
    shape: tuple[int, ...], strides: tuple[int, ...] | None, contiguous: bool
) -> None:
    memory = np.zeros(shape, np.uint16)
    assert view_of(Producer(memory, "bf16", strides=strides), "q").contiguous is contiguous


def test_an_empty_capsule_without_an_address_is_an_empty_array() -> None:
    view = view_of(Producer(np.zeros((0, 4), np.uint16), "bf16", address=0), "q")
    assert view.host is not None
    assert view.host.shape == (0, 4)


def test_the_byte_offset_of_a_capsule_counts() -> None:
    memory = np.zeros((4,), np.float32)
    address = memory.ctypes.data
    view = view_of(Producer(memory, "f32", address=address - 64, byte_offset=64), "q")
    assert view.address == address
    assert view.host is not None
    view.host[2] = 3
    assert memory[2] == 3


def test_cuda_dlpack_is_described_by_address_and_told_the_stream() -> None:
    producer = Producer(random_bits((2, 4)), "bf16", device=(2, 3), address=0x7F0000001000)
    view = view_of(producer, "q", stream=77)
    assert (view.place, view.address, view.host) == ("cuda:3", 0x7F0000001000, None)
    assert producer.streams == [77]


def test_the_default_stream_is_stream_1_in_dlpack() -> None:
    producer = Producer(random_bits((2,)), "bf16", device=(2, 0))
    view_of(producer, "q")
    assert producer.streams == [1]


def test_the_cuda_array_interface_is_described() -> None:
    view = view_of(CudaArray(4096, (2, 4), "<f2", stream=9), "q")
    assert (view.dtype, view.place, view.address, view.ready_on) == ("f16", "cuda:0", 4096, 9)
    assert not view_of(CudaArray(4096, (2, 4), "<f2", strides=(2, 4)), "q").contiguous


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([1.0], "an array (NumPy, DLPack or __cuda_array_interface__), got list"),
        (None, "an array (NumPy, DLPack or __cuda_array_interface__), got NoneType"),
        (
            Refusing(lambda: BufferError("can't export a tensor\nthat requires a gradient")),
            "an array that exports DLPack, got a refusal of its __dlpack__: can't export a tensor",
        ),
        (
            Producer(random_bits((2,)), "bf16", device=(7, 0)),
            "memory of the host or of a CUDA GPU, got DLPack device 7",
        ),
        (Producer(random_bits((2,)), "bf16", major=2), "a DLPack 1.x capsule, got DLPack 2.0"),
    ],
)
def test_what_is_no_array_is_refused(array: object, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        view_of(array, "q")
    assert str(caught.value) == f"argument 'q': expected {message}"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 4), np.float64), "dtype bf16, got float64"),
        (Producer(np.zeros((2, 4)), "f64"), "dtype bf16, got float64"),
        (np.zeros((2, 5), np.uint16), "shape (2, 4) = (n, 4), got (2, 5)"),
        (np.zeros((4, 2), np.uint16).T, "a C-contiguous array, got other strides"),
    ],
)
def test_what_does_not_fit_is_named(array: object, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        check(view_of(array, "q"), "bf16", (2, 4), "(n, 4)", write=False)
    assert str(caught.value) == f"argument 'q': expected {message}"


def test_results_are_of_the_kind_of_the_array() -> None:
    for like in (np.zeros(1, np.uint16), np.zeros(1, ml_dtypes.bfloat16), np.zeros(1, np.float16)):
        view = view_of(like, "q")
        made = empty_like(view, (2, 3), view.dtype, "out")
        assert made is not None
        array, target = cast("npt.NDArray[Any]", made[0]), made[1]
        assert (array.dtype, array.shape) == (like.dtype, (2, 3))
        assert target.host is not None
        assert np.shares_memory(target.host, array)


def test_device_memory_of_an_unknown_library_is_left_to_the_device() -> None:
    view = view_of(CudaArray(4096, (2, 4), "<f2"), "q")
    assert empty_like(replace(view, name="q"), (2,), "f16", "out") is None
