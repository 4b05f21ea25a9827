"""
Serving from kernels that were compiled beforehand: which kernel a call uses, and why.

A deployment never compiles. Kernels are told apart by finite keys, `KEY_FIELDS`; lengths, page
tables and the size of a batch are no part of them.
"""

import os
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial

from ..runtime.attention import AttentionOp
from ..runtime.contract import JsonScalar, parse_target
from ..runtime.device import Device
from ..runtime.errors import ArgumentError, TargetError
from ..runtime.kernel_set import KernelSet, Key, load_kernels
from .compiled_kernels import provide
from .expression import is_integer
from .named_storage import SAME
from .tiles import SHORT_ROWS

KEY_FIELDS = (
    "variant",
    "phase",
    "head_dim",
    "num_qo_heads",
    "num_kv_heads",
    "storage",
    "page_size",
    "layout",
    "kv_format",
    "dtype",
    "work",
    "target",
)
PHASES = ("prefill", "decode")
# The field of the keys of kernels that stand beside attention; others name a task that needs it.
_BESIDE, _TASK = "beside", "task"


@dataclass(frozen=True)
class Call:
    """
    What a caller knows of a call: the model's numbers, the cache's, and the usual query rows.

    `variant`, `storage` and `kv_format` are the names that the manifest gives them. `query_len` is
    how many query rows a request has at most, `capability` the GPU's compute capability.
    """

    num_qo_heads: int
    num_kv_heads: int
    head_dim: int
    page_size: int
    variant: str = "causal"
    layout: str = "NHD"
    dtype: str = "bf16"
    storage: str = "paged"
    kv_format: str = SAME
    work: str = "ranges"
    query_len: int = 1
    capability: tuple[int, int] = (9, 0)

    def __post_init__(self) -> None:
        for name in ("num_qo_heads", "num_kv_heads", "head_dim", "page_size", "query_len"):
            value = getattr(self, name)
            if not is_integer(value) or value < 1:
                raise ArgumentError(name, "an integer from 1", repr(value))
        if self.num_qo_heads % self.num_kv_heads:
            expected = f"a multiple of the {self.num_kv_heads} KV heads"
            raise ArgumentError("num_qo_heads", expected, str(self.num_qo_heads))


CALL_FIELDS = tuple(field.name for field in fields(Call))


@dataclass(frozen=True)
class Choice:
    """The key of a kernel, and the reasons for what the call does not say itself."""

    key: dict[str, JsonScalar]
    reasons: tuple[str, ...]


def beside(name: str, task: Key) -> dict[str, JsonScalar]:
    """Returns the key of a kernel beside attention: its name when recorded, and who needs it."""
    return {**task, _BESIDE: name}


class Deployment:
    """
    The kernels of a kernel set, as `tilewright bundle` writes it.

    Those that stand beside attention are found from now on by what appends to caches, merges
    states, and chooses pages.
    """

    def __init__(self, kernels: KernelSet) -> None:
        others = kernels.only(lambda key: _BESIDE in key)
        provide({str(key[_BESIDE]): partial(kernels.get, key) for key in others.keys})
        self.kernels = kernels.only(lambda key: _BESIDE not in key)
        self._beside = others
        self._op = lru_cache(maxsize=None)(self._loaded)

    @staticmethod
    def load(directory: str | os.PathLike[str]) -> "Deployment":
        """Reads a kernel set; raises BundleError."""
        return Deployment(load_kernels(directory))

    @property
    def tasks(self) -> list[dict[str, JsonScalar]]:
        """What the kernels beside attention do: the keys of the tasks that were listed."""
        tasks = (
            {_TASK: key[_TASK], **{n: v for n, v in key.items() if n not in (_TASK, _BESIDE)}}
            for key in self._beside.keys
        )
        return [dict(task) for task in dict.fromkeys(tuple(task.items()) for task in tasks)]

    def kernels_of(self, task: Key) -> list[str]:
        """Returns the names of a task's kernels; raises KernelNotFound with the nearest tasks."""
        wanted = set(task.items())
        names = [str(key[_BESIDE]) for key in self._beside.keys if wanted < set(key.items())]
        if not names:
            known = {tuple(sorted(found.items())): "" for found in self.tasks}
            raise KernelSet(self._beside.directory, known).refusal(task)
        return names

    def choose(self, call: Call) -> Choice:
        """Returns which key a call uses; raises KernelNotFound with the nearest, or TargetError."""
        target, why = self._target(call)
        wanted: dict[str, JsonScalar] = {
            name: getattr(call, name) for name in KEY_FIELDS if name in CALL_FIELDS
        }
        rows = call.query_len * (call.num_qo_heads // call.num_kv_heads)
        phase = "decode" if rows <= SHORT_ROWS else "prefill"
        packed = f"{rows} packed rows of a KV head"
        limit = f"at most {SHORT_ROWS}" if phase == "decode" else f"more than {SHORT_ROWS}"
        reasons = [why, f"phase {phase}: {packed}, {limit}"]
        known = {tuple(sorted(key.items())) for key in self.kernels.keys}
        for number, name in enumerate((phase, *(p for p in PHASES if p != phase))):
            key = wanted | {"phase": name, "target": target}
            if tuple(sorted(key.items())) in known:
                if number:
                    reasons.append(f"there is no {phase} kernel: {name} serves it by other tiles")
                return Choice({field: key[field] for field in KEY_FIELDS}, tuple(reasons))
        raise self.kernels.refusal(wanted | {"phase": phase, "target": target})

    def _target(self, call: Call) -> tuple[str, str]:
        targets = sorted({str(key["target"]) for key in self.kernels.keys}, reverse=True)
        major, minor = call.capability
        for target in targets:
            parsed = parse_target(target)
            if parsed is not None and parsed.runs_on(call.capability):
                others = ", ".join(targets)
                why = f"target {target}: the highest of {others} that runs on {major}.{minor}"
                return target, why
        got = ", ".join(targets) or "none"
        raise TargetError(f"no kernel runs on compute capability {major}.{minor}: targets {got}")

    def op(self, call: Call, device: Device | None = None) -> AttentionOp:
        """
        Returns the kernel of a call, read once; `device` gives the capability where it is a GPU.

        Raises KernelNotFound, TargetError or BundleError.
        """
        capability: tuple[int, int] | None = getattr(device, "capability", None)
        if capability is not None:
            call = replace(call, capability=capability)
        return self._op(tuple(self.choose(call).key.items()))

    def _loaded(self, key: tuple[tuple[str, JsonScalar], ...]) -> AttentionOp:
        return AttentionOp(self.kernels.get(dict(key)))
