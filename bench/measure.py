"""Runs the cases, each by every engine; what fails is reported, and the rest goes on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..runtime.cuda.device import CudaDevice
from ..runtime.errors import DeviceError, TilewrightError
from ..runtime.simulator_device import SimulatorDevice
from ..runtime.stream import stream_handle
from .case import Case
from .clock import Clock
from .data import Data
from .engine import on_gpu, on_simulator
from .kernels import Kernels
from .oracle import Oracle
from .peers import Missing, NotApplicable, OnDevice, Peer, Runnable
from .peers.torch_arrays import release_memory
from .results import OURS, Results, Run

Say = Callable[[str], None]
# Peers gather keys and values, which doubles the memory of a case.
MEMORY_PART = 0.4


def open_peers(peers: Sequence[Peer], results: Results) -> list[Peer]:
    """Returns the peers that are there; notes the versions, and why others are not."""
    found: list[Peer] = []
    for peer in peers:
        try:
            results.software[peer.name] = peer.open()
        except Missing as reason:
            results.missing[peer.name] = str(reason)
        except Exception as error:  # a peer may fail in ways of its own
            results.missing[peer.name] = first_line(error)
        else:
            found.append(peer)
    return found


def first_line(error: Exception) -> str:
    """Returns an error as one line."""
    return f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(": ")


@dataclass
class GpuBench:
    """Measures cases on a GPU."""

    device: CudaDevice
    clock: Clock
    kernels: Kernels
    targets: Sequence[str]
    peers: Sequence[Peer]
    results: Results
    _stream: int = field(init=False)

    def __post_init__(self) -> None:
        self._stream = stream_handle(self.clock.stream) or 0

    def run(self, cases: Sequence[Case], say: Say, keep: Callable[[], None]) -> None:
        """Measures all cases; after each the results so far are kept."""
        for number, case in enumerate(cases, 1):
            say(f"{number} of {len(cases)}: {case.name}")
            self.results.add(case, self._case(case))
            keep()
            release_memory()

    def _case(self, case: Case) -> list[Run]:
        limit = int(MEMORY_PART * self.device.free_bytes)
        if case.memory_bytes > limit:
            needs = f"{case.memory_bytes >> 20} MiB of arrays, {limit >> 20} MiB are for them"
            return [Run(OURS, "not applicable", needs)]
        try:
            data = Data(case)
            oracle = Oracle.of(data)
            inputs = self._inputs(data)
        except Exception as error:
            return [Run(OURS, "failed", first_line(error))]
        return [self._ours(inputs, oracle), *(self._peer(p, inputs, oracle) for p in self.peers)]

    def _inputs(self, data: Data) -> OnDevice:
        arrays = {
            name: rows.on(self.device, name, self._stream) for name, rows in data.arrays.items()
        }
        self.device.synchronize(self._stream)
        return OnDevice(data, arrays, 0, self._stream)

    def _ours(self, inputs: OnDevice, oracle: Oracle) -> Run:
        def prepare() -> Runnable:
            op = self.kernels.op(inputs.case.kernel, self.targets)
            return on_gpu(op, inputs, self.device, self._stream)

        return self._measured(OURS, prepare, oracle)

    def _peer(self, peer: Peer, inputs: OnDevice, oracle: Oracle) -> Run:
        return self._measured(peer.name, lambda: peer.prepare(inputs), oracle)

    def _measured(self, engine: str, prepare: Callable[[], Runnable], oracle: Oracle) -> Run:
        """Checks the first launch of an engine, then times more of them."""
        try:
            work = prepare()
            work.launch()
            verdict = oracle.judge(*work.result())
            timing = self.clock.time(work.launch, work.captured)
        except NotApplicable as reason:
            return Run(engine, "not applicable", str(reason))
        except Exception as error:  # whatever an engine raises is its own failure
            return Run(engine, "failed", first_line(error))
        return Run(engine, "ok", timing=timing, plan_us=work.plan_us).judged(verdict)


def on_the_simulator(
    cases: Sequence[Case],
    kernels: Kernels,
    targets: Sequence[str],
    device: SimulatorDevice,
    results: Results,
    say: Say,
) -> None:
    """Checks small cases, one for each kernel and target, on the simulator."""
    jobs = [(case, target) for target in targets for case in cases]
    for number, (case, target) in enumerate(jobs, 1):
        say(f"{number} of {len(jobs)}: {case.name} for {target}")
        try:
            run = _simulated(case, kernels, target, device)
        except (TilewrightError, DeviceError, ValueError) as error:
            run = Run(OURS, "failed", first_line(error))
        results.add(_named(case, target, targets), [run])


def _simulated(case: Case, kernels: Kernels, target: str, device: SimulatorDevice) -> Run:
    data = Data(case)
    op = kernels.op(case.kernel, [target])
    out, lse, plan_us = on_simulator(op, data, device)
    report: Any = device.load(op.artifact).report
    counted = None if report is None else report.profile.thread_instructions
    run = Run(OURS, "ok", plan_us=plan_us, instructions=counted)
    return run.judged(Oracle.of(data).judge(out, lse))


def _named(case: Case, target: str, targets: Sequence[str]) -> Case:
    return case if len(targets) == 1 else replace(case, name=f"{case.name} {target}")
