"""Addresses, loads, stores and asynchronous copies of the direct printer."""

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tilewright.dialects.diagnostic import DiagnosticError
from tilewright.lowering.ptx import print_ptx
from tilewright.test.lowering.ptx.execute import launch
from tilewright.test.lowering.ptx.kernels import THREAD, module

Array = NDArray[Any]


def _gep(result: str, base: str, index: str, kind: str, space: int, element: str = "i8") -> str:
    return f"""
    %{result} = "llvm.getelementptr"(%{base}, %{index}) <{{elem_type = {element},
      noWrapFlags = 0 : i32, rawConstantIndices = array<i32: -2147483648>}}>
      : (!llvm.ptr<{space}>, {kind}) -> !llvm.ptr<{space}>
    """


def _copy(type_: str, alignment: int = 0) -> Any:
    """A kernel of one thread that copies one value of a type."""
    align = f", alignment = {alignment} : i64" if alignment else ""
    return module(
        "%p: !llvm.ptr<1>, %q: !llvm.ptr<1>",
        f"""
        %v = "llvm.load"(%p) <{{ordering = 0 : i64{align}}}> : (!llvm.ptr<1>) -> {type_}
        "llvm.store"(%v, %q) <{{ordering = 0 : i64{align}}}> : ({type_}, !llvm.ptr<1>) -> ()
        """,
        threads=1,
    )


@pytest.mark.parametrize(
    ("type_", "alignment", "access"),
    [
        ("vector<4xf32>", 0, ".v4.b32"),
        ("vector<4xf32>", 8, ".v2.b32"),
        ("vector<4xf32>", 4, ".b32"),
        ("vector<8xbf16>", 0, ".v4.b32"),
        ("vector<8xbf16>", 2, ".v4.b16"),
        ("vector<2xf64>", 0, ".v2.b64"),
        ("vector<16xf32>", 0, ".v4.b32"),
        ("vector<4xi8>", 0, ".v4.u8"),
        ("i64", 0, ".b64"),
        ("f16", 0, ".b16"),
        ("i8", 0, ".u8"),
    ],
)
def test_widest_access_that_is_aligned(type_: str, alignment: int, access: str) -> None:
    if (type_, alignment) == ("vector<8xbf16>", 2):
        access = ".b16"
    text = print_ptx(_copy(type_, alignment))
    assert set(re.findall(r"ld\.global(\S+)", text)) == {access}
    assert set(re.findall(r"st\.global(\S+)", text)) == {access}


@pytest.mark.parametrize(
    ("type_", "size"),
    [("vector<3xf32>", 12), ("vector<6xf16>", 12), ("vector<5xi8>", 5), ("vector<7xi16>", 14)],
)
def test_odd_sizes_are_copied_whole_and_alone(type_: str, size: int) -> None:
    data = np.random.default_rng().integers(0, 256, 32).astype(np.uint8)
    out = launch(_copy(type_), [data, np.zeros(32, np.uint8)], threads=1)[-1]
    assert out[:size].tolist() == data[:size].tolist()
    assert not out[size:].any()


def test_constant_offsets_go_into_the_access() -> None:
    body = (
        THREAD
        + """
        %c16 = arith.constant 16 : i32
        %c4 = arith.constant 4 : i32
        %x = arith.muli %tid, %c4 : i32
        %y = arith.addi %x, %c16 : i32
        %smem = "llvm.mlir.addressof"() <{global_name = @smem}> : () -> !llvm.ptr<3>
        """
        + _gep("s", "smem", "y", "i32", 3)
        + """
        %v = "llvm.load"(%s) <{ordering = 0 : i64}> : (!llvm.ptr<3>) -> i32
        "llvm.store"(%v, %p) <{ordering = 0 : i64}> : (i32, !llvm.ptr<1>) -> ()
        """
    )
    text = print_ptx(module("%p: !llvm.ptr<1>", body, shared="!llvm.array<256 x i8>"))
    assert re.search(r"ld\.shared\.b32 %r\d+, \[%r\d+\+16\]", text)


