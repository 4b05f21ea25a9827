"""
Loads mutated PTX texts and launches those that load.

Each text loads or is refused with a PTXError; each launch ends with a report, a LaunchError or a
SimulationError. Run it as `python docs/benchmarks/simulator/fuzz.py [count] [seed]`; it prints the
texts that end otherwise, take too long or too much memory, and exits with 1 if there are any.
Mutations change bytes, swap, drop, repeat and replace tokens, put registers, numbers and opcodes in
the place of others, repeat and swap lines, swap operands, nest brackets; a text is one kernel of
the corpus or of the kernels with bugs. Launches have other checks, schedules, errors of approximate
functions and clusters by turns.
"""

import random
import re
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from tilewright.runtime import simulator

TESTS = Path(__file__).parents[3] / "test" / "runtime" / "simulator"
FOLDERS = (TESTS / "corpus", TESTS / "bugs")
SECONDS = 20  # of CPU time, for one text
MEMORY = 2 << 30  # bytes that a text may add to what the process takes
STEPS = 3000
LARGE = 20_000  # characters; larger texts take their turn less often
_TOKEN = re.compile(r"\s+|[%$_.\w]+|.", re.DOTALL)
_KIND = re.compile(r"%[a-z]+|[a-z]+(?=[.\d])|\d|\.[a-z]")
_DEFINITION = re.compile(
    r"^(?:\.visible )?\.(?P<kind>entry|func)\b[^;{]*?(?P<name>\w+)\s*\([^;{]*\{.*?"
    r"^\}(?!\s*// end inline asm)",
    re.DOTALL | re.MULTILINE,
)
_INSERTED = (
    "0",
    "-1",
    "4294967296",
    "0x7fffffffffffffff",
    "99999999999999999999999",
    "1.5",
    "0f7fc00000",
    "{",
    "}",
    "(",
    "[",
    "]",
    ";",
    ",",
    "@",
    "!",
    "<<",
    "*",
    "%r999999999999",
    "_",
    ".b128",
    ".pred",
    ".f16x2",
    ".v4",
    ".global",
    ".shared",
    ".local",
    ".param",
    "= {1, 2}",
    '"',
    "/*",
    "\x00",
    "²",
)


_NUMBERS = [str(n) for n in (0, 1, 31, 255, 65535, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, 2**200)]
_NUMBERS.append("9" * 5000)
_LARGE_SHARE = 0.03
GOOD = frozenset({"refused", "runs", "ends early", "launch refused", "fault"})


class HangError(BaseException):
    """Says that a text took too long."""


def pieces() -> list[str]:
    """Returns one text for each kernel of the folders, and what the whole files begin with."""
    texts: list[str] = []
    for path in sorted(path for folder in FOLDERS for path in folder.rglob("*.ptx")):
        whole = path.read_text()
        found = list(_DEFINITION.finditer(whole))
        head = whole[: found[0].start()]
        functions = {m["name"]: m[0] for m in found if m["kind"] == "func"}
        kernels = [m[0] for m in found if m["kind"] == "entry"]
        texts += [head + "\n".join(_with_functions(text, functions)) for text in kernels]
    return texts


def _with_functions(kernel: str, functions: dict[str, str]) -> list[str]:
    """Returns a kernel and the functions that it needs, those that are called first."""
    needed = [kernel]
    for text in needed:
        needed += [f for name, f in functions.items() if name in text and f not in needed]
    return needed[::-1]


def mutants(seed: int, count: int) -> Iterator[str]:
    """Yields mutated texts."""
    generator = random.Random(seed)
    texts = pieces()
    small = [text for text in texts if len(text) < LARGE]
    large = [text for text in texts if len(text) >= LARGE]
    for _ in range(count):
        chosen = large if large and generator.random() < _LARGE_SHARE else small
        text = generator.choice(chosen)
        share = generator.random()
        if share < 0.15:
            yield _bytes(text, generator)
        elif share < 0.45:
            yield _tokens(_TOKEN.findall(text), _TOKEN.findall(generator.choice(small)), generator)
        elif share < 0.7:
            yield _alike(_TOKEN.findall(text), generator)
        else:
            yield _lines(text, generator)


def _bytes(text: str, generator: random.Random) -> str:
    """Returns the text with some characters changed, or cut off."""
    characters = bytearray(text, "utf-8")
    for _ in range(generator.choice((1, 2, 5, 20))):
        characters[generator.randrange(len(characters))] = generator.randrange(256)
    if generator.random() < 0.1:
        del characters[generator.randrange(len(characters)) :]
    return characters.decode("utf-8", "replace")


def _tokens(tokens: list[str], others: list[str], generator: random.Random) -> str:
    """Returns the text with some tokens swapped, dropped, repeated or replaced."""
    changed = list(tokens)
    for _ in range(generator.choice((1, 1, 2, 3, 8))):
        at, to = generator.randrange(len(changed)), generator.randrange(len(changed))
        match generator.randrange(6):
            case 0:
                changed[at], changed[to] = changed[to], changed[at]
            case 1:
                del changed[at]
            case 2:
                changed[at] *= generator.choice((2, 3, 3000))
            case 3:
                changed[at] = generator.choice(others)
            case 4:
                changed.insert(at, generator.choice(_INSERTED))
            case _:
                changed[at] = generator.choice(_INSERTED)
    return "".join(changed)


