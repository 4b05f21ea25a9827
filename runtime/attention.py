"""
The attention wrapper: plans batches for one attention kernel and runs it.

It works from a kernel artifact alone, so a bundle runs with NumPy on the simulator, and with NumPy
and the driver on a GPU. The kernel's parameters are found by name, as its contract gives them.
"""

import os
from collections.abc import Mapping
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from .array import HOST, ArrayView, empty_like, show_shape, view_of
from .artifact import KernelArtifact
from .attention_call import AttentionCall
from .attention_in_place import Hints, PlacedPlanner
from .attention_kernel import KV_SCALES, LATENT_SCALES, PARTIALS, SCALE, check_kernel_params
from .attention_kv import KVArguments, KVViews, kv_views, latent_views
from .attention_params import check_params
from .attention_plan import PlanArrays, checked_tables
from .attention_planner import (
    DEFAULT_CHUNK,
    BatchLimits,
    FixedPlanner,
    PlanBytes,
    Sharing,
    default_ctas,
)
from .attention_work import WorkPlanner
from .block_mask import BlockMask, MaskProgram
from .buffer import Buffer
from .contract import KernelContract
from .default_device import default_device, get_device
from .device import Device, Workspace
from .errors import ArgumentError, ContractError
from .kernel_call import device_of
from .launch import Signature
from .page_table import Int32Array, int32_table
from .planner import PlanLimits, Prefixes
from .stream import stream_handle


