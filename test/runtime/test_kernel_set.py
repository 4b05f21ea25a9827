"""Kernel sets: found by key, refused with the nearest keys, and read strictly."""

import json
from pathlib import Path

import pytest

from tilewright.runtime.errors import BundleError
from tilewright.runtime.kernel_set import KernelNotFound, KernelSet, load_kernels, save_kernels
from tilewright.test.runtime.attention_case import Geometry, op_of

GEOMETRIES = {size: Geometry(page_size=size) for size in (1, 16, 64)}


def made(folder: Path) -> KernelSet:
    kernels = [
        ({"variant": "causal", "page_size": size}, op_of(geometry).artifact)
        for size, geometry in GEOMETRIES.items()
    ]
    return save_kernels(folder, kernels)


def test_a_kernel_is_found_by_its_key_in_any_order(tmp_path: Path) -> None:
    made(tmp_path / "set")
    artifact = load_kernels(tmp_path / "set").get({"page_size": 16, "variant": "causal"})
    assert artifact.contract == op_of(GEOMETRIES[16]).contract


def test_another_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    kernels = made(tmp_path / "set")
    with pytest.raises(KernelNotFound) as caught:
        kernels.get({"variant": "full", "page_size": 64})
    assert caught.value.nearest[0] == {"variant": "causal", "page_size": 64}
    assert str(caught.value) == (
        f"kernel set '{tmp_path / 'set'}': no kernel with variant=full page_size=64; nearest: "
        "variant causal for full | variant causal for full, page_size 1 for 64 | "
        "variant causal for full, page_size 16 for 64"
    )


def test_a_set_replaces_a_set_and_nothing_else(tmp_path: Path) -> None:
    made(tmp_path / "set")
    made(tmp_path / "set")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    with pytest.raises(BundleError, match="holds something else"):
        made(tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "set"]


def test_equal_keys_are_refused(tmp_path: Path) -> None:
    artifact = op_of(GEOMETRIES[1]).artifact
    with pytest.raises(BundleError, match="two kernels with dtype=f16"):
        save_kernels(tmp_path / "set", [({"dtype": "f16"}, artifact)] * 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "truncated or damaged"),
        ("[]", "no tilewright kernel set"),
        ('{"format": "tilewright-kernels", "version": 9}', "expected version 1, got 9"),
        ('{"format": "tilewright-kernels", "version": 1, "kernels": [1]}', "entry is damaged"),
    ],
)
def test_an_index_that_is_none_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "kernels.json").write_text(text)
    with pytest.raises(BundleError, match=words):
        load_kernels(tmp_path)


def test_a_folder_outside_of_the_set_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "set")
    path = tmp_path / "set" / "kernels.json"
    index = json.loads(path.read_text())
    index["kernels"][0]["folder"] = "../set/causal-1"
    path.write_text(json.dumps(index))
    with pytest.raises(BundleError, match="entry is damaged"):
        load_kernels(tmp_path / "set")


def test_a_damaged_kernel_is_refused_when_it_is_asked_for(tmp_path: Path) -> None:
    kernels = made(tmp_path / "set")
    (tmp_path / "set" / "causal-1" / "attend.ptx").write_text("other")
    with pytest.raises(BundleError, match="digest"):
        kernels.get({"variant": "causal", "page_size": 1})
