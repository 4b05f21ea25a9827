"""What loads, stores, atomics, copies of boxes and mbarriers mean, in Python and NumPy."""

import math
import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from variants import Variant
from variants.barriers import script
from variants.variant import SIZES, Array, Box

from .conftest import Check

FLOATS: dict[str, Any] = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f32": np.float32,
    "f64": np.float64,
}


def typed(bits: Array, kind: str) -> Array:
    """Returns bits as the numbers of a type."""
    name = kind.removesuffix("x2")
    code = FLOATS.get(name) or {"s": "i", "i": "i"}.get(name[0], "u") + str(int(name[1:]) // 8)
    return np.ascontiguousarray(bits).reshape(-1).view(code)


def test_loads_extend_and_stores_cut_off(wrong: Check) -> None:
    def meaning(variant: Variant, inputs: list[Array]) -> Array:
        found = re.search(r"(ld|st)\.\w+(?:\.v(\d))?\.(\w+)", variant.name)
        assert found
        count, kind = int(found[2] or 1), found[3]
        if found[1] == "st":
            size = int(kind[1:]) // 8
            return (
                inputs[0].reshape(count, 64).T.copy().view("u1").reshape(64, count, 8)[..., :size]
            )
        values = typed(inputs[0], kind).reshape(64, count).T
        return values.astype("i8" if kind[0] == "s" else "u8")

    assert wrong("memory", meaning) == {}


TWO: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "min": lambda a, b: min(a, b),
    "max": lambda a, b: max(a, b),
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "exch": lambda a, b: b,
    "inc": lambda a, b: 0 if a >= b else a + 1,
    "dec": lambda a, b: b if a == 0 or a > b else a - 1,
}
THREE: dict[str, Callable[[int, int, int], int]] = {"cas": lambda a, b, c: c if a == b else a}
INTEGERS: dict[str, Callable[..., int]] = {**TWO, **THREE}


def combine(operation: str, kind: str, old: Array, *new: Array) -> Array:
    """Returns what an atomic operation leaves, element by element, as bits."""
    if kind.removesuffix("x2") in FLOATS:
        function = {"add": np.add, "min": np.minimum, "max": np.maximum}[operation]
        return function(typed(old, kind), typed(new[0], kind))
    top = (1 << 8 * old.itemsize) - 1
    columns = [typed(value, kind).tolist() for value in (old, *new)]
    results = [INTEGERS[operation](*each) & top for each in zip(*columns, strict=True)]
    return np.array(results, f"u{old.itemsize}")


def bits(values: Array) -> Array:
    return np.ascontiguousarray(values).view(f"u{values.itemsize}")


def test_atomics(wrong: Check) -> None:
    def meaning(variant: Variant, inputs: list[Array]) -> Array:
        found = re.match(r"(atom|red)\.\w+\.(?:v\d\.)?(.*)", variant.name)
        assert found
        words = [word for word in found[2].split(".") if word != "noftz"]
        vector = ".v" in variant.name
        kind, operation = words if vector else words[::-1]
        if found[1] == "red":  # each of 8 places takes every eighth thread's
            total = inputs[1]
            given = inputs[0] if operation not in ("inc", "dec") else np.full_like(inputs[0], 20)
            for start in range(0, given.size, 8):
                total = bits(combine(operation, kind, total, given[start : start + 8]))
            return total
        if not vector:
            new = combine(operation, kind, *inputs)
            return np.concatenate([inputs[0], new.view(inputs[0].dtype)])
        count = variant.count // 64
        old = inputs[1].reshape(32, count).T
        new = combine(operation, kind, np.ascontiguousarray(old), inputs[0])
        return np.concatenate([np.ascontiguousarray(old).reshape(-1), bits(new).view(old.dtype)])

    assert wrong("atomic", meaning) == {}


def test_copies_fill_up_with_zeros(wrong: Check) -> None:
    def meaning(variant: Variant, inputs: list[Array]) -> Array:
        _, size, *how = variant.name.split()
        out = np.full((64, 16), 0x5A, "u1")
        source = inputs[0].view("u1").reshape(64, 16)
        for lane, word in enumerate(inputs[1].tolist()):
            count = int(size)
            if how == ["size"]:
                count = word % (count + 1)
            elif how == ["ignored"]:
                count = 0 if word % 2 else count
            out[lane, : int(size)] = 0
            out[lane, :count] = source[lane, :count]
        return out

    assert wrong("copy", meaning) == {}


