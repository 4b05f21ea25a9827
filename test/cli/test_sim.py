"""The command `tilewright sim`."""

import json
from pathlib import Path

import numpy as np
import pytest

from tilewright.cli import main
from tilewright.cli.gpu_rates import GPUS

CORPUS = Path(__file__).parents[1] / "runtime" / "simulator" / "corpus"
SIMT = str(CORPUS / "simt.ptx")
SAXPY = ["sim", SIMT, "--entry", "saxpy", "--grid", "4", "--block", "64"]
HEADER = ".version 8.0\n.target sm_80\n.address_size 64\n"


def test_a_kernel_runs_on_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng()
    x, y = generator.random((2, 250), dtype="f4")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    arguments = ["--arg", "i32=250", "--arg", "f32=3", "--arg", f"f32[250]={tmp_path}/x.npy"]
    arguments += ["--arg", f"y:f32[250]={tmp_path}/y.npy", "--out", f"y={tmp_path}/out.npy"]
    assert main([*SAXPY, *arguments, "--checks", "all"]) == 0
    assert "ran 4 CTAs" in capsys.readouterr().out
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), 3 * x + y, rtol=1e-6)


def test_a_fault_is_printed_and_the_exit_code_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--arg", "i32=250", "--arg", "f32=3", "--arg", "f32[250]", "--arg", "f32[100]"]
    assert main([*SAXPY, *arguments]) == 1
    out = capsys.readouterr().out
    assert out.startswith("bounds: ")
    assert "block (1, 0, 0), thread (36, 0, 0)" in out


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--arg", "i32=8", "--arg", "f32=1", "--arg", "f32[8]=random", "--arg", "f32[8]"]
    assert main([*SAXPY, *arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["complete"] is True
    assert printed["findings"] == []
    assert printed["ctas"] == 4


def test_the_entries_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", SIMT, "--list"]) == 0
    out = capsys.readouterr().out
    assert "saxpy" in out
    assert ".f32 saxpy_param_1" in out


def test_a_launch_that_reaches_max_steps_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spin.ptx"
    path.write_text(HEADER + ".visible .entry spin() { again: bra again; }")
    assert main(["sim", str(path), "--max-steps", "1000"]) == 1
    assert "not complete: ended after" in capsys.readouterr().out


def test_negative_numbers_fit_unsigned_parameters(tmp_path: Path) -> None:
    path = tmp_path / "k.ptx"
    body = "ld.param.u32 x, [n]; ld.param.u64 at, [p]; st.global.u32 [at], x; ret;"
    registers = ".reg .b32 x; .reg .b64 at;"
    params = "(.param .u64 p, .param .u32 n)"
    path.write_text(f"{HEADER}.visible .entry k{params} {{ {registers} {body} }}")
    out = tmp_path / "out.npy"
    arguments = ["--arg", "out:i32[1]", "--arg", "i32=-5", "--out", f"out={out}"]
    assert main(["sim", str(path), *arguments]) == 0
    assert np.load(out).tolist() == [-5]


def test_a_profile_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main([*SAXPY, *FULL, "--profile", "--profile-html", str(page), "--gpu", "a100"]) == 0
    out = capsys.readouterr().out
    assert "f32: 16 flops" in out
    assert "memory bound on a100" in out
    text = page.read_text()
    assert "fma.rn.f32" in text
    assert "<svg" in text
    assert "http" not in text


def test_a_profile_is_printed_by_source_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "k.cu").write_text("first\n  second line;\n")
    path = tmp_path / "k.ptx"
    body = ".reg .b32 r; .loc 1 2 3\nmov.u32 r, %tid.x; add.u32 r, r, 1; ret;"
    path.write_text(f'{HEADER}.visible .entry k() {{ {body} }}\n.file 1 "k.cu"\n')
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.html"
    command = ["sim", "k.ptx", "--block", "64", "--profile", "--by", "source"]
    assert main([*command, "--profile-html", str(page)]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "k.cu:2" in line]
    assert row.split()[:3] == ["k.cu:2", "192", "32.0"]
    assert "move 64" in row
    assert row.endswith("second line;")
    text = page.read_text()
    assert text.count("data-source='k.cu:2'") == 2  # a line of the source, one of the PTX


def test_barriers_that_are_not_needed_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "k.ptx"
    body = """.shared .b32 s[64]; .reg .b32 r, at; mov.u32 r, %tid.x; mov.u32 at, s;
mad.lo.u32 at, r, 4, at; st.shared.u32 [at], r;
bar.sync 0;
bar.sync 0;
ld.shared.u32 r, [s]; ret;"""
    path.write_text(f"{HEADER}.visible .entry k() {{\n{body}\n}}")
    assert main(["sim", str(path), "--block", "64", "--redundant-barriers"]) == 0
    out = capsys.readouterr().out
    assert "not needed for this launch: PTX line 8: bar.sync 0;" in out
    assert "1 barriers, waits and fences are not needed" in out


def test_barriers_of_a_launch_with_a_race_are_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "k.ptx"
    body = ".shared .b32 s; .reg .b32 r; mov.u32 r, %tid.x; st.shared.u32 [s], r; ret;"
    path.write_text(f"{HEADER}.visible .entry k() {{ {body} }}")
    assert main(["sim", str(path), "--block", "64", "--redundant-barriers"]) == 1
    assert "--redundant-barriers: the launch has findings" in capsys.readouterr().err


@pytest.mark.parametrize("gpu", ["h100", "h100-pcie", "h200", "a100", "rtx4090"])
def test_peak_rates_double_as_types_halve(gpu: str) -> None:
    """Tensor cores take as many bits a cycle of every type, as data sheets have it."""
    rates = GPUS[gpu]
    assert rates["tensor f16"] == pytest.approx(2 * rates["tensor tf32"], rel=1e-3)
    assert rates["tensor bf16"] == rates["tensor f16"]
    if "tensor e4m3" in rates:
        assert rates["tensor e4m3"] == pytest.approx(2 * rates["tensor f16"], rel=1e-3)


def test_a_thread_is_traced(capsys: pytest.CaptureFixture[str]) -> None:
    values = ["--arg", "i32=256", "--arg", "f32=1", "--arg", "f32[256]", "--arg", "f32[256]"]
    assert main([*SAXPY, *values, "--trace", "3,5"]) == 0
    out = capsys.readouterr().out
    assert "mov.u32" in out
    assert "=5 " in f"{out} " or "=5\n" in out
    assert "ran 4 CTAs" in out


def test_a_break_prints_the_registers_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    lines = (CORPUS / "simt.ptx").read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "fma.rn.f32" in text)
    assert main([*SAXPY, *FULL, "--break", str(line)]) == 1
    out = capsys.readouterr().out
    assert f"stopped before PTX line {line}" in out
    assert "lanes 0-7" in out
    assert "not complete" in out


