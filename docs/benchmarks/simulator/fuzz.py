"""
Loads mutated PTX texts: each one loads or is refused with a PTXError.

Run it as `python docs/benchmarks/simulator/fuzz.py [count] [seed]`; it prints the texts that end
otherwise and the largest memory, and exits with 1 if there are any. Mutations change bytes, and
swap, drop, repeat and replace tokens; a text is one kernel of the corpus.
"""

import random
import re
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tilewright.runtime import simulator

CORPUS = Path(__file__).parents[3] / "test" / "runtime" / "simulator" / "corpus"
SECONDS = 20
_TOKEN = re.compile(r"\s+|[%$_.\w]+|.", re.DOTALL)
_DEFINITION = re.compile(
    r"^(?:\.visible )?\.(?P<kind>entry|func)\b[^;{]*?(?P<name>\w+)\s*\([^;{]*\{.*?^\}",
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


class HangError(BaseException):
    """Says that a text took too long."""


def pieces() -> list[str]:
    """Returns one text for each kernel of the corpus, and what the whole files begin with."""
    texts: list[str] = []
    for path in sorted(CORPUS.glob("*.ptx")):
        whole = path.read_text()
        found = list(_DEFINITION.finditer(whole))
        head = whole[: found[0].start()]
        functions = {m["name"]: m[0] for m in found if m["kind"] == "func"}
        kernels = [m[0] for m in found if m["kind"] == "entry"]
        texts += [head + "\n".join(_with_functions(text, functions)) for text in kernels]
    return [text for text in texts if len(text) < 20_000]


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
    split = [_TOKEN.findall(text) for text in texts]
    for _ in range(count):
        number = generator.randrange(len(texts))
        if generator.random() < 0.3:
            yield _bytes(texts[number], generator)
        else:
            yield _tokens(split[number], split[generator.randrange(len(texts))], generator)


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


def verdict(text: str) -> str:
    """Returns "loads", "refused", or what else a text led to."""
    try:
        simulator.Device().load(text)
        return "loads"
    except simulator.PTXError:
        return "refused"
    except (Exception, HangError) as error:
        return f"{type(error).__name__}: {error}"


def _expire(number: int, frame: FrameType | None) -> None:
    raise HangError(f"longer than {SECONDS} s")


def main() -> int:
    """Runs the texts; returns the exit code."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    signal.signal(signal.SIGALRM, _expire)
    verdicts: dict[str, int] = {}
    for text in mutants(seed, count):
        signal.alarm(SECONDS)
        found = verdict(text)
        signal.alarm(0)
        if found not in ("loads", "refused") and found not in verdicts:
            print(f"--- {found}\n{text}\n")
        verdicts[found] = verdicts.get(found, 0) + 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    for found, number in verdicts.items():
        print(f"{number:7d}  {found}")
    print(f"{memory} MiB at most")
    return int(len(verdicts.keys() - {"loads", "refused"}) > 0 or memory > 2048)


if __name__ == "__main__":
    sys.exit(main())
