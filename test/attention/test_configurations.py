"""Every variant over every storage, phase and dtype of keys and values, beside float64."""

from functools import cache

import numpy as np
import pytest

import tilewright.attention as attention
from tilewright.attention import AttentionOp, BlockSparseKV, KVFormat, KVStorage, PagedKV, RaggedKV
from tilewright.runtime.simulator_device import SimulatorDevice
from tilewright.test.attention.library_cases import CASES
from tilewright.test.attention.reference import Batch, Geometry, exact, rounded
from tilewright.test.attention.stored import Storing, expected
from tilewright.test.attention.test_on_simulator import generator

# Query rows and keys of each request, or of each block row.
PHASES = {
    "prefill": [(20, 26), (13, 13)],
    "decode": [(1, 21), (1, 40), (1, 1)],
    "mixed": [(5, 21), (1, 9), (2, 0), (17, 40)],
}
DTYPES = ("f16", "bf16", "fp8")
STORAGES = ("paged", "ragged", "block-sparse")
# Of a whole result, and of each lse: queries and keys that are transformed are rounded once more.
TOLERANCES = {"f16": (2e-3, 4e-3), "bf16": (1.2e-2, 4e-2)}
Configuration = tuple[str, str, str, str]
ALL: list[Configuration] = [
    (variant, storage, phase, dtype)
    for variant in CASES
    for storage in STORAGES
    for phase in PHASES
    for dtype in DTYPES
]


def pairwise() -> list[Configuration]:
    """Returns 4 configurations a variant, in which all pairs of choices stand."""
    chosen: list[Configuration] = []
    for number, variant in enumerate(CASES):
        for storage in range(3):
            phase, dtype = (storage + number) % 3, (storage + number // 3) % 3
            names = (STORAGES[storage], list(PHASES)[phase], DTYPES[dtype])
            chosen.append((variant, *names))
            if storage == number % 3:
                chosen.append((variant, names[0], list(PHASES)[(phase + 1) % 3], names[2]))
    return chosen


CHOSEN = pairwise()


def kv_of(storage: str, dtype: str) -> KVStorage:
    form = KVFormat("e4m3") if dtype == "fp8" else None
    if storage == "paged":
        return PagedKV(4, format=form)
    return RaggedKV(form) if storage == "ragged" else BlockSparseKV(4, form)


@cache
def compiled(variant: str, storage: str, dtype: str, group: int) -> AttentionOp:
    geometry = Geometry(group, 2, 32, 4)
    return attention.compile(
        variant=CASES[variant].variant(geometry),
        kv=kv_of(storage, dtype),
        num_qo_heads=2 * group,
        num_kv_heads=2,
        head_dim=32,
        dtype="bf16" if dtype == "bf16" else "f16",
    )


def check(configuration: Configuration, device: SimulatorDevice | None = None) -> None:
    variant, storage, phase, dtype = configuration
    case, rng = CASES[variant], generator(*configuration)
    op = compiled(variant, storage, dtype, 2)
    geometry = Geometry(2, 2, 32, 4, dtype=op.section.dtype)
    stored = Storing(geometry, kv_of(storage, dtype), PHASES[phase], rng).store()
    q = rounded(rng.standard_normal((int(stored.qo_indptr[-1]), 4, 32)), geometry.dtype)
    requests = 1 if storage == "block-sparse" else len(stored.keys)
    # Parameters are made for the rows of q, and for as many requests as there are.
    none = np.zeros(requests, np.int32)
    params = case.params(rng, geometry, Batch(none, none, none, none, q, q, q))
    plan = op.plan(*stored.tables)
    out, lse = plan.run(q, *stored.arrays, params=params, device=device, **stored.scales)
    wanted_out, wanted_lse = expected(case, geometry, q, stored, params)
    out_tolerance, lse_tolerance = TOLERANCES[geometry.dtype]
    error = np.linalg.norm(exact(out) - wanted_out)
    assert error <= out_tolerance * np.linalg.norm(wanted_out)
    np.testing.assert_allclose(lse, wanted_lse, rtol=0, atol=lse_tolerance)


@pytest.mark.parametrize("configuration", CHOSEN, ids=" ".join)
def test_a_configuration_is_right(configuration: Configuration) -> None:
    number = CHOSEN.index(configuration)
    check(configuration, SimulatorDevice("all") if number % 4 == 0 else None)


@pytest.mark.full
@pytest.mark.parametrize("configuration", [c for c in ALL if c not in CHOSEN], ids=" ".join)
def test_another_configuration_is_right(configuration: Configuration) -> None:
    check(configuration)


def test_all_pairs_of_choices_are_among_the_chosen() -> None:
    def pairs(configurations: list[Configuration]) -> set[tuple[int, int, str, str]]:
        return {(i, j, c[i], c[j]) for c in configurations for i in range(4) for j in range(i)}

    assert pairs(CHOSEN) == pairs(ALL)
    assert len(CHOSEN) >= 80
    assert len(ALL) >= 400
