"""
Kernel artifacts: PTX or LLVM IR with its contract, and bundles of them on disk.

A bundle is a directory: `manifest.json` lists the kernels and the SHA-256 of every file, and each
kernel has `<name>.ptx` or `<name>.ll`, `<name>.json` (the contract) and perhaps `<name>.cubin`. A
bundle is read
with the standard library alone, and nothing of it is believed before its digest is checked.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

from .contract import HOST, KernelContract
from .contract_json import from_json, to_json
from .errors import BundleError, ContractError, TargetError
from .replaced_directory import replace_directory

FORMAT = "tilewright-bundle"
VERSION = 1
MANIFEST = "manifest.json"
_SUFFIXES = {"ptx": ".ptx", "ir": ".ll", "contract": ".json", "cubin": ".cubin"}


@dataclass(frozen=True)
class KernelArtifact:
    """
    One kernel ready to be loaded: PTX text, its contract, and machine code where it was assembled.

    Raises ContractError where the PTX is of another target or lacks the kernel's entry.
    """

    ptx: str
    contract: KernelContract
    cubin: bytes | None = None

    def __post_init__(self) -> None:
        name, target = self.contract.name, self.contract.target
        found = re.search(r"^\s*\.target\s+(\w+)", self.ptx, re.MULTILINE)
        if found is None or found[1] != target:
            got = f"'.target {found[1]}'" if found else "no .target"
            raise ContractError("target", f"expected PTX for {target}, got {got}")
        if not re.search(rf"\.entry\s+{re.escape(name)}\b", self.ptx):
            raise ContractError("name", f"the PTX has no entry '{name}'")

    def __hash__(self) -> int:
        # Text keeps its hash, so that tables of loaded kernels are quick to ask.
        return hash(self.ptx)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes a bundle of this one kernel; see `save_bundle`."""
        save_bundle(directory, [self])

    @staticmethod
    def load(directory: str | os.PathLike[str]) -> "KernelArtifact":
        """Reads a bundle that holds exactly one kernel; raises BundleError."""
        artifact = _only(directory)
        if not isinstance(artifact, KernelArtifact):
            raise BundleError(f"bundle '{directory}': expected PTX, got a kernel of the host")
        return artifact

    @property
    def programmatic(self) -> bool:
        """Whether the kernel waits for the grids before it, and so may be launched early."""
        return "griddepcontrol.wait" in self.ptx

    @property
    def files(self) -> dict[str, bytes]:
        """The content of the kernel's files in a bundle, by kind."""
        files = {"ptx": self.ptx.encode()}
        return files if self.cubin is None else files | {"cubin": self.cubin}


