"""
Kernel sets: many attention kernels by what they are for, compiled beforehand.

A set is a directory: `kernels.json` lists the key of each kernel, and the folder of its bundle. A
program that runs from a set never compiles; what the set does not hold is refused, with the keys
that come nearest.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

from .artifact import KernelArtifact
from .contract import JsonScalar
from .errors import BundleError, TilewrightError
from .replaced_directory import replace_directory

FORMAT = "tilewright-kernels"
VERSION = 1
INDEX = "kernels.json"
NEAREST = 3

Key: TypeAlias = Mapping[str, JsonScalar]
_UNSAFE = re.compile(r"[^A-Za-z0-9_.=-]+", re.ASCII)


class KernelNotFound(TilewrightError):
    """A set holds no kernel with a key; `nearest` are the keys that differ from it the least."""

    def __init__(self, message: str, nearest: Sequence[Key]) -> None:
        super().__init__(message)
        self.nearest = tuple(nearest)


def key_text(key: Key) -> str:
    """Returns a key as messages print it, `head_dim=128 dtype=f16`."""
    return " ".join(f"{name}={value}" for name, value in key.items())


def differences(wanted: Key, key: Key) -> dict[str, tuple[JsonScalar, JsonScalar]]:
    """Returns the fields in which `key` is not as wanted: what is wanted, and what it has."""
    names = [*wanted, *(name for name in key if name not in wanted)]
    pairs = {name: (wanted.get(name), key.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@dataclass(frozen=True)
class KernelSet:
    """The kernels of a directory by their keys; each is read when it is first asked for."""

    directory: Path
    folders: Mapping[tuple[tuple[str, JsonScalar], ...], str]
    _loaded: dict[str, KernelArtifact] = field(default_factory=dict[str, KernelArtifact])

    @property
    def keys(self) -> list[dict[str, JsonScalar]]:
        """The keys of all kernels, in the order of the index."""
        return [dict(key) for key in self.folders]

    def only(self, wanted: Callable[[Key], bool]) -> "KernelSet":
        """Returns the kernels with some of the keys."""
        folders = {key: folder for key, folder in self.folders.items() if wanted(dict(key))}
        return KernelSet(self.directory, folders)

    def get(self, key: Key) -> KernelArtifact:
        """Returns the kernel with a key; raises KernelNotFound or BundleError."""
        folder = self.folders.get(_hashable(key))
        if folder is None:
            raise self.refusal(key)
        artifact = self._loaded.get(folder)
        if artifact is None:
            artifact = self._loaded[folder] = KernelArtifact.load(self.directory / folder)
        return artifact

    def nearest(self, key: Key, count: int = NEAREST) -> list[dict[str, JsonScalar]]:
        """Returns the keys that differ in the fewest fields, the first of the index first."""
        return sorted(self.keys, key=lambda known: len(differences(key, known)))[:count]

    def refusal(self, key: Key) -> KernelNotFound:
        """Returns the error for a key that the set lacks, with those that come nearest."""
        nearest = self.nearest(key)
        parts: list[str] = []
        for known in nearest:
            found = differences(key, known).items()
            parts.append(", ".join(f"{name} {got} for {want}" for name, (want, got) in found))
        near = f"; nearest: {' | '.join(parts)}" if parts else "; the set is empty"
        message = f"kernel set '{self.directory}': no kernel with {key_text(key)}{near}"
        return KernelNotFound(message, nearest)


def _hashable(key: Key) -> tuple[tuple[str, JsonScalar], ...]:
    return tuple(sorted(key.items()))


def load_kernels(directory: str | os.PathLike[str]) -> KernelSet:
    """Reads the index of a kernel set; raises BundleError."""
    root = Path(directory)
    try:
        value: object = json.loads((root / INDEX).read_bytes())
    except OSError as error:
        reason = error.strerror or "can't be read"
        raise BundleError(f"kernel set '{root}': {INDEX}: {reason}") from None
    except (ValueError, RecursionError):
        raise BundleError(f"kernel set '{root}': {INDEX}: truncated or damaged") from None
    index = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    if index.get("format") != FORMAT:
        raise BundleError(f"kernel set '{root}': {INDEX}: it is no tilewright kernel set")
    if index.get("version") != VERSION:
        got = f"got {index.get('version')!r}"
        raise BundleError(f"kernel set '{root}': {INDEX}: expected version {VERSION}, {got}")
    try:
        entries = cast("list[dict[str, Any]]", index["kernels"])
        folders = {_hashable(entry["key"]): _folder(entry["folder"]) for entry in entries}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise BundleError(f"kernel set '{root}': {INDEX}: an entry is damaged") from None
    return KernelSet(root, folders)


def _folder(name: object) -> str:
    if not isinstance(name, str) or not name or _UNSAFE.search(name) or name.startswith("."):
        raise ValueError(f"{name!r} is no folder of a kernel set")
    return name


def save_kernels(
    directory: str | os.PathLike[str], kernels: Sequence[tuple[Key, KernelArtifact]]
) -> KernelSet:
    """
    Writes kernels and their keys as the set `directory`, whole or not at all.

    A set that is there already is replaced; any other directory that is not empty is refused.
    Raises BundleError.
    """
    target = Path(directory)
    _check_replaceable(target)
    folders = _folder_names(kernels)
    entries = [
        {"key": dict(key), "folder": folder}
        for folder, (key, _) in zip(folders, kernels, strict=True)
    ]
    index = {"format": FORMAT, "version": VERSION, "kernels": entries}

    def write(fresh: Path) -> None:
        for folder, (_, artifact) in zip(folders, kernels, strict=True):
            artifact.save(fresh / folder)
        (fresh / INDEX).write_text(json.dumps(index, indent=1) + "\n")

    replace_directory(target, "kernel set", write)
    return load_kernels(target)


def _folder_names(kernels: Sequence[tuple[Key, KernelArtifact]]) -> list[str]:
    """Returns a folder for each kernel, named after the values of its key; refuses equal keys."""
    names: list[str] = []
    seen: set[tuple[tuple[str, JsonScalar], ...]] = set()
    for key, _ in kernels:
        if _hashable(key) in seen:
            raise BundleError(f"kernel set: two kernels with {key_text(key)}")
        seen.add(_hashable(key))
        words = "-".join(str(value) for value in key.values() if value is not None)
        name = _UNSAFE.sub("_", words).lstrip(".")[:120] or "kernel"
        while name in names:
            name += "_"
        names.append(name)
    return names


def _check_replaceable(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise BundleError(f"kernel set '{target}': expected a directory, got a file")
    if any(target.iterdir()) and not (target / INDEX).is_file():
        raise BundleError(f"kernel set '{target}': the directory holds something else")
