"""The pytest plug-in: what launches find fails the test that made them."""

import inspect
import itertools
from typing import Any

import pytest

from tilewright.runtime import simulator, simulator_device
from tilewright.testing import RecordingDevice, plugin
from tilewright.testing import device as recording

# What a run inside this process imports is forgotten after it; these stay.
LOADED = (simulator_device, plugin, simulator.Device().load(".version 8.0\n.target sm_80"))
pytest_plugins = ["pytester"]

# Each thread writes its word of shared memory; thread 0 reads its neighbour's.
KERNELS = '''
HEADER = ".version 8.0\\n.target sm_80\\n.address_size 64\\n"
EXCHANGE = HEADER + """.visible .entry exchange(.param .u64 p) {
.reg .b32 %r<4>; .reg .b64 %d<3>; .shared .align 4 .b8 s[256];
mov.u32 %r0, %tid.x;
shl.b32 %r1, %r0, 2;
mov.u32 %r2, s;
add.u32 %r1, %r1, %r2;
st.shared.u32 [%r1], %r0;
BARRIER
ld.shared.u32 %r3, [s+252];
ld.param.u64 %d0, [p];
mad.wide.u32 %d1, %r0, 4, %d0;
st.global.u32 [%d1], %r3;
ret;
}"""
SPIN = HEADER + ".visible .entry spin() { again: bra again; }"
RACING, SAFE = EXCHANGE.replace("BARRIER", ""), EXCHANGE.replace("BARRIER", "bar.sync 0;")


def run(device, ptx, count=64, **options):
    out = device.empty((count,), "u32", "out")
    return device.load(ptx)["exchange"].launch(1, 64, [out], **options)
'''


# Other plug-ins would be imported once more for each run.
ALONE = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist")


def outcomes(pytester: pytest.Pytester, body: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile("import pytest\n" + KERNELS + body)
    return pytester.runpytest_inprocess(*ALONE, *options)


def test_a_test_whose_launches_find_nothing_passes(pytester: pytest.Pytester) -> None:
    body = "def test(simulator_device): run(simulator_device, SAFE)"
    outcomes(pytester, body).assert_outcomes(passed=1)


def test_a_finding_fails_a_test_that_did_not_look(pytester: pytest.Pytester) -> None:
    result = outcomes(pytester, "def test(simulator_device): run(simulator_device, RACING)")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "race: " in text
    assert "kernel exchange, block (0, 0, 0), thread" in text
    assert "> " in text
    assert "other access: block (0, 0, 0), thread" in text
    assert "cure: " in text


def test_the_report_marks_both_lines_of_the_text(pytester: pytest.Pytester) -> None:
    result = outcomes(pytester, "def test(simulator_device): run(simulator_device, RACING)")
    # Where the variable CI is set, pytest's summary repeats the whole report.
    report = itertools.takewhile(lambda line: "short test summary" not in line, result.outlines)
    marked = [line.split("|")[1].strip() for line in report if line.startswith("  > ")]
    assert marked == ["st.shared.u32 [%r1], %r0;", "ld.shared.u32 %r3, [s+252];"]


def test_the_report_shows_the_source_that_loc_names(pytester: pytest.Pytester) -> None:
    source = pytester.path / "exchange.cu"
    source.write_text("first\nshared[i] = i;\nthird\n")
    body = f"""
def test(simulator_device):
    ptx = RACING.replace("st.shared", '.loc 1 2 5\\nst.shared') + '\\n.file 1 "{source}"\\n'
    run(simulator_device, ptx)
"""
    outcomes(pytester, body).stdout.fnmatch_lines(["  >     2 | shared[[]i] = i;"])


def test_a_fault_is_reported_with_the_test_that_it_ends(pytester: pytest.Pytester) -> None:
    result = outcomes(pytester, "def test(simulator_device): run(simulator_device, SAFE, 63)")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Captured simulator call*", "bounds: *", "  > *st.global.u32*"])


def test_a_fault_that_the_test_swallows_fails_it(pytester: pytest.Pytester) -> None:
    body = """
def test(simulator_device):
    with pytest.raises(Exception): run(simulator_device, SAFE, 63)
"""
    outcomes(pytester, body).assert_outcomes(failed=1)


def test_what_is_expected_does_not_fail(pytester: pytest.Pytester) -> None:
    body = """
def test(simulator_device):
    simulator_device.expect("race", match="st.shared")
    run(simulator_device, RACING)
"""
    outcomes(pytester, body).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("expected", "ptx"), [('"race"', "SAFE"), ('"race", match="st.global"', "RACING")]
)
def test_what_is_expected_and_not_found_fails(
    pytester: pytest.Pytester, expected: str, ptx: str
) -> None:
    body = f"""
def test(simulator_device):
    simulator_device.expect({expected})
    run(simulator_device, {ptx})
"""
    result = outcomes(pytester, body)
    result.assert_outcomes(failed=1)
    assert "expected to find: race" in result.stdout.str()