def test_what_a_kernel_prints_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sim", str(CORPUS / "calls.ptx"), "--entry", "print", "--block", "2"]
    arguments += ["--arg", "f32[2]", "--arg", "i32[2]"]
    want = [f"even 0: 0.000     0|{0:<6}|a", f"odd 1: 0.000     7|{1 << 33}|b"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[:2] == want
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["printed"].splitlines() == want


FULL = ["--arg", "i32=8", "--arg", "f32=1", "--arg", "f32[8]", "--arg", "f32[8]"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sim", "absent.ptx"], "absent.ptx: No such file or directory"),
        (["sim", __file__], "error: "),
        (["sim", SIMT], "--entry is missing; the entries are"),
        (["sim", SIMT, "--entry", "other"], "no entry 'other'"),
        (["sim", SIMT, "--checks", "speed"], "unknown checks"),
        ([*SAXPY, *FULL, "--grid", "0"], "an extent is 0"),
        ([*SAXPY, *FULL, "--grid", "a"], "--grid 'a': expected 1 to 3 numbers"),
        ([*SAXPY, *FULL, "--block", "2000"], "is outside"),
        ([*SAXPY, *FULL, "--shared", "-1"], "--shared '-1': expected a number"),
        ([*SAXPY, *FULL, "--shared", "999999"], "bytes of shared memory"),
        ([*SAXPY, *FULL, "--max-steps", "x"], "--max-steps 'x'"),
        ([*SAXPY, *FULL, "--seed", "x"], "--seed 'x'"),
        ([*SAXPY, *FULL, "--trace", "1"], "--trace '1': expected BLOCK,THREAD"),
        ([*SAXPY, *FULL, "--break", "x"], "--break 'x': expected a line"),
        ([*SAXPY, *FULL, "--trace", "0,0", "--profile"], "profiled or traced, not both"),
        ([*SAXPY, *FULL, "--out", "z=f.npy"], "--out 'z=f.npy': expected NAME=FILE"),
        ([*SAXPY, "--arg", "i32"], "--arg 'i32': expected TYPE=NUMBER"),
        ([*SAXPY, "--arg", "f33=1"], "unknown type 'f33'"),
        ([*SAXPY, "--arg", "f32[x]"], "expected 1 to 16 numbers"),
        ([*SAXPY, "--arg", "f32[99999999999]"], "more than 16 GiB"),
        ([*SAXPY, "--arg", "i32=x"], "argument arg0: 'x' is not a number"),
        ([*SAXPY, "--arg", "i32=3000000000"], "does not fit i32"),
        ([*SAXPY, "--arg", "i64=8", *FULL[2:]], "argument 0: i64 for .u32"),
        ([*SAXPY, "--arg", "i32=8"], "takes 4 arguments, got 1"),
        ([*SAXPY, "--arg", f"f32[8]={__file__}"], "not an .npy file"),
        ([*SAXPY, "--arg", "f32[8]=absent.npy"], "absent.npy: No such file or directory"),
        ([*SAXPY, "--arg", "a:f32[8]", "--arg", "a:f32[8]"], "two arrays have one name"),
    ],
)
def test_a_bad_argument_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_array_of_another_type_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.zeros(8))
    assert main([*SAXPY, "--arg", f"f32[8]={tmp_path}/x.npy"]) == 1
    assert "expected float32[8] for f32[8], got float64[8]" in capsys.readouterr().err