def test_bulk_copies(wrong: Check) -> None:
    def meaning(variant: Variant, inputs: list[Array]) -> Array:
        opcode, _, size = variant.name.partition(" ")
        if opcode.startswith("cp.reduce"):
            words = [word for word in opcode.split(".") if word != "noftz"]
            return combine(words[-2], words[-1], inputs[1], inputs[0])
        out = np.zeros(variant.count, "u4")
        out[: int(size) // 4] = inputs[0][: int(size) // 4]
        return out

    assert wrong("bulk", meaning) == {}


def moved(box: Box, first: list[int]) -> tuple[Array, Array]:
    """Returns the elements of a tensor that a box covers, and which of them there are."""
    steps = (1, *box.steps[1:]) if box.steps else (1,) * len(box.shape)
    axes = [
        start + np.arange(0, extent, step)
        for start, extent, step in zip(first, box.box, steps, strict=False)
    ]
    grid = np.meshgrid(*axes[::-1], indexing="ij")[::-1]  # dimension 0 varies fastest
    inside = np.logical_and.reduce(
        [(at >= 0) & (at < extent) for at, extent in zip(grid, box.shape, strict=True)]
    )
    pitch = np.cumprod([1, *box.shape[:-1]])
    index = sum(at * step for at, step in zip(grid, pitch.tolist(), strict=True))
    return np.where(inside, index, 0).reshape(-1), inside.reshape(-1)


def swizzled(raw: Array, word: str) -> Array:
    """Returns bytes in which units of 16 have changed places within each 128 or less."""
    if word == "none":
        return raw
    span = int(word[:-1])
    units = raw.reshape(-1, 16)
    number = np.arange(len(units))
    out = np.empty_like(units)
    out[number ^ number // 8 % (span // 16)] = units
    return out.reshape(-1)


def test_boxes(wrong: Check) -> None:
    def load(variant: Variant, box: Box, inputs: list[Array]) -> Array:
        parts: list[Array] = []
        for first in inputs[1].tolist():
            index, inside = moved(box, first)
            data = np.where(inside, inputs[0][index], 0).astype(inputs[0].dtype)
            if box.fill == "nan":
                data[~inside] = np.array(np.nan, FLOATS[box.dtype]).view(data.dtype)
            parts.append(swizzled(data.view("u1"), box.swizzle))
        return np.concatenate(parts)

    def store(variant: Variant, box: Box, inputs: list[Array]) -> Array:
        tensor = inputs[2].copy()
        operation = variant.name.rpartition(" ")[2]
        kind = box.dtype.replace("i", "s")
        for first, tile in zip(inputs[1].tolist(), inputs[0].reshape(8, -1), strict=True):
            index, inside = moved(box, first)
            # Changing places twice leaves everything where it was.
            data = swizzled(np.ascontiguousarray(tile).view("u1"), box.swizzle).view(tile.dtype)
            new = data[inside]
            if operation in ("add", "min", "max", "inc", "dec", "and", "or", "xor") and new.size:
                new = bits(combine(operation, kind, tensor[index[inside]], new))
            tensor[index[inside]] = new
        return tensor

    def meaning(variant: Variant, inputs: list[Array]) -> Array:
        assert variant.box
        function = load if variant.name.startswith("load") else store
        return function(variant, variant.box, inputs)

    assert wrong("tensor", meaning) == {}


def test_boxes_of_all_ranks_lie_inside_across_and_beyond(known: dict[str, Variant]) -> None:
    found: dict[int, set[str]] = {rank: set() for rank in range(1, 6)}
    for variant in known.values():
        box = variant.box
        if box is None or not variant.name.startswith("load"):
            continue
        assert math.prod(box.box) * SIZES[box.dtype] <= 48 * 1024
        for first in variant.inputs()[1].tolist():
            _, inside = moved(box, first)
            word = "inside" if inside.all() else "across" if inside.any() else "beyond"
            found[len(box.shape)].add(word)
    assert all(words == {"inside", "across", "beyond"} for words in found.values()), found


class Barrier:
    """An mbarrier as the PTX ISA describes it ("Phase of the mbarrier object")."""

    def __init__(self, count: int) -> None:
        self.expected = self.pending = count
        self.bytes = self.phase = 0
        self.token = 0

    def step(self, what: str, value: int) -> int:
        """Performs an operation; returns the pending count before an arrival, or the answer."""
        if what == "token":
            return self.phase > self.token
        if what in ("parity", "try"):
            return self.phase % 2 != value
        before = self.pending
        if what in ("expect", "promise"):
            self.bytes += value
        if what == "complete":
            self.bytes -= value
        if what == "drop":
            self.expected -= 1
        arrives = what not in ("promise", "complete")
        if arrives:
            self.token = self.phase
            self.pending -= value if what in ("arrive", "keep") else 1
        if not self.pending and not self.bytes:
            self.phase, self.pending = self.phase + 1, self.expected
        return before if arrives else 0


def test_mbarriers(wrong: Check) -> None:
    def meaning(variant: Variant, inputs: list[Array]) -> Array:
        count, steps = script(int(variant.name.rpartition(" ")[2]))
        barrier = Barrier(count)
        return np.array([barrier.step(*step) for step in steps], "u4")

    assert wrong("mbarrier", meaning) == {}


def test_scripts_hold_every_operation_and_several_phases() -> None:
    steps = [step for number in range(12) for step in script(number)[1]]
    assert {step.what for step in steps} == {
        "arrive", "one", "keep", "drop", "expect", "promise", "complete", "token", "parity", "try",
    }  # fmt: skip
    for number in range(12):
        count, found = script(number)
        barrier = Barrier(count)
        for step in found:
            barrier.step(*step)
        assert barrier.phase >= 2
