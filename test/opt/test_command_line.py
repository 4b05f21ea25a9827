"""Files, streams and exit codes of `tilewright-opt`, and xDSL's own tools with our plug-in."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright.lowering.attn_to_tile.convert import ConvertAttnToTilePass
from tilewright.opt import main
from tilewright.registry import DIALECTS, PASSES

EMPTY = "func.func @f() {\n  func.return\n}\n"


def _bin(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def test_missing_file_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]):
    assert main(["no/such/file.mlir"]) == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith("tilewright-opt: error: cannot read 'no/such/file.mlir'")
    assert stderr.count("\n") == 1


def test_bytes_that_are_no_utf8_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "f.mlir"
    file.write_bytes(b"// fine\n// \xff\n")
    assert main([str(file)]) == 1
    assert f"{file}:2: expected UTF-8 text" in capsys.readouterr().err


def test_unknown_option_is_refused_with_exit_code_1(capsys: pytest.CaptureFixture[str]):
    assert main(["--no-such-option"]) == 1
    assert "--no-such-option" in capsys.readouterr().err


def test_unknown_target_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["-t", "cobol"]) == 1
    assert "'cobol'" in capsys.readouterr().err


def test_output_file_is_written(tmp_path: Path):
    source, output = tmp_path / "in.mlir", tmp_path / "out.mlir"
    source.write_text(EMPTY)
    assert main([str(source), "-o", str(output)]) == 0
    assert "func.func @f" in output.read_text()


def test_refused_input_leaves_the_output_file_alone(tmp_path: Path):
    source, output = tmp_path / "in.mlir", tmp_path / "out.mlir"
    source.write_text("nonsense")
    output.write_text("as it was")
    assert main([str(source), "-o", str(output)]) == 1
    assert output.read_text() == "as it was"


def test_empty_file_is_an_empty_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tmp_path / "in.mlir"
    source.write_text("")
    assert main([str(source)]) == 0
    assert "builtin.module" in capsys.readouterr().out


def test_deep_nesting_is_refused_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = tmp_path / "in.mlir"
    source.write_text("builtin.module {" * 5000)
    assert main([str(source)]) == 1
    assert "nests too deeply" in capsys.readouterr().err


def test_own_dialects_are_listed_first(capsys: pytest.CaptureFixture[str]):
    assert main(["--show-dialects"]) == 0
    listed = capsys.readouterr().out.split()
    assert listed[: len(DIALECTS)] == sorted(dialect.name for dialect in DIALECTS)
    assert "arith" in listed


def test_own_passes_are_listed_first_with_what_they_do(capsys: pytest.CaptureFixture[str]):
    assert main(["--show-passes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, module_pass in zip(lines, PASSES, strict=False):
        summary = (module_pass.__doc__ or "").strip().splitlines()[0]
        assert line.split(maxsplit=1) == [module_pass.name, summary]


def test_tool_reads_standard_input():
    command = [_bin("tilewright-opt"), "-p", "canonicalize"]
    done = subprocess.run(command, input=EMPTY, capture_output=True, text=True, check=True)
    assert "func.func @f" in done.stdout


def test_reader_that_leaves_early_sees_no_traceback():
    many = "".join(f"func.func @f{i}() {{\n  func.return\n}}\n" for i in range(2000))
    pipe = f"{shlex.quote(_bin('tilewright-opt'))} | head -n 1"
    done = subprocess.run(pipe, shell=True, input=many, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_xdsl_opt_lists_our_passes():
    done = subprocess.run([_bin("xdsl-opt"), "--help"], capture_output=True, text=True, check=True)
    listed = "".join(done.stdout.split())
    for module_pass in PASSES:
        assert module_pass.name in listed


def test_xdsl_opt_parses_our_dialects_and_runs_our_passes():
    source = "func.func @f(%q: !attn.ragged<[n, 32, 128], bf16>) {\n  func.return\n}\n"
    command = [_bin("xdsl-opt"), "-p", ConvertAttnToTilePass.name]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    assert "!attn.ragged<[n, 32, 128], bf16>" in done.stdout
