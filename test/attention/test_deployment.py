"""Manifests and deployments: finite keys, one-line errors, the kernel of a call and why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tilewright.attention import (
    BlockSparseKV,
    Call,
    Deployment,
    KVCache,
    KVFormat,
    KVStorage,
    LatentKV,
    Manifest,
    PagedKV,
    PageTable,
    RaggedKV,
    Rotation,
    append_kv,
    plan_append,
    rope_frequencies,
)
from tilewright.attention.manifest import parse_manifest
from tilewright.attention.manifest_reader import ManifestError
from tilewright.attention.named_storage import named_format
from tilewright.cli import main
from tilewright.runtime.errors import ArgumentError, TargetError
from tilewright.runtime.kernel_set import KernelNotFound, save_kernels
from tilewright.test.attention.reference import Geometry, attend, check, random_batch
from tilewright.test.runtime.attention_case import Geometry as Stub
from tilewright.test.runtime.attention_case import artifact_of, contract_of
from tilewright.test.spread import spread

MODEL = """\
num_qo_heads = 4
num_kv_heads = 2
head_dim = 32
page_size = 4
"""
LATENT = "num_qo_heads = 16\nnum_kv_heads = 1\nhead_dim = 512\npage_size = 4\n"
PATH = Path("serving.toml")


def keys_of(text: str) -> list[tuple[object, ...]]:
    return [tuple(entry.numbers.values()) for entry in parse_manifest(text, PATH).entries]


def test_an_entry_is_the_product_of_its_lists() -> None:
    text = f'[[kernels]]\nvariant = ["causal", "window:9"]\nphase = "decode"\n{MODEL}'
    found = keys_of(text.replace("page_size = 4", "page_size = [4, 16]"))
    expected = [
        (variant, "decode", 32, 4, 2, "paged", page, "NHD", "same", "bf16", "ranges")
        for variant in ("causal", "window:9")
        for page in (4, 16)
    ]
    assert found == expected


def test_by_default_both_phases_and_both_targets_are_compiled() -> None:
    manifest = parse_manifest(f"[[kernels]]\n{MODEL}", PATH)
    assert manifest.targets == ("sm_80", "sm_90")
    assert [entry.numbers["phase"] for entry in manifest.entries] == ["prefill", "decode"]


@pytest.mark.parametrize(
    ("fields", "storage"),
    [
        ("storage = 'combined'", PagedKV(4, combined=True)),
        ("storage = 'ragged'", RaggedKV()),
        ("storage = 'block-sparse'", BlockSparseKV(4)),
        ("storage = 'paged-by-head'", PagedKV(4, table_of_heads=True)),
        ("storage = 'block-sparse-by-head'", BlockSparseKV(4, per_head=True)),
        ("storage = 'ragged-confined'", RaggedKV(confined=True)),
        (
            "storage = 'paged-by-head-confined'",
            PagedKV(4, table_of_heads=True, confined=True),
        ),
        ("kv_format = 'e4m3'", PagedKV(4, format=KVFormat("e4m3"))),
        ("kv_format = 'i8:head'", PagedKV(4, format=KVFormat("i8"), scale_per_head=True)),
        ("kv_format = 'i4:16'", PagedKV(4, format=KVFormat("i4", 16))),
    ],
)
def test_storages_and_formats_by_name(fields: str, storage: KVStorage) -> None:
    manifest = parse_manifest(f"[[kernels]]\n{fields}\n{MODEL}", PATH)
    assert manifest.entries[0].spec("sm_80").kv == storage


@pytest.mark.parametrize(("storage", "combined"), [("latent", False), ("latent-combined", True)])
def test_a_latent_cache_is_a_storage(storage: str, combined: bool) -> None:
    text = f"[[kernels]]\nstorage = '{storage}'\nphase = ['decode', 'prefill']\n{LATENT}"
    decode, prefill = (entry.spec("sm_90") for entry in parse_manifest(text, PATH).entries)
    assert decode.kv == LatentKV(4, combined=combined)
    assert (decode.tile_rows, prefill.tile_rows) == (16, 64)


def test_ragged_keys_need_no_page_size() -> None:
    text = f"[[kernels]]\nstorage = 'ragged'\n{MODEL}".replace("page_size = 4\n", "")
    assert parse_manifest(text, PATH).entries[0].numbers["page_size"] == 1


def test_a_variant_of_a_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def near(b, h, q_idx, kv_idx):\n    return q_idx >= kv_idx\n"
    )
    (tmp_path / "serving.toml").write_text(f'[[kernels]]\nvariant = "mine.py:near"\n{MODEL}')
    manifest = Manifest.load(tmp_path / "serving.toml")
    assert manifest.entries[0].variant.traced.mask is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = [1,\n", "1:1: error: Invalid value"),
        ("a = = 1\n", "1:5: error: Invalid value"),
        ("", "1: error: kernels: expected one [[kernels]] table or more"),
        (
            "kernel = 1\n",
            "1: error: kernel: expected one of targets, kernels, append, append_latent, "
            "merge, page_choice, plan_on_device",
        ),
        ("kernels = 3\n", "1: error: kernels: expected [[kernels]] tables"),
        (
            "targets = ['sm_70']\n[[kernels]]\n",
            "1: error: targets: expected one of sm_80, sm_86, sm_89, sm_90, sm_90a, got 'sm_70'",
        ),
        (
            f"\n[[kernels]]\n{MODEL}[[kernels]]\nhead_dim = 32\n",
            "7: error: kernels[1].num_qo_heads: expected a value, got nothing",
        ),
        (
            f"[[kernels]]\n{MODEL}pages = 3\n",
            "6: error: kernels[0].pages: expected one of variant, phase, head_dim, num_qo_heads, "
            "num_kv_heads, storage, page_size, layout, kv_format, dtype, work",
        ),
        (
            f"[[kernels]]\n{MODEL}".replace("32", "33"),
            "4: error: kernels[0].head_dim: expected a multiple of 16 from 16 to 256, got 33",
        ),
        (
            f"[[kernels]]\n{MODEL}".replace("32", "'32'"),
            "4: error: kernels[0].head_dim: expected an integer, got '32'",
        ),
        (
            f"[[kernels]]\n{MODEL}".replace("32", "[]"),
            "4: error: kernels[0].head_dim: expected a value, got an empty list",
        ),
        (
            f"[[kernels]]\n{MODEL}".replace("heads = 2", "heads = 0"),
            "3: error: kernels[0].num_kv_heads: expected an integer from 1 to 65535, got 0",
        ),
        (
            f"[[kernels]]\nphase = 'both'\n{MODEL}",
            "2: error: kernels[0].phase: expected prefill or decode, got 'both'",
        ),
        (
            f"[[kernels]]\nstorage = 'latent'\nkv_format = 'e4m3:head'\n{LATENT}",
            "3: error: kernels[0].kv_format: expected one scale for all latent rows, "
            "got 'e4m3:head'",
        ),
        (
            f"[[kernels]]\nstorage = 'latent'\n{LATENT}".replace("kv_heads = 1", "kv_heads = 2"),
            "5: error: kernels[0].head_dim: expected 512 of 1 KV head, as the cache has, "
            "got 512 of 2",
        ),
        (
            f"[[kernels]]\nvariant = 'window:x'\n{MODEL}",
            "2: error: kernels[0].variant: expected window:TOKENS, got 'window:x'",
        ),
        (
            f"[[kernels]]\n{MODEL}[[append]]\nnum_kv_heads = 2\nhead_dim = 32\npage_size = 4\n"
            "rope = 'both'\n",
            "10: error: append[0].rope: expected one of none, half, interleaved, got 'both'",
        ),
        (
            f"[[kernels]]\n{MODEL}[[merge]]\nnum_qo_heads = 4\nhead_dim = 32\nout_dtype = 'f64'\n",
            "9: error: merge[0].out_dtype: expected one of same, f16, bf16, f32, got 'f64'",
        ),
        (
            f"[[kernels]]\n{MODEL}[[merge]]\nnum_qo_heads = 4\nhead_dim = 1025\n",
            "8: error: merge[0].head_dim: expected an integer from 1 to 1024, got 1025",
        ),
        (
            f"[[kernels]]\n{MODEL}[[merge]]\nhead_dim = 32\n",
            "6: error: merge[0].num_qo_heads: expected a value, got nothing",
        ),
        (
            f"[[kernels]]\n{MODEL}[[page_choice]]\n{MODEL}".replace(
                "heads = 4\n", "heads = 5\n"
            ).replace("heads = 5\n", "heads = 4\n", 1),
            "7: error: page_choice[0].num_qo_heads: expected a multiple of the 2 KV heads, up to "
            "128 times, got 5",
        ),
        (
            f"[[kernels]]\n{MODEL}[[page_choice]]\n{MODEL}[[page_choice]]\n{MODEL}",
            "11: error: page_choice[1]: the task of line 6 is listed again",
        ),
        (
            f"[[kernels]]\nstorage = 'tree'\n{MODEL}",
            "2: error: kernels[0].storage: expected one of paged, combined, ragged, block-sparse, "
            "latent, latent-combined, paged-by-head, combined-by-head, block-sparse-by-head, "
            "each of these also with -confined, got 'tree'",
        ),
        (
            f"[[kernels]]\nstorage = 'ragged'\nlayout = 'HND'\n{MODEL}",
            "3: error: kernels[0].layout: expected 'NHD' for ragged keys, got 'HND'",
        ),
        (
            f"[[kernels]]\nkv_format = 'e4m3:8'\n{MODEL}",
            "2: error: kernels[0].kv_format: expected one of same, e4m3, e5m2, i8, i4, each of "
            "these also with :head, :0, :16 or :32, got 'e4m3:8'",
        ),
        (
            f"[[kernels]]\nvariant = 'none.py:f'\n{MODEL}",
            "2: error: kernels[0].variant: expected a Python file beside the manifest, "
            "got 'none.py'",
        ),
        (
            f"[[kernels]]\n{MODEL}\n[[kernels]]\n{MODEL}",
            "7: error: kernels[1]: the kernel of line 1 is listed again",
        ),
    ],
)
def test_a_bad_manifest_is_one_line_with_the_place(text: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text, PATH)
    assert str(caught.value) == f"serving.toml:{message}"


def stub_deployment(folder: Path, *targets: str, phases: tuple[str, ...]) -> Deployment:
    """Returns a deployment whose kernels do nothing."""
    manifest = parse_manifest(f"[[kernels]]\n{MODEL}", PATH)
    kernels = [
        (entry.key(target), artifact_of(contract_of(Stub(head_dim=32, page_size=4), target=target)))
        for target in targets
        for entry in manifest.entries
        if entry.numbers["phase"] in phases
    ]
    return Deployment(save_kernels(folder / "set", kernels))


CALL = Call(num_qo_heads=4, num_kv_heads=2, head_dim=32, page_size=4)


@pytest.mark.parametrize(
    ("query_len", "phases", "phase", "words"),
    [
        (8, ("prefill", "decode"), "decode", "16 packed rows of a KV head, at most 16"),
        (9, ("prefill", "decode"), "prefill", "18 packed rows of a KV head, more than 16"),
        (1, ("prefill",), "prefill", "there is no decode kernel: prefill serves it"),
        (9, ("decode",), "decode", "there is no prefill kernel: decode serves it"),
    ],
)
def test_the_phase_follows_from_the_query_rows(
    query_len: int, phases: tuple[str, ...], phase: str, words: str, tmp_path: Path
) -> None:
    deployment = stub_deployment(tmp_path, "sm_80", phases=phases)
    choice = deployment.choose(Call(4, 2, 32, 4, query_len=query_len))
    assert choice.key["phase"] == phase
    assert any(words in reason for reason in choice.reasons)


@pytest.mark.parametrize(
    ("capability", "target"), [((8, 0), "sm_80"), ((8, 9), "sm_80"), ((9, 0), "sm_90")]
)
def test_the_highest_target_that_runs_is_taken(
    capability: tuple[int, int], target: str, tmp_path: Path
) -> None:
    deployment = stub_deployment(tmp_path, "sm_80", "sm_90", phases=("decode",))
    assert deployment.choose(Call(4, 2, 32, 4, capability=capability)).key["target"] == target


def test_a_gpu_that_no_kernel_runs_on_is_refused(tmp_path: Path) -> None:
    deployment = stub_deployment(tmp_path, "sm_90", phases=("decode",))
    with pytest.raises(TargetError) as caught:
        deployment.choose(Call(4, 2, 32, 4, capability=(8, 0)))
    assert str(caught.value) == "no kernel runs on compute capability 8.0: targets sm_90"


def test_a_call_outside_of_the_manifest_is_refused_with_the_nearest(tmp_path: Path) -> None:
    deployment = stub_deployment(tmp_path, "sm_80", phases=("decode",))
    with pytest.raises(KernelNotFound, match="nearest: variant causal for full$"):
        deployment.op(Call(4, 2, 32, 4, variant="full"))


def test_a_kernel_is_read_once(tmp_path: Path) -> None:
    deployment = stub_deployment(tmp_path, "sm_80", phases=("decode",))
    assert deployment.op(CALL) is deployment.op(CALL)


@pytest.mark.parametrize("number", [0, 1.5, True])
def test_a_call_with_no_numbers_is_refused(number: object) -> None:
    with pytest.raises(ArgumentError, match="head_dim"):
        Call(4, 2, number, 4)  # pyright: ignore[reportArgumentType]


def test_the_command_compiles_a_manifest_and_serving_compiles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "serving.toml").write_text(
        f"targets = 'sm_80'\n[[kernels]]\nphase = 'decode'\ndtype = 'f16'\n{MODEL}"
    )
    folder = str(tmp_path / "set")
    assert main(["bundle", folder, "--manifest", str(tmp_path / "serving.toml")]) == 0
    call = ["num_qo_heads=4", "num_kv_heads=2", "head_dim=32", "page_size=4", "dtype=f16"]
    assert main(["bundle", folder, "--explain", *call]) == 0
    assert "kernel: variant=causal phase=decode head_dim=32" in capsys.readouterr().out
    monkeypatch.setattr("tilewright.attention.compiler.compile_attention", None)
    monkeypatch.setattr("tilewright.attention.cached.cached_attention", None)
    geometry = Geometry(2, 2, 32, 4)
    batch = random_batch(geometry, [(1, 9), (1, 30)], np.random.default_rng(0))
    op = Deployment.load(folder).op(Call(4, 2, 32, 4, dtype="f16"))
    got = op.plan(*batch.tables).run(*batch.arrays)
    check(geometry, got, attend(geometry, batch))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["what=3"], "expected NAME=VALUE with a name of num_qo_heads"),
        (["head_dim=x"], "argument 'head_dim': expected an integer, got 'x'"),
        (["capability=9"], "expected a compute capability such as 9.0, got '9'"),
        (["head_dim=32"], "no num_kv_heads, num_qo_heads, page_size"),
    ],
)
def test_a_wrong_call_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub_deployment(tmp_path, "sm_80", phases=("decode",))
    assert main(["bundle", str(tmp_path / "set"), "--explain", *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


APPENDED = ("same", "e4m3:head", "i4:16")


@pytest.mark.parametrize("form", spread(APPENDED, 1))
def test_appending_to_a_cache_of_the_manifest_compiles_nothing(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended = MODEL.partition("\n")[2] + f"kv_format = '{form}'\nrope = 'half'\ndtype = 'f16'\n"
    manifest = parse_manifest(
        f"targets = 'sm_80'\n[[kernels]]\n{MODEL}[[append]]\n{appended}", PATH
    )
    manifest = replace(manifest, entries=())
    Deployment(manifest.build(tmp_path / "set", lambda _: None))
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr("tilewright.nest.gpu.gpu_kernels", None)
    named, _ = named_format(form)
    cache_format = named or KVFormat("f16")
    shape = (3, 4, 2, cache_format.width(32))
    stored = {"f16": np.float16, "e4m3": np.uint8, "i4": np.uint8}[cache_format.dtype]
    pages = (np.zeros(shape, stored), np.zeros(shape, stored))
    scales = tuple(np.zeros((3, 4, 2, 2), np.float32) for _ in range(2))
    table = PageTable(*(np.array(t, np.int32) for t in ([0, 2], [2, 0], [1])), page_size=4)
    rows = np.ones((2, 2, 32), np.float16)
    cache = KVCache(pages, cache_format, scales=scales if cache_format.has_blocks else None)
    plan = plan_append(table, np.array([0, 2], np.int32))
    append_kv(cache, plan, rows, rows.copy(), rotation=Rotation(rope_frequencies(32)))
    assert pages[1][2, 3].all()
    assert pages[1][0, 0].all()
