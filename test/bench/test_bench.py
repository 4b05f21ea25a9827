"""The benchmark: its shapes and their work, data, oracle, clock, peers that fail, report."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import ml_dtypes
import numpy as np
import pytest

from tilewright.attention.interpreter import Batch, attend
from tilewright.bench.case import Case, Kernel
from tilewright.bench.clock import SMALL_US, Clock, Launch
from tilewright.bench.command import main
from tilewright.bench.data import E4M3, Data, Rows, to_e4m3
from tilewright.bench.engine import on_gpu
from tilewright.bench.kernels import Kernels
from tilewright.bench.measure import GpuBench, open_peers
from tilewright.bench.oracle import Oracle, expected, samples_of
from tilewright.bench.peers import (
    Missing,
    NotApplicable,
    OnDevice,
    Runnable,
    all_peers,
    chosen_peers,
)
from tilewright.bench.rates import Peaks
from tilewright.bench.report import markdown, write_report
from tilewright.bench.results import OURS, Results, Run
from tilewright.bench.suites import cases_of, kernels_of, scaled_down, skewed
from tilewright.bench.variants import VARIANTS, WINDOW
from tilewright.runtime.cuda.device import CudaDevice
from tilewright.runtime.cuda.driver import Driver
from tilewright.runtime.errors import ArgumentError
from tilewright.test.runtime.attention_case import Geometry, op_of
from tilewright.test.runtime.cuda.fake_driver import FakeBindings

SMALL = Kernel("causal", 32, 4, 2, 4)
CASE = Case("small", "paged", SMALL, ((3, 9), (1, 6)))


def with_variant(name: str, requests: tuple[tuple[int, int], ...] = ((3, 9),)) -> Case:
    return replace(CASE, kernel=replace(SMALL, variant=name), requests=requests)


@pytest.mark.parametrize("variant", ["full", "causal", "window"])
@pytest.mark.parametrize("request_", [(5, 5), (3, 9), (1, 7), (WINDOW + 40, WINDOW + 90)])
def test_flops_count_the_pairs_that_the_mask_leaves(
    variant: str, request_: tuple[int, int]
) -> None:
    rows, keys = request_
    q, kv = np.arange(keys - rows, keys)[:, None], np.arange(keys)[None, :]
    seen = {"full": kv >= 0, "causal": q >= kv, "window": (q >= kv) & (q - kv <= WINDOW)}[variant]
    pairs = int(np.broadcast_to(seen, (rows, keys)).sum())
    assert with_variant(variant, (request_,)).flops == 4 * 32 * 4 * pairs


def test_bytes_count_each_array_once() -> None:
    q = 4 * 4 * 32 * 2  # rows, heads, head_dim, bytes
    cache = 2 * 15 * 2 * 32 * 2
    assert CASE.bytes == 2 * q + cache + 4 * 4 * 4


def test_a_shared_prefix_is_counted_once_and_its_pages_are_shared() -> None:
    case = Case("cascade", "cascade", SMALL, ((1, 18), (1, 19)), prefix=16)
    kv_indptr, kv_indices = Data(case).tables[1:3]
    first, second = (kv_indices[kv_indptr[b] : kv_indptr[b + 1]] for b in range(2))
    np.testing.assert_array_equal(first[:4], second[:4])
    assert len({*first, *second}) == case.pages == 6
    assert case.kv_rows == 16 + 2 + 3


def test_names_are_unique_and_no_shape_is_listed_twice() -> None:
    cases = cases_of("all")
    assert len({case.name for case in cases}) == len(cases)
    suites = {"prefill", "paged", "variants", "decode", "cascade", "mla"}
    assert {case.suite for case in cases} == suites


def test_every_kernel_has_a_small_case() -> None:
    cases = cases_of("all")
    small = scaled_down(cases)
    assert {case.kernel for case in small} == set(kernels_of(cases))
    assert max(case.query_rows for case in small) <= 70


def test_skewed_lengths_keep_the_mean() -> None:
    lengths = [keys for _, keys in skewed(64, 8192)]
    assert np.mean(lengths) == pytest.approx(8192, rel=0.01)
    assert max(lengths) > 10 * float(np.median(lengths))


@pytest.mark.parametrize(("suite", "only"), [("nothing", None), ("all", "("), ("all", "zzz")])
def test_a_wrong_choice_of_cases_is_refused(suite: str, only: str | None) -> None:
    with pytest.raises(ArgumentError):
        cases_of(suite, only)


def test_rows_on_a_gpu_repeat_the_block() -> None:
    device = CudaDevice(0, Driver(FakeBindings()))
    block = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float16)
    rows = Rows((5, 5, 2, 4), "f16", block)
    content = rows.on(device, "k", None).numpy()
    np.testing.assert_array_equal(content, rows.host())
    np.testing.assert_array_equal(content.reshape(-1, 4)[[0, 8, 49]], block[[0, 1, 0]])
    np.testing.assert_array_equal(rows.at(np.array([8, 49])), block[[1, 0]])


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_the_oracle_agrees_with_the_interpreter(variant: str) -> None:
    case = with_variant(variant, ((3, 9), (0, 4), (1, 6)))
    data, kernel = Data(case), case.kernel
    traced = VARIANTS[variant].make(kernel.num_qo_heads, kernel.head_dim).traced
    arrays = (rows.host() for rows in (data.q, data.k, data.v))
    scale = kernel.head_dim**-0.5
    out, lse = attend(traced, Batch(*data.tables), *arrays, scale=scale, params=data.params)
    for sample in samples_of(data):
        rows = data.tables[0][sample.request] + sample.rows
        got, got_lse = expected(data, sample)
        np.testing.assert_allclose(got, out[rows, sample.head], atol=1e-9)
        np.testing.assert_allclose(got_lse, lse[rows, sample.head], atol=1e-9)


def exact(data: Data) -> tuple[Any, Any]:
    """Returns the result of a case by the interpreter."""
    kernel = data.case.kernel
    variant = VARIANTS[kernel.variant].make(kernel.num_qo_heads, kernel.head_dim).traced
    arrays = (rows.host() for rows in (data.q, data.k, data.v))
    return attend(variant, Batch(*data.tables), *arrays, scale=kernel.head_dim**-0.5)


@pytest.mark.parametrize("what", ["out", "lse", "unwritten"])
def test_one_wrong_row_is_found(what: str) -> None:
    data = Data(CASE)
    out, lse = exact(data)
    assert Oracle.of(data).judge(out, lse).right
    if what == "lse":
        lse[-1] += 0.01
    else:
        out[-1] = np.nan if what == "unwritten" else 1.01 * out[-1]
    assert not Oracle.of(data).judge(out, lse).right


def test_codes_of_e4m3_are_those_of_ml_dtypes() -> None:
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(E4M3, every.view(ml_dtypes.float8_e4m3fn).astype(np.float64))
    numbers = np.array([0.0, 1.05, -1.1, -0.001, 500.0], np.float32)
    np.testing.assert_array_equal(E4M3[to_e4m3(numbers)], [0.0, 1.0, -1.0, 0.0, 448.0])


def test_the_oracle_reads_keys_and_values_in_eight_bits() -> None:
    case = replace(CASE, kernel=replace(SMALL, kv_format="e4m3"))
    data = Data(case)
    traced = VARIANTS["causal"].make(4, 32).traced
    k, v = (E4M3[rows.host()] for rows in (data.k, data.v))
    out, lse = attend(traced, Batch(*data.tables), data.q.host(), k, v, scale=32**-0.5)
    assert Oracle.of(data).judge(out, lse).right
    assert case.bytes == CASE.bytes - 2 * 15 * 2 * 32


LATENT = replace(
    CASE, kernel=Kernel("causal", 512, 16, 1, 4, decode=True, latent=True), requests=((1, 9),)
)


def test_work_of_latent_attention_counts_a_row_once_as_key_and_value() -> None:
    assert LATENT.flops == 2 * 16 * 9 * (576 + 512)
    assert LATENT.bytes == 2 * (16 * (576 + 512) + 9 * 576) + 4 * 16
    cache = LATENT.pages * 4 * 576 * 2
    assert LATENT.memory_bytes == cache + 2 * 16 * (576 + 512) + 4 * 16


def test_the_oracle_of_latent_attention_is_its_definition() -> None:
    data = Data(LATENT)
    q, ckv, kpe = (data.arrays[name].host() for name in ("q_nope", "ckv_pages", "kpe_pages"))
    pages = data.tables[2]
    value = ckv[pages].reshape(-1, 512)[:9].astype(np.float64)
    key = np.concatenate([value, kpe[pages].reshape(-1, 64)[:9]], axis=1)
    query = np.concatenate([q, data.arrays["q_pe"].host()], axis=2).astype(np.float64)
    weights = np.exp(query[0] @ key.T * 192**-0.5)
    out, lse = (weights @ value) / weights.sum(1)[:, None], np.log(weights.sum(1))
    assert Oracle.of(data).judge(out[None], lse[None]).right
    assert not Oracle.of(data).judge(1.01 * out[None], lse[None]).right


def test_peers_without_latent_attention_say_so() -> None:
    inputs = OnDevice(Data(LATENT), {}, 0, 0)
    with pytest.raises(NotApplicable, match="no latent attention"):
        _ = inputs.attended


class Ticks:
    """Events whose times are those of a script: each launch takes its own number of us."""

    l2_bytes = 1 << 20

    def __init__(self, microseconds: list[float]) -> None:
        self.now, self.flushes, self.launches = 0.0, 0, 0
        self._script = microseconds

    def launch(self) -> None:
        """Takes the time that the script says, the last one again and again."""
        self.now += self._script[min(self.launches, len(self._script) - 1)]
        self.launches += 1

    def event(self, stream: object = None) -> "Tick":
        """Notes the time."""
        return Tick(self.now)

    def empty(self, shape: tuple[int, ...], dtype: str, name: str = "") -> Any:
        """Returns what is flushed."""
        return shape

    def fill(self, buffer: Any, pattern: int = 0, stream: object = None) -> None:
        """Takes a time of its own, which no launch has."""
        self.flushes += 1
        self.now += 1000.0

    def synchronize(self, stream: object = None) -> None:
        """Does nothing."""


class Tick:
    """A point in time, in us."""

    def __init__(self, now: float) -> None:
        self.now = now

    def elapsed_ms(self, start: Any) -> float:
        """Returns the time between two points."""
        return (self.now - start.now) / 1e3


def test_the_median_is_that_of_the_launches_without_the_flush() -> None:
    device = Ticks([9000, 9000, 9000, 8000, *[300.0] * 3, *[500.0] * 4, *[700.0] * 100])
    timing = Clock(device, 7).time(device.launch)
    assert (timing.count, timing.graph) == (25, False)
    assert (timing.median_us, timing.low_us) == pytest.approx((700.0, 500.0))
    assert device.flushes == device.launches - 3


def test_small_launches_are_replayed_as_a_graph() -> None:
    device, replays = Ticks([10.0]), Ticks([2.0])

    def captured() -> Launch:
        def replay() -> None:
            replays.launches += 1
            device.now += 2.0

        return replay

    timing = Clock(device, 7).time(device.launch, captured)
    assert timing.graph
    assert timing.median_us == pytest.approx(2.0)
    assert replays.launches == timing.count + 2


def test_what_cannot_be_captured_is_timed_as_it_is() -> None:
    device = Ticks([10.0])

    def refused() -> Launch:
        raise RuntimeError("operation not permitted when stream is capturing")

    timing = Clock(device, 7).time(device.launch, refused)
    assert (timing.graph, timing.median_us) == (False, pytest.approx(10.0))


def test_peers_are_chosen_by_name() -> None:
    names = [peer.name for peer in chosen_peers("flex,sdpa-cudnn", None)]
    assert names == ["flex", "sdpa-cudnn"]
    assert chosen_peers("none", None) == []
    with pytest.raises(ArgumentError, match="all, none, or some of sdpa-cudnn"):
        chosen_peers("flax", None)


def test_long_launches_are_not_captured() -> None:
    device = Ticks([2 * SMALL_US])
    assert not Clock(device, 7).time(device.launch, lambda: pytest.fail("captured")).graph


class FakePeer:
    """A peer that is right, wrong, not applicable, missing, or fails."""

    def __init__(self, kind: str) -> None:
        self.name = kind

    def open(self) -> str:
        """Is missing where it is meant to be."""
        if self.name == "missing":
            raise Missing("not installed")
        if self.name == "broken":
            raise RuntimeError("its library\nis broken")
        return "1.0"

    def prepare(self, inputs: OnDevice) -> Runnable:
        """Computes by the interpreter."""
        if self.name == "not applicable":
            raise NotApplicable("lengths differ")
        out, lse = exact(inputs.data)
        factor = 1.1 if self.name == "wrong" else 1.0

        def launch() -> None:
            if self.name == "failed":
                raise RuntimeError("an illegal memory access")

        return Runnable(launch, None, lambda: (out * factor, lse))


def bench(kinds: list[str], results: Results, kernels: Kernels | None = None) -> GpuBench:
    device = CudaDevice(0, Driver(FakeBindings()))
    peers = open_peers([FakePeer(kind) for kind in kinds], results)
    clock = Clock(device, device.stream())
    return GpuBench(device, clock, kernels or Kernels(None), ["sm_80"], peers, results)


def run_of(results: Results, engine: str) -> dict[str, Any]:
    (found,) = (run for run in results.cases[0]["runs"] if run["engine"] == engine)
    return found


@pytest.fixture
def failing_kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    def refuse(*_: object) -> Any:
        raise ArgumentError("kernel", "one that is there", "none")

    monkeypatch.setattr(Kernels, "op", refuse)
    return Kernels(None)


def test_every_engine_is_judged_and_a_failure_stops_none(failing_kernels: Kernels) -> None:
    results = Results({"model": "fake"}, {}, "2026-01-01")
    kinds = ["failed", "wrong", "not applicable", "right", "missing", "broken"]
    bench(kinds, results, failing_kernels).run([CASE], lambda _: None, lambda: None)
    states = {run["engine"]: run["state"] for run in results.cases[0]["runs"]}
    expected_states = {kind: kind for kind in kinds[:3]} | {"right": "ok", OURS: "failed"}
    assert states == expected_states
    assert run_of(results, "failed")["detail"] == "RuntimeError: an illegal memory access"
    assert results.missing == {"missing": "not installed", "broken": "RuntimeError: its library"}


def test_results_are_kept_after_each_case(failing_kernels: Kernels) -> None:
    results = Results({"model": "fake"}, {}, "2026-01-01")
    kept: list[int] = []
    cases = [CASE, replace(CASE, name="another")]
    bench([], results, failing_kernels).run(
        cases, lambda _: None, lambda: kept.append(len(results.cases))
    )
    assert kept == [1, 2]


@pytest.fixture
def empty_kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """Kernels that write nothing."""
    geometry = Geometry(4, 2, 32, 4, dtype="f16")
    monkeypatch.setattr(Kernels, "op", lambda *_: op_of(geometry))  # pyright: ignore
    return Kernels(None)


def test_what_our_kernel_does_not_write_is_found(empty_kernels: Kernels) -> None:
    results = Results({"model": "fake"}, {}, "2026-01-01")
    bench([], results, empty_kernels).run([CASE], lambda _: None, lambda: None)
    run = run_of(results, OURS)
    assert run["state"] == "wrong"
    assert results.faults == [f"small: wrong: {run['detail']}"]


def test_our_kernel_is_captured_with_the_addresses_of_its_launch() -> None:
    op = op_of(Geometry(4, 2, 32, 4, dtype="f16"))
    bindings = FakeBindings(contract=op.contract)
    device, data = CudaDevice(0, Driver(bindings)), Data(CASE)
    stream = device.stream()
    arrays = {name: rows.on(device, name, stream) for name, rows in data.arrays.items()}
    work = on_gpu(op, OnDevice(data, arrays, 0, stream.handle), device, stream)
    assert work.captured is not None
    work.launch()
    work.captured()()
    launched, replayed = bindings.launches
    assert replayed == launched


def test_a_case_that_does_not_fit_is_not_run() -> None:
    results = Results({"model": "fake"}, {}, "2026-01-01")
    measured = bench([], results)
    measured.run([replace(CASE, requests=((1, 10**9),))], lambda _: None, lambda: None)
    assert run_of(results, OURS)["state"] == "not applicable"


def timed(engine: str, microseconds: float) -> Run:
    device = Ticks([microseconds])
    timing = Clock(device, 7).time(device.launch)
    return Run(engine, "ok", timing=timing)


def test_rates_are_work_over_the_median() -> None:
    peaks = Peaks(copy_gb_s=1000.0, matmul_tflop_s=10.0)
    results = Results({"model": "fake"}, {}, "2026-01-01", peaks)
    results.add(CASE, [timed(OURS, 2.0)])
    run = results.cases[0]["runs"][0]
    assert run["gb_s"] == pytest.approx(CASE.bytes / 2e3)
    assert run["of_copy"] == pytest.approx(CASE.bytes / 2e3 / 1000)
    assert run["tflop_s"] == pytest.approx(CASE.flops / 2e6)
    assert run["of_matmul"] == pytest.approx(CASE.flops / 2e7)


def test_the_report_has_tables_plots_and_faults(tmp_path: Path) -> None:
    results = Results({"model": "fake"}, {"numpy": "2"}, "2026-01-01", missing={"flex": "no GPU"})
    results.add(CASE, [timed(OURS, 2.0), timed("peer", 5.0), Run("other", "failed", "it broke")])
    page = write_report(results, tmp_path / "r" / "results.json").read_text()
    assert "| small | ok |" in page
    assert "5.0 us (2.50x) | failed |" in page
    assert "- no flex: no GPU" in page
    assert "- small, other: failed: it broke" in page
    svg = ElementTree.parse(tmp_path / "r" / "paged.svg")
    texts = [element.text for element in svg.iter() if element.tag.endswith("text")]
    assert {"paged: Tflop/s", "small", "peer", OURS} <= set(texts)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = Results({"model": "fake"}, {"numpy": "2"}, "2026-01-01", Peaks(1.0, 2.0, 3.0))
    results.add(CASE, [timed(OURS, 2.0)])
    results.save(tmp_path / "results.json")
    again = Results.load(tmp_path / "results.json")
    assert again == results
    assert markdown(again) == markdown(results)


def test_the_command_checks_kernels_that_were_built_before_on_the_simulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["--only", "variant-sinks-decode", "--targets", "sm_80"]
    assert main(["build", str(tmp_path / "kernels"), *chosen]) == 0
    monkeypatch.setattr("tilewright.bench.kernels.compiled", None)
    out = tmp_path / "results.json"
    bundles = ["--bundles", str(tmp_path / "kernels")]
    assert main(["--device", "simulator", *bundles, *chosen, "--out", str(out)]) == 0
    assert "variant-sinks-decode | ok |" in (tmp_path / "report.md").read_text()
    (case,) = json.loads(out.read_text())["cases"]
    assert case["runs"][0]["instructions"] > 10_000


def test_latent_attention_is_built_and_checked_on_the_simulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilewright.bench.kernels.find_ptxas", lambda: None)
    chosen = ["--suite", "mla", "--only", "h16-b1-1024", "--targets", "sm_80"]
    assert main(["build", str(tmp_path / "kernels"), *chosen]) == 0
    monkeypatch.setattr("tilewright.bench.kernels.compiled", None)
    bundles = ["--bundles", str(tmp_path / "kernels")]
    out = ["--out", str(tmp_path)]
    assert main(["--device", "simulator", *bundles, *chosen, *out]) == 0
    assert "| mla-h16-b1-1024 | ok |" in (tmp_path / "report.md").read_text()


@pytest.mark.full
@pytest.mark.parametrize("name", ["variant-sinks-decode", "mla-h16-b1-1024"])
def test_the_static_table_says_what_ptxas_and_the_profile_know(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--static", "--only", name, "--targets", "sm_80"]) == 0
    table = capsys.readouterr().out.splitlines()
    row = dict(zip(*(line.split(" | ") for line in table if "registers" in line or name in line)))
    assert float(row["conflict"]) >= 1
    assert float(row["tensor flops/flop"]) > 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "nothing"], "unknown device 'nothing'"),
        (["--suite", "nothing", "--device", "simulator"], "--suite"),
        (["--what"], "unrecognized arguments: --what"),
        (["report", "nothing.json"], "nothing.json: No such file"),
        (["--device", "simulator", "--bundles", "nothing"], "kernels.json"),
    ],
)
def test_what_is_refused_is_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("tilewright.bench: error: ")
    assert words in error
    assert error.count("\n") == 1


def test_without_torch_peers_are_missing_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    results = Results({}, {}, "2026-01-01")
    assert open_peers(all_peers(None), results) == []
    assert set(results.missing) == {peer.name for peer in all_peers(None)}
    assert all("can't import torch" in reason for reason in results.missing.values())


def test_the_command_loads_no_compiler() -> None:
    code = (
        "import sys, tilewright.bench.command; print([m for m in sys.modules if m[:4] == 'xdsl'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("budget", ["0", "-3", "x", "inf", "nan"])
def test_a_budget_that_is_no_time_is_refused(
    budget: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--budget={budget}"]) == 1
    assert f"--budget: expected a positive number, got '{budget}'" in capsys.readouterr().err
