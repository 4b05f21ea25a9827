"""The kernels that stand beside attention, compiled once for each structure."""

from ..runtime.artifact import KernelArtifact
from ..runtime.cache import cache_key, default_cache
from .cached import compiler_digest


def kernel(kind: str, target: str, **numbers: object) -> KernelArtifact:
    """
    Returns the kernel of a kind, from the cache or compiled.

    `kind` is a key of `programs.PROGRAMS`; `numbers` are what it is specialised on: numbers, words,
    and frozen dataclasses of them. Lengths are no part of it. Raises DiagnosticError for what the
    target cannot do.
    """
    cache = default_cache()
    spec = repr(sorted(numbers.items()))
    key = cache_key({"kind": kind, "spec": spec, "target": target, "compiler": compiler_digest()})
    artifact = cache.get(key)
    if artifact is None:
        # The compiler, and xDSL with it, is imported only where there is something to compile.
        from ..nest.gpu import gpu_kernels
        from .programs import PROGRAMS

        _, kernels = gpu_kernels(PROGRAMS[kind](**numbers), target)
        artifact = kernels[0].artifact
        cache.put(key, artifact)
    return artifact
