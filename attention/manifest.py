"""
Manifests: every kernel that a deployment can need, listed in TOML before it serves.

```toml
targets = ["sm_80", "sm_90"]

[[kernels]]
variant = ["causal", "window:4096"]
phase = ["prefill", "decode"]
num_qo_heads = 32
num_kv_heads = 8
head_dim = 128
page_size = [16, 64]
dtype = "bf16"

[[append]]
num_kv_heads = 8
head_dim = 128
page_size = [16, 64]
rope = "half"

[[merge]]
num_qo_heads = 32
head_dim = 128

[[page_choice]]
num_qo_heads = 32
num_kv_heads = 8
head_dim = 128
page_size = 16
```

A list stands for each of its values; an entry is the product of its lists. `storage` and
`kv_format` are those of `named_storage`, `work` is that of `attention.compile`. What stands beside
attention is a table of its own for each of `TASKS`: appending to the cache, merging states, the
choice of pages of sparse decoding, and plans that are made on the device.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from ..runtime.artifact import KernelArtifact
from ..runtime.contract import JsonScalar
from ..runtime.errors import ArgumentError
from ..runtime.kernel_set import KernelSet, save_kernels
from ..runtime.ptxas import Ptxas, find_ptxas
from .append_task import AppendTask, LatentAppendTask
from .beside import Task
from .cached import cached_attention
from .choice_task import ChoiceTask
from .deployment import KEY_FIELDS, PHASES, beside
from .expression import VariantError
from .listed_spec import listed_spec
from .manifest_reader import ManifestError, Place, Reader
from .named_storage import CONFINED, SAME
from .named_variants import named_variant
from .plan_task import DevicePlanTask
from .spec import TARGETS, AttentionSpec
from .state_task import MergeTask
from .variants import Variant

DEFAULT_TARGETS = ("sm_80", "sm_90")
_FIELDS = KEY_FIELDS[:-1]
_NUMBERS = ("head_dim", "num_qo_heads", "num_kv_heads", "page_size")
_DEFAULTS: dict[str, object] = {
    "variant": "causal",
    "phase": list(PHASES),
    "storage": "paged",
    "layout": "NHD",
    "kv_format": SAME,
    "dtype": "bf16",
    "work": "ranges",
}
TASKS: tuple[type[Task], ...] = (
    AppendTask,
    LatentAppendTask,
    MergeTask,
    ChoiceTask,
    DevicePlanTask,
)


@dataclass(frozen=True)
class Entry:
    """One kernel of a manifest: its key without the target, what it computes, where it stands."""

    numbers: Mapping[str, JsonScalar]
    variant: Variant
    line: int

    def key(self, target: str) -> dict[str, JsonScalar]:
        """Returns the key of the kernel for a target."""
        return {**self.numbers, "target": target}

    def spec(self, target: str) -> AttentionSpec:
        """Returns what is compiled for a target; raises ArgumentError."""
        return listed_spec(self.numbers, self.variant.traced, target)


@dataclass(frozen=True)
class Manifest:
    """The targets of a deployment, its attention kernels, and what it does beside attention."""

    targets: tuple[str, ...]
    entries: tuple[Entry, ...]
    tasks: tuple[Task, ...] = ()

    @staticmethod
    def load(path: Path) -> "Manifest":
        """Reads a manifest; raises ManifestError, or OSError for a file that can't be read."""
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            raise ManifestError(f"{path}: error: expected UTF-8") from None
        return parse_manifest(text, path)

    def build(self, directory: Path, say: Callable[[str], None]) -> KernelSet:
        """Compiles every kernel and writes the set; raises DiagnosticError or BundleError."""
        ptxas = find_ptxas()
        made: list[tuple[dict[str, JsonScalar], KernelArtifact]] = []
        jobs = [(entry, target) for target in self.targets for entry in self.entries]
        for number, (entry, target) in enumerate(jobs, 1):
            say(f"compiling {number} of {len(jobs)}")
            artifact = cached_attention(entry.spec(target), entry.variant.traced)
            made.append((entry.key(target), assembled(artifact, ptxas)))
        known: dict[str, KernelArtifact] = {}
        for task in self.tasks:
            say(f"compiling the kernels of [[{task.name}]]")
            for name, artifact in task.record().items():
                if name not in known:
                    known[name] = assembled(artifact, ptxas)
                made.append((beside(name, task.key), known[name]))
        return save_kernels(directory, made)


