"""Random masks of a grammar, each as a program and as a function of NumPy arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.runtime.block_mask import Grid, Instruction, MaskProgram

Array = npt.NDArray[Any]
Positions = Mapping[str, Array]
BATCH, HEADS = 2, 3

_INTEGERS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "floordiv": np.floor_divide,
    "mod": np.mod,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "shl": np.left_shift,
    "shr": np.right_shift,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
_CONNECTIVES: dict[str, Callable[[Array, Array], Array]] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
}


@dataclass(frozen=True)
class Term:
    """The number of an instruction, and the function of positions that it is."""

    number: int
    at: Callable[[Positions], Array]


class Grower:
    """Grows the instructions of one mask over sequences of a length."""

    def __init__(self, rng: np.random.Generator, length: int, with_rare: bool):
        self.rng = rng
        self.with_rare = with_rare
        self.length = length
        self.instructions: list[Instruction] = []
        self.tensors: dict[str, npt.NDArray[np.int32]] = {}

    def one(self, names: Sequence[str]) -> str:
        """Returns one of some names."""
        return names[int(self.rng.integers(len(names)))]

    def append(
        self,
        op: str,
        operands: Sequence[Term],
        function: Callable[..., Array],
        value: bool | int | str | None = None,
    ) -> Term:
        """Appends an instruction; the function takes the values of its operands."""
        self.instructions.append(Instruction(op, tuple(o.number for o in operands), value))
        parts = [operand.at for operand in operands]
        number = len(self.instructions) - 1
        return Term(number, lambda at: function(*(part(at) for part in parts)))

    def leaf(self, name: str) -> Term:
        """Returns a position."""
        self.instructions.append(Instruction(name))
        return Term(len(self.instructions) - 1, lambda at: at[name])

    def constant(self, value: int) -> Term:
        """Returns a number."""
        return self.append("constant", (), lambda: np.asarray(value), value)

    def integer(self, op: str, x: Term, y: Term) -> Term:
        """Returns an operation on two integers."""
        return self.append(op, (x, y), _INTEGERS[op])

    def compare(self, op: str, x: Term, y: Term) -> Term:
        """Returns a comparison."""
        return self.append(op, (x, y), _COMPARISONS[op])

    def load(self, name: str, tensor: npt.NDArray[np.int32], *indices: Term) -> Term:
        """Returns an entry of a tensor."""
        self.tensors[name] = tensor
        return self.append("load", indices, lambda *at: tensor[at], name)

    def affine(self) -> Term:
        """Returns an affine term of positions, mostly with factors of 1."""
        draw = self.rng.integers(6)
        position = self.leaf(self.one(("q_idx", "kv_idx")))
        shift = self.constant(int(self.rng.integers(-self.length, self.length + 1)))
        if draw == 0:
            return position
        if draw <= 2:
            return self.integer("add", position, shift)
        if draw == 3:
            factor = self.constant(int(self.rng.integers(-3, 4)))
            return self.integer("add", self.integer("mul", position, factor), shift)
        sign = "sub" if draw == 4 else "add"
        both = self.integer(sign, self.leaf("q_idx"), self.leaf("kv_idx"))
        return self.integer("add", both, shift)

    def term(self, depth: int) -> Term:
        """Returns an integer of positions."""
        draw = int(self.rng.integers(13 if self.with_rare else 9)) if depth else 0
        if draw <= 2:
            return self.affine()
        inner = self.term(depth - 1)
        if draw >= 9:
            return self.rare(inner, draw)
        if draw == 3:
            return self.integer("mod", inner, self.constant(int(self.rng.integers(1, 100))))
        if draw == 4:
            return self.integer("floordiv", inner, self.constant(int(self.rng.integers(1, 100))))
        if draw <= 6:
            return self.integer(self.one(("minimum", "maximum")), inner, self.affine())
        if draw == 7:
            return self.append("abs", (inner,), np.abs)
        choice = (self.comparison(), inner, self.affine())
        return self.append("where", choice, np.where)

    def rare(self, inner: Term, draw: int) -> Term:
        """Returns a product of terms, a quotient by one that is not 0, or an operation on bits."""
        if draw == 9:
            op, least = ("maximum", 1) if self.rng.integers(2) else ("minimum", -1)
            divisor = self.integer(op, self.affine(), self.constant(least))
            return self.integer(self.one(("floordiv", "mod")), inner, divisor)
        if draw == 10:
            distance = self.constant(int(self.rng.integers(0, 8)))
            if self.rng.integers(2):
                distance = self.integer("mod", self.affine(), self.constant(8))
            return self.integer(self.one(("shl", "shr")), inner, distance)
        if draw == 11:
            return self.integer("mul", inner, self.affine())
        mask = self.constant(int(self.rng.integers(0, 128)))
        other = mask if self.rng.integers(2) else self.affine()
        return self.integer(self.one(("and", "or", "xor")), inner, other)

    def comparison(self) -> Term:
        """Returns a comparison of affine terms with one another or with a number."""
        small = self.constant(int(self.rng.integers(-20, self.length)))
        other = small if self.rng.integers(2) else self.affine()
        return self.compare(self.one(("lt", "le", "gt", "ge")), self.affine(), other)

    def base(self) -> Term:
        """Returns one of the conditions that masks are made of."""
        q, kv = self.leaf("q_idx"), self.leaf("kv_idx")
        match int(self.rng.integers(9)):
            case 0:
                return self.compare("ge", q, kv)
            case 1:
                window = self.constant(int(self.rng.integers(0, self.length)))
                return self.compare("le", self.integer("sub", q, kv), window)
            case 2:
                windows = self.rng.integers(0, self.length, BATCH).astype(np.int32)
                window = self.load("windows", self.tensors.get("windows", windows), self.leaf("b"))
                return self.compare("lt", self.integer("sub", q, kv), window)
            case 3 | 4:
                documents = self.tensors.get("documents", self.documents())
                of_query = self.load("documents", documents, q)
                return self.compare("eq", of_query, self.load("documents", documents, kv))
            case 5:
                prefix = self.rng.integers(0, self.length, (BATCH, HEADS)).astype(np.int32)
                prefix = self.tensors.get("prefix", prefix)
                length = self.load("prefix", prefix, self.leaf("b"), self.leaf("h"))
                return self.compare("lt", kv, length)
            case 6:
                period = self.constant(int(self.rng.integers(1, 200)))
                op = self.one(("floordiv", "mod"))
                return self.compare("eq", *(self.integer(op, x, period) for x in (q, kv)))
            case 7:
                small = self.constant(int(self.rng.integers(-5, self.length)))
                return self.compare(self.one(tuple(_COMPARISONS)), self.term(2), small)
            case _:
                return self.compare(self.one(tuple(_COMPARISONS)), self.term(2), self.term(1))

    def documents(self) -> npt.NDArray[np.int32]:
        """Returns a document number for each position; one in four times they do not rise."""
        count = int(self.rng.integers(1, 9))
        numbers = np.sort(self.rng.integers(0, count, self.length))
        if self.rng.integers(4) == 0:
            numbers = self.rng.permutation(count)[numbers]
        return numbers.astype(np.int32)

    def mask(self, depth: int) -> Term:
        """Returns a random mask."""
        if depth == 0:
            return self.base()
        inner = self.mask(depth - 1)
        draw = int(self.rng.integers(10))
        if draw == 0:
            return self.append("not", (inner,), np.logical_not)
        if draw == 1:
            return self.append("where", (self.base(), inner, self.base()), np.where)
        op = self.one(("and", "and", "and", "or", "or", "xor"))
        other = self.mask(int(self.rng.integers(depth)))
        return self.append(op, (inner, other), _CONNECTIVES[op])


@dataclass(frozen=True)
class Case:
    """A random mask with the sequences that it is for."""

    program: MaskProgram
    grid: Grid
    tensors: Mapping[str, npt.NDArray[np.int32]]
    mask: Term

    def dense(self) -> npt.NDArray[np.bool_]:
        """Returns the mask element by element for the one slice of the grid."""
        shape = (int(self.grid.q_len[0]), int(self.grid.kv_len[0]))
        return np.broadcast_to(self.mask.at(positions(self.grid)), shape).astype(np.bool_)


def positions(grid: Grid) -> dict[str, Array]:
    """Returns the positions of the first slice of a grid, to be broadcast."""
    q_idx = np.arange(int(grid.q_len[0])) + int(grid.q_first[0])
    return {
        "b": np.asarray(grid.b[0]),
        "h": np.asarray(grid.h[0]),
        "q_idx": q_idx[:, None],
        "kv_idx": np.arange(int(grid.kv_len[0]))[None, :],
    }


def one_slice(
    q_len: int, kv_len: int, q_first: int, block: tuple[int, int], b: int = 0, h: int = 0
) -> Grid:
    """Returns the grid of one request and one head."""
    numbers = [np.asarray([number], np.int64) for number in (b, h, q_len, kv_len, q_first)]
    return Grid(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], block)


def random_case(rng: np.random.Generator, longest: int = 512, *, with_rare: bool = False) -> Case:
    """
    Returns a random mask over random lengths and tiles.

    The rare operations are those on bits, and products and quotients of two terms.
    """
    kv_len = int(rng.integers(1, longest + 1))
    q_len = kv_len if rng.integers(2) else int(rng.integers(1, kv_len + 1))
    grower = Grower(rng, kv_len, with_rare)
    mask = grower.mask(int(rng.integers(0, 4)))
    block = (int(rng.choice([16, 32, 64, 128])), int(rng.choice([16, 32, 64, 128])))
    b, h = int(rng.integers(BATCH)), int(rng.integers(HEADS))
    grid = one_slice(q_len, kv_len, kv_len - q_len, block, b, h)
    return Case(MaskProgram(tuple(grower.instructions)), grid, grower.tensors, mask)


def classified(dense: npt.NDArray[np.bool_], block: tuple[int, int]) -> npt.NDArray[np.int8]:
    """Returns the tiles of a mask by counting elements; what overhangs is masked."""
    pads = [(0, -extent % size) for extent, size in zip(dense.shape, block, strict=True)]
    padded = np.pad(dense, pads)
    rows, columns = (extent // size for extent, size in zip(padded.shape, block, strict=True))
    tiles = padded.reshape(rows, block[0], columns, block[1]).sum(axis=(1, 3))
    return np.where(tiles == 0, 0, np.where(tiles == block[0] * block[1], 2, 1)).astype(np.int8)
