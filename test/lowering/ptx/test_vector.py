"""Vectors of the direct printer: renaming, regrouping of bits, reductions."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tilewright.lowering.ptx import print_ptx
from tilewright.test.lowering.ptx.execute import launch
from tilewright.test.lowering.ptx.kernels import module

Array = NDArray[Any]


def _kernel(code: str, source: str, result: str) -> Any:
    """A kernel of one thread that loads %v of a vector type, and stores %r."""
    return module(
        "%p: !llvm.ptr<1>, %q: !llvm.ptr<1>",
        f"""
        %v = "llvm.load"(%p) <{{ordering = 0 : i64, alignment = 16 : i64}}>
          : (!llvm.ptr<1>) -> {source}
        {code}
        "llvm.store"(%r, %q) <{{ordering = 0 : i64, alignment = 16 : i64}}>
          : ({result}, !llvm.ptr<1>) -> ()
        """,
        threads=1,
    )


def _run(code: str, source: str, result: str, data: Array, out: Array) -> Array:
    return launch(_kernel(code, source, result), [data, out], threads=1)[-1]


def _floats(*shape: int) -> Array:
    return np.random.default_rng().standard_normal(shape).astype(np.float32)


def _words(count: int) -> Array:
    return np.random.default_rng().integers(-(1 << 31), 1 << 31, count).astype(np.int32)


def test_row_of_a_matrix() -> None:
    data = _floats(4, 3)
    code = "%r = vector.extract %v[2] : vector<3xf32> from vector<4x3xf32>"
    result = _run(code, "vector<4x3xf32>", "vector<3xf32>", data, np.zeros(3, np.float32))
    np.testing.assert_array_equal(result, data[2])


def test_inserted_row() -> None:
    data = _floats(4, 2)
    code = """
    %x = vector.extract %v[3] : vector<2xf32> from vector<4x2xf32>
    %r = vector.insert %x, %v[1] : vector<2xf32> into vector<4x2xf32>
    """
    result = _run(code, "vector<4x2xf32>", "vector<4x2xf32>", data, np.zeros((4, 2), np.float32))
    data[1] = data[3]
    np.testing.assert_array_equal(result, data)


def test_shuffle_picks_from_two_vectors() -> None:
    data = _floats(4)
    code = """
    %w = arith.negf %v : vector<4xf32>
    %r = vector.shuffle %v, %w [3, 4, 0, 7] : vector<4xf32>, vector<4xf32>
    """
    result = _run(code, "vector<4xf32>", "vector<4xf32>", data, np.zeros(4, np.float32))
    np.testing.assert_array_equal(result, np.concatenate([data, -data])[[3, 4, 0, 7]])


def test_shuffle_moves_rows() -> None:
    data = _floats(2, 2)
    code = "%r = vector.shuffle %v, %v [1, 0] : vector<2x2xf32>, vector<2x2xf32>"
    result = _run(code, "vector<2x2xf32>", "vector<2x2xf32>", data, np.zeros((2, 2), np.float32))
    np.testing.assert_array_equal(result, data[::-1])


@pytest.mark.parametrize(
    ("source", "shape"), [("vector<3xf32>", (3,)), ("vector<2x1xf32>", (2, 1))]
)
def test_broadcast_of_a_vector(source: str, shape: tuple[int, ...]) -> None:
    data = _floats(*shape)
    code = f"%r = vector.broadcast %v : {source} to vector<2x3xf32>"
    result = _run(code, source, "vector<2x3xf32>", data, np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(result, np.broadcast_to(data, (2, 3)))


@pytest.mark.parametrize(
    ("count", "other"), [(4, "8xi16"), (4, "8xbf16"), (4, "16xi8"), (4, "2xi64"), (4, "4xf32")]
)
def test_bits_are_regrouped(count: int, other: str) -> None:
    data = _words(count)
    dtype = {"16": np.int16, "i8": np.int8, "64": np.int64, "32": np.int32}[other[-2:]]
    expected = data.view(dtype)
    code = f"%r = vector.bitcast %v : vector<4xi32> to vector<{other}>"
    result = _run(code, "vector<4xi32>", f"vector<{other}>", data, np.zeros_like(expected))
    assert result.tolist() == expected.tolist()


@pytest.mark.parametrize("other", ["8xi16", "8xf16", "16xi8", "2xf64"])
def test_regrouped_bits_come_back(other: str) -> None:
    data = _words(4)
    code = f"""
    %w = vector.bitcast %v : vector<4xi32> to vector<{other}>
    %r = vector.bitcast %w : vector<{other}> to vector<4xi32>
    """
    result = _run(code, "vector<4xi32>", "vector<4xi32>", data, np.zeros_like(data))
    assert result.tolist() == data.tolist()


def test_packed_halves_are_only_renamed() -> None:
    code = """
    %w = vector.bitcast %v : vector<4xi32> to vector<8xbf16>
    %s = vector.shuffle %w, %w [2, 3, 0, 1] : vector<8xbf16>, vector<8xbf16>
    %r = vector.bitcast %s : vector<4xbf16> to vector<2xi32>
    """
    text = print_ptx(_kernel(code, "vector<4xi32>", "vector<2xi32>"))
    body = text[text.index("ld.global") : text.index("st.global")]
    assert body.count(";") == 1


@pytest.mark.parametrize("kind", ["add", "mul", "maxsi", "minsi", "and", "or", "xor"])
def test_integer_reduction(kind: str) -> None:
    data = _words(5)
    code = f"%r = vector.reduction <{kind}>, %v : vector<5xi32> into i32"
    functions: dict[str, np.ufunc] = {
        **{"add": np.add, "mul": np.multiply, "maxsi": np.maximum, "minsi": np.minimum},
        **{"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor},
    }
    expected = functions[kind].reduce(data, dtype=np.int32)
    result = _run(code, "vector<5xi32>", "i32", data, np.zeros(1, np.int32))
    assert result.tolist() == [expected]


def test_sum_keeps_its_order_without_reassoc() -> None:
    # In order the small numbers are lost; in pairs they are not.
    data = np.array([1.0, 2.0**-24, 2.0**-24, 2.0**-24], np.float32)
    ordered = "%r = vector.reduction <add>, %v : vector<4xf32> into f32"
    free = "%r = vector.reduction <add>, %v fastmath<reassoc> : vector<4xf32> into f32"
    results = [
        _run(code, "vector<4xf32>", "f32", data, np.zeros(1, np.float32))[0]
        for code in (ordered, free)
    ]
    assert results == [1.0, np.float32(1.0) + np.float32(2.0**-23)]


def test_reduction_starts_from_its_accumulator() -> None:
    data = _floats(3)
    code = """
    %k = arith.constant 100.0 : f32
    %r = vector.reduction <maxnumf>, %v, %k : vector<3xf32> into f32
    """
    result = _run(code, "vector<3xf32>", "f32", data, np.zeros(1, np.float32))
    assert result.tolist() == [100.0]


def test_elementwise_op_on_a_matrix() -> None:
    data = _floats(3, 4)
    code = """
    %k = arith.constant dense<[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 1.0, 2.0, 3.0]]>
      : vector<3x4xf32>
    %r = arith.mulf %v, %k : vector<3x4xf32>
    """
    factors = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 1, 2, 3]], np.float32)
    result = _run(code, "vector<3x4xf32>", "vector<3x4xf32>", data, np.zeros_like(data))
    np.testing.assert_array_equal(result, data * factors)


def test_struct_members() -> None:
    data = _words(2)
    code = """
    %x = vector.extract %v[0] : i32 from vector<2xi32>
    %y = vector.extract %v[1] : i32 from vector<2xi32>
    %u = "llvm.mlir.undef"() : () -> !llvm.struct<(i32, vector<2xi32>)>
    %s = "llvm.insertvalue"(%u, %y) <{position = array<i64: 0>}>
      : (!llvm.struct<(i32, vector<2xi32>)>, i32) -> !llvm.struct<(i32, vector<2xi32>)>
    %t = "llvm.insertvalue"(%s, %v) <{position = array<i64: 1>}>
      : (!llvm.struct<(i32, vector<2xi32>)>, vector<2xi32>) -> !llvm.struct<(i32, vector<2xi32>)>
    %a = "llvm.extractvalue"(%t) <{position = array<i64: 0>}>
      : (!llvm.struct<(i32, vector<2xi32>)>) -> i32
    %b = "llvm.extractvalue"(%t) <{position = array<i64: 1>}>
      : (!llvm.struct<(i32, vector<2xi32>)>) -> vector<2xi32>
    %r = vector.insert %a, %b[0] : i32 into vector<2xi32>
    """
    result = _run(code, "vector<2xi32>", "vector<2xi32>", data, np.zeros_like(data))
    assert result.tolist() == [data[1], data[1]]