def test_other_findings_than_the_expected_fail(pytester: pytest.Pytester) -> None:
    body = """
def test(simulator_device):
    simulator_device.expect("race")
    run(simulator_device, RACING)
    with pytest.raises(Exception): run(simulator_device, SAFE, 63)
"""
    result = outcomes(pytester, body)
    result.assert_outcomes(failed=1)
    assert "bounds: " in result.stdout.str()
    assert "race: " not in result.stdout.str()


def test_launches_of_fixtures_count(pytester: pytest.Pytester) -> None:
    body = """
@pytest.fixture
def before(simulator_device): run(simulator_device, RACING)

@pytest.fixture
def after(simulator_device):
    yield
    run(simulator_device, RACING)

def test_before(before): pass
def test_after(after): pass
"""
    outcomes(pytester, body).assert_outcomes(failed=1, passed=1, errors=1)


def test_a_finding_makes_an_expected_failure(pytester: pytest.Pytester) -> None:
    body = "@pytest.mark.xfail\ndef test(simulator_device): run(simulator_device, RACING)"
    outcomes(pytester, body).assert_outcomes(xfailed=1)


def test_the_option_chooses_checks(pytester: pytest.Pytester) -> None:
    body = "def test(simulator_device): run(simulator_device, RACING)"
    outcomes(pytester, body, "--simulator-checks=default").assert_outcomes(passed=1)
    outcomes(pytester, body, "--simulator-checks=race,in-flight").assert_outcomes(failed=1)


def test_the_closest_marker_chooses_checks(pytester: pytest.Pytester) -> None:
    body = """
pytestmark = pytest.mark.simulator(checks="none")
def test_module(simulator_device): run(simulator_device, RACING)
@pytest.mark.simulator(checks="all")
def test_own(simulator_device): run(simulator_device, RACING)
"""
    outcomes(pytester, body).assert_outcomes(passed=1, failed=1)


def test_a_launch_beyond_the_markers_steps_fails(pytester: pytest.Pytester) -> None:
    body = """
@pytest.mark.simulator(max_steps=100)
def test(simulator_device): simulator_device.load(SPIN)["spin"].launch(1, 32)
@pytest.mark.simulator(max_steps=100)
def test_own(simulator_device): assert not simulator_device.load(SPIN)["spin"].launch(
    1, 32, max_steps=50).complete
"""
    result = outcomes(pytester, body)
    result.assert_outcomes(failed=1, passed=1)
    assert "incomplete: the launch did not end within 100 instructions" in result.stdout.str()


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("checks='speed'", "unknown checks"),
        ("steps=3", "marker simulator takes checks, seed, max_steps, got steps"),
        ("3", "marker simulator takes checks, seed, max_steps, got 3"),
    ],
)
def test_a_wrong_marker_is_an_error(pytester: pytest.Pytester, marker: str, message: str) -> None:
    body = f"@pytest.mark.simulator({marker})\ndef test(simulator_device): pass"
    result = outcomes(pytester, body)
    result.assert_outcomes(errors=1)
    assert message in result.stdout.str()


