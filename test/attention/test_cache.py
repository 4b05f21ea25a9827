"""A kernel is compiled once for what it computes, whatever wrote it down."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.attention import Variant, cached, causal, compiler, soft_cap
from tilewright.runtime import cache
from tilewright.runtime.artifact import KernelArtifact
from tilewright.test.attention.reference import Geometry, MaskMod, attend, check, random_batch


@dataclass
class Counter:
    """Counts compilations."""

    compile: Callable[..., KernelArtifact]
    variants: list[str] = field(default_factory=list[str])

    def __call__(self, spec: Any, variant: Any) -> KernelArtifact:
        self.variants.append(variant.key)
        return self.compile(spec, variant)

    @property
    def count(self) -> int:
        """The number of compilations so far."""
        return len(self.variants)


@pytest.fixture
def compilations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Returns a count of the compilations for a cache that is empty at the beginning."""
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    counter = Counter(compiler.compile_attention)
    monkeypatch.setattr(compiler, "compile_attention", counter)
    return counter


@pytest.fixture(scope="session")
def artifact() -> KernelArtifact:
    """Returns some kernel."""
    return Geometry(head_dim=16).compile().artifact


@pytest.fixture
def counted(
    compilations: Counter, artifact: KernelArtifact, monkeypatch: pytest.MonkeyPatch
) -> Counter:
    """Returns such a count where every compilation gives the same kernel, and takes no time."""

    def same(_spec: object, _variant: object) -> KernelArtifact:
        return artifact

    monkeypatch.setattr(compilations, "compile", same)
    return compilations


def near(window: int) -> MaskMod:
    """Returns a mask with a constant in its closure."""
    return lambda b, h, q_idx, kv_idx: q_idx - kv_idx <= window


def test_the_same_variant_is_compiled_once(counted: Counter) -> None:
    for _ in range(2):
        Geometry().compile(causal())
    assert counted.count == 1


def test_the_same_variant_in_other_words_is_compiled_once(counted: Counter) -> None:
    def past(batch: Any, head: Any, query: Any, key: Any) -> Any:
        seen = query >= key
        return seen

    Geometry().compile(causal())
    Geometry().compile(past)
    assert counted.count == 1


def test_another_structure_is_compiled_anew(counted: Counter) -> None:
    variants: list[MaskMod] = [
        lambda b, h, q_idx, kv_idx: q_idx >= kv_idx,
        lambda b, h, q_idx, kv_idx: q_idx > kv_idx,
        lambda b, h, q_idx, kv_idx: kv_idx >= q_idx,
        lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) & (q_idx >= kv_idx),
        lambda b, h, q_idx, kv_idx: h >= kv_idx,
    ]
    for variant in variants:
        Geometry().compile(variant)
    assert counted.count == len(variants)


def test_a_mask_is_not_taken_for_a_score(counted: Counter) -> None:
    mask, score = near(3), soft_cap(3.0).score_mod
    for variant in (Variant(mask_mod=mask), Variant(score, mask), Variant(score), Variant()):
        Geometry().compile(variant)
    assert counted.count == 4


def test_constants_in_a_closure_matter(counted: Counter) -> None:
    for window in (3, 4, 3):
        Geometry().compile(near(window))
    assert counted.count == 2


def test_an_integer_is_not_taken_for_a_float(counted: Counter) -> None:
    for constant in (3, 3.0):
        Geometry().compile(Variant(score_mod=lambda s, b, h, q, k, c=constant: (q + c) * 1.0))
    assert counted.count == 2


OTHERS = {
    "group": 3,
    "num_kv_heads": 1,
    "head_dim": 32,
    "page_size": 8,
    "layout": "HND",
    "dtype": "bf16",
}


@pytest.mark.parametrize("name", OTHERS)
def test_each_number_of_the_geometry_matters(name: str, counted: Counter) -> None:
    Geometry().compile()
    replace(Geometry(), **{name: OTHERS[name]}).compile()
    assert counted.count == 2


