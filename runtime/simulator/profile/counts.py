"""What a launch did, line by line: instructions, flops, memory requests, divergence."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

# From the first part of an opcode to its family; the rest is arithmetic of its last type.
_FAMILIES = {
    "memory": "ld ldu st atom red cp ldmatrix stmatrix prefetch prefetchu multimem discard",
    "tensor": "mma wmma wgmma movmatrix",
    "warp": "shfl vote match redux activemask elect",
    "barrier": "bar barrier mbarrier fence membar",
    "control": "bra brx ret exit trap call setmaxnreg nanosleep griddepcontrol",
    "move": "mov cvta selp slct prmt mapa isspacep createpolicy",
    "convert": "cvt",
    "compare": "setp set testp",
    "logic": "and or xor not cnot lop3 shl shr shf bfe bfi brev popc clz bfind fns",
}
_FAMILY = {head: family for family, heads in _FAMILIES.items() for head in heads.split()}
_FLOATS = {"f16": 1, "bf16": 1, "f16x2": 2, "bf16x2": 2, "f32": 1, "f32x2": 2, "f64": 1}
_SHAPE = re.compile(r"\.m(\d+)n(\d+)k(\d+)")
_TYPE = re.compile(r"[bsuf]\d+|bf16|tf32|e4m3|e5m2")
_NOT_COUNTED = frozenset({"neg", "abs", "min", "max", "copysign"})


def family_of(opcode: str) -> str:
    """Returns the family of an opcode, such as "memory" or "float"."""
    head, _, rest = opcode.partition(".")
    known = _FAMILY.get(head)
    if known is not None:
        return known
    return "float" if any(part in _FLOATS for part in rest.split(".")) else "integer"


def flops_of(opcode: str) -> tuple[str, float]:
    """Returns the type and number of floating-point operations of one thread."""
    head, _, rest = opcode.partition(".")
    parts = rest.split(".")
    if head in ("mma", "wgmma") or opcode.startswith("wmma.mma"):
        shape = _SHAPE.search(opcode)
        if shape is None:
            return "", 0
        m, n, k = map(int, shape.groups())
        threads = 128 if head == "wgmma" else 32
        types = [part for part in parts if _TYPE.fullmatch(part)]
        inputs = types[1] if len(types) > 2 else ("f16" if head == "wmma" else types[-1])
        return f"tensor {inputs}", 2 * m * n * k / threads
    types = [part for part in parts if part in _FLOATS]
    if head in _NOT_COUNTED or not types or family_of(opcode) != "float":
        return "", 0
    return types[-1].removesuffix("x2"), _FLOATS[types[-1]] * (2 if head in ("fma", "mad") else 1)


@dataclass(slots=True)
class LineProfile:
    """
    The counts of one instruction, or of several instructions of one source line.

    `executed` counts threads, `warps` the warps that issued it. A global `request` is one warp's
    access; `sectors` are the 32-byte pieces it touches, `global_bytes` what its threads ask for.
    A bulk or tensor copy is one request. Shared accesses ask for `shared_bytes` and go in `phases`
    of at most 128 bytes; a phase takes as many `wavefronts` as words that differ meet in one of 32
    banks; copy engines and wgmma meet no conflicts. `divergent` counts branches that part a warp,
    `barriers` the warps that arrive at barriers. `mix` holds `executed` by family where several
    instructions are added up.
    """

    line: int
    text: str
    source: str
    opcode: str = ""
    executed: int = 0
    warps: int = 0
    flops: float = 0
    global_bytes: int = 0
    requests: int = 0
    sectors: int = 0
    phases: int = 0
    wavefronts: int = 0
    divergent: int = 0
    shared_bytes: int = 0
    barriers: int = 0
    mix: dict[str, int] = field(default_factory=dict[str, int])

    def families(self) -> dict[str, int]:
        """Returns the threads that executed instructions, by family."""
        if self.mix or not self.opcode:
            return self.mix
        return {family_of(self.opcode): self.executed}

    def add(self, other: "LineProfile") -> None:
        """Adds the counts of another instruction."""
        for family, executed in other.families().items():
            self.mix[family] = self.mix.get(family, 0) + executed
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


COUNTS = (
    "executed",
    "warps",
    "flops",
    "global_bytes",
    "requests",
    "sectors",
    "phases",
    "wavefronts",
    "divergent",
    "shared_bytes",
    "barriers",
)


@dataclass
class Profile:
    """
    What a launch did: instructions counted by thread, and as issued to groups of lanes.

    `lines` holds one entry an instruction, in text order, where the launch was profiled.
    """

    thread_instructions: int = 0
    steps: int = 0
    ctas: int = 0
    lines: tuple[LineProfile, ...] = field(default_factory=tuple)

    def mix(self) -> dict[str, int]:
        """Returns the instructions executed, by family."""
        counter: Counter[str] = Counter()
        for line in self.lines:
            counter[family_of(line.opcode)] += line.executed
        return dict(counter.most_common())

    def flops(self) -> dict[str, float]:
        """Returns the floating-point operations by type; those of tensor cores apart."""
        totals: dict[str, float] = {}
        for line in self.lines:
            type, _ = flops_of(line.opcode)
            if type:
                totals[type] = totals.get(type, 0) + line.flops
        return totals

    def total(self) -> LineProfile:
        """Returns the sums over all lines."""
        return _sum(LineProfile(0, "", ""), self.lines)

    def barriers(self) -> int:
        """Returns how many warps arrived at barriers."""
        return sum(line.barriers for line in self.lines)

    def by_source(self) -> tuple[LineProfile, ...]:
        """Returns the counts by source line, from `.loc`; instructions without one are last."""
        merged: dict[str, LineProfile] = {}
        for line in self.lines:
            place = line.source.rsplit(":", 1)[0]
            _sum(merged.setdefault(place, LineProfile(line.line, place, place)), (line,))
        return tuple(merged[place] for place in sorted(merged, key=_place))


def _sum(into: LineProfile, lines: Iterable[LineProfile]) -> LineProfile:
    for line in lines:
        into.add(line)
    return into


def _place(place: str) -> tuple[bool, str, int]:
    file, _, number = place.rpartition(":")
    return not place, file, int(number) if number.isdigit() else 0