def assembled(artifact: KernelArtifact, ptxas: Ptxas | None) -> KernelArtifact:
    """Returns a kernel with its machine code and resources, as it is where no ptxas is found."""
    if ptxas is None:
        return artifact
    assembly = ptxas.assemble(artifact.ptx, artifact.contract.target)
    resources = assembly.resources.get(artifact.contract.name)
    contract = replace(artifact.contract, resources=resources)
    return replace(artifact, contract=contract, cubin=assembly.cubin)


def parse_manifest(text: str, path: Path) -> Manifest:
    """Returns the manifest of a text; `path` is named in messages, and holds variants' files."""
    reader = Reader(path, text)
    known = ("targets", "kernels", *(task.name for task in TASKS))
    for name in reader.tables:
        if name not in known:
            raise reader.error(None, name, f"expected one of {', '.join(known)}")
    targets = reader.texts("targets", DEFAULT_TARGETS, TARGETS)
    if not reader.tables.get("kernels"):
        raise reader.error(None, "kernels", "expected one [[kernels]] table or more")
    entries: list[Entry] = []
    seen: dict[tuple[tuple[str, JsonScalar], ...], int] = {}
    for place, table in reader.arrays("kernels"):
        for entry in _entries(reader, place, table, targets):
            line = seen.setdefault(tuple(entry.numbers.items()), entry.line)
            if line != entry.line:
                raise reader.error(place, None, f"the kernel of line {line} is listed again")
            entries.append(entry)
    return Manifest(targets, tuple(entries), tuple(_tasks(reader)))


def _entries(
    reader: Reader, place: Place, table: Mapping[str, object], targets: tuple[str, ...]
) -> Iterator[Entry]:
    defaults = dict(_DEFAULTS)
    if table.get("storage") in ("ragged", f"ragged{CONFINED}"):
        defaults["page_size"] = 1
    for numbers in reader.products(place, table, _FIELDS, _NUMBERS, defaults):
        yield _entry(reader, place, numbers, targets)


def _entry(
    reader: Reader, place: Place, numbers: dict[str, JsonScalar], targets: tuple[str, ...]
) -> Entry:
    if numbers["phase"] not in PHASES:
        expected = f"expected {' or '.join(PHASES)}, got {numbers['phase']!r}"
        raise reader.error(place, "phase", expected)
    heads, head_dim = cast("int", numbers["num_qo_heads"]), cast("int", numbers["head_dim"])
    line = reader.line(place, None)
    try:
        checked = Entry(numbers, Variant(), line)
        for target in targets:
            checked.spec(target)
        variant = named_variant(str(numbers["variant"]), heads, head_dim, reader.path.parent)
        variant.traced  # noqa: B018  a variant that can't be traced is refused here
    except ArgumentError as error:
        message = f"expected {error.expected}, got {error.got}"
        raise reader.error(place, error.name, message) from None
    except VariantError as error:
        raise reader.error(place, "variant", " ".join(str(error).split())) from None
    return Entry(numbers, variant, line)


def _tasks(reader: Reader) -> Iterator[Task]:
    seen: dict[tuple[tuple[str, JsonScalar], ...], int] = {}
    for kind in TASKS:
        for place, table in reader.arrays(kind.name):
            for values in reader.products(
                place, table, kind.fields(), kind.integers, kind.defaults
            ):
                task = kind(values)
                try:
                    task.check()
                except ArgumentError as error:
                    message = f"expected {error.expected}, got {error.got}"
                    raise reader.error(place, error.name, message) from None
                line = reader.line(place, None)
                first = seen.setdefault(tuple(task.key.items()), line)
                if first != line:
                    raise reader.error(place, None, f"the task of line {first} is listed again")
                yield task
