"""Where the new tokens of a batch go: planned on the host, or on the device from its own tables."""

from typing import Any

import numpy as np

from ..runtime.array import HOST, ArrayView, view_of
from ..runtime.device import Device
from ..runtime.errors import ArgumentError
from ..runtime.kernel_call import Tables, call_kernel, check_array, device_of, result_array
from ..runtime.page_table import (
    Int32Array,
    PageTable,
    append_positions,
    check_page_size,
    int32_table,
)
from ..runtime.stream import stream_handle
from .compiled_kernels import kernel

_NAMES = ("page", "slot", "position")


class AppendPlan:
    """
    Where the new tokens of a batch go; it is used for every layer of a model.

    `page`, `slot` and `position` are int32 [nnz] in host memory; a token of page -1 goes nowhere.
    They are put on a device once, at addresses that stay.
    """

    def __init__(
        self, page: Int32Array, slot: Int32Array, position: Int32Array, page_size: int
    ) -> None:
        self.page_size = check_page_size(page_size)
        given = zip(_NAMES, (page, slot, position), strict=True)
        self.tables = {name: int32_table(array, name) for name, array in given}
        self.tokens = self.tables["page"].size
        for name, table in self.tables.items():
            if table.size != self.tokens:
                raise ArgumentError(name, f"{self.tokens} entries", str(table.size))
        outside = (self.tables["slot"] < 0) | (self.tables["slot"] >= page_size)
        if outside.any():
            at = int(np.argmax(outside))
            got = f"{self.tables['slot'][at]} at [{at}]"
            raise ArgumentError("slot", f"0 to {page_size - 1}, places in a page", got)
        self._on_devices = Tables(self.tables)

    @property
    def pages(self) -> int:
        """How many pages a cache must have: one more than the largest that is named."""
        return int(self.tables["page"].max(initial=-1)) + 1

    def upload(self, device: Device, stream: object = None) -> dict[str, ArrayView]:
        """Puts the tables on `device`, once; do it before a CUDA graph is captured."""
        return self._on_devices.on(device, stream)


class DeviceAppendPlan:
    """
    Where new tokens go, found by a kernel from tables on the device; nothing waits for it.

    It is made by `plan_append_on_device`, which can also write it again for the next step: its
    addresses stay, so a captured CUDA graph goes on with it.
    """

    def __init__(
        self, arrays: dict[str, object], tables: dict[str, ArrayView], page_size: int, pages: int
    ) -> None:
        self.arrays = arrays
        self.page_size = page_size
        self.pages = pages
        self.tokens = tables["page"].shape[0]
        self._tables = tables

    def upload(self, device: Device, stream: object = None) -> dict[str, ArrayView]:
        """Returns the tables, which are where they were made."""
        return dict(self._tables)


def plan_append(table: PageTable, append_indptr: object) -> AppendPlan:
    """
    Returns where new tokens go: the last ones of each request of a table that has room for them.

    `append_indptr`, int32 [B + 1] in host memory, divides the nnz new tokens among the requests
    of `table`. Raises ArgumentError, also where two requests would write to one page.
    """
    indptr = int32_table(append_indptr, "append_indptr")
    batch, position = append_positions(indptr, table.lengths)
    table.check_written(np.diff(indptr).astype(np.int32))
    entry = table.kv_indptr[batch] + position // table.page_size
    page = table.kv_indices[entry]
    slot = (position % table.page_size).astype(np.int32)
    return AppendPlan(page, slot, position, table.page_size)


def plan_append_on_device(
    append_indptr: object,
    lengths: object,
    kv_indptr: object,
    kv_indices: object,
    *,
    page_size: int,
    num_pages: int,
    tokens: int | None = None,
    plan: DeviceAppendPlan | None = None,
    device: Device | str | None = None,
    stream: object = None,
    target: str = "sm_80",
) -> DeviceAppendPlan:
    """
    Returns where new tokens go, from int32 tables that the host does not read.

    `append_indptr` [B + 1] divides the new tokens among requests; `lengths` [B] are those with the
    new tokens; `kv_indptr` [B + 1] and `kv_indices` are the page table. `tokens` is how many rows
    keys and values have, by default as many as a given `plan`, which is written then. Rows behind
    the last token go nowhere, as does a token without a page in the table, or with one that a cache
    of `num_pages` pages lacks: no table makes a write leave the cache. That requests do not share
    the pages that are written is the caller's promise. Raises ArgumentError.
    """
    handle = stream_handle(stream)
    given = {"append_indptr": append_indptr, "kv_indptr": kv_indptr, "lengths": lengths}
    views = {n: view_of(a, n, handle) for n, a in {**given, "kv_indices": kv_indices}.items()}
    check_array(views["lengths"], ("i32",), ("B",))
    batch = views["lengths"].shape[0]
    for name in ("append_indptr", "kv_indptr"):
        check_array(views[name], ("i32",), (batch + 1,))
    check_array(views["kv_indices"], ("i32",), ("entries",))
    where = device_of(views.values(), device)
    made = _target(plan, views["lengths"], where, (page_size, num_pages, tokens))
    artifact = kernel("append_places", target, page_size=made.page_size)
    arrays = views | made.upload(where)
    call_kernel(artifact, arrays, where, numbers={"num_pages": num_pages}, stream=stream)
    return made


def _target(
    plan: DeviceAppendPlan | None,
    like: ArrayView,
    device: Device,
    numbers: tuple[int, int, int | None],
) -> DeviceAppendPlan:
    """Returns the plan that is written: the one that is given, or a new one."""
    page_size, num_pages, tokens = numbers
    check_page_size(page_size)
    if plan is not None:
        if (page_size, num_pages) != (plan.page_size, plan.pages):
            expected = f"pages of {plan.page_size} tokens, {plan.pages} in all, as before"
            raise ArgumentError("plan", expected, f"{page_size} tokens, {num_pages} in all")
        if tokens not in (None, plan.tokens):
            raise ArgumentError("tokens", f"{plan.tokens}, as before", str(tokens))
        return plan
    if tokens is None or tokens < 0:
        raise ArgumentError("tokens", "how many rows are appended", repr(tokens))
    arrays: dict[str, Any] = {}
    tables: dict[str, ArrayView] = {}
    for name in _NAMES:
        arrays[name], tables[name] = result_array(name, None, like, device, (tokens,), "i32")
        if tables[name].place == HOST and device.kind != "simulator":
            # The tables must stay where they are: a copy of host memory would be lost.
            arrays[name] = device.empty((tokens,), "i32", name)
            tables[name] = view_of(arrays[name], name)
    return DeviceAppendPlan(arrays, tables, page_size, num_pages)
