"""Merging states and choosing pages from a bundle: nothing is compiled, and it can be explained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.attention import (
    BatchLimits,
    Call,
    Deployment,
    KVFormat,
    PageTable,
    Rotation,
    append_mla,
    merge_state,
    merge_states,
    merge_states_ragged,
    plan_append_on_device,
    plan_choice,
    plan_on_device,
    rope_frequencies,
    summarize_pages,
)
from tilewright.attention.manifest import parse_manifest
from tilewright.cli import main
from tilewright.runtime.kernel_set import KernelNotFound
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.attention.reference import Geometry, attend, check, random_batch

MODEL = "num_qo_heads = 4\nhead_dim = 32\ndtype = 'f16'\n"
PAGES = MODEL + "num_kv_heads = 2\npage_size = 4\n"
MANIFEST = f"""\
targets = "sm_80"
[[kernels]]
phase = "decode"
storage = ["paged-by-head", "paged"]
{PAGES}
[[merge]]
{MODEL}
[[page_choice]]
{PAGES}
[[plan_on_device]]
{PAGES}
[[append_latent]]
storage = ["latent", "latent-combined"]
kv_format = ["same", "e4m3"]
head_dim = 512
page_size = 4
dtype = "f16"
rope = "interleaved"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Path:
    """Returns a set of the kernels of the manifest's tasks, and of its attention, as PTX alone."""
    found = tmp_path_factory.mktemp("tasks") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILEWRIGHT_CACHE_DIR", str(session_cache))
        patch.setattr("tilewright.attention.manifest.find_ptxas", lambda: None)
        parse_manifest(MANIFEST, Path("serving.toml")).build(found, lambda _: None)
    return found


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Returns what was compiled, by the name of the function that would have done it."""
    names: list[str] = []
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "empty"))

    def counted(name: str) -> Callable[..., Any]:
        def refuse(*_: object, **__: object) -> Any:
            names.append(name)
            raise AssertionError(f"{name} was called")

        return refuse

    for name in ("nest.gpu.gpu_kernels", "attention.compiler.compile_attention"):
        monkeypatch.setattr(f"tilewright.{name}", counted(name))
    return names


@pytest.mark.parametrize("form", [None, KVFormat("e4m3")])
@pytest.mark.parametrize("combined", [False, True])
def test_appending_latent_rows_of_the_manifest_compiles_nothing(
    folder: Path, compiled: list[str], form: KVFormat | None, combined: bool
) -> None:
    Deployment.load(folder)
    pages = np.zeros((2, 4, 576), np.float16 if form is None else np.uint8)
    ckv_pages, kpe_pages = pages[..., :512], pages[..., 512:]
    if not combined:
        ckv_pages, kpe_pages = ckv_pages.copy(), kpe_pages.copy()
    ckv, kpe = (np.ones((1, width), np.float16) for width in (512, 64))
    starts, page = np.array([0, 1], np.int32), np.array([1], np.int32)
    plan = plan_append_on_device(
        starts, np.array([3], np.int32), starts, page, page_size=4, num_pages=2, tokens=1
    )
    rotation = Rotation(rope_frequencies(64), interleaved=True)
    append_mla(ckv_pages, kpe_pages, plan, ckv, kpe, format=form, rotation=rotation)
    # 1 in e4m3 is its exponent's bias.
    assert (ckv_pages[1, 2] == (1 if form is None else 7 << 3)).all()
    assert not compiled


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_merging_states_of_the_manifest_compiles_nothing(
    folder: Path, compiled: list[str], target: str
) -> None:
    Deployment.load(folder)
    v = np.ones((3, 4, 32), np.float16)
    s = np.zeros((3, 4), np.float32)
    two = merge_state(v, s, v, s, target=target)
    many = merge_states(v[:, None], s[:, None], target=target)
    ragged = merge_states_ragged(v, s, np.array([0, 1, 3], np.int32), target=target)
    merge_state(v, s, v.copy(), s.copy(), out=v, lse=s, target=target)
    assert not compiled
    for (out, lse), total in ((two, 2.0), (many, 1.0), (ragged, np.array([[1.0], [2.0]]))):
        np.testing.assert_array_equal(out, 1.0)
        np.testing.assert_allclose(lse, np.broadcast_to(np.log(total), lse.shape), atol=1e-6)
    np.testing.assert_allclose(s, np.log(2.0), atol=1e-6)


def test_sparse_decoding_of_the_manifest_compiles_nothing(
    folder: Path, compiled: list[str]
) -> None:
    deployment = Deployment.load(folder)
    geometry = Geometry(2, 2, 32, 4)
    batch = random_batch(geometry, [(1, 9), (1, 30)], np.random.default_rng(0), 0.0)
    table = PageTable(*batch.tables[1:], page_size=4)
    summaries = np.zeros((len(batch.k_pages), 2, 2, 32), np.float16)
    lengths = np.full(table.kv_indices.size, 4, np.int32)
    summarize_pages(batch.k_pages, summaries, table.kv_indices, lengths)
    # As many pages as the longest request has: all are chosen.
    choice = plan_choice(table, 2, budget=8)
    call = Call(4, 2, 32, 4, dtype="f16", storage="paged-by-head")
    plan = choice.plan(deployment.op(call))
    chosen = choice.run(batch.q, summaries)
    check(geometry, plan.run(*batch.arrays, kv_indices=chosen), attend(geometry, batch))
    assert not compiled


def test_the_kernels_of_a_task_are_explained(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["merge", "num_qo_heads=4", "head_dim=32", "dtype=f16"]
    assert main(["bundle", str(folder), "--explain", *words]) == 0
    first, *names = capsys.readouterr().out.splitlines()
    assert first == "task=merge num_qo_heads=4 head_dim=32 dtype=f16 out_dtype=same: 6 kernels"
    kinds = {name.split()[0] for name in names}
    assert kinds == {"merge_pair", "merge_many", "scale_lse"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["merge", "num_qo_heads=4", "head_dim=32"], "nearest: dtype f16 for bf16"),
        (["merge", "heads=4"], "expected NAME=VALUE with a name of num_qo_heads, head_dim, dtype"),
        (["merge", "head_dim=32"], "expected every number of the task, got no num_qo_heads"),
        (["merge", "num_qo_heads=4", "head_dim=0"], "'head_dim': expected an integer from 1"),
    ],
)
def test_a_task_that_is_not_in_the_set_is_refused_in_one_line(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle", str(folder), "--explain", *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_planning_on_the_device_of_the_manifest_compiles_nothing(
    folder: Path, compiled: list[str]
) -> None:
    op = Deployment.load(folder).op(Call(4, 2, 32, 4, dtype="f16"))
    geometry = Geometry(2, 2, 32, 4)
    batch = random_batch(geometry, [(1, 9), (1, 30)], np.random.default_rng(0), 0.0)
    limits = BatchLimits(requests=2, query_rows=2, kv_len=64, pages=40)
    plan = op.plan(*batch.tables, num_ctas=3, limits=limits)
    device = SimulatorDevice()
    plan_on_device(plan, device=device).run()
    check(geometry, plan.run(*batch.arrays, device=device), attend(geometry, batch))
    assert not compiled


def test_the_tasks_of_a_set_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(folder)]) == 0
    tasks = [line for line in capsys.readouterr().out.splitlines() if line.startswith("task=")]
    assert [line.split()[0] for line in tasks] == [
        *["task=append_latent"] * 4,
        "task=merge",
        "task=page_choice",
        "task=plan_on_device",
    ]


def test_a_task_of_other_numbers_has_no_kernels(folder: Path) -> None:
    deployment = Deployment.load(folder)
    merge = next(task for task in deployment.tasks if task["task"] == "merge")
    with pytest.raises(KernelNotFound, match="nearest: head_dim 32 for 64"):
        deployment.kernels_of(merge | {"head_dim": 64})
