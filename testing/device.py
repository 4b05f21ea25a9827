"""A simulated GPU that records what its launches find, and what a test expects of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

from ..runtime import simulator
from ..runtime.simulator import Finding
from .excerpt import describe

if TYPE_CHECKING:
    from ..runtime.simulator.compiler.program import Program

# What `Finding.kind` may be, and "incomplete" for a launch that its default max_steps ended.
KINDS = (
    "alignment",
    "assert",
    "bounds",
    "deadlock",
    "divergence",
    "in-flight",
    "incomplete",
    "mbarrier",
    "proxy",
    "race",
    "read-only",
    "registers",
    "tensor map",
    "transaction",
    "trap",
    "uninitialised",
    "use-after-free",
    "wgmma",
)


@dataclass(frozen=True)
class Launched:
    """One launch: its kernel, the PTX text, and what was found."""

    kernel: str
    ptx: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Expected:
    """What a test wants to be found: a kind, and a pattern that the finding's text holds."""

    kind: str
    match: str = ""

    def admits(self, finding: Finding) -> bool:
        """Says whether a finding is what is expected."""
        return finding.kind == self.kind and re.search(self.match, str(finding)) is not None

    def __str__(self) -> str:
        """Returns the kind and the pattern."""
        return self.kind + (f" that matches {self.match!r}" if self.match else "")


class RecordingKernel(simulator.Kernel):
    """A kernel whose launches are recorded."""

    def __init__(
        self, device: "RecordingDevice", module: simulator.Module, program: "Program"
    ) -> None:
        super().__init__(module, program)
        self._recorder = device

    def launch(self, *args: Any, **kwargs: Any) -> simulator.Report:
        """Runs the kernel as `simulator.Kernel.launch` does, with the device's defaults."""
        bound = signature(super().launch).bind(*args, **kwargs)
        defaults = self._recorder.defaults
        limited = "max_steps" in defaults.keys() - bound.arguments.keys()
        arguments = {**defaults, **bound.arguments}
        try:
            report = super().launch(**arguments)
        except simulator.SimulationError as error:
            self._record(error.finding)
            raise
        stopped = (self._incomplete(arguments),) if limited and not report.complete else ()
        self._record(*report.findings, *stopped)
        return report

    def _record(self, *findings: Finding) -> None:
        launched = Launched(self.name, self.program.module.text, findings)
        self._recorder.launches.append(launched)

    def _incomplete(self, arguments: dict[str, Any]) -> Finding:
        """Returns the finding that a launch didn't end within the steps that a test allows."""
        message = f"the launch did not end within {arguments['max_steps']} instructions issued"
        cure = "end the loop that goes on, or allow more max_steps"
        return Finding("incomplete", message, self.name, cure=cure)


class RecordingDevice(simulator.Device):
    """
    A simulator.Device that records its launches.

    `defaults` are arguments that each launch gets which does not name them, such as
    `max_steps=100_000`. Raises ValueError for one that a launch doesn't take.
    """

    def __init__(self, checks: str | Iterable[str] = "all", **defaults: Any) -> None:
        super().__init__(checks)
        unknown = sorted(defaults.keys() - LAUNCH_OPTIONS)
        if unknown:
            raise ValueError(f"a launch of the simulator takes no {', '.join(unknown)}")
        self.defaults = defaults
        self.launches: list[Launched] = []
        self._expected: list[Expected] = []

    def kernel(self, module: simulator.Module, program: "Program") -> RecordingKernel:
        """Returns the kernel that a module holds for a program."""
        return RecordingKernel(self, module, program)

    def expect(self, kind: str, match: str = "") -> None:
        """
        Says that a launch of this test is to find something of a kind, such as "race".

        `match` is a regular expression that the finding's text must hold. Findings that are
        expected don't fail the test; it fails where none of them is found. Raises ValueError.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; there are {', '.join(KINDS)}")
        self._expected.append(Expected(kind, match))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Returns what all launches found, what is expected included."""
        return tuple(finding for launched in self.launches for finding in launched.findings)

    def failures(self) -> str:
        """Returns what was found and not expected, and expected and not found; "" if nothing."""
        texts: dict[str, int] = {}
        for launched in self.launches:
            for finding in launched.findings:
                if not any(expected.admits(finding) for expected in self._expected):
                    text = describe(finding, launched.ptx)
                    texts[text] = texts.get(text, 0) + 1
        shown = [
            text + (f"\n  found in {times} launches" if times > 1 else "")
            for text, times in texts.items()
        ]
        for expected in self._expected:
            if not any(map(expected.admits, self.findings)):
                count = len(self.launches)
                shown.append(f"expected to find: {expected}\n  not found in {count} launches")
        return "\n\n".join(shown)


LAUNCH_OPTIONS = frozenset(signature(simulator.Kernel.launch).parameters) - {
    "self",
    "grid",
    "block",
    "args",
}