class AttentionOp:
    """
    One attention kernel, ready to plan and run.

    Raises ContractError for an artifact that is no attention kernel, or one with a parameter that
    nobody would pass.

    `mask` is the program of the variant's mask, from which plans of work "tile_lists" derive block
    masks; a bundle has none.
    """

    def __init__(self, artifact: KernelArtifact, mask: MaskProgram | None = None) -> None:
        section = artifact.contract.attention
        if section is None:
            raise ContractError("attention", "the kernel is no attention kernel")
        check_kernel_params(artifact.contract, section)
        self.artifact = artifact
        self.mask = mask
        self.section = section
        self.signature = Signature(artifact.contract)
        self.planner = WorkPlanner(section, mask)

    @property
    def ptx(self) -> str:
        """The kernel's PTX text."""
        return self.artifact.ptx

    @property
    def contract(self) -> KernelContract:
        """The kernel's contract."""
        return self.artifact.contract

    @property
    def mask_block(self) -> tuple[int, int]:
        """The query rows and the keys of a tile, as block masks for this kernel have them."""
        return max(self.section.tile_rows // self.section.group, 1), self.section.kv_tile

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the kernel as a bundle; raises BundleError."""
        self.artifact.save(directory)

    def plan(
        self,
        qo_indptr: object,
        kv_indptr: object,
        kv_indices: object = None,
        kv_last_page_len: object = None,
        *,
        num_ctas: int | None = None,
        batch_invariant: bool = False,
        chunk: int = DEFAULT_CHUNK,
        limits: BatchLimits | None = None,
        block_mask: BlockMask | None = None,
        mask_parameters: Mapping[str, object] | None = None,
        prefixes: Prefixes | None = None,
        device: Device | str | None = None,
    ) -> "Plan":
        """
        Returns the plan of a batch of B requests; raises ArgumentError.

        All are int32 in host memory: qo_indptr[B+1] (query rows), kv_indptr[B+1] (pages),
        kv_indices[nnz] (page numbers), kv_last_page_len[B] (rows in the last page). Of ragged keys
        kv_indptr counts rows, and there are no pages. Where each KV head has pages of its own,
        kv_indptr and kv_last_page_len have B * num_kv_heads rows, row b * num_kv_heads + h that of
        request b and head h. Nothing waits for a device.

        `num_ctas` share the work, by default as many as `device` holds at a time, which is by
        default `default_device()`. The KV of a query tile is split where that evens their loads.
        With `batch_invariant` it is split at multiples of `chunk` rows and nowhere else, so that
        the bits of a request's result do not depend on what else is in the batch.

        With `limits` the plan's grid and addresses stay while `update`, `step` and `adopt` give it
        other batches up to these maxima, as a CUDA graph needs; `q` then has
        `limits.query_rows` rows, and the symbol `batch` is `limits.requests`.

        A kernel of work "tile_lists" takes a `block_mask` of its tiles and of this batch, made for
        its own mask: KV tiles that it calls empty are not read. Without one it is derived from the
        mask, whose run-time parameters are `mask_parameters`; where these are missing, or the mask
        depends on the head, tiles follow from the bounds of the mask. A kernel of work "cascade"
        reads `prefixes` that requests share once; by default those that the page table shows.
        """
        given = (qo_indptr, kv_indptr, kv_indices, kv_last_page_len)
        tables = checked_tables(self.section, *given)
        sharing = self._sharing(num_ctas, batch_invariant, chunk, device)
        hints = Hints(block_mask, mask_parameters, prefixes)
        self.planner.check(hints)
        if limits is None:
            return Plan(self, self.planner.plan(*tables, hints, sharing))
        fixed = self.planner.in_place(limits, sharing)
        fixed.plan(*tables, hints)
        return Plan(self, fixed.arrays, fixed)

    def plan_bytes(
        self,
        limits: BatchLimits,
        *,
        num_ctas: int | None = None,
        batch_invariant: bool = False,
        chunk: int = DEFAULT_CHUNK,
        device: Device | str | None = None,
    ) -> PlanBytes:
        """Returns the exact bytes on the device of a plan with these limits; see `plan`."""
        sharing = self._sharing(num_ctas, batch_invariant, chunk, device)
        return self.planner.in_place(limits, sharing).nbytes

    def _sharing(
        self, num_ctas: int | None, batch_invariant: bool, chunk: int, device: Device | str | None
    ) -> Sharing:
        if num_ctas is None:
            named = get_device(device) if isinstance(device, str) else device
            num_ctas = default_ctas(self.contract, named or default_device())
        for name, value in (("num_ctas", num_ctas), ("chunk", chunk)):
            if not 1 <= value <= 2**31 - 1:
                raise ArgumentError(name, "a number from 1 to 2^31 - 1", str(value))
        return Sharing(num_ctas, batch_invariant, chunk)


def load_bundle(directory: str | os.PathLike[str]) -> AttentionOp:
    """Reads the attention kernel of a bundle; raises BundleError or ContractError."""
    return AttentionOp(KernelArtifact.load(directory))


class _Result(NamedTuple):
    """One result: what the caller gets, and the view that is written."""

    array: object
    view: ArrayView


class PlanLayout(NamedTuple):
    """What addresses and the grid of a plan follow from: the kernel and the declared maxima."""

    kernel: KernelArtifact
    limits: BatchLimits
    sharing: Sharing


class Plan:
    """
    What each CTA does for one batch; it is used for every layer of a model.

    Its tables, and memory for partial results, are put on a device once, at addresses that stay.
    Launches that share them must follow one another: a plan is for one stream at a time.
    """

    def __init__(
        self,
        op: AttentionOp,
        arrays: PlanArrays,
        fixed: FixedPlanner | PlacedPlanner | None = None,
    ) -> None:
        self.op = op
        self.arrays = arrays
        self._fixed = fixed
        wanted = set(op.signature.pointers)
        self._tables = {name: a for name, a in arrays.tables.items() if name in wanted}
        self._symbols = {**op.signature.bind(self._tables), "slots": arrays.slots}
        for name, table in self._tables.items():
            expected = op.signature.shape(name, self._symbols)
            if table.shape != expected:
                raise ArgumentError(name, f"shape {show_shape(expected)}", show_shape(table.shape))
        self._workspaces: WeakKeyDictionary[Device, Workspace] = WeakKeyDictionary()
        self._partials: WeakKeyDictionary[Device, dict[str, Buffer]] = WeakKeyDictionary()
        self._lock = Lock()
        # The fewest pages of the caches that the plan ran with: a graph keeps their addresses.
        self._cache_pages: int | None = None

    @property
    def ctas(self) -> int:
        """The number of CTAs that share the work."""
        return self.arrays.ctas

    def upload(self, device: Device, stream: object = None) -> Workspace:
        """
        Puts the plan's tables on `device`, once; later calls return the same workspace.

        `run` does it where it has not been done. Do it before a CUDA graph is captured.
        """
        with self._lock:
            workspace = self._workspaces.get(device)
            if workspace is None:
                workspace = device.workspace(self._tables, stream)
                self._workspaces[device] = workspace
                self._partials[device] = {
                    name: device.empty(self.op.signature.shape(name, self._symbols), "f32", name)
                    for name in PARTIALS
                    if name in self.op.signature.pointers
                }
        return workspace

    @property
    def layout(self) -> PlanLayout:
        """What two plans have in common that can take each other's place in a CUDA graph."""
        fixed = self._needs_limits("layout")
        return PlanLayout(self.op.artifact, fixed.limits, fixed.sharing)

    @property
    def plan_limits(self) -> PlanLimits:
        """The limits of the planner of a plan with limits."""
        return self._needs_ranges("plan_limits").plan_limits

    def note_planned_on_device(self) -> None:
        """Notes that kernels write the tables on the device: host memory does not follow them."""
        self._needs_ranges("plan_on_device").forget()

    @property
    def nbytes(self) -> PlanBytes:
        """The bytes of a plan with limits on the device."""
        return self._needs_limits("nbytes").nbytes

    def update(
        self,
        qo_indptr: object,
        kv_indptr: object,
        kv_indices: object = None,
        kv_last_page_len: object = None,
        *,
        block_mask: BlockMask | None = None,
        mask_parameters: Mapping[str, object] | None = None,
        prefixes: Prefixes | None = None,
        stream: object = None,
    ) -> None:
        """
        Plans another batch in place; what changed is sent on `stream`, behind earlier launches.

        The arguments are those of `AttentionOp.plan`. Raises ArgumentError for a batch beyond the
        plan's limits, and for a page that the caches of earlier runs lack; the plan is then what it
        was.
        """
        fixed = self._needs_limits("update")
        given = (qo_indptr, kv_indptr, kv_indices, kv_last_page_len)
        starts, table = checked_tables(self.op.section, *given)
        hints = Hints(block_mask, mask_parameters, prefixes)
        self.op.planner.check(hints)
        self._check_cached(table.largest_page)
        self._send(fixed.plan(starts, table, hints), stream)

    def step(
        self,
        pages: object = None,
        *,
        rows: int = 1,
        requests: object = None,
        stream: object = None,
    ) -> None:
        """
        Gives each request `rows` more KV rows in place: the next step of decoding.

        `requests`, int32, are those that grow, by default all. `pages`, int32, are the new pages of
        those whose last page is full, in the order of the requests; `pages_needed` says how many.
        What changed is sent on `stream`. Plans of lists of tiles and of cascades are updated in
        place of steps. Raises ArgumentError; the plan is then what it was.
        """
        fixed = self._needs_ranges("step")
        if pages is not None:
            self._check_cached(int(int32_table(pages, "pages").max(initial=-1)))
        self._send(fixed.step(rows, pages, requests), stream)

    def pages_needed(self, rows: int = 1, requests: object = None) -> int:
        """Returns how many new pages such a step needs."""
        return self._needs_ranges("pages_needed").pages_needed(rows, requests)

    def adopt(self, other: "Plan", *, stream: object = None) -> None:
        """
        Takes over the batch of another plan of the same layout, as before a graph's replay.

        Raises ArgumentError for a plan of another layout.
        """
        fixed, theirs = self._needs_limits("adopt"), other._needs_limits("adopt")
        if self.layout != other.layout:
            expected = "a plan of the same kernel, limits, CTAs and mode"
            raise ArgumentError("other", expected, "a plan of another layout")
        self._check_cached(theirs.arrays.largest_page)
        self._send(fixed.adopt(theirs), stream)

    def _needs_limits(self, name: str) -> FixedPlanner | PlacedPlanner:
        if self._fixed is None:
            raise ArgumentError(name, "a plan that was made with limits", "one without")
        return self._fixed

    def _needs_ranges(self, name: str) -> FixedPlanner:
        fixed = self._needs_limits(name)
        if isinstance(fixed, PlacedPlanner):
            expected = "a plan of work 'ranges' with one page table for all heads; update this one"
            raise ArgumentError(name, expected, f"one of work '{self.op.section.work}'")
        return fixed

    def _check_cached(self, largest: int) -> None:
        if self._cache_pages is not None and largest >= self._cache_pages:
            expected = f"page numbers below {self._cache_pages}, the pages of earlier runs"
            raise ArgumentError("kv_indices", expected, str(largest))

    def _send(self, changed: Mapping[str, Int32Array], stream: object) -> None:
        with self._lock:
            self.arrays = self._needs_limits("update").arrays
            changed = {name: entries for name, entries in changed.items() if name in self._tables}
            for workspace in self._workspaces.values():
                workspace.write(changed, stream)

    def run(
        self,
        q: object,
        k_pages: object,
        v_pages: object = None,
        *,
        k_scale: object = None,
        v_scale: object = None,
        k_scales: object = None,
        v_scales: object = None,
        kv_scales: object = None,
        kv_indices: object = None,
        out: object = None,
        lse: object = None,
        params: Mapping[str, object] | None = None,
        softmax_scale: float | None = None,
        device: Device | str | None = None,
        stream: object = None,
        programmatic: bool = False,
    ) -> tuple[Any, Any]:
        """
        Runs attention and returns (out, lse), arrays of the kind of `q`.

        `q` is [n, Hq, D]; `k_pages` and `v_pages` are [pages, page_size, Hkv, D] (NHD) or
        [pages, Hkv, page_size, D] (HND), in the kernel's dtype; bf16 is ml_dtypes' or uint16 bits.
        Ragged keys and values, and those of blocks, are [rows, Hkv, D]; those in one array take the
        place of `k_pages` alone. Codes, uint8 or int8 with `format.width(D)` on the last axis, have
        scales: one for all (`k_scale` and `v_scale`, numbers, by default 1), one a head (those,
        f32 [Hkv]), or those of blocks (`k_scales` and `v_scales`, or `kv_scales`, as the pages are,
        with D / block on the last axis). `kv_indices`, int32 of the plan's size, stands in for the
        plan's own: pages that the device chose, which are then not checked.
        `out` [n, Hq, D] and `lse` f32 [n, Hq], the natural logarithm, are written where given; of a
        kernel with query tiles of 128 rows it is that of weights as they are rounded (within 2^-8
        for bf16, 2^-11 for f16). A row without KV gets out 0 and lse -inf. `params`
        holds the variant's parameters by name.
        `device`, also by name, is by default where the arrays lie, else `default_device()`.
        `stream` is a CUDA stream; a `programmatic` launch on it may begin before the kernel in
        front has ended, for which kernels for sm_90 and later wait themselves. Raises ArgumentError
        or TargetError before anything is launched.
        """
        handle = stream_handle(stream)
        numbers = (k_scale, v_scale, k_scales, v_scales, kv_scales)
        given = KVArguments(k_pages, v_pages, dict(zip(KV_SCALES, numbers, strict=True)))
        kv = kv_views(self.op.section, self.op.signature, given, handle)
        place = (device, stream, programmatic)
        call = AttentionCall(out, lse, params or {}, softmax_scale, *place, kv_indices)
        return self._run({"q": q}, kv, call)

    def run_mla(
        self,
        q_nope: object,
        q_pe: object,
        ckv_pages: object,
        kpe_pages: object = None,
        *,
        ckv_scale: object = None,
        kpe_scale: object = None,
        out: object = None,
        lse: object = None,
        params: Mapping[str, object] | None = None,
        softmax_scale: float | None = None,
        device: Device | str | None = None,
        stream: object = None,
        programmatic: bool = False,
    ) -> tuple[Any, Any]:
        """
        Runs the kernel of `attention.compile_mla` and returns (out, lse), as `run` does.

        `q_nope` [n, H, ckv] are queries in the latent space, `q_pe` [n, H, kpe] their rotated part;
        `ckv_pages` [pages, page_size, ckv] and `kpe_pages` [pages, page_size, kpe] the cache, or
        the one array of a combined cache, [pages, page_size, ckv + kpe], in place of `ckv_pages`.
        Codes, uint8 or int8, have a scale for each part, `ckv_scale` and `kpe_scale`, by default 1.
        `out` is [n, H, ckv], still in the latent space, `lse` f32 [n, H], the natural logarithm.
        """
        scales = dict(zip(LATENT_SCALES, (ckv_scale, kpe_scale), strict=True))
        cache = KVArguments(ckv_pages, kpe_pages, scales)
        handle = stream_handle(stream)
        kv = latent_views(self.op.section, self.op.signature, cache, handle)
        place = (device, stream, programmatic)
        call = AttentionCall(out, lse, params or {}, softmax_scale, *place)
        return self._run({"q_nope": q_nope, "q_pe": q_pe}, kv, call)

    def _run(
        self, queries: Mapping[str, object], kv: KVViews, call: AttentionCall
    ) -> tuple[Any, Any]:
        handle = stream_handle(call.stream)
        if call.programmatic and not self.op.artifact.programmatic:
            expected = "False for a kernel that does not wait for the one in front"
            raise ArgumentError("programmatic", expected, "True")
        pointers, scalars = self._split_params(call.params)
        scalars |= kv.scalars
        given = {**queries, **pointers}
        views = {name: view_of(a, name, handle) for name, a in given.items()}
        query = views[self.op.section.query_arrays[0]]
        views |= kv.views
        # The plan's tables say how many requests there are, whatever a parameter's shape is.
        symbols = self.op.signature.bind(views) | kv.symbols | self._symbols
        for view in views.values():
            self.op.signature.check(view, symbols)
        self._check_batch(query, kv)
        if call.kv_indices is not None:
            views["kv_indices"] = self._chosen_pages(call.kv_indices, kv, handle)
        check_params(self.op.section, self.arrays.tables, views, kv.extent)
        chosen = device_of(views.values(), call.device)
        chosen.check_target(self.op.contract.target)
        wanted = {"out": call.out, "lse": call.lse}
        results = self._results(wanted, query, symbols, chosen, handle)
        scalars[SCALE] = call.checked_scale(self.op.section)
        if self.arrays.items:
            self._launch(chosen, call, views, results, scalars, symbols)
        arrays = {name: result.array for name, result in results.items()}
        return arrays["out"], arrays.get("lse")

    def _split_params(
        self, params: Mapping[str, object]
    ) -> tuple[dict[str, object], dict[str, object]]:
        """Returns the variant's parameters as arrays and scalars, by name."""
        names = self.op.section.params
        for name in params:
            if name not in names:
                expected = f"one of {', '.join(names)}" if names else "no parameters"
                raise ArgumentError(name, f"{expected} of the variant", "an unknown name")
        for name in names:
            if name not in params:
                raise ArgumentError(name, "a value for this parameter of the variant", "nothing")
        pointers = {n: a for n, a in params.items() if n in self.op.signature.pointers}
        return pointers, {n: a for n, a in params.items() if n not in pointers}

    def _check_batch(self, q: ArrayView, kv: KVViews) -> None:
        rows, expected = q.shape[0], self.arrays.rows
        if rows != expected:
            what = "the last entry of qo_indptr" if self._fixed is None else "as declared"
            raise ArgumentError(q.name, f"{expected} rows, {what}", str(rows))
        largest, tables = self.arrays.largest_page, self.arrays.tables
        if "ragged" in self.op.section.kv:
            wanted = int(tables["kv_indptr"][-1])
            if kv.extent < wanted:
                expected = f"at least {wanted} rows, the last entry of kv_indptr"
                raise ArgumentError(kv.name, expected, str(kv.extent))
            return
        pages = self._pages(kv)
        if largest >= pages:
            at = int(np.argmax(tables["kv_indices"] == largest))
            below = f"page numbers below {pages}, the pages of {kv.name}"
            raise ArgumentError("kv_indices", below, f"{largest} at [{at}]")
        self._cache_pages = min(pages, pages if self._cache_pages is None else self._cache_pages)

    def _chosen_pages(self, kv_indices: object, kv: KVViews, stream: int | None) -> ArrayView:
        """Returns pages that stand in for the plan's, checked as far as the host can see them."""
        view = view_of(kv_indices, "kv_indices", stream)
        if "kv_indices" not in self.op.signature.pointers:
            raise ArgumentError("kv_indices", "nothing, ragged keys have no pages", "an array")
        self.op.signature.check(view, self._symbols)
        if view.host is not None and view.host.size:
            outside = (view.host < 0) | (view.host >= self._pages(kv))
            if outside.any():
                at = int(np.argmax(outside))
                expected = f"page numbers from 0 to {self._pages(kv) - 1}, the pages of {kv.name}"
                raise ArgumentError("kv_indices", expected, f"{int(view.host[at])} at [{at}]")
        return view

    def _pages(self, kv: KVViews) -> int:
        if "columns" not in self.op.section.kv:
            return kv.extent
        return -(-kv.extent // self.op.section.page_size)

    def _results(
        self,
        given: Mapping[str, object],
        q: ArrayView,
        symbols: Mapping[str, int],
        device: Device,
        stream: int | None,
    ) -> dict[str, _Result]:
        return {
            name: self._result(name, array, q, symbols, device, stream)
            for name, array in given.items()
            if array is not None or name in self.op.signature.pointers
        }

    def _result(
        self,
        name: str,
        given: object,
        q: ArrayView,
        symbols: Mapping[str, int],
        device: Device,
        stream: int | None,
    ) -> _Result:
        """Returns one result: the caller's own array, checked, or a new one of the kind of `q`."""
        signature = self.op.signature
        if name not in signature.pointers:
            raise ArgumentError(name, "nothing, the kernel has no such result", "an array")
        if given is not None:
            view = view_of(given, name, stream)
            signature.check(view, symbols)
            return _Result(given, view)
        shape, dtype = signature.shape(name, symbols), signature.pointers[name][0].dtype
        made = empty_like(q, shape, dtype, name, stream)
        if made is None:
            buffer = device.empty(shape, dtype, name)
            made = buffer, view_of(buffer, name)
        return _Result(*made)

    def _launch(
        self,
        device: Device,
        call: AttentionCall,
        views: Mapping[str, ArrayView],
        results: Mapping[str, _Result],
        scalars: Mapping[str, object],
        symbols: Mapping[str, int],
    ) -> None:
        signature, stream = self.op.signature, call.stream
        signature.check_ranges(symbols)
        grid = signature.grid(symbols)
        kernel = device.load(self.op.artifact)
        workspace = self.upload(device, stream)
        workspace.ready(stream)
        # What the caller passes stands in for the plan's own tables.
        buffers = {**workspace.buffers, **self._partials[device]}
        buffers |= {n: device.adopt(v, stream) for n, v in views.items()}
        for name, (_, view) in results.items():
            copied = view.place == HOST
            buffers[name] = (
                device.empty(view.shape, view.dtype, name) if copied else device.adopt(view, stream)
            )
        arguments = signature.arguments(buffers, scalars, symbols)
        kernel.launch(grid, arguments, stream, call.programmatic)
        for name, (_, view) in results.items():
            if view.host is not None:
                device.to_numpy(buffers[name], view.host, stream)