def test_negative_offsets_are_added_too() -> None:
    body = (
        THREAD
        + """
        %m16 = arith.constant -16 : i32
        %x = arith.addi %tid, %m16 : i32
        """
        + _gep("at", "p", "x", "i32", 1)
        + """
        "llvm.store"(%tid, %at) <{ordering = 0 : i64}> : (i32, !llvm.ptr<1>) -> ()
        """
    )
    text = print_ptx(module("%p: !llvm.ptr<1>", body))
    # The grammar of PTX has `[register+immediate]` only.
    assert re.search(r"st\.global\.b32 \[%rd\d+\+-16\]", text)


def test_index_may_be_negative() -> None:
    body = (
        THREAD
        + """
        %m4 = arith.constant -4 : i32
        %far = arith.constant 1024 : i64
        %x = arith.muli %tid, %m4 : i32
        """
        + _gep("end", "p", "far", "i64", 1)
        + _gep("at", "end", "x", "i32", 1)
        + """
        "llvm.store"(%tid, %at) <{ordering = 0 : i64}> : (i32, !llvm.ptr<1>) -> ()
        """
    )
    out = launch(module("%p: !llvm.ptr<1>", body), [np.full(257, -1, np.int32)])[0]
    assert out[225:].tolist() == list(range(31, -1, -1))
    assert (out[:225] == -1).all()


def test_distant_offset_is_added_to_the_pointer() -> None:
    body = """
    %up = arith.constant 8589934592 : i64
    %down = arith.constant -8589934588 : i64
    """
    body += _gep("far", "p", "up", "i64", 1) + _gep("at", "far", "down", "i64", 1)
    body += """
    %k = arith.constant 5 : i32
    "llvm.store"(%k, %at) <{ordering = 0 : i64}> : (i32, !llvm.ptr<1>) -> ()
    """
    out = launch(module("%p: !llvm.ptr<1>", body, threads=1), [np.zeros(2, np.int32)], threads=1)
    assert out[0].tolist() == [0, 5]


def test_narrow_index_is_extended_by_its_sign() -> None:
    body = """
    %half = arith.constant 64 : i64
    %c1 = arith.constant 1 : i8
    %i = arith.addi %x, %c1 : i8
    """
    body += _gep("middle", "p", "half", "i64", 1) + _gep("at", "middle", "i", "i8", 1, "i32")
    body += """
    %k = arith.constant 7 : i32
    "llvm.store"(%k, %at) <{ordering = 0 : i64}> : (i32, !llvm.ptr<1>) -> ()
    """
    kernel = module("%p: !llvm.ptr<1>, %x: i8", body, threads=1)
    out = launch(kernel, [np.zeros(32, np.int32), -4], threads=1)[0]
    assert np.flatnonzero(out).tolist() == [16 - 3]


def test_elements_are_scaled_by_their_size() -> None:
    body = (
        THREAD
        + _gep("at", "p", "tid", "i32", 1, "f64")
        + """
        "llvm.store"(%tid, %at) <{ordering = 0 : i64}> : (i32, !llvm.ptr<1>) -> ()
        """
    )
    out = launch(module("%p: !llvm.ptr<1>", body), [np.zeros(64, np.int32)])[0]
    assert out[::2].tolist() == list(range(32))


_COPY_TO_SHARED = (
    THREAD
    + """
    %c16 = arith.constant 16 : i32
    %bytes = arith.muli %tid, %c16 : i32
    %smem = "llvm.mlir.addressof"() <{global_name = @smem}> : () -> !llvm.ptr<3>
    """
    + _gep("to", "smem", "bytes", "i32", 3)
    + _gep("from", "p", "bytes", "i32", 1)
    + _gep("out", "q", "bytes", "i32", 1)
)