def _alike(tokens: list[str], generator: random.Random) -> str:
    """Returns the text with some registers, numbers or words replaced by others of their kind."""
    changed = list(tokens)
    first = next(i for i, token in enumerate(tokens) if token == "{")
    kinds: dict[str, list[int]] = {}
    for at, token in enumerate(tokens[first:], first):
        kind = _KIND.match(token)
        if kind is not None:
            kinds.setdefault(f"{kind[0]}{token.count('.') if token[0] != '%' else ''}", []).append(
                at
            )
    for _ in range(generator.choice((1, 1, 2, 3))):
        places = kinds[generator.choice(list(kinds))]
        changed[generator.choice(places)] = tokens[generator.choice(places)]
    return "".join(changed)


def _lines(text: str, generator: random.Random) -> str:
    """Returns the text with some lines repeated, dropped, moved or changed inside."""
    lines = text.splitlines()
    for _ in range(generator.choice((1, 1, 2, 4))):
        at, to = generator.randrange(len(lines)), generator.randrange(len(lines))
        match generator.randrange(6):
            case 0:
                lines[at:at] = [lines[at]] * generator.choice((1, 1, 200))
            case 1:
                lines[at] = ""
            case 2:
                lines[at], lines[to] = lines[to], lines[at]
            case 3:
                lines[at] = _swap(lines[at], generator)
            case 4:
                number = _NUMBERS[generator.randrange(len(_NUMBERS))]
                lines[at] = re.sub(r"\b\d+\b", number, lines[at], count=1)
            case _:
                opened, closed = generator.choice(("()", "{}", "[]"))
                depth = generator.choice((1, 2, 5000))
                lines.insert(at, opened * depth + closed * generator.choice((0, depth)))
    return "\n".join(lines)


def _swap(line: str, generator: random.Random) -> str:
    """Returns a line with two operands, or the opcodes' parts, in another order."""
    cut = generator.choice((",", "."))
    parts = line.rstrip(";").split(cut)
    generator.shuffle(parts)
    return cut.join(parts) + ";"


def verdict(text: str, seed: int = 0) -> str:
    """Returns one of GOOD, or what else a text led to."""
    try:
        device = simulator.Device("all" if seed % 4 else "default")
        module = device.load(text)
        found = "runs"
        for kernel in module.values():
            found = _launch(device, kernel, random.Random(seed), _options(seed))
        return found
    except simulator.PTXError:
        return "refused"
    except simulator.LaunchError:
        return "launch refused"
    except simulator.SimulationError:
        return "fault"
    except (Exception, HangError) as error:
        return f"{type(error).__name__}: {error}"


def _options(seed: int) -> dict[str, Any]:
    """Returns what a launch is asked for besides the usual."""
    return {
        "seed": seed if seed % 3 == 0 else None,
        "perturb": seed if seed % 5 == 0 else None,
        "accumulate": "f32" if seed % 7 else "truncating",
        "profile": seed % 11 == 0,
        "cluster": 2 if seed % 13 == 0 else None,
    }


def _launch(
    device: simulator.Device,
    kernel: simulator.Kernel,
    generator: random.Random,
    options: dict[str, Any],
) -> str:
    """Launches a kernel on small random arguments; says how that ended."""
    function = kernel.program.function
    kept = [_argument(device, param.type, param.size, generator) for param in function.params]
    block = function.reqntid or (generator.choice((32, 64, 128)), 1, 1)
    shared = generator.choice((0, 4096, 49152))
    cluster = function.cluster or (options["cluster"] or 1, 1, 1)
    grid = [extent * generator.choice((1, 3)) for extent in cluster[:1]] + list(cluster[1:])
    report = kernel.launch(grid, block, kept, shared, STEPS, **options)
    return "runs" if report.complete else "ends early"


def _argument(device: simulator.Device, type: str, size: int, generator: random.Random) -> Any:
    """Returns an argument: a buffer for 64 bits, a small number or random bytes."""
    if size > 8 or type == "b8":
        array = device.array(np.ones((64, 64), "f2"))
        tensor = device.tensor_map(array, "f16", (64, 64), (128,), (64, 8), swizzle="128B")
        return tensor if size == len(tensor) else generator.randbytes(size)
    if type in ("u64", "b64", "s64"):
        return device.array(np.frombuffer(generator.randbytes(16384), "u4").copy())
    if type[0] == "f":
        return generator.choice((0.0, 1.5, -2.0))
    return generator.choice((0, 1, 7, 64))


def _expire(number: int, frame: FrameType | None) -> None:
    raise HangError(f"longer than {SECONDS} s")


def _limit_memory() -> None:
    """Makes what goes beyond MEMORY a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> int:
    """Runs the texts; returns the exit code."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for text in pieces():
        verdict(text)  # what is imported is not counted as a text's memory
    _limit_memory()
    signal.signal(signal.SIGPROF, _expire)
    verdicts: dict[str, int] = {}
    for number, text in enumerate(mutants(seed, count)):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        found = verdict(text, number)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if found not in GOOD and found not in verdicts:
            print(f"--- {found} (text {number})\n{text}\n", flush=True)
        verdicts[found] = verdicts.get(found, 0) + 1
    for found, times in verdicts.items():
        print(f"{times:7d}  {found}")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB at most")
    return int(not verdicts.keys() <= GOOD)


if __name__ == "__main__":
    sys.exit(main())
