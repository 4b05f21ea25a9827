"""Reads what nvdisasm prints: the instructions of a kernel, and its innermost loops."""

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LABEL = re.compile(r"\s*(\.L_\w+):")
_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?);")
_PREDICATE = re.compile(r"@!?U?P(?:T|\d)\s+")
_TARGET = re.compile(r"\bBRA\b.*\((\.L_\w+)\)")
# The tensor core's instructions: of floats, of integers, and those of double precision.
PRODUCTS = ("HMMA", "IMMA", "DMMA")


@dataclass(frozen=True)
class InstructionMix:
    """How often each instruction stands in a loop, without its modifiers."""

    counts: Counter[str]

    @property
    def products(self) -> int:
        """How many instructions of the tensor cores there are."""
        return sum(self.counts[name] for name in PRODUCTS)

    @property
    def others_per_product(self) -> float:
        """How many other instructions there are for each of the tensor cores'."""
        return (self.counts.total() - self.products) / self.products


def disassemble(cubin: bytes, nvdisasm: str) -> str:
    """Returns the text of a cubin's instructions."""
    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        command = [nvdisasm, "-c", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def find_nvdisasm(given: str | None = None) -> str | None:
    """Returns the disassembler that is given, on PATH, or in an installed wheel of Triton."""
    if found := given or shutil.which("nvdisasm"):
        return found
    spec = importlib.util.find_spec("triton")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder, "backends", "nvidia", "bin", "nvdisasm")
        if path.is_file():
            return str(path)
    return None


def main_loop(text: str) -> InstructionMix:
    """Returns the instructions of the loop with the most products; raises ValueError."""
    instructions, labels = _read(text.splitlines())
    loops: list[InstructionMix] = []
    for position, instruction in enumerate(instructions):
        target = _TARGET.search(instruction)
        start = labels.get(target[1], position + 1) if target else position + 1
        if start < position:
            loops.append(InstructionMix(Counter(map(_name, instructions[start : position + 1]))))
    loops = [loop for loop in loops if loop.products]
    if not loops:
        raise ValueError("expected a loop with instructions of the tensor cores, got none")
    return max(loops, key=lambda loop: loop.products)


def _read(lines: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in lines:
        if label := _LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif found := _INSTRUCTION.match(line):
            instructions.append(found[1].strip())
    return instructions, labels


def _name(instruction: str) -> str:
    return _PREDICATE.sub("", instruction).split()[0].split(".")[0]