@pytest.mark.parametrize("dynamic", [True, False])
def test_copy_reads_so_many_bytes_and_clears_the_rest(dynamic: bool) -> None:
    size = "%tid_7 = arith.andi %tid, %c3 : i32\n%size = arith.muli %tid_7, %c4 : i32"
    if not dynamic:
        size = "%size = arith.constant 8 : i32"
    body = f"""
    {_COPY_TO_SHARED}
    %c3 = arith.constant 3 : i32
    %c4 = arith.constant 4 : i32
    {size}
    nvvm.cp.async.shared.global %to, %from, 16, cache = cg, %size
      : !llvm.ptr<3>, !llvm.ptr<1>, i32
    nvvm.cp.async.commit.group
    nvvm.cp.async.wait.group 0
    %v = "llvm.load"(%to) <{{ordering = 0 : i64}}> : (!llvm.ptr<3>) -> vector<4xi32>
    "llvm.store"(%v, %out) <{{ordering = 0 : i64}}> : (vector<4xi32>, !llvm.ptr<1>) -> ()
    """
    data = np.random.default_rng().integers(1, 1 << 30, (32, 4), np.int32)
    kernel = module("%p: !llvm.ptr<1>, %q: !llvm.ptr<1>", body, shared="!llvm.array<512 x i8>")
    out = launch(kernel, [data, np.full_like(data, -1)])[-1].reshape(32, 4)
    words = np.arange(32) % 4 if dynamic else np.full(32, 2)
    expected = np.where(np.arange(4) < words[:, None], data, 0)
    np.testing.assert_array_equal(out, expected)


def test_guarded_copy_is_not_started_where_the_guard_fails() -> None:
    body = f"""
    {_COPY_TO_SHARED}
    %k = arith.constant dense<7> : vector<4xi32>
    "llvm.store"(%k, %to) <{{ordering = 0 : i64}}> : (vector<4xi32>, !llvm.ptr<3>) -> ()
    %inside = arith.cmpi slt, %tid, %n : i32
    scf.if %inside {{
      nvvm.cp.async.shared.global %to, %from, 16, cache = cg : !llvm.ptr<3>, !llvm.ptr<1>
    }}
    nvvm.cp.async.commit.group
    nvvm.cp.async.wait.group 0
    %v = "llvm.load"(%to) <{{ordering = 0 : i64}}> : (!llvm.ptr<3>) -> vector<4xi32>
    "llvm.store"(%v, %out) <{{ordering = 0 : i64}}> : (vector<4xi32>, !llvm.ptr<1>) -> ()
    """
    kernel = module(
        "%p: !llvm.ptr<1>, %q: !llvm.ptr<1>, %n: i32", body, shared="!llvm.array<512 x i8>"
    )
    assert re.search(r"@%p\d+ cp\.async", print_ptx(kernel))
    data = np.random.default_rng().integers(10, 1 << 30, (20, 4), np.int32)
    out = launch(kernel, [data, np.zeros((32, 4), np.int32), 20])[1]
    np.testing.assert_array_equal(out[:20], data)
    assert (out[20:] == 7).all()


def test_i1_is_stored_as_a_byte() -> None:
    body = (
        THREAD
        + """
        %c1 = arith.constant 1 : i32
        %bit = arith.andi %tid, %c1 : i32
        %odd = arith.cmpi eq, %bit, %c1 : i32
        """
        + _gep("at", "p", "tid", "i32", 1)
        + """
        "llvm.store"(%odd, %at) <{ordering = 0 : i64}> : (i1, !llvm.ptr<1>) -> ()
        %again = "llvm.load"(%at) <{ordering = 0 : i64}> : (!llvm.ptr<1>) -> i1
        %c2 = arith.constant 2 : i32
        %twice = arith.select %again, %c2, %c1 : i32
        %four = arith.constant 4 : i32
        %word = arith.muli %tid, %four : i32
        """
        + _gep("to", "q", "word", "i32", 1)
        + """
        "llvm.store"(%twice, %to) <{ordering = 0 : i64}> : (i32, !llvm.ptr<1>) -> ()
        """
    )
    kernel = module("%p: !llvm.ptr<1>, %q: !llvm.ptr<1>", body)
    flags, out = launch(kernel, [np.full(32, 9, np.uint8), np.zeros(32, np.int32)])
    assert flags.tolist() == [0, 1] * 16
    assert out.tolist() == [1, 2] * 16


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            '%v = "llvm.load"(%p) <{ordering = 2 : i64}> : (!llvm.ptr<1>) -> i32',
            "expects a plain access, got an atomic ordering",
        ),
        (
            '%v = "llvm.load"(%p) <{ordering = 0 : i64, alignment = 2 : i64}>'
            " : (!llvm.ptr<1>) -> i32",
            "expects an alignment of at least 4 bytes, got 2",
        ),
        (
            '%v = "llvm.load"(%p) <{ordering = 0 : i64}> : (!llvm.ptr<1>) -> i128',
            "has a value of type i128, which PTX cannot hold",
        ),
    ],
)
def test_access_without_an_instruction_is_refused(code: str, message: str) -> None:
    with pytest.raises(DiagnosticError, match=re.escape(message)):
        print_ptx(module("%p: !llvm.ptr<1>", code))