def test_approximate_functions_err_as_the_seed_says(tmp_path: Path) -> None:
    path = tmp_path / "k.ptx"
    body = "ld.global.f32 f, [at]; ex2.approx.f32 f, f; st.global.f32 [at], f; ret;"
    path.write_text(
        f"{HEADER}.visible .entry k(.param .u64 p) {{ .reg .f32 f; .reg .b64 at; .reg .b32 t;"
        f"ld.param.u64 at, [p]; mov.u32 t, %tid.x; mad.wide.u32 at, t, 4, at; {body} }}"
    )
    results: list[bytes] = []
    for seed in ([], ["--perturb", "1"], ["--perturb", "1"], ["--perturb", "2"]):
        out = tmp_path / "x.npy"
        arguments = ["--block", "64", "--arg", "x:f32[64]=random", "--out", f"x={out}", *seed]
        assert main(["sim", str(path), *arguments]) == 0
        results.append(out.read_bytes())
    assert results[1] == results[2]
    assert len(set(results)) == 3


def test_sums_that_no_model_covers_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "k.ptx"
    path.write_text(".version 8.0 .target sm_75 .address_size 64 .visible .entry k() { ret; }")
    assert main(["sim", str(path), "--accumulate", "truncating"]) == 1
    assert "sm_75" in capsys.readouterr().err


CLUSTER = str(CORPUS / "cluster.ptx")


def test_clusters_and_schedules_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", CLUSTER, "--list"]) == 0
    capsys.readouterr()
    arguments = ["--arg", "i32=250", "--arg", "f32=3", "--arg", "f32[250]", "--arg", "f32[250]"]
    assert main([*SAXPY, *arguments, "--cluster", "2", "--schedule", "3"]) == 0
    assert "ran 4 CTAs" in capsys.readouterr().out


def test_a_grid_that_is_no_whole_clusters_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--arg", "i32=250", "--arg", "f32=3", "--arg", "f32[250]", "--arg", "f32[250]"]
    assert main([*SAXPY, *arguments, "--cluster", "3"]) == 1
    assert "no multiple of cluster" in capsys.readouterr().err


def test_a_schedule_is_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--arg", "i32=250", "--arg", "f32=3", "--arg", "f32[250]", "--arg", "f32[250]"]
    assert main([*SAXPY, *arguments, "--schedule", "any"]) == 1
    assert "--schedule 'any'" in capsys.readouterr().err