@pytest.mark.parametrize("options", [{"target": "sm_90"}, {"stages": 3}], ids=repr)
def test_each_option_matters(options: dict[str, Any], counted: Counter) -> None:
    Geometry().compile()
    Geometry().compile(**options)
    assert counted.count == 2


def test_a_scale_is_honoured_without_compiling_anew(compilations: Counter) -> None:
    geometry = Geometry(head_dim=32)
    batch = random_batch(geometry, [(5, 20)], np.random.default_rng())
    for scale in (0.125, 0.75, None):
        got = geometry.compile(softmax_scale=scale).plan(*batch.tables).run(*batch.arrays)
        check(geometry, got, attend(geometry, batch, scale=scale))
    assert compilations.count == 1


def forget(tmp_path: Path) -> cache.ArtifactCache:
    """Returns a cache of the same folder that has nothing in memory, as in another process."""
    return cache.ArtifactCache(tmp_path / "cache")


def test_a_kernel_on_disk_is_not_compiled_anew(
    compilations: Counter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Geometry().compile(causal())
    monkeypatch.setattr(cached, "default_cache", lambda: forget(tmp_path))
    second = Geometry().compile(causal())
    assert compilations.count == 1
    assert second.artifact == first.artifact


def test_a_damaged_kernel_on_disk_is_compiled_anew(
    compilations: Counter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Geometry().compile(causal())
    (entry,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(content)
    monkeypatch.setattr(cached, "default_cache", lambda: forget(tmp_path))
    assert Geometry().compile(causal()).ptx == first.ptx
    assert compilations.count == 2


def test_another_compiler_compiles_anew(counted: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    Geometry().compile()
    monkeypatch.setattr(cached, "compiler_digest", lambda: "of another compiler")
    Geometry().compile()
    assert counted.count == 2


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Returns a small compiler's folder, whose digest is taken."""
    for name in ("attention/cached.py", "lowering/kernel.py", "lowering/deep/loop.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("first = 1\n")
    monkeypatch.setattr(cached, "__file__", str(tmp_path / "attention" / "cached.py"))
    cached.compiler_digest.cache_clear()
    yield tmp_path
    cached.compiler_digest.cache_clear()


def digest() -> str:
    """Returns the digest of the sources as they are now."""
    cached.compiler_digest.cache_clear()
    return cached.compiler_digest()


def test_a_changed_source_changes_the_digest(sources: Path) -> None:
    before = digest()
    assert digest() == before
    (sources / "lowering" / "deep" / "loop.py").write_text("first = 2\n")
    assert digest() != before


def test_a_source_under_another_name_changes_the_digest(sources: Path) -> None:
    before = digest()
    (sources / "lowering" / "kernel.py").rename(sources / "lowering" / "kernels.py")
    assert digest() != before


PROGRAM = """
import sys
import tilewright as tw
tw.attention.compile(variant=tw.attention.causal(), kv=tw.attention.PagedKV(16),
                     num_qo_heads=4, num_kv_heads=2, head_dim=64)
print(*(name for name in sys.modules if name.split(".")[0] in ("tilewright", "xdsl")))
"""


def modules_of_program(folder: Path) -> set[str]:
    """Returns the modules of a process that compiles, or finds the kernel in a cache."""
    environment = {**os.environ, "TILEWRIGHT_CACHE_DIR": str(folder)}
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    return set(process.stdout.split())


def test_what_compiles_is_in_the_digest_and_a_hit_needs_no_xdsl(tmp_path: Path) -> None:
    compiling, hitting = (modules_of_program(tmp_path) for _ in range(2))
    folders = {name.split(".")[1] for name in compiling if name.startswith("tilewright.")}
    assert folders <= set(cached.COMPILER_FOLDERS)
    assert "xdsl" in compiling
    assert "xdsl" not in hitting