def _two_loads(between: str) -> str:
    kernel = module(
        "%p: !llvm.ptr<1>, %q: !llvm.ptr<1>",
        f"""
        %v = "llvm.load"(%p) <{{ordering = 0 : i64}}> : (!llvm.ptr<1>) -> i32
        {between}
        %w = "llvm.load"(%p) <{{ordering = 0 : i64}}> : (!llvm.ptr<1>) -> i32
        %s = arith.muli %v, %w : i32
        "llvm.store"(%s, %q) <{{ordering = 0 : i64}}> : (i32, !llvm.ptr<1>) -> ()
        """,
    )
    return print_ptx(kernel)


@pytest.mark.parametrize(
    ("between", "loads"),
    [
        ("", 1),
        ('"llvm.store"(%v, %q) <{ordering = 0 : i64}> : (i32, !llvm.ptr<1>) -> ()', 2),
        ('"gpu.barrier"() : () -> ()', 2),
        ('"nvvm.cp.async.wait.group"() <{n = 0 : i32}> : () -> ()', 2),
    ],
)
def test_an_address_is_loaded_once_until_memory_may_have_changed(between: str, loads: int) -> None:
    assert _two_loads(between).count("ld.global") == loads


def test_a_load_in_a_branch_is_not_that_behind_it() -> None:
    text = print_ptx(
        module(
            "%p: !llvm.ptr<1>, %q: !llvm.ptr<1>, %c: i32",
            """
            %zero = arith.constant 0 : i32
            %if = arith.cmpi eq, %c, %zero : i32
            scf.if %if {
              %v = "llvm.load"(%p) <{ordering = 0 : i64}> : (!llvm.ptr<1>) -> i32
              "llvm.store"(%v, %q) <{ordering = 0 : i64}> : (i32, !llvm.ptr<1>) -> ()
            }
            %w = "llvm.load"(%p) <{ordering = 0 : i64}> : (!llvm.ptr<1>) -> i32
            "llvm.store"(%w, %q) <{ordering = 0 : i64}> : (i32, !llvm.ptr<1>) -> ()
            """,
        )
    )
    assert text.count("ld.global") == 2


@pytest.mark.parametrize(("flags", "offset"), [(0, ""), (4, r"\+48")])
def test_a_constant_of_an_index_that_is_not_negative_becomes_an_offset(
    flags: int, offset: str
) -> None:
    kernel = module(
        "%p: !llvm.ptr<1>, %q: !llvm.ptr<1>, %n: i32",
        """
        %twelve = arith.constant 12 : i32
        %i = arith.addi %n, %twelve : i32
        """
        + _gep("at", "p", "i", "i32", 1, "f32").replace("Flags = 0", f"Flags = {flags}")
        + """
        %v = "llvm.load"(%at) <{ordering = 0 : i64}> : (!llvm.ptr<1>) -> f32
        "llvm.store"(%v, %q) <{ordering = 0 : i64}> : (f32, !llvm.ptr<1>) -> ()
        """,
        threads=1,
    )
    assert re.search(rf"ld\.global\.b32 %f\d+, \[%rd\d+{offset}\]", print_ptx(kernel))
    data = np.random.default_rng().random(16, np.float32)
    # The index is 7 = -5 + 12: what is added to may be negative.
    out = launch(kernel, [data, np.zeros(1, np.float32), -5], threads=1)[1]
    assert out[0] == data[7]