def test_the_marker_is_known(pytester: pytest.Pytester) -> None:
    body = "@pytest.mark.simulator(checks='all')\ndef test(simulator_device): pass"
    outcomes(pytester, body, "--strict-markers").assert_outcomes(passed=1)


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Returns the schedules that launches are given, in order; launches do nothing else."""
    given: list[Any] = []

    def launch(
        self: simulator.Kernel, grid: Any, block: Any, args: Any = (), seed: int | None = None
    ) -> simulator.Report:
        given.append(seed)
        return simulator.Report()

    monkeypatch.setattr(simulator.Kernel, "launch", launch)
    monkeypatch.setattr(recording, "LAUNCH_OPTIONS", frozenset({"seed"}))
    return given


def test_tests_are_repeated_under_schedules(pytester: pytest.Pytester, seeds: list[Any]) -> None:
    body = "def test(simulator_device): run(simulator_device, SAFE)\ndef test_none(): pass"
    outcomes(pytester, body, "--simulator-seeds=3").assert_outcomes(passed=4)
    assert seeds == [0, 1, 2]


def test_a_markers_schedule_is_the_only_one(pytester: pytest.Pytester, seeds: list[Any]) -> None:
    body = "@pytest.mark.simulator(seed=7)\n"
    body += "def test(simulator_device): run(simulator_device, SAFE)"
    outcomes(pytester, body, "--simulator-seeds=3").assert_outcomes(passed=1)
    assert seeds == [7]


def test_no_schedules_are_refused(pytester: pytest.Pytester) -> None:
    result = outcomes(pytester, "def test(): pass", "--simulator-seeds=0")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


RUNTIME = """
from tilewright.runtime.artifact import KernelArtifact
from tilewright.runtime.contract import KernelContract, PointerParam
from tilewright.runtime.simulator_device import SimulatorDevice
import numpy as np

CONTRACT = KernelContract(
    "exchange", "sm_80", (PointerParam("p", "i32", ("64",), "write"),), ("1", "1", "1"),
    (64, 1, 1), symbols={},
)

def launch(device, ptx):
    buffer = device.array(np.zeros(64, np.int32), "p")
    device.load(KernelArtifact(ptx, CONTRACT)).launch((1, 1, 1), [buffer])
    return buffer.numpy()
"""


def test_kernels_of_the_runtime_are_recorded(pytester: pytest.Pytester) -> None:
    body = f"""{RUNTIME}
def test_safe(simulator_device):
    assert (launch(SimulatorDevice(device=simulator_device), SAFE) == 63).all()
    assert len(simulator_device.launches) == 1

def test_racing(simulator_device):
    launch(SimulatorDevice(device=simulator_device), RACING)
"""
    result = outcomes(pytester, body)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Captured simulator call*", "race: *", "  > *st.shared.u32*"])


def test_the_plug_in_costs_no_import_of_the_simulator(pytester: pytest.Pytester) -> None:
    body = """
import sys
def test(): assert not any(name.startswith("tilewright.runtime") for name in sys.modules)
"""
    pytester.makepyfile(body)
    pytester.runpytest_subprocess(*ALONE).assert_outcomes(passed=1)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind 'raze'; there are alignment, "):
        RecordingDevice().expect("raze")


def test_an_unknown_default_is_refused() -> None:
    with pytest.raises(ValueError, match="takes no speed"):
        RecordingDevice("all", speed=3)


def test_every_kind_that_a_finding_documents_can_be_expected() -> None:
    documented = inspect.getdoc(simulator.Finding) or ""
    sentence = documented[documented.index("`kind` is") :].partition(".")[0]
    kinds = set(sentence.split('"')[1::2])
    assert kinds <= set(recording.KINDS)
    assert set(recording.KINDS) - kinds == {"incomplete"}