@dataclass(frozen=True)
class HostArtifact:
    """
    One kernel for the CPU that loads it: LLVM IR text and its contract.

    Machine code is made when it is loaded, because it suits one model of CPU. Raises ContractError
    where the contract is of another target or the text lacks the kernel.
    """

    ir: str
    contract: KernelContract

    def __post_init__(self) -> None:
        name, target = self.contract.name, self.contract.target
        if target != HOST:
            raise ContractError("target", f"expected '{HOST}', got '{target}'")
        if not re.search(rf"^define [^@\n]*@{re.escape(name)}\(", self.ir, re.MULTILINE):
            raise ContractError("name", f"the LLVM IR has no function '{name}'")

    def __hash__(self) -> int:
        return hash(self.ir)

    @property
    def files(self) -> dict[str, bytes]:
        """The content of the kernel's files in a bundle, by kind."""
        return {"ir": self.ir.encode()}

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes a bundle of this one kernel; see `save_bundle`."""
        save_bundle(directory, [self])

    @staticmethod
    def load(directory: str | os.PathLike[str]) -> "HostArtifact":
        """Reads a bundle that holds exactly one kernel; raises BundleError."""
        artifact = _only(directory)
        if not isinstance(artifact, HostArtifact):
            raise BundleError(f"bundle '{directory}': expected a kernel of the host, got PTX")
        return artifact


Artifact: TypeAlias = KernelArtifact | HostArtifact


def ptx_of(artifact: Artifact, device: str) -> KernelArtifact:
    """Returns an artifact that holds PTX; raises TargetError for another."""
    if not isinstance(artifact, KernelArtifact):
        name = artifact.contract.name
        raise TargetError(f"device '{device}': expected PTX, got '{name}' for the host")
    return artifact


def _only(directory: str | os.PathLike[str]) -> Artifact:
    artifacts = load_bundle(directory)
    if len(artifacts) != 1:
        names = ", ".join(artifacts)
        raise BundleError(f"bundle '{directory}': expected one kernel, got {names}")
    return next(iter(artifacts.values()))


def save_bundle(directory: str | os.PathLike[str], artifacts: Sequence[Artifact]) -> None:
    """
    Writes `artifacts` as the bundle `directory`, whole or not at all.

    The files are written into a temporary directory beside it, which is then renamed. A bundle
    that is there already is replaced; any other directory that is not empty is refused. Raises
    BundleError.
    """
    target = Path(directory)
    files = _files(artifacts)
    _check_replaceable(target)

    def write(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).write_bytes(content)

    replace_directory(target, "bundle", write)


def load_bundle(directory: str | os.PathLike[str]) -> dict[str, Artifact]:
    """Reads a bundle: its kernels by name, in the order of the manifest; raises BundleError."""
    root = Path(directory)
    kernels = _manifest(root)
    return {name: _kernel(root, name, files) for name, files in kernels.items()}


def _files(artifacts: Sequence[Artifact]) -> dict[str, bytes]:
    """Returns every file of the bundle by name, the manifest among them."""
    files: dict[str, bytes] = {}
    kernels: dict[str, dict[str, str]] = {}
    for artifact in artifacts:
        name = artifact.contract.name
        if name in kernels:
            raise BundleError(f"bundle: two kernels are called '{name}'")
        if name + ".json" == MANIFEST:
            raise BundleError(f"bundle: a kernel can't be called '{name}'")
        contents = artifact.files | {"contract": to_json(artifact.contract).encode()}
        kernels[name] = {kind: _digest(content) for kind, content in contents.items()}
        files |= {name + _SUFFIXES[kind]: content for kind, content in contents.items()}
    manifest = {"format": FORMAT, "version": VERSION, "kernels": kernels}
    sealed = manifest | {"digest": _digest(_canonical(manifest))}
    return files | {MANIFEST: json.dumps(sealed, indent=1).encode() + b"\n"}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(manifest: Mapping[str, object]) -> bytes:
    return json.dumps(manifest, sort_keys=True).encode()


def _check_replaceable(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise BundleError(f"bundle '{target}': expected a directory, got a file")
    names = {entry.name for entry in target.iterdir()}
    others = sorted(name for name in names if Path(name).suffix not in _SUFFIXES.values())
    if names and (MANIFEST not in names or others):
        what = others[0] if others else "files but no manifest"
        raise BundleError(f"bundle '{target}': the directory is no bundle, it holds {what}")


def _read(path: Path, root: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or "can't be read"
        raise BundleError(f"bundle '{root}': {path.name}: {reason}") from None


def _manifest(root: Path) -> dict[str, dict[str, str]]:
    """Returns the digests of each kernel's files, by kernel and kind of file."""
    try:
        value: object = json.loads(_read(root / MANIFEST, root))
    except (ValueError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"bundle '{root}': {MANIFEST}: truncated or damaged") from None
    manifest = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    if manifest.get("format") != FORMAT:
        raise BundleError(f"bundle '{root}': {MANIFEST}: it is no tilewright bundle")
    version = manifest.get("version")
    if version != VERSION:
        got = f"got {version!r}"
        raise BundleError(f"bundle '{root}': {MANIFEST}: expected version {VERSION}, {got}")
    digest = manifest.pop("digest", None)
    if digest != _digest(_canonical(manifest)):
        raise BundleError(f"bundle '{root}': {MANIFEST}: damaged, its digest does not match")
    return cast("dict[str, dict[str, str]]", manifest["kernels"])


def _kernel(root: Path, name: str, digests: Mapping[str, str]) -> Artifact:
    contents: dict[str, bytes] = {}
    for kind, digest in digests.items():
        path = root / (name + _SUFFIXES[kind])
        contents[kind] = _read(path, root)
        if _digest(contents[kind]) != digest:
            message = "truncated or damaged, its digest does not match"
            raise BundleError(f"bundle '{root}': {path.name}: {message}")
    try:
        contract = from_json(contents["contract"].decode())
        if "ir" in contents:
            artifact = HostArtifact(contents["ir"].decode(), contract)
        else:
            artifact = KernelArtifact(contents["ptx"].decode(), contract, contents.get("cubin"))
    except (ContractError, UnicodeDecodeError, KeyError) as error:
        raise BundleError(f"bundle '{root}': {name}: {error}") from None
    if contract.name != name:
        raise BundleError(f"bundle '{root}': {name}: the contract is of '{contract.name}'")
    return artifact
