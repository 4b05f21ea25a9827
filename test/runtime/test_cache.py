"""The artifact cache: hits, damage, several processes, killed writers, unusable directories."""

import os
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from tilewright.runtime.artifact import KernelArtifact
from tilewright.runtime.cache import ArtifactCache, cache_directory, cache_key
from tilewright.runtime.errors import TilewrightError
from tilewright.test.runtime.attention_case import Geometry, artifact_of, contract_of

ARTIFACT = artifact_of(contract_of(Geometry()))
KEY = cache_key({"kernel": "attend"})


def _entry(directory: Path, artifact: KernelArtifact = ARTIFACT) -> Path:
    cache = ArtifactCache(directory)
    cache.put(KEY, artifact)
    return cache.path(KEY)


@pytest.mark.parametrize("cubin", [None, b"", b"\x7fELF\n\0"])
def test_what_is_put_is_found_by_another_process(tmp_path: Path, cubin: bytes | None) -> None:
    artifact = replace(ARTIFACT, cubin=cubin)
    _entry(tmp_path, artifact)
    assert ArtifactCache(tmp_path).get(KEY) == artifact


def test_an_unknown_key_is_no_hit(tmp_path: Path) -> None:
    _entry(tmp_path)
    assert ArtifactCache(tmp_path).get(cache_key({"kernel": "other"})) is None


def test_a_second_hit_reads_no_file(tmp_path: Path) -> None:
    path = _entry(tmp_path)
    cache = ArtifactCache(tmp_path)
    first = cache.get(KEY)
    path.unlink()
    assert cache.get(KEY) is first


def test_memory_is_bounded(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    keys = [cache_key({"i": i}) for i in range(300)]
    for key in keys:
        cache.put(key, ARTIFACT)
    for key in keys:
        cache.path(key).unlink()
    found = [key for key in keys if cache.get(key) is not None]
    assert found == keys[-256:]


def test_a_truncated_entry_is_no_hit(tmp_path: Path) -> None:
    path = _entry(tmp_path)
    content = path.read_bytes()
    for size in range(0, len(content), 3):
        path.write_bytes(content[:size])
        assert ArtifactCache(tmp_path).get(KEY) is None


def test_an_entry_with_a_flipped_bit_is_no_hit(tmp_path: Path) -> None:
    path = _entry(tmp_path)
    content = bytearray(path.read_bytes())
    for index in range(0, len(content), 3):
        content[index] ^= 1 << index % 8
        path.write_bytes(content)
        assert ArtifactCache(tmp_path).get(KEY) is None
        content[index] ^= 1 << index % 8


def test_an_entry_moved_to_another_key_is_no_hit(tmp_path: Path) -> None:
    cache, other = ArtifactCache(tmp_path), cache_key({"kernel": "other"})
    cache.path(other).parent.mkdir(parents=True)
    _entry(tmp_path).rename(cache.path(other))
    assert cache.get(other) is None


def test_a_damaged_entry_is_replaced(tmp_path: Path) -> None:
    path = _entry(tmp_path)
    path.write_bytes(b"damage")
    _entry(tmp_path)
    assert ArtifactCache(tmp_path).get(KEY) == ARTIFACT


def test_leftovers_of_killed_writers_are_removed_in_time(tmp_path: Path) -> None:
    folder = _entry(tmp_path).parent
    old, fresh = folder / "x.1-a.tmp", folder / "x.2-b.tmp"
    for leftover in (old, fresh):
        leftover.write_bytes(b"half an ent")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    _entry(tmp_path)
    assert [leftover.exists() for leftover in (old, fresh)] == [False, True]


WRITER = """
import sys
from pathlib import Path
from tilewright.runtime.cache import ArtifactCache
from tilewright.test.runtime.test_cache import ARTIFACT, KEY
print("ready", flush=True)
while True:
    ArtifactCache(sys.argv[1]).put(KEY, ARTIFACT)
"""


def test_readers_see_whole_entries_while_writers_write_and_are_killed(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        _entry(tmp_path)
        for _ in range(300):
            assert ArtifactCache(tmp_path).get(KEY) == ARTIFACT
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert ArtifactCache(tmp_path).get(KEY) == ARTIFACT


def test_an_unusable_directory_warns_once_and_works_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ArtifactCache(tmp_path / "file" / "cache")
    with pytest.warns(RuntimeWarning, match="can't be written: .*; kernels are kept in memory"):
        cache.put(KEY, ARTIFACT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(cache_key({"kernel": "other"}), ARTIFACT)
        assert cache.get(KEY) == ARTIFACT


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_a_key_that_is_no_digest_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(TilewrightError, match="expected 64 hexadecimal digits"):
        ArtifactCache(tmp_path).get(key)


def test_keys_depend_on_every_part_but_not_on_the_order() -> None:
    parts: dict[str, str | int] = {"a": 1, "b": "x"}
    same, keys = {"b": "x", "a": 1}, [{"a": 1}, {"a": 2, "b": "x"}, {"a": "1", "b": "x"}]
    assert cache_key(parts) == cache_key(same)
    assert len({cache_key(parts), *(cache_key(other) for other in keys)}) == 4


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TILEWRIGHT_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/tilewright"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/c"}, "/c/.cache/tilewright"),
        ({"HOME": "/c"}, "/c/.cache/tilewright"),
    ],
)
def test_the_directory_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name in ("TILEWRIGHT_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_directory() == Path(expected)
