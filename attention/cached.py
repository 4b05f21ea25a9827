"""Looks a kernel up in the cache, and compiles it where it is not there."""

import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ..runtime.artifact import KernelArtifact
from ..runtime.cache import cache_key, default_cache
from .spec import AttentionSpec
from .variants import TracedVariant

# The folders whose code decides what a kernel looks like.
COMPILER_FOLDERS = ("attention", "dialects", "lowering", "nest", "runtime", "transforms")


def cached_attention(spec: AttentionSpec, variant: TracedVariant) -> KernelArtifact:
    """Returns the kernel of a variant of attention, from the cache or compiled."""
    cache = default_cache()
    key = attention_key(spec, variant)
    artifact = cache.get(key)
    if artifact is None:
        # The compiler, and xDSL with it, is imported only where there is something to compile.
        from .compiler import compile_attention

        artifact = compile_attention(spec, variant)
        cache.put(key, artifact)
    return _with_scale(artifact, spec.softmax_scale)


def attention_key(spec: AttentionSpec, variant: TracedVariant) -> str:
    """Returns the key of a kernel: what it is specialised on, and the compiler's own code."""
    numbers = spec.kernel_numbers
    return cache_key({**numbers, "variant": variant.key, "compiler": compiler_digest()})


@lru_cache(maxsize=1)
def compiler_digest() -> str:
    """Returns a digest of the compiler's sources, so that a changed compiler compiles anew."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for folder in COMPILER_FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _with_scale(artifact: KernelArtifact, scale: float) -> KernelArtifact:
    """The scale is a run-time value: kernels that differ in nothing else share an entry."""
    section = artifact.contract.attention
    if section is None or section.softmax_scale == scale:
        return artifact
    contract = replace(artifact.contract, attention=replace(section, softmax_scale=scale))
    return replace(artifact, contract=contract)
