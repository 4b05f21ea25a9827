"""
The simulator computes what GPUs computed, bit for bit or within the documented bound.

Results of GPUs lie in folders beside this file; record.py writes them.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from devices import Simulator
from record import batches, disagreements, record, stored
from variants import Variant, differences, variants
from variants.variant import Array

HERE = Path(__file__).parent
STORED = [(path.parent.name, path.stem) for path in sorted(HERE.glob("*/*.npz"))]
# One of each kind of results, and of each way to compare them.
SOME = (
    "add.u16", "ex2.approx.ftz.f32", "shfl.idx", "movmatrix.trans", "store 1d u32 32 of 96",
    "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 random", "mbarrier script 3",
)  # fmt: skip


@pytest.mark.parametrize(("gpu", "family"), STORED)
def test_the_simulator_computes_what_a_gpu_did(gpu: str, family: str) -> None:
    assert disagreements(stored(HERE / gpu / f"{family}.npz"), Simulator()) == {}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, known: dict[str, Variant]) -> Path:
    """Returns a folder recorded with the simulator in the GPU's place."""
    folder = tmp_path_factory.mktemp("simulator")
    assert record(folder, Simulator, [known[name] for name in SOME]) == {}
    return folder


def results(folder: Path) -> dict[str, Array]:
    return {name: array for path in folder.glob("*.npz") for name, array in stored(path).items()}


def test_a_recording_replays(recording: Path) -> None:
    found = results(recording)
    assert set(found) == set(SOME)
    assert disagreements(found, Simulator()) == {}


@pytest.mark.parametrize("name", ["add.u16", "shfl.idx", "movmatrix.trans", "mbarrier script 3"])
def test_one_bit_that_differs_is_found_and_named(recording: Path, name: str) -> None:
    found = results(recording)
    found[name][5] ^= 1
    wrong = disagreements(found, Simulator())
    assert list(wrong) == [name]
    assert f"1 of {found[name].size} differ, the first at 5" in wrong[name]


def test_a_result_beyond_its_bound_is_found(recording: Path, known: dict[str, Variant]) -> None:
    found = results(recording)
    name = next(name for name in SOME if name.endswith("random"))
    values = found[name].view("f4")
    values[3] += known[name].bound / 2
    assert disagreements(found, Simulator()) == {}
    values[3] += 2 * known[name].bound
    assert list(disagreements(found, Simulator())) == [name]


def test_a_stored_variant_that_is_gone_is_named(recording: Path) -> None:
    wrong = disagreements({"add.u17": np.zeros(3, "u4")}, Simulator())
    assert wrong == {"add.u17": "there is no such variant"}


def test_what_is_not_promised_is_not_compared(known: dict[str, Variant]) -> None:
    name = "address of dynamic shared memory"
    assert not known[name].promised
    assert disagreements({name: np.full(32, 77, "u4")}, Simulator()) == {}


def test_the_meta_data_say_what_was_recorded(recording: Path) -> None:
    meta = json.loads((recording / "meta.json").read_text())
    assert meta["device"] == "simulator"
    assert meta["capability"] == "9.0"
    assert meta["recorded"] == len(SOME)
    assert meta["failed"] == {}


def test_each_name_stands_for_one_variant(known: dict[str, Variant]) -> None:
    assert len(list(variants())) == len(known)


def test_modules_hold_variants_of_one_target_and_version(known: dict[str, Variant]) -> None:
    found = list(batches(list(known.values())))
    assert [variant for batch in found for variant in batch] == list(known.values())
    assert all(len({(each.target, each.version) for each in batch}) == 1 for batch in found)


@pytest.mark.parametrize(
    ("name", "expected", "got", "differs"),
    [
        ("add.u32", [5], [6], [0]),
        ("add.rn.f32", [0x7FC00000], [0x7FFFFFFF], []),
        ("add.rn.f32", [0x7F800000], [0x7FFFFFFF], [0]),
        ("add.rn.f32", [0], [0x80000000], [0]),
        ("ex2.approx.ftz.f32", [0x3F800000], [0x3F800002], []),
        ("ex2.approx.ftz.f32", [0x3F800000], [0x3F800003], [0]),
        ("add.f16x2", [0x7E003C00, 0x3C00], [0x7FFF3C00, 0x3C01], [1]),
    ],
)
def test_a_difference_is_more_than_the_variant_allows(
    known: dict[str, Variant], name: str, expected: list[int], got: list[int], differs: list[int]
) -> None:
    code = known[name].results(known[name].inputs()).dtype
    found = differences(known[name], np.array(expected, code), np.array(got, code))
    assert found.tolist() == differs
