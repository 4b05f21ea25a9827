"""The PTX assembler: finding it, its resources, its refusals."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tilewright.runtime import ptxas as module
from tilewright.runtime.contract import Resources
from tilewright.runtime.errors import AssemblerError
from tilewright.runtime.ptxas import AssemblerTooOld, Ptxas, find_ptxas, parse_resources

PTX = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry copy(.param .u64 x, .param .u64 y) {
  .reg .b64 %rd<4>;
  .reg .b32 %r<3>;
  ld.param.u64 %rd0, [x];
  ld.param.u64 %rd1, [y];
  cvta.to.global.u64 %rd0, %rd0;
  cvta.to.global.u64 %rd1, %rd1;
  ld.global.u32 %r0, [%rd0];
  st.global.u32 [%rd1], %r0;
  ret;
}
"""


@pytest.fixture
def assembler() -> Ptxas:
    found = find_ptxas()
    if found is None:
        pytest.skip("no ptxas here; it comes with nvidia-cuda-nvcc")
    return found


def test_machine_code_and_resources_come_back(assembler: Ptxas) -> None:
    assembly = assembler.assemble(PTX, "sm_90")
    assert assembly.cubin.startswith(b"\x7fELF")
    resources = assembly.resources["copy"]
    assert 0 < resources.registers < 32
    assert resources.spilled_bytes == 0


def test_a_refusal_is_one_line_with_the_assemblers_words(assembler: Ptxas) -> None:
    with pytest.raises(AssemblerError) as caught:
        assembler.assemble(PTX.replace("st.global.u32", "st.globe.u32"), "sm_80")
    message = str(caught.value)
    assert message.startswith("ptxas for sm_80: ptxas kernel.ptx, line 13; error")
    assert "\n" not in message


def test_an_unknown_target_is_told_apart(assembler: Ptxas) -> None:
    with pytest.raises(AssemblerTooOld, match="sm_999"):
        assembler.assemble(PTX, "sm_999")


def test_an_unknown_ptx_version_is_told_apart(assembler: Ptxas) -> None:
    with pytest.raises(AssemblerTooOld, match=r"Unsupported \.version"):
        assembler.assemble(PTX.replace(".version 8.0", ".version 99.0"), "sm_80")


def test_the_version_is_numbers(assembler: Ptxas) -> None:
    assert assembler.version.split(".")[0].isdecimal()


LOG = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'first' for 'sm_80'
ptxas info    : Function properties for first
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size
ptxas info    : Compiling entry function 'second' for 'sm_80'
ptxas info    : Function properties for second
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
"""


def test_resources_are_read_for_each_entry() -> None:
    assert parse_resources(LOG) == {"first": Resources(255, 20), "second": Resources(40, 0)}


def _script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o755)
    return path


def test_a_lost_property_is_refused(tmp_path: Path) -> None:
    lines = (
        'while [ "$1" != -o ]; do shift; done; echo code > "$2"',
        'echo "ptxas info : (C7510) Potential Performance Loss: wgmma serialized" >&2',
    )
    fake = Ptxas(_script(tmp_path / "ptxas", *lines))
    with pytest.raises(AssemblerError, match=r"sm_90a: the assembler gives up a property: .*C7510"):
        fake.assemble(PTX, "sm_90a")


def test_a_program_that_is_no_assembler_is_refused(tmp_path: Path) -> None:
    fake = Ptxas(_script(tmp_path / "ptxas", "echo hello"))
    with pytest.raises(AssemblerError, match="does not answer like ptxas"):
        _ = fake.version
    with pytest.raises(AssemblerError, match="ptxas for sm_80: hello"):
        fake.assemble(PTX, "sm_80")


def test_a_program_that_cannot_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssemblerError, match="can't be run"):
        Ptxas(tmp_path / "nowhere").assemble(PTX, "sm_80")


def _find_nothing(_name: str) -> None:
    return None


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """No assembler in any of the places, and no memory of one."""
    monkeypatch.setattr(module.importlib.util, "find_spec", _find_nothing)
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    find_ptxas.cache_clear()
    yield monkeypatch
    find_ptxas.cache_clear()


def test_without_an_assembler_there_is_none(nowhere: pytest.MonkeyPatch) -> None:
    assert find_ptxas() is None


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH", "PATH"])
def test_the_environment_leads_to_the_assembler(
    nowhere: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    path = _script(tmp_path / "toolkit" / "bin" / "ptxas", "true")
    home = path.parent if variable == "PATH" else path.parent.parent
    nowhere.setenv(variable, os.fspath(home))
    found = find_ptxas()
    assert found is not None
    assert found.path == path
