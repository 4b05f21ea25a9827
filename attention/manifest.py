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
```

A list stands for each of its values; an entry is the product of its lists. `storage` and
`kv_format` are those of `named_storage`, `work` is that of `attention.compile`.
"""

import itertools
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from ..runtime.artifact import KernelArtifact
from ..runtime.contract import JsonScalar
from ..runtime.errors import ArgumentError, TilewrightError
from ..runtime.kernel_set import KernelSet, save_kernels
from ..runtime.ptxas import Ptxas, find_ptxas
from .cached import cached_attention
from .deployment import KEY_FIELDS, PHASES
from .expression import VariantError
from .latent_kv import LatentKV
from .mla import LARGEST_LATENT_ROWS, choose_latent_tiles
from .named_storage import SAME, named_storage
from .named_variants import named_variant
from .spec import TARGETS, AttentionSpec
from .tiles import choose_tiles
from .variants import Variant

DEFAULT_TARGETS = ("sm_80", "sm_90")
_DEFAULTS: dict[str, object] = {
    "variant": "causal",
    "phase": list(PHASES),
    "storage": "paged",
    "layout": "NHD",
    "kv_format": SAME,
    "dtype": "bf16",
    "work": "ranges",
}
_NUMBERS = ("head_dim", "num_qo_heads", "num_kv_heads", "page_size")
_WORDS = tuple(_DEFAULTS)
_SYNTAX = re.compile(r"(.*?) ?\(at (?:line (\d+), column (\d+)|end of document)\)")


class ManifestError(TilewrightError):
    """A manifest is malformed; the message is one line with the file and the place."""


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
        known = cast("dict[str, Any]", dict(self.numbers))
        head_dim, heads, kv_heads = (known[n] for n in ("head_dim", "num_qo_heads", "num_kv_heads"))
        named = ("storage", "page_size", "layout", "kv_format", "head_dim")
        kv = named_storage(*(known[n] for n in named))
        # Numbers that no kernel can have are refused before tiles are chosen for them.
        spec = AttentionSpec(
            num_qo_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            kv=kv,
            dtype=known["dtype"],
            target=target,
            softmax_scale=head_dim**-0.5 if head_dim > 0 else 1.0,
            work=known["work"],
        )
        decode = known["phase"] == "decode"
        if isinstance(kv, LatentKV):
            tiles = choose_latent_tiles(kv, heads if decode else LARGEST_LATENT_ROWS, target)
        else:
            query_len = 1 if decode else None
            tiles = choose_tiles(head_dim, heads // kv_heads, query_len, target, kv.format)
        numbers = {"warps": tiles.warps, "tile_rows": tiles.rows}
        return replace(spec, kv_tile=tiles.kv_tile, stages=tiles.stages, **numbers)


@dataclass(frozen=True)
class Manifest:
    """The targets and the kernels of a deployment."""

    targets: tuple[str, ...]
    entries: tuple[Entry, ...]

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
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _SYNTAX.fullmatch(str(error))
        line, column = (found[2], found[3]) if found and found[2] else (_last_line(text), 1)
        message = found[1] if found else str(error)
        raise ManifestError(f"{path}:{line}:{column}: error: {message}") from None
    reader = _Reader(path, text)
    for name in value:
        if name not in ("targets", "kernels"):
            raise reader.error(None, name, "expected targets or kernels")
    targets = reader.targets(value.get("targets", list(DEFAULT_TARGETS)))
    tables = value.get("kernels")
    if not isinstance(tables, list) or not tables:
        raise reader.error(None, "kernels", "expected one [[kernels]] table or more")
    entries: list[Entry] = []
    seen: dict[tuple[tuple[str, JsonScalar], ...], int] = {}
    for index, table in enumerate(cast("list[object]", tables)):
        for entry in reader.entries(index, table, targets):
            line = seen.setdefault(tuple(entry.numbers.items()), entry.line)
            if line != entry.line:
                raise reader.error(index, None, f"the kernel of line {line} is listed again")
            entries.append(entry)
    return Manifest(targets, tuple(entries))


def _last_line(text: str) -> int:
    return max(text.count("\n"), 1)


class _Reader:
    """Reads values of a manifest, and knows the lines on which they stand."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()
        starts = [n for n, line in enumerate(self._lines) if line.strip() == "[[kernels]]"]
        self._starts = starts

    def error(self, table: int | None, name: str | None, message: str) -> ManifestError:
        """Returns an error with the line of a field, of a table, or of the file."""
        where = "" if table is None else f"kernels[{table}]"
        field = ".".join(part for part in (where, name or "") if part)
        text = f"{field}: {message}" if field else message
        return ManifestError(f"{self._path}:{self.line(table, name)}: error: {text}")

    def line(self, table: int | None, name: str | None) -> int:
        """Returns the line, counted from 1, of a field; of its table where it is not found."""
        first, last = 0, self._starts[0] if self._starts else len(self._lines)
        if table is not None and table < len(self._starts):
            ends = [*self._starts[1:], len(self._lines)]
            first, last = self._starts[table], ends[table]
        pattern = re.compile(rf"\s*[\"']?{re.escape(name or '')}[\"']?\s*[=.]")
        for number in range(first, last):
            if name and pattern.match(self._lines[number]):
                return number + 1
        return first + 1

    def targets(self, value: object) -> tuple[str, ...]:
        """Returns the targets."""
        names = cast("list[object]", value) if isinstance(value, list) else [value]
        for name in names:
            if name not in TARGETS:
                expected = f"expected one of {', '.join(TARGETS)}, got {name!r}"
                raise self.error(None, "targets", expected)
        return tuple(dict.fromkeys(str(name) for name in names))

    def entries(self, index: int, table: object, targets: tuple[str, ...]) -> Iterator[Entry]:
        """Yields the kernels of a table."""
        if not isinstance(table, dict):
            raise self.error(index, None, f"expected a table, got {table!r}")
        fields = cast("dict[str, object]", table)
        known = (*_WORDS, *_NUMBERS)
        for name in fields:
            if name not in known:
                raise self.error(index, name, f"expected one of {', '.join(known)}")
        choices: dict[str, list[JsonScalar]] = {}
        ragged = fields.get("storage") == "ragged"
        defaults = {**_DEFAULTS, **({"page_size": 1} if ragged else {})}
        for name in KEY_FIELDS[:-1]:
            if name not in fields and name not in defaults:
                raise self.error(index, name, "expected a value, got nothing")
            choices[name] = self._values(index, name, fields.get(name, defaults.get(name)))
        for values in itertools.product(*choices.values()):
            yield self._entry(index, dict(zip(choices, values, strict=True)), targets)

    def _values(self, index: int, name: str, value: object) -> list[JsonScalar]:
        values = cast("list[object]", value) if isinstance(value, list) else [value]
        kind = int if name in _NUMBERS else str
        for one in values:
            if not isinstance(one, kind) or isinstance(one, bool):
                expected = "an integer" if kind is int else "a text"
                raise self.error(index, name, f"expected {expected}, got {one!r}")
        if not values:
            raise self.error(index, name, "expected a value, got an empty list")
        return cast("list[JsonScalar]", list(dict.fromkeys(values)))

    def _entry(self, index: int, numbers: dict[str, JsonScalar], targets: tuple[str, ...]) -> Entry:
        if numbers["phase"] not in PHASES:
            expected = f"expected {' or '.join(PHASES)}, got {numbers['phase']!r}"
            raise self.error(index, "phase", expected)
        heads, head_dim = cast("int", numbers["num_qo_heads"]), cast("int", numbers["head_dim"])
        line = self.line(index, None)
        try:
            checked = Entry(numbers, Variant(), line)
            for target in targets:
                checked.spec(target)
            name = str(numbers["variant"])
            variant = named_variant(name, heads, head_dim, self._path.parent)
            variant.traced  # noqa: B018  a variant that can't be traced is refused here
        except ArgumentError as error:
            message = f"expected {error.expected}, got {error.got}"
            raise self.error(index, error.name, message) from None
        except VariantError as error:
            raise self.error(index, "variant", " ".join(str(error).split())) from None
        return Entry(numbers, variant, line)
