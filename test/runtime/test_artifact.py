"""Bundles: what is saved is loaded, and nothing damaged is believed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tilewright.runtime.artifact import KernelArtifact, load_bundle, save_bundle
from tilewright.runtime.errors import BundleError, ContractError
from tilewright.test.runtime.attention_case import Geometry, artifact_of, contract_of

ARTIFACT = replace(artifact_of(contract_of(Geometry())), cubin=bytes(range(256)) * 3)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    ARTIFACT.save(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_bundle_round_trips(bundle: Path) -> None:
    assert KernelArtifact.load(bundle) == ARTIFACT


def test_a_bundle_holds_its_files(bundle: Path) -> None:
    names = {"manifest.json", "attend.ptx", "attend.json", "attend.cubin"}
    assert {path.name for path in bundle.iterdir()} == names
    assert (bundle / "attend.ptx").read_text() == ARTIFACT.ptx


def test_two_kernels_keep_their_order(tmp_path: Path) -> None:
    other = artifact_of(replace(ARTIFACT.contract, name="merge"))
    save_bundle(tmp_path / "b", [other, ARTIFACT])
    assert list(load_bundle(tmp_path / "b").items()) == [("merge", other), ("attend", ARTIFACT)]
    with pytest.raises(BundleError, match="expected one kernel, got merge, attend"):
        KernelArtifact.load(tmp_path / "b")


def test_a_bundle_is_replaced_whole(bundle: Path) -> None:
    replace(ARTIFACT, cubin=None).save(bundle)
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["bundle"]
    assert not (bundle / "attend.cubin").exists()


def test_a_directory_of_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="the directory is no bundle, it holds notes.txt"):
        ARTIFACT.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_text("")
    with pytest.raises(BundleError, match="expected a directory, got a file"):
        ARTIFACT.save(tmp_path / "bundle")


@pytest.mark.parametrize("name", ["manifest.json", "attend.ptx", "attend.json", "attend.cubin"])
def test_a_missing_file_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: No such file"):
        KernelArtifact.load(bundle)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="manifest.json: No such file"):
        KernelArtifact.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["manifest.json", "attend.ptx", "attend.json", "attend.cubin"])
def test_a_truncated_file_is_refused(bundle: Path, name: str) -> None:
    content = (bundle / name).read_bytes()
    for size in range(0, len(content.rstrip()), 7):
        (bundle / name).write_bytes(content[:size])
        with pytest.raises(BundleError):
            KernelArtifact.load(bundle)


@pytest.mark.parametrize("name", ["manifest.json", "attend.ptx", "attend.json", "attend.cubin"])
def test_a_flipped_bit_changes_nothing_or_is_refused(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    for index in range(0, len(content), 5):
        content[index] ^= 1 << index % 8
        (bundle / name).write_bytes(content)
        try:
            # White space of the manifest is free to change.
            assert KernelArtifact.load(bundle) == ARTIFACT
        except BundleError:
            pass
        content[index] ^= 1 << index % 8


def test_another_version_is_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    with pytest.raises(BundleError, match="expected version 1, got 2"):
        KernelArtifact.load(bundle)


def test_an_edited_contract_is_refused(bundle: Path) -> None:
    path = bundle / "attend.json"
    path.write_text(path.read_text().replace("sm_80", "sm_90a"))
    with pytest.raises(BundleError, match="attend.json: truncated or damaged"):
        KernelArtifact.load(bundle)


def test_other_json_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[1]")
    with pytest.raises(BundleError, match="it is no tilewright bundle"):
        KernelArtifact.load(tmp_path)


def test_ptx_of_another_target_is_refused() -> None:
    with pytest.raises(ContractError, match=r"expected PTX for sm_90a, got '.target sm_80'"):
        KernelArtifact(ARTIFACT.ptx, replace(ARTIFACT.contract, target="sm_90a"))


def test_ptx_without_the_entry_is_refused() -> None:
    with pytest.raises(ContractError, match="the PTX has no entry 'attend2'"):
        KernelArtifact(ARTIFACT.ptx, replace(ARTIFACT.contract, name="attend2"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_directory_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BundleError, match="can't be written: Permission denied"):
        ARTIFACT.save(tmp_path / "bundle")


def test_a_bundle_loads_without_xdsl(bundle: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['xdsl'] = None\n"
        "from tilewright.runtime.attention import load_bundle\n"
        f"print(load_bundle({str(bundle)!r}).contract.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("attend", "")
