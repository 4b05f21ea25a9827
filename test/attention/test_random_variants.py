"""Random variants, grown from a grammar, agree with float64 on random batches."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import pytest

from tilewright.attention import Variant
from tilewright.test.attention.reference import Geometry, attend, check, random_batch
from tilewright.test.attention.test_on_simulator import generator, random_lengths
from tilewright.test.spread import spread

# A term is a function of the place (score, b, h, q_idx, kv_idx), of arrays or of traced values.
Term = Callable[[tuple[Any, ...]], Any]
Binary = Callable[[Any, Any], Any]
Choice = TypeVar("Choice")


def choose(condition: Any, yes: Any, no: Any) -> Any:
    """Returns NumPy's choice, of arrays or of traced values."""
    return cast("Any", np).where(condition, yes, no)


SUMS: list[Binary] = [lambda x, y: x + y, lambda x, y: x - y]
INTEGERS: list[Binary] = [*SUMS, np.maximum, np.minimum, lambda x, y: x ^ y]
REALS: list[Binary] = [*SUMS, np.maximum, np.minimum, lambda x, y: x * y]
COMPARISONS: list[Binary] = [
    lambda x, y: x < y,
    lambda x, y: x <= y,
    lambda x, y: x > y,
    lambda x, y: x >= y,
    lambda x, y: x == y,
    lambda x, y: x != y,
]
# A conjunction is what keeps the bounds of a mask, so it is twice as likely.
CONNECTIVES: list[Binary] = [
    lambda x, y: x & y,
    lambda x, y: x & y,
    lambda x, y: x | y,
    lambda x, y: x ^ y,
]


class Grower:
    """Grows random terms. Only integers are compared: rounding never turns a comparison over."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def one(self, choices: Sequence[Choice]) -> Choice:
        """Returns one of some choices."""
        return choices[int(self.rng.integers(len(choices)))]

    def binary(self, ops: Sequence[Binary], lhs: Term, rhs: Term) -> Term:
        """Returns a term of two."""
        op = self.one(ops)
        return lambda at: op(lhs(at), rhs(at))

    def integer(self, depth: int) -> Term:
        """Returns a random term of positions and constants."""
        if depth == 0:
            constant = int(self.rng.integers(-40, 40))
            leaf = int(self.rng.integers(1, 7))
            leaves: list[Term] = [lambda at: constant, lambda at: at[leaf]]
            return leaves[leaf <= 4]
        inner = self.integer(depth - 1)
        divisor = int(self.rng.integers(1, 9))
        terms: list[Term] = [
            self.binary(INTEGERS, inner, self.integer(depth - 1)),
            self.binary(INTEGERS, inner, self.integer(0)),
            lambda at: (inner(at) + at[4]) // divisor,
            lambda at: (inner(at) + at[3]) % divisor,
        ]
        return self.one(terms)

    def condition(self, depth: int) -> Term:
        """Returns a random mask."""
        if depth == 0:
            # One side is a position, so that the comparison is never between constants.
            position = int(self.rng.integers(3, 5))
            return self.binary(COMPARISONS, lambda at: at[position], self.integer(1))
        inner = self.condition(depth - 1)
        terms: list[Term] = [
            self.binary(CONNECTIVES, inner, self.condition(depth - 1)),
            self.binary(CONNECTIVES, inner, self.condition(0)),
            lambda at: ~inner(at),
        ]
        return self.one(terms)

    def real(self, depth: int) -> Term:
        """Returns a random score; its numbers stay small."""
        if depth == 0:
            factor = float(self.rng.integers(-8, 9)) / 8
            position = self.integer(1)
            leaves: list[Term] = [
                lambda at: at[0],
                lambda at: at[0] * factor,
                lambda at: 2 * np.tanh((position(at) + at[4] * 0.125) / 16),
            ]
            return self.one(leaves)
        inner, condition = self.real(depth - 1), self.condition(0)
        terms: list[Term] = [
            self.binary(REALS, inner, self.real(depth - 1)),
            lambda at: choose(condition(at), inner(at), at[0] * 0.5),
            lambda at: 4 * np.tanh(inner(at) / 4),
            lambda at: abs(inner(at)) + at[0],
            lambda at: np.exp(-abs(inner(at))) + at[0],
        ]
        return self.one(terms)


@pytest.mark.parametrize("turn", spread(range(24), 8))
def test_a_random_variant_agrees_with_float64(turn: int) -> None:
    rng = generator("random variant", turn)
    grower = Grower(rng)
    score = grower.real(int(rng.integers(0, 4))) if turn % 3 != 1 else None
    condition = grower.condition(int(rng.integers(0, 4))) if turn % 3 != 2 else None

    def score_mod(score_seen: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        assert score is not None
        return 8 * np.tanh(score((score_seen, b, h, q_idx, kv_idx)) / 8)

    def mask_mod(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        assert condition is not None
        return condition((None, b, h, q_idx, kv_idx))

    variant = Variant(score_mod if score else None, mask_mod if condition else None)
    geometry = Geometry(int(rng.integers(1, 5)), 2, 32, 8)
    batch = random_batch(geometry, random_lengths(rng), rng)
    got = geometry.compile(variant).plan(*batch.tables).run(*batch.arrays)
    expected = attend(geometry, batch, score_mod=variant.score_mod, mask_mod=variant.mask_mod)
    check(geometry, got, expected)
