"""Looks at a pipeline while it runs: the IR before and after passes, and where the time goes."""

import sys
import time
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from typing import TextIO

from xdsl.dialects.builtin import ModuleOp
from xdsl.printer import Printer


@dataclass
class IRDumps:
    """
    Prints the IR around passes to stderr.

    `before` and `after` name the passes, or are None for all of them. With `only_changes`, the IR
    after a pass is printed only if its text changed.
    """

    before: Collection[str] | None = ()
    after: Collection[str] | None = ()
    only_changes: bool = False
    on_failure: bool = False
    generic: bool = False
    debug_info: bool = False
    stream: TextIO | None = None
    _last_text: str = field(default="", init=False)

    @property
    def _active(self) -> bool:
        return self.only_changes or self.before != () or self.after != ()

    def run_before(self, pass_name: str, module: ModuleOp) -> None:
        """Is told that a pass is about to run."""
        if not self._active:
            return
        self._last_text = self._text_of(module)
        if self.before is None or pass_name in self.before:
            self._print(f"IR Dump Before {pass_name}", self._last_text)

    def run_after(self, pass_name: str, module: ModuleOp) -> None:
        """Is told that a pass ran, and left a module that verifies."""
        if not self._active or not (self.after is None or pass_name in self.after):
            return
        text = self._text_of(module)
        if self.only_changes and text == self._last_text:
            return
        self._print(f"IR Dump After {pass_name}", text)

    def run_failed(self, pass_name: str, module: ModuleOp) -> None:
        """Is told that a pass failed, or left a module that does not verify."""
        if self.on_failure or self.after is None or pass_name in self.after:
            # Custom forms may rely on what the verifier has refused.
            self._print(f"IR Dump After {pass_name} Failed", self._text_of(module, generic=True))

    def _text_of(self, module: ModuleOp, *, generic: bool = False) -> str:
        out = StringIO()
        printer = Printer(
            out, print_generic_format=self.generic or generic, print_debuginfo=self.debug_info
        )
        printer.print_op(module)
        return out.getvalue()

    def _print(self, title: str, text: str) -> None:
        stream = self.stream or sys.stderr
        stream.write(f"// -----// {title} //----- //\n{text}\n\n")


@dataclass
class StepTimes:
    """CPU and wall time of named steps, in the order in which they first ran."""

    _seconds: dict[str, tuple[float, float, int]] = field(
        default_factory=dict[str, tuple[float, float, int]]
    )

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """Adds the time of the `with` block to a step."""
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            old_cpu, old_wall, runs = self._seconds.get(name, (0.0, 0.0, 0))
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            self._seconds[name] = old_cpu + cpu, old_wall + wall, runs + 1

    def table(self) -> str:
        """Returns the times as a table: CPU ms, wall ms, share of the CPU time, runs, step."""
        total_cpu = sum(cpu for cpu, _, _ in self._seconds.values())
        total_wall = sum(wall for _, wall, _ in self._seconds.values())
        lines = [f"{'CPU ms':>10} {'wall ms':>10} {'share':>7} {'runs':>5}  step"]
        for name, (cpu, wall, runs) in self._seconds.items():
            share = cpu / total_cpu if total_cpu else 0.0
            lines.append(f"{cpu * 1e3:10.2f} {wall * 1e3:10.2f} {share:7.1%} {runs:5}  {name}")
        lines.append(f"{total_cpu * 1e3:10.2f} {total_wall * 1e3:10.2f} {1:7.1%} {'':5}  total")
        return "\n".join(lines) + "\n"
