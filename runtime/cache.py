"""
The cache of kernel artifacts: one file an entry, with a layer in memory above.

An entry is written to a temporary file and renamed, so that readers see it whole or not at all,
whatever other processes do. It carries its key and the SHA-256 of all it holds: an entry that is
damaged is no entry. Where the directory can't be used, the cache warns once and works in memory.
"""

import hashlib
import json
import os
import secrets
import time
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock

from .artifact import KernelArtifact
from .contract import JsonScalar
from .contract_json import from_json, to_json
from .errors import ContractError, TilewrightError

VARIABLE = "TILEWRIGHT_CACHE_DIR"
_MAGIC = "tilewright-cache 1"
_TEMPORARY = ".tmp"
_STALE_S = 3600.0  # a temporary file of this age has lost its writer
_CAPACITY = 256


def cache_key(parts: Mapping[str, JsonScalar]) -> str:
    """
    Returns the key of what `parts` say, 64 hexadecimal digits.

    `parts` must name everything that affects the result, the version of the compiler among it.
    """
    text = json.dumps(dict(parts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{_MAGIC}\n{text}".encode()).hexdigest()


def cache_directory() -> Path:
    """
    Returns where the cache lies.

    That is TILEWRIGHT_CACHE_DIR, else `tilewright` below XDG_CACHE_HOME, else ~/.cache/tilewright.
    """
    if own := os.environ.get(VARIABLE):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG Base Directory Specification tells to ignore relative paths.
    if os.path.isabs(shared):
        return Path(shared, "tilewright")
    home = os.path.expanduser("~")  # stays "~" for a user without a home
    return Path(home if os.path.isabs(home) else os.sep, ".cache", "tilewright")


def default_cache() -> "ArtifactCache":
    """Returns the cache of `cache_directory()`, the same object for the same directory."""
    return _cache_at(cache_directory())


@lru_cache(maxsize=8)
def _cache_at(directory: Path) -> "ArtifactCache":
    return ArtifactCache(directory)


class ArtifactCache:
    """
    Artifacts by key in `directory`; used by any number of threads and processes at once.

    The directory is made at the first `put`.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._memory: OrderedDict[str, KernelArtifact] = OrderedDict()
        self._lock = Lock()
        self._warned = False

    def get(self, key: str) -> KernelArtifact | None:
        """Returns the artifact of `key`, None where there is none or it is damaged."""
        _check_key(key)
        with self._lock:
            found = self._memory.get(key)
            if found is not None:
                self._memory.move_to_end(key)
                return found
        try:
            entry = self.path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn("read", error)
            return None
        artifact = _decode(key, entry)
        if artifact is not None:
            self._remember(key, artifact)
        return artifact

    def put(self, key: str, artifact: KernelArtifact) -> None:
        """Keeps `artifact` under `key`; an entry that is there is replaced."""
        _check_key(key)
        self._remember(key, artifact)
        path = self.path(key)
        temporary = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY}")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(path.parent)
            temporary.write_bytes(_encode(key, artifact))
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            self._warn("written", error)

    def path(self, key: str) -> Path:
        """Returns the file of the entry `key`."""
        return self.directory / key[:2] / key[2:]

    def _remember(self, key: str, artifact: KernelArtifact) -> None:
        with self._lock:
            self._memory[key] = artifact
            self._memory.move_to_end(key)
            while len(self._memory) > _CAPACITY:
                self._memory.popitem(last=False)

    def _warn(self, what: str, error: OSError) -> None:
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            reason = error.strerror or str(error)
            message = f"the kernel cache '{self.directory}' can't be {what}: {reason}"
            warnings.warn(f"{message}; kernels are kept in memory", RuntimeWarning, stacklevel=3)


def _check_key(key: str) -> None:
    if len(key) != 64 or set(key) - set("0123456789abcdef"):
        raise TilewrightError(f"cache key: expected 64 hexadecimal digits, got {key!r}")


def _encode(key: str, artifact: KernelArtifact) -> bytes:
    """Returns an entry: the digest, then a line with key and sizes, then the parts."""
    parts = [to_json(artifact.contract).encode(), artifact.ptx.encode()]
    parts += [] if artifact.cubin is None else [artifact.cubin]
    sizes = " ".join(str(len(part)) for part in parts)
    body = f"{_MAGIC} {key} {sizes}\n".encode() + b"".join(parts)
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _decode(key: str, entry: bytes) -> KernelArtifact | None:
    digest, _, body = entry.partition(b"\n")
    if digest != hashlib.sha256(body).hexdigest().encode():
        return None
    head, _, rest = body.partition(b"\n")
    start = f"{_MAGIC} {key} ".encode()
    if not head.startswith(start):
        return None
    parts: list[bytes] = []
    for size in map(int, head[len(start) :].split()):
        parts.append(rest[:size])
        rest = rest[size:]
    try:
        contract, ptx = from_json(parts[0].decode()), parts[1].decode()
        return KernelArtifact(ptx, contract, parts[2] if len(parts) == 3 else None)
    except ContractError:
        # An entry of another version of the contract.
        return None


def _sweep(folder: Path) -> None:
    """Removes what killed writers left."""
    oldest = time.time() - _STALE_S
    for entry in os.scandir(folder):
        with suppress(OSError):  # another process may have swept it
            if entry.name.endswith(_TEMPORARY) and entry.stat().st_mtime < oldest:
                os.unlink(entry.path)
