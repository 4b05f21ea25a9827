"""Bad input to attention: one clear error each, before anything is launched."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from tilewright.runtime.attention import AttentionOp
from tilewright.runtime.contract import PointerParam, ScalarParam, SymbolRange
from tilewright.runtime.errors import (
    ArgumentError,
    ContractError,
    DeviceError,
    TargetError,
    TilewrightError,
)
from tilewright.test.runtime.attention_case import (
    Geometry,
    artifact_of,
    attend_tiles,
    batch_of,
    contract_of,
    op_of,
)
from tilewright.test.runtime.fake_device import FakeDevice
from tilewright.test.runtime.foreign_array import CudaArray, Producer

GEOMETRY = Geometry()  # 4 query heads, 2 KV heads, head_dim 16, pages of 3, NHD
ONE_DIMENSIONAL = "a one-dimensional int32 array in host memory"


def _int(*values: int) -> Any:
    return np.array(values, np.int32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qo_indptr": _int()}, "'qo_indptr': expected at least one entry, got none"),
        ({"qo_indptr": _int(1, 3, 5)}, "'qo_indptr': expected 0 as the first entry, got 1"),
        (
            {"qo_indptr": _int(0, 3, 2)},
            "'qo_indptr': expected entries that never decrease, got 2 after 3 at [2]",
        ),
        (
            {"kv_indptr": _int(0, 4, 3)},
            "'kv_indptr': expected entries that never decrease, got 3 after 4 at [2]",
        ),
        (
            {"qo_indptr": _int(0, 2**31 - 1, -(2**31))},
            f"'qo_indptr': expected entries that never decrease, got {-(2**31)} after "
            f"{2**31 - 1} at [2]",
        ),
        ({"kv_indptr": _int(0, 3)}, "'kv_indptr': expected 3 entries, as in qo_indptr, got 2"),
        (
            {"kv_indptr": _int(0, 3, 6)},
            "'kv_indptr': expected 5 as the last entry, the size of kv_indices, got 6",
        ),
        (
            {"kv_indptr": _int(0, 3, 4)},
            "'kv_indptr': expected 5 as the last entry, the size of kv_indices, got 4",
        ),
        (
            {"kv_last_page_len": _int(1)},
            "'kv_last_page_len': expected 2 entries, one a request, got 1",
        ),
        (
            {"kv_last_page_len": _int(1, 0)},
            "'kv_last_page_len': expected 1 to 3 tokens, 0 only without pages, got 0 at [1]",
        ),
        (
            {"kv_last_page_len": _int(4, 1)},
            "'kv_last_page_len': expected 1 to 3 tokens, 0 only without pages, got 4 at [0]",
        ),
        (
            {"kv_last_page_len": _int(-1, 1)},
            "'kv_last_page_len': expected 1 to 3 tokens, 0 only without pages, got -1 at [0]",
        ),
        (
            {"kv_indices": _int(0, 1, 2, -3, 4)},
            "'kv_indices': expected page numbers of at least 0, got -3 at [3]",
        ),
        (
            {"qo_indptr": np.array([0, 2, 3])},
            f"'qo_indptr': expected {ONE_DIMENSIONAL}, got dtype int64",
        ),
        (
            {"kv_indices": np.zeros(5, np.float32)},
            f"'kv_indices': expected {ONE_DIMENSIONAL}, got dtype f32",
        ),
        (
            {"kv_indices": np.zeros(5, ">i4")},
            f"'kv_indices': expected {ONE_DIMENSIONAL}, got dtype byte-swapped int32",
        ),
        (
            {"kv_indices": np.zeros((5, 1), np.int32)},
            f"'kv_indices': expected {ONE_DIMENSIONAL}, got 2 dimensions",
        ),
        (
            {"kv_indptr": Producer(np.zeros(3), "f64")},
            f"'kv_indptr': expected {ONE_DIMENSIONAL}, got dtype float64",
        ),
        (
            {"kv_indptr": CudaArray(4096, (3,), "<i4")},
            f"'kv_indptr': expected {ONE_DIMENSIONAL}, got an array on cuda:0",
        ),
        (
            {"kv_indptr": [0, 3, 5]},
            "'kv_indptr': expected an array (NumPy, DLPack or __cuda_array_interface__), got list",
        ),
        (
            {"qo_indptr": _int(0, 2**30, 2**31 - 1)},
            f"'qo_indptr': expected at most {2**31 - 1} packed rows a request, got more",
        ),
    ],
)
def test_a_wrong_table_is_refused(change: dict[str, object], message: str) -> None:
    batch = batch_of(GEOMETRY, [2, 1], [7, 5])
    names = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_len")
    tables: dict[str, Any] = dict(zip(names, batch.tables, strict=True)) | change
    with pytest.raises(ArgumentError) as caught:
        op_of(GEOMETRY).plan(**tables)
    assert str(caught.value) == f"argument {message}"


def test_a_kv_length_beyond_int32_is_refused() -> None:
    op, pages = op_of(replace(GEOMETRY, page_size=2**20)), np.zeros(2049, np.int32)
    with pytest.raises(ArgumentError, match=f"at most {2**31 - 1} tokens a request"):
        op.plan(_int(0, 1), _int(0, 2049), pages, _int(1))


@dataclass
class Call:
    """The arguments of a run that would succeed."""

    q: Any
    k_pages: Any
    v_pages: Any
    options: dict[str, Any]


def _f32(call: Call) -> None:
    call.q = call.q.astype(np.float32)


def _wide(call: Call) -> None:
    call.q = np.zeros((3, 4, 17), np.uint16)


def _flat(call: Call) -> None:
    call.q = call.q.reshape(3, 64)


def _heads(call: Call) -> None:
    call.k_pages = call.k_pages[:, :, :1].copy()


def _hnd(call: Call) -> None:
    call.v_pages = call.v_pages.swapaxes(1, 2).copy()


def _pages(call: Call) -> None:
    call.v_pages = call.v_pages[:-1]


def _rows(call: Call) -> None:
    call.q = np.concatenate([call.q, call.q])


def _strided(call: Call) -> None:
    call.q = np.repeat(call.q, 2, axis=2)[:, :, ::2]


def _gpu(call: Call) -> None:
    call.k_pages = CudaArray(4096, call.k_pages.shape, "<u2")


def _out_shape(call: Call) -> None:
    call.options["out"] = np.zeros((3, 4, 8), np.uint16)


def _out_kind(call: Call) -> None:
    call.options["out"] = np.zeros((3, 4, 16), np.float16)


def _lse_kind(call: Call) -> None:
    call.options["lse"] = np.zeros((3, 4))


def _lse_rows(call: Call) -> None:
    call.options["lse"] = np.zeros((2, 4), np.float32)


def _read_only(call: Call) -> None:
    call.options["out"] = np.zeros((3, 4, 16), np.uint16)
    call.options["out"].flags.writeable = False


def _strided_out(call: Call) -> None:
    call.options["out"] = np.zeros((3, 4, 32), np.uint16)[:, :, ::2]


def _list(call: Call) -> None:
    call.q = call.q.tolist()


def _scale(call: Call) -> None:
    call.options["softmax_scale"] = "1"


def _unknown(call: Call) -> None:
    call.options["params"] = {"slopes": np.zeros(4, np.float32)}


def _stream(call: Call) -> None:
    call.options["stream"] = "main"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_f32, "'q': expected dtype bf16, got f32"),
        (_wide, "'q': expected shape (3, 4, 16) = (n, 4, 16), got (3, 4, 17)"),
        (_flat, "'q': expected 3 dimensions (n, 4, 16), got 2 (3, 64)"),
        (_heads, "'k_pages': expected shape (7, 3, 2, 16) = (pages, 3, 2, 16), got (7, 3, 1, 16)"),
        (_hnd, "'v_pages': expected shape (7, 3, 2, 16) = (pages, 3, 2, 16), got (7, 2, 3, 16)"),
        (_pages, "'v_pages': expected shape (7, 3, 2, 16) = (pages, 3, 2, 16), got (6, 3, 2, 16)"),
        (_rows, "'q': expected 3 rows, the last entry of qo_indptr, got 6"),
        (_strided, "'q': expected a C-contiguous array, got other strides"),
        (_gpu, "'k_pages': expected host memory, got cuda:0"),
        (_out_shape, "'out': expected shape (3, 4, 16) = (n, 4, 16), got (3, 4, 8)"),
        (_out_kind, "'out': expected dtype bf16, got f16"),
        (_lse_kind, "'lse': expected dtype f32, got float64"),
        (_lse_rows, "'lse': expected shape (3, 4) = (n, 4), got (2, 4)"),
        (_read_only, "'out': expected a writable array, got a read-only one"),
        (_strided_out, "'out': expected a C-contiguous array, got other strides"),
        (_list, "'q': expected an array (NumPy, DLPack or __cuda_array_interface__), got list"),
        (_scale, "'softmax_scale': expected a number of type f32, got '1'"),
        (_unknown, "'slopes': expected no parameters of the variant, got an unknown name"),
        (_stream, "'stream': expected a CUDA stream or its integer handle, got 'main'"),
    ],
)
def test_a_wrong_argument_is_refused_before_a_launch(
    change: Callable[[Call], None], message: str
) -> None:
    batch, device = batch_of(GEOMETRY, [2, 1], [7, 5]), FakeDevice(attend_tiles)
    call = Call(batch.q, batch.k_pages, batch.v_pages, {})
    change(call)
    plan = op_of(GEOMETRY).plan(*batch.tables)
    with pytest.raises(ArgumentError) as caught:
        plan.run(call.q, call.k_pages, call.v_pages, device=device, **call.options)
    assert str(caught.value) == f"argument {message}"
    assert device.launches == []


def test_a_page_beyond_the_cache_is_refused_before_a_launch() -> None:
    batch, device = batch_of(GEOMETRY, [2, 1], [7, 5]), FakeDevice(attend_tiles)
    plan = op_of(GEOMETRY).plan(*batch.tables)
    largest = int(batch.kv_indices.max())
    at = batch.kv_indices.tolist().index(largest)
    plan.run(batch.q, batch.k_pages[: largest + 1], batch.v_pages[: largest + 1], device=device)
    with pytest.raises(ArgumentError) as caught:
        plan.run(batch.q, batch.k_pages[:largest], batch.v_pages[:largest], device=device)
    assert str(caught.value) == (
        f"argument 'kv_indices': expected page numbers below {largest}, the pages of k_pages, "
        f"got {largest} at [{at}]"
    )
    assert len(device.launches) == 1


def test_a_kernel_of_another_target_is_refused_before_a_launch() -> None:
    batch, device = batch_of(GEOMETRY, [2], [7]), FakeDevice(attend_tiles, capability=(8, 0))
    plan = AttentionOp(artifact_of(contract_of(GEOMETRY, target="sm_90a"))).plan(*batch.tables)
    with pytest.raises(TargetError) as caught:
        plan.run(*batch.arrays, device=device)
    assert str(caught.value) == (
        "device 'fake' has compute capability 8.0; the kernel is made for sm_90a, "
        "which needs exactly 9.0"
    )
    assert device.launches == []


def test_a_symbol_outside_its_range_is_refused() -> None:
    contract = contract_of(GEOMETRY)
    contract = replace(contract, symbols={**contract.symbols, "n": SymbolRange(0, 2)})
    batch, device = batch_of(GEOMETRY, [3], [7]), FakeDevice(attend_tiles)
    plan = AttentionOp(artifact_of(contract)).plan(*batch.tables)
    with pytest.raises(ArgumentError, match=r"'n': expected a value in \[0, 2\], got 3"):
        plan.run(*batch.arrays, device=device)
    assert device.launches == []


@pytest.mark.parametrize(("dtype", "shape"), [("f32", ("items",)), ("i32", ("items", "2"))])
def test_a_table_of_another_form_is_refused(dtype: str, shape: tuple[str, ...]) -> None:
    contract = contract_of(GEOMETRY)
    params = list(contract.params)
    params[9] = PointerParam("item_merge", dtype, shape)
    with pytest.raises(ContractError, match=r"params\[9\]: 'item_merge' must be i32 with 1"):
        AttentionOp(artifact_of(replace(contract, params=tuple(params))))


def test_a_table_of_another_size_than_the_kernel_has_is_refused() -> None:
    contract = contract_of(GEOMETRY)
    params = list(contract.params)
    params[3] = PointerParam("qo_indptr", "i32", ("batch",), alignment=4)
    params[6] = PointerParam("kv_last_page_len", "i32", ("batch",), alignment=4)
    op = AttentionOp(artifact_of(replace(contract, params=tuple(params))))
    with pytest.raises(ArgumentError, match=r"'kv_indptr': expected shape \(4,\), got \(3,\)"):
        op.plan(*batch_of(GEOMETRY, [2, 1], [7, 5]).tables)


def test_a_result_that_the_kernel_lacks_is_refused() -> None:
    contract = contract_of(GEOMETRY)
    params = tuple(param for param in contract.params if param.name != "lse")
    batch, device = batch_of(GEOMETRY, [3], [7]), FakeDevice(attend_tiles)
    plan = AttentionOp(artifact_of(replace(contract, params=params))).plan(*batch.tables)
    with pytest.raises(ArgumentError, match="'lse': expected nothing, the kernel has no such"):
        plan.run(*batch.arrays, lse=np.zeros((3, 4), np.float32), device=device)


def test_an_unknown_device_is_refused() -> None:
    batch = batch_of(GEOMETRY, [3], [7])
    with pytest.raises(DeviceError, match="unknown device 'gpu'"):
        op_of(GEOMETRY).plan(*batch.tables).run(*batch.arrays, device="gpu")


def test_a_missing_parameter_of_the_variant_is_refused() -> None:
    batch = batch_of(GEOMETRY, [3], [7])
    plan = op_of(GEOMETRY, (ScalarParam("cap", "f32"),)).plan(*batch.tables)
    with pytest.raises(ArgumentError, match="'cap': expected a value for this parameter"):
        plan.run(*batch.arrays, device=FakeDevice(attend_tiles))


def test_a_misaligned_buffer_is_refused_before_a_launch() -> None:
    batch, device = batch_of(GEOMETRY, [2], [7]), FakeDevice(attend_tiles)
    shifted = replace(device.array(batch.q), address=(1 << 20) + 2)
    with pytest.raises(ArgumentError, match="'q': expected an address aligned to 16 B, got an"):
        op_of(GEOMETRY).plan(*batch.tables).run(shifted, *batch.arrays[1:])
    assert device.launches == []


def test_a_kernel_without_an_attention_section_is_refused() -> None:
    contract = replace(contract_of(GEOMETRY), attention=None)
    with pytest.raises(ContractError, match="attention: the kernel is no attention kernel"):
        AttentionOp(artifact_of(contract))


@pytest.mark.parametrize("name", ["q", "k_pages", "v_pages", "out"])
def test_a_kernel_without_a_needed_pointer_is_refused(name: str) -> None:
    contract = contract_of(GEOMETRY)
    params = tuple(param for param in contract.params if param.name != name)
    with pytest.raises(ContractError, match=f"an attention kernel needs the pointer '{name}'"):
        AttentionOp(artifact_of(replace(contract, params=params)))


@pytest.mark.parametrize("param", [PointerParam("bias", "f32", ("4",)), ScalarParam("cap", "f32")])
def test_a_parameter_that_nobody_passes_is_refused(param: PointerParam | ScalarParam) -> None:
    contract = contract_of(GEOMETRY)
    with pytest.raises(ContractError, match=rf"params\[17\].name: nothing provides '{param.name}'"):
        AttentionOp(artifact_of(replace(contract, params=(*contract.params, param))))


def test_every_error_has_one_base_and_one_line() -> None:
    with pytest.raises(TilewrightError) as caught:
        op_of(GEOMETRY).plan(_int(), _int(), _int(), _int())
    assert "\n" not in str(caught.value)
