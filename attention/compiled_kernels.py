"""The kernels that stand beside attention, compiled once for each structure."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from threading import Lock

from ..runtime.artifact import KernelArtifact
from ..runtime.cache import cache_key, default_cache
from .cached import compiler_digest

# What is made for it runs on every GPU.
LOWEST_TARGET = "sm_80"
# What was compiled beforehand, by the name of the kernel; each is read when it is asked for.
_provided: dict[str, Callable[[], KernelArtifact]] = {}
_recordings: list[dict[str, KernelArtifact]] = []
_lock = Lock()


def kernel(kind: str, target: str, **numbers: object) -> KernelArtifact:
    """
    Returns the kernel of a kind: what was provided, from the cache, or compiled.

    `kind` is a key of `programs.PROGRAMS`; `numbers` are what it is specialised on: numbers, words,
    and frozen dataclasses of them. Lengths are no part of it. What was provided for the lowest
    target serves the others too. Raises DiagnosticError for what the target cannot do.
    """
    spec = repr(sorted(numbers.items()))
    name = f"{kind} {target} {spec}"
    for known in (name, f"{kind} {LOWEST_TARGET} {spec}"):
        if known in _provided:
            return _provided[known]()
    cache = default_cache()
    key = cache_key({"kind": kind, "spec": spec, "target": target, "compiler": compiler_digest()})
    artifact = cache.get(key)
    if artifact is None:
        # The compiler, and xDSL with it, is imported only where there is something to compile.
        from ..nest.gpu import gpu_kernels
        from .programs import PROGRAMS

        _, kernels = gpu_kernels(PROGRAMS[kind](**numbers), target)
        artifact = kernels[0].artifact
        cache.put(key, artifact)
    for recording in _recordings:
        recording[name] = artifact
    return artifact


def provide(kernels: Mapping[str, Callable[[], KernelArtifact]]) -> None:
    """Makes kernels known that were compiled beforehand, by the names that a recording gave."""
    _provided.update(kernels)


@contextmanager
def recorded() -> Generator[dict[str, KernelArtifact]]:
    """Yields the kernels that are asked for in the `with` block, by name; none is provided."""
    recording: dict[str, KernelArtifact] = {}
    with _lock:
        hidden = dict(_provided)
        _provided.clear()
        _recordings.append(recording)
        try:
            yield recording
        finally:
            _recordings.remove(recording)
            _provided.update(hidden)
