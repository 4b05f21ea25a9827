"""What a user may get wrong is answered with one line on stderr and exit code 1."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.attention import PagedKV
from tilewright.cli import demo, run
from tilewright.test.cli.conftest import Command, Outcome
from tilewright.test.cli.small import OPTIONS, SPEC, random_arrays, write_arrays, write_mlir
from tilewright.test.runtime.attention_case import attend_tiles
from tilewright.test.runtime.fake_device import FakeDevice

VARIANTS = "full, causal, window:TOKENS, softcap:CAP, alibi"
TARGETS = "sm_80, sm_86, sm_89, sm_90, sm_90a"
LENGTHS = "QUERIES/KEYS of each request, at most 1048576, such as 5/9,1/40"

# The words of a command line, and the message behind `tilewright: error: `.
WRONG: list[tuple[str, str]] = [
    ("--variant causl", f"argument '--variant': expected one of {VARIANTS}, got 'causl'"),
    ("--variant window:x", "argument '--variant': expected window:TOKENS, got 'window:x'"),
    ("--variant window", "argument '--variant': expected window:TOKENS, got 'window'"),
    ("--variant full:3", "argument '--variant': expected full, got 'full:3'"),
    (
        "--variant window:-1",
        "--variant window:-1: argument 'window': expected an integer from 0, got -1",
    ),
    (
        "--variant softcap:nan",
        "--variant softcap:nan: argument 'cap': expected a number from 2^-126 to the largest of "
        "type f32, got nan",
    ),
    ("--head-dim 72", "argument '--head-dim': expected a multiple of 16 from 16 to 256, got 72"),
    ("--head-dim 512", "argument '--head-dim': expected a multiple of 16 from 16 to 256, got 512"),
    ("--head-dim -16", "argument '--head-dim': expected a multiple of 16 from 16 to 256, got -16"),
    ("--page-size 0", "argument '--page-size': expected an integer from 1 to 2^20, got 0"),
    ("--heads 7", "argument '--heads': expected a multiple of the 8 KV heads, got 7"),
    ("--kv-heads 0", "argument '--kv-heads': expected an integer from 1 to 65535, got 0"),
    ("--target sm_70", f"argument '--target': expected one of {TARGETS}, got 'sm_70'"),
    ("--dtype f32", "argument '--dtype': expected 'bf16' or 'f16', got 'f32'"),
    ("--layout DHN", "argument '--layout': expected 'NHD' or 'HND', got 'DHN'"),
]
WRONG_DEMO: list[tuple[str, str]] = [
    ("--seed -1", "argument '--seed': expected an integer from 0, got -1"),
    ("--requests 5", f"argument '--requests': expected {LENGTHS}, got '5'"),
    ("--requests 1/2,", f"argument '--requests': expected {LENGTHS}, got ''"),
    ("--requests 1/-2", f"argument '--requests': expected {LENGTHS}, got '1/-2'"),
    ("--requests 1/1048577", f"argument '--requests': expected {LENGTHS}, got '1/1048577'"),
    (
        "--device nonsense",
        "unknown device 'nonsense': expected 'simulator', 'host', 'cuda' or 'cuda:<ordinal>'",
    ),
    (
        "--head-dim 1.5",
        "argument --head-dim: invalid int value: '1.5'; see 'tilewright demo --help'",
    ),
]
WRONG_EXPLAIN: list[tuple[str, str]] = [
    ("--level sass", "argument '--level': expected one of attn, tile, thread, ptx, got 'sass'"),
    (
        "--step nap",
        "argument '--step': expected one of start, copy, wait, load, product, exchange, exp2, "
        "store, got 'nap'",
    ),
    ("--lines 0", "argument '--lines': expected an integer from 1, got 0"),
    ("--width 59", "argument '--width': expected an integer from 60, got 59"),
]


def refusal(outcome: Outcome) -> str:
    """Returns the one line that a refused command printed."""
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    return outcome.err.removeprefix("tilewright: error: ").rstrip("\n")


@pytest.mark.parametrize(("options", "message"), WRONG)
@pytest.mark.parametrize("name", ["demo", "explain"])
def test_a_wrong_kernel_is_refused(command: Command, name: str, options: str, message: str) -> None:
    assert refusal(command(name, *options.split())) == message


@pytest.mark.parametrize(("options", "message"), WRONG_DEMO)
def test_a_wrong_demo_is_refused(command: Command, options: str, message: str) -> None:
    assert refusal(command("demo", *options.split())) == message


@pytest.mark.parametrize(("options", "message"), WRONG_EXPLAIN)
def test_a_wrong_view_is_refused(command: Command, options: str, message: str) -> None:
    assert refusal(command("explain", *options.split())) == message


def test_json_changes_no_refusal(command: Command) -> None:
    plain, json = (command("demo", "--head-dim", 72, *more) for more in ([], ["--json"]))
    assert refusal(plain) == refusal(json)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: COMMAND; see 'tilewright --help'"),
        (
            "compile a.mlir",
            "the following arguments are required: -o/--output; see 'tilewright compile --help'",
        ),
        ("doctor now", "unrecognized arguments: now; see 'tilewright --help'"),
    ],
)
def test_a_wrong_command_line_is_refused(command: Command, arguments: str, message: str) -> None:
    assert refusal(command(*arguments.split())) == message


def test_an_unknown_command_is_refused_with_those_there_are(command: Command) -> None:
    message = refusal(command("dmeo"))
    assert "dmeo" in message
    for name in ("demo", "compile", "run", "explain", "doctor"):
        assert name in message


def test_memory_that_is_not_there_is_said(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*arguments: object) -> None:
        raise MemoryError("unable to allocate")

    monkeypatch.setattr(demo, "random_inputs", exhausted)
    outcome = command("demo", *OPTIONS, "--requests", "1/1")
    assert (outcome.code, outcome.err) == (
        1,
        "tilewright: error: out of memory: unable to allocate\n",
    )


def test_an_interruption_ends_the_command(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "chosen_device", interrupted)
    outcome = command("demo")
    assert (outcome.code, outcome.err) == (130, "tilewright: interrupted\n")


def test_a_file_where_the_bundle_goes_is_refused(command: Command, tmp_path: Path) -> None:
    Path("taken").write_text("")
    outcome = command("compile", write_mlir(tmp_path / "a.mlir"), "-o", "taken")
    assert refusal(outcome) == "bundle 'taken': expected a directory, got a file"


def test_an_output_below_a_file_is_refused(command: Command, tmp_path: Path) -> None:
    text = write_mlir(tmp_path / "a.mlir")
    message = refusal(command("compile", text, "-o", f"{text}/bundle"))
    assert message == f"bundle '{text}/bundle': can't be written: {os.strerror(errno.ENOTDIR)}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.mlir:1:1: error: expected one attn.attend, got none"),
        (b"module {\n\xff\xfe }", "a.mlir:2:1: error: expected UTF-8"),
    ],
)
def test_a_file_without_attention_is_refused(
    command: Command, content: bytes, message: str
) -> None:
    Path("a.mlir").write_bytes(content)
    assert refusal(command("compile", "a.mlir", "-o", "b")) == message
    assert not Path("b").exists()


def test_a_missing_file_is_refused(command: Command) -> None:
    message = refusal(command("compile", "a.mlir", "-o", "b"))
    assert message == f"a.mlir: {os.strerror(errno.ENOENT)}"


def test_an_unknown_target_is_refused_before_the_file_is_read(command: Command) -> None:
    message = refusal(command("compile", "a.mlir", "-o", "b", "--target", "sm_70"))
    assert message == f"argument '--target': expected one of {TARGETS}, got 'sm_70'"


def test_malformed_text_has_its_place_and_a_caret(command: Command) -> None:
    Path("a.mlir").write_text("module {\n  func.func @f( {\n}\n")
    outcome = command("compile", "a.mlir", "-o", "b")
    first, line, caret = outcome.err.splitlines()
    assert (outcome.code, outcome.out) == (1, "")
    assert first.startswith("a.mlir:2:17: error: ")
    assert line == "  func.func @f( {"
    assert caret.index("^") + 1 == 17


def _attend_line(path: Path) -> int:
    lines = path.read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if "attn.attend" in line)


def test_a_head_dim_that_no_kernel_has_is_refused_at_the_op(
    command: Command, tmp_path: Path
) -> None:
    path = write_mlir(tmp_path / "a.mlir", SPEC)
    path.write_text(path.read_text().replace("32]", "72]"))
    outcome = command("compile", "a.mlir", "-o", "b")
    assert outcome.code == 1
    first = outcome.err.splitlines()[0]
    assert first.startswith(f"a.mlir:{_attend_line(path)}:")
    assert first.endswith("head_dim a multiple of 16 from 16 to 256, got 72")


def test_a_second_attention_is_refused_at_its_op(command: Command, tmp_path: Path) -> None:
    path = write_mlir(tmp_path / "a.mlir")
    text = path.read_text()
    path.write_text(text + "\n" + text)
    outcome = command("compile", "a.mlir", "-o", "b")
    assert outcome.code == 1
    place = text.count("\n") + 1 + _attend_line(path)
    first = outcome.err.splitlines()[0]
    assert first.startswith(f"a.mlir:{place}:")
    assert first.endswith("'attn.attend' op expects to be the only one in a file, got 2")


@pytest.fixture
def bundle(command: Command, tmp_path: Path) -> Path:
    """Returns a bundle of the small kernel."""
    command("compile", write_mlir(tmp_path / "a.mlir"), "-o", "bundle")
    return Path("bundle")


def test_a_directory_that_is_no_bundle_is_refused(command: Command) -> None:
    Path("empty").mkdir()
    reason = os.strerror(errno.ENOENT)
    assert refusal(command("run", "empty")) == f"bundle 'empty': manifest.json: {reason}"


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("attend.ptx", "truncated or damaged, its digest does not match"),
        ("attend.json", "truncated or damaged, its digest does not match"),
        ("manifest.json", "truncated or damaged"),
    ],
)
def test_a_truncated_bundle_is_refused(
    command: Command, bundle: Path, file: str, reason: str
) -> None:
    content = (bundle / file).read_bytes()
    (bundle / file).write_bytes(content[: len(content) // 2])
    assert refusal(command("run", bundle)) == f"bundle 'bundle': {file}: {reason}"


def test_a_bundle_of_another_target_is_refused(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mlir(tmp_path / "a.mlir")
    command("compile", "a.mlir", "-o", "bundle", "--target", "sm_90a")
    device = FakeDevice(attend_tiles, capability=(8, 0))
    monkeypatch.setattr(run, "chosen_device", lambda arguments: device)  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
    message = refusal(command("run", "bundle", *write_arrays(tmp_path, random_arrays())))
    assert "compute capability 8.0; the kernel is made for sm_90a" in message
    assert device.launches == []


NAMES = "qo_indptr, kv_indptr, kv_indices, kv_last_page_len, q, k_pages, v_pages"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", f"argument '--arg': expected every array of the kernel, got none for {NAMES}"),
        ("--arg q", f"argument '--arg': expected NAME=FILE.npy with a name of {NAMES}, got 'q'"),
        (
            "--arg x=x.npy",
            f"argument '--arg': expected NAME=FILE.npy with a name of {NAMES}, got 'x=x.npy'",
        ),
        ("--arg q=a --arg q=b", "argument '--arg': expected 'q' once, got it twice"),
        (
            "--out o=o.npy",
            "argument '--out': expected NAME=FILE.npy with a name of out, lse, got 'o=o.npy'",
        ),
        (
            "--out out=no/o.npy",
            "argument '--out': expected a file for 'out' in a directory that exists, "
            "got 'no/o.npy'",
        ),
        (
            "--out out=bundle",
            "argument '--out': expected a file for 'out', got the directory 'bundle'",
        ),
        (
            "--device gpu",
            "unknown device 'gpu': expected 'simulator', 'host', 'cuda' or 'cuda:<ordinal>'",
        ),
    ],
)
def test_wrong_options_of_a_run_are_refused(
    command: Command, bundle: Path, options: str, message: str
) -> None:
    assert refusal(command("run", bundle, *options.split())) == message


def _wrong_arrays() -> list[Any]:
    heads = np.zeros((8, 4, 16), np.float16)
    return [
        pytest.param("q", heads, "'q': expected shape (8, 4, 32) = (n, 4, 32), got (8, 4, 16)"),
        pytest.param(
            "k_pages",
            np.zeros((8, 4, 2, 32)),
            "'k_pages': expected dtype f16, got float64",
        ),
        pytest.param(
            "qo_indptr",
            np.array([0, 5, 6, 8]),
            "'qo_indptr': expected a one-dimensional int32 array in host memory, got dtype int64",
        ),
        pytest.param(
            "qo_indptr",
            np.array([0, 5, 4, 8], np.int32),
            "'qo_indptr': expected entries that never decrease, got 4 after 5 at [2]",
        ),
    ]


@pytest.mark.parametrize(("name", "array", "message"), _wrong_arrays())
def test_a_wrong_array_is_refused(
    command: Command, bundle: Path, tmp_path: Path, name: str, array: Any, message: str
) -> None:
    options = write_arrays(tmp_path, random_arrays() | {name: array})
    outcome = command("run", bundle, *options, "--out", "out=o.npy")
    assert refusal(outcome) == f"argument {message}"
    assert not Path("o.npy").exists()


@pytest.mark.parametrize("kind", ["text", "empty", "archive", "objects"])
def test_a_file_that_is_no_array_is_refused(
    command: Command, bundle: Path, tmp_path: Path, kind: str
) -> None:
    options = write_arrays(tmp_path, random_arrays())
    with open("q.npy", "wb") as file:
        if kind == "text":
            file.write(b"no array\n")
        elif kind == "archive":
            np.savez(file, q=np.zeros(3))
        elif kind == "objects":
            np.save(file, np.array([{}], object), allow_pickle=True)
    assert refusal(command("run", bundle, *options)).startswith(
        f"argument 'q': expected a .npy file, got '{tmp_path / 'q.npy'}'"
    )


def test_a_missing_array_file_is_refused(command: Command, bundle: Path, tmp_path: Path) -> None:
    options = write_arrays(tmp_path, random_arrays())
    Path("q.npy").unlink()
    reason = os.strerror(errno.ENOENT)
    assert refusal(command("run", bundle, *options)) == f"{tmp_path / 'q.npy'}: {reason}"


def test_a_page_size_beyond_all_kernels_is_refused_at_the_op(
    command: Command, tmp_path: Path
) -> None:
    path = write_mlir(tmp_path / "a.mlir", replace(SPEC, kv=PagedKV(3)))
    path.write_text(path.read_text().replace("[pages, 3,", "[pages, 1048577,"))
    outcome = command("compile", "a.mlir", "-o", "b")
    assert outcome.code == 1
    first = outcome.err.splitlines()[0]
    assert first.startswith(f"a.mlir:{_attend_line(path)}:")
    assert first.endswith("page_size an integer from 1 to 2^20, got 1048577")


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tilewright", "demo", "--page-size", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    message = "argument '--page-size': expected an integer from 1 to 2^20, got 0"
    assert (done.returncode, done.stderr) == (1, f"tilewright: error: {message}\n")


def test_a_reader_that_leaves_causes_no_traceback() -> None:
    words = (sys.executable, "-m", "tilewright", "explain", *OPTIONS, "--json")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
