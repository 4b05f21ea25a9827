"""The output `ptx` of `tilewright-opt`: the PTX text of a thread-level module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.target import Target

from .module import print_ptx


@dataclass(frozen=True)
class PTXTarget(Target):
    """Prints the kernels of a thread-level module as PTX: `-t 'ptx{arch=sm_90a}'`."""

    name = "ptx"

    arch: str = field(default="sm_80", metadata={"doc": "the architecture, such as sm_80"})

    lines: bool = field(default=True, metadata={"doc": "print the places of the ops"})

    def emit(self, ctx: Context, module: ModuleOp, output: IO[str]) -> None:
        output.write(print_ptx(module, self.arch, self.lines))
