"""
The PTX assembler, where one is installed: machine code and the resources of each kernel.

It is found in the wheel `nvidia-cuda-nvcc`, below CUDA_HOME or CUDA_PATH, or on PATH.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from .contract import Resources
from .errors import AssemblerError

_TIMEOUT_S = 300
_ENTRY = re.compile(r"Compiling entry function '([^']+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
# C7501 to C7599: a property that the program asks for is given up, such as asynchronous wgmma.
_LOST = re.compile(r"^.*\bC75\d\d\b.*$", re.MULTILINE)
_PROBLEM = re.compile(r"^.*\b(?:error|fatal)\b.*$", re.MULTILINE | re.IGNORECASE)

_TOO_OLD = re.compile(r"is not defined for option 'gpu-name'|Unsupported \.version")


class AssemblerTooOld(AssemblerError):
    """The assembler does not know the target or the version of the PTX."""


@dataclass(frozen=True)
class Assembly:
    """Machine code, the resources of each entry by name, and the assembler's text."""

    cubin: bytes
    resources: Mapping[str, Resources]
    log: str


class Ptxas:
    """The assembler at `path`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @cached_property
    def version(self) -> str:
        """The release, such as `13.0.88`."""
        text = self._run("--version").stdout
        found = re.search(r"\bV(\d+(?:\.\d+)+)", text)
        if found is None:
            raise AssemblerError(f"'{self.path}' does not answer like ptxas")
        return found[1]

    def assemble(self, ptx: str, target: str) -> Assembly:
        """
        Returns the machine code of `ptx` for `target`, such as sm_80 or sm_90a.

        Raises AssemblerError with the assembler's words where it refuses the text, and where it
        warns that it gives up a property that the text asks for; AssemblerTooOld where it knows
        the target or the PTX version not.
        """
        with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
            source, output = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
            source.write_text(ptx)
            done = self._run("-v", f"-arch={target}", "-o", str(output), str(source))
            log = (done.stdout + done.stderr).replace(str(source), "kernel.ptx")
            if done.returncode != 0 or not output.exists():
                lines = _PROBLEM.findall(log) or [log.strip() or f"exit code {done.returncode}"]
                kind = AssemblerTooOld if _TOO_OLD.search(lines[0]) else AssemblerError
                raise kind(f"ptxas for {target}: {lines[0].strip()}")
            refuse_lost_properties(log, target)
            return Assembly(output.read_bytes(), parse_resources(log), log)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [str(self.path), *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AssemblerError(f"'{self.path}' can't be run: {error}") from None


def refuse_lost_properties(log: str, what: str) -> None:
    """Raises AssemblerError where `log` has a warning C75xx; `what` is the kernel or target."""
    lost = _LOST.search(log)
    if lost is not None:
        raise AssemblerError(f"{what}: the assembler gives up a property: {lost[0].strip()}")


def parse_resources(log: str) -> dict[str, Resources]:
    """Returns the resources of each entry that the text of `ptxas -v` tells of."""
    parts = _ENTRY.split(log)
    resources: dict[str, Resources] = {}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        registers, spills = _REGISTERS.search(text), _SPILLS.search(text)
        if registers is not None:
            spilled = sum(map(int, spills.groups())) if spills else 0
            resources[name] = Resources(int(registers[1]), spilled)
    return resources


@lru_cache(maxsize=1)
def find_ptxas() -> Ptxas | None:
    """Returns the assembler of this machine, None where there is none."""
    for path in _candidates():
        if path.is_file() and os.access(path, os.X_OK):
            return Ptxas(path)
    return None


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        yield from sorted(Path(folder).glob("*/bin/ptxas"), reverse=True)
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if home := os.environ.get(variable):
            yield Path(home, "bin", "ptxas")
    if found := shutil.which("ptxas"):
        yield Path(found)
