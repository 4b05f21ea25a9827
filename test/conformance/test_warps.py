"""What the operations of a warp mean, in Python's integers by the pseudocode of the PTX ISA."""

from collections.abc import Callable
from functools import reduce

import numpy as np
from variants import Variant
from variants.variant import Array

from .conftest import Check

LANES = range(128)
ALL = (1 << 32) - 1
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "min": lambda a, b: min(a, b),
    "max": lambda a, b: max(a, b),
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}


def runs(split: str, lane: int) -> bool:
    """Says whether a lane runs the instruction of a variant."""
    return split not in ("odd", "even") or lane % 2 == (split == "odd")


def mates(split: str, lane: int) -> list[int]:
    """Returns the threads that run with one."""
    first = lane // 32 * 32
    return [other for other in range(first, first + 32) if runs(split, other)]


def split_of(variant: Variant) -> str:
    """Returns the last word of a name, which says what lanes run."""
    return variant.name.rpartition(" ")[2]


def shuffle(variant: Variant, inputs: list[Array]) -> Array:
    opcode, _, more = variant.name.partition(" ")
    mode = opcode.removeprefix("shfl.")
    a, b = inputs[0].tolist(), inputs[1].tolist()
    out = np.zeros((2, 128), "u4")
    for thread in LANES:
        if not runs(more, thread):
            continue
        lane = thread % 32
        offset = b[thread] & 31
        if more in ("odd", "even"):
            c = 0 if mode == "up" else 31
            offset = offset & 30 | (lane & 1 if mode == "idx" else 0)
        else:
            c = int(more, 16) if more else int(inputs[2][thread])
        clamp, segment = c & 31, c >> 8 & 31
        most = lane & segment | clamp & ~segment
        source = {
            "up": lane - offset,
            "down": lane + offset,
            "bfly": lane ^ offset,
            "idx": lane & segment | offset & ~segment,
        }[mode]
        inside = source >= most if mode == "up" else source <= most
        out[0, thread] = a[thread - lane + (source if inside else lane)]
        out[1, thread] = inside
    return out


def vote(variant: Variant, inputs: list[Array]) -> Array:
    mode = variant.name.removeprefix("vote.").partition(" ")[0]
    flags, split = inputs[0].reshape(-1).tolist(), split_of(variant)
    out = np.full(128, 9, "u4")
    for thread in LANES:
        if not runs(split, thread):
            continue
        found = mates(split, thread)
        votes = [bool(flags[mate]) for mate in found]
        out[thread] = {
            "all": all(votes),
            "any": any(votes),
            "uni": len(set(votes)) == 1,
            "ballot": sum(1 << mate % 32 for mate, yes in zip(found, votes, strict=True) if yes),
        }[mode]
    return out


def match(variant: Variant, inputs: list[Array]) -> Array:
    values, split = inputs[0].tolist(), split_of(variant)
    everyone = ".all." in variant.name
    out = np.full((2, 128), 9, "u4")
    out[1] = 0 if everyone else 9
    for thread in LANES:
        if not runs(split, thread):
            continue
        found = mates(split, thread)
        same = [mate for mate in found if values[mate] == values[thread]]
        if everyone:
            out[1, thread] = same == found
            same = same if same == found else []
        out[0, thread] = sum(1 << mate % 32 for mate in same)
    return out


def combine(variant: Variant, inputs: list[Array]) -> Array:
    _, operation, kind = variant.name.partition(" ")[0].split(".")
    values = inputs[0].view("i4" if kind == "s32" else "u4").tolist()
    split = split_of(variant)
    out = np.full(128, 9, "u4")
    for thread in LANES:
        if runs(split, thread):
            row = [values[mate] for mate in mates(split, thread)]
            out[thread] = reduce(OPERATIONS[operation], row) & ALL
    return out


def elected(variant: Variant, inputs: list[Array]) -> Array:
    return np.repeat([[1], [0]], 128, axis=1).astype("u4")


def loaded(variant: Variant, inputs: list[Array]) -> Array:
    """ldmatrix: lane 4r+c gets elements 2c and 2c+1 of row r of each matrix."""
    memory = inputs[0].view("u2")
    count = int(variant.name.removeprefix("ldmatrix.x")[0])
    out = np.zeros((count, 128, 2), "u2")
    for thread in LANES:
        r, c = thread % 32 // 4, thread % 4
        for i in range(count):
            rows = inputs[1][thread // 32 * 32 + 8 * i :][:8] // 2
            for e in (0, 1):
                row, column = (2 * c + e, r) if variant.name.endswith("trans") else (r, 2 * c + e)
                out[i, thread, e] = memory[rows[row] + column]
    return out


def kept(variant: Variant, inputs: list[Array]) -> Array:
    """stmatrix: 512 bytes in which rows of matrices were stored."""
    registers, rows = inputs[0].view("u2").reshape(4, 32, 2), inputs[1] // 2
    memory = np.zeros(256, "u2")
    for i in range(int(variant.name.removeprefix("stmatrix.x")[0])):
        for lane in range(32):
            for e in (0, 1):
                row, column = lane // 4, lane % 4 * 2 + e
                if variant.name.endswith("trans"):
                    row, column = column, row
                memory[rows[8 * i + row] + column] = registers[i, lane, e]
    return np.ascontiguousarray(memory.view("u4").reshape(32, 4).T)


def moved(variant: Variant, inputs: list[Array]) -> Array:
    return inputs[0].view("u2").reshape(4, 8, 8).transpose(0, 2, 1)


MEANINGS = {
    "shfl": shuffle,
    "vote": vote,
    "match": match,
    "redux": combine,
    "elect": elected,
    "ldmatrix": loaded,
    "stmatrix": kept,
    "movmatrix": moved,
}


def test_operations_of_a_warp(wrong: Check) -> None:
    def meaning(variant: Variant, inputs: list[Array]) -> Array:
        return MEANINGS[variant.name.partition(".")[0].partition(" ")[0]](variant, inputs)

    assert wrong("warp", meaning) == {}


def test_barriers_count_what_has_not_exited(wrong: Check) -> None:
    def meaning(variant: Variant, inputs: list[Array]) -> Array:
        flags = inputs[0].reshape(-1).astype(bool)
        if variant.name == "bar.sync after an exit":
            values = inputs[0].copy()
            values[:32] = 0
            values[32:] = np.roll(inputs[0][32:], -1)
            return values
        if variant.name == "a warp has exited":
            values = np.zeros(128, "u4")
            values[32:] = 1000 + flags[32:].sum()
            return values
        if variant.name == "barrier.red.popc of 64":
            return np.repeat([flags[:64].sum(), 999], 64).astype("u4")
        kind = variant.name.rpartition(".")[2]
        value = {"and": flags.all(), "or": flags.any(), "popc": flags.sum()}[kind]
        return np.full(128, value, "u4")

    assert wrong("barrier", meaning) == {}
