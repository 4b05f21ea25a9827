"""
Steps that move computation and data: what they accept means the same, what they refuse says why.

Each accepted application is executed before and after, on random arrays and several values of the
symbols. Each refused one names the condition that failed.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest

from tilewright.dialects.nest.index_map import IndexMap
from tilewright.dialects.nest.program import Buffer, Program, Scope, blocks_of
from tilewright.nest.interpreter import interpret
from tilewright.transforms.schedule.blockize import Blockize
from tilewright.transforms.schedule.caching import CacheInplace, CacheRead, CacheWrite
from tilewright.transforms.schedule.compute_at import ComputeAt, ReverseComputeAt
from tilewright.transforms.schedule.copies_at import ReadAt, WriteAt
from tilewright.transforms.schedule.inlining import ComputeInline, ReverseComputeInline
from tilewright.transforms.schedule.kinds import Parallel
from tilewright.transforms.schedule.layout import TransformBlockLayout, TransformLayout
from tilewright.transforms.schedule.loop_partition import LoopPartition
from tilewright.transforms.schedule.pad_einsum import PadEinsum
from tilewright.transforms.schedule.primitive import Primitive, ScheduleError
from tilewright.transforms.schedule.reduction_epilogue import FuseReductionEpilogue
from tilewright.transforms.schedule.reindexing import Reindex, ReindexCacheRead, ReindexCacheWrite
from tilewright.transforms.schedule.reorder import Reorder
from tilewright.transforms.schedule.rfactor import RFactor
from tilewright.transforms.schedule.split import Split
from tilewright.transforms.schedule.storage import SetDtype, SetScope, StorageAlign
from tilewright.transforms.schedule.swizzle import SetSwizzle

from . import data_programs as programs

Source: TypeAlias = Callable[[], Program]
SHARED, LOCAL, GLOBAL = Scope.SHARED, Scope.LOCAL, Scope.GLOBAL


def epilogue(kind: str) -> Source:
    return lambda: programs.epilogue(kind)


def index_map(text: str) -> IndexMap:
    return IndexMap.parse(text)


def crossed(kind: str) -> Source:
    return lambda: programs.crossed(kind)


FOURS = index_map("(i) -> (i floordiv 4, i mod 4)")
HALVES = index_map("(i, k) -> (i, k mod 2, k floordiv 2)")
TILE = (Split("i", (None, 4)),)
# Sums over slices of k, the last of which may be shorter, and rows of their results in tiles.
SLICES = (Split("k", (None, 3)), Reorder(("k_0", "i", "j", "k_1")))
ROWS = (Split("i_1", (None, 4), ("i_2", "i_3")),)
ACCEPTED: list[tuple[Source, tuple[Primitive, ...]]] = [
    # cache_read
    (programs.matmul, (CacheRead("C", "A", SHARED),)),
    (programs.matmul, (CacheRead("C", "A", SHARED), CacheRead("C", "A_shared", LOCAL))),
    (programs.matmul, (*TILE, CacheRead("C", "B", LOCAL, "Bs", ("Bs", "r", "c", "vr", "vc")))),
    (programs.diamond, (CacheRead("U", "T", SHARED, consumers=("U", "V")),)),
    (programs.diamond, (CacheRead("V", "T", SHARED),)),
    (programs.softmax, (CacheRead("M", "X", SHARED, consumers=("M", "E")),)),
    (programs.gather, (CacheRead("Y", "T", SHARED),)),
    (programs.overwritten, (CacheRead("T", "X", SHARED),)),
    (programs.scan, (CacheRead("S", "T", LOCAL),)),
    (programs.chain, (ComputeAt("T", "i_1"), CacheRead("U", "T", LOCAL))),
    # cache_write
    (programs.matmul, (CacheWrite("C", "C", LOCAL),)),
    (programs.matmul, (*TILE, CacheWrite("C", "C", LOCAL), CacheWrite("C_local", "C", SHARED))),
    (programs.diamond, (CacheWrite("T", "T", SHARED),)),
    (programs.softmax, (CacheWrite("S", "S", LOCAL),)),
    (programs.chain, (ComputeAt("T", "i_1"), CacheWrite("T", "T", LOCAL))),
    # cache_inplace
    (programs.inplace, (CacheInplace("Y", "Y", SHARED),)),
    (programs.half_written, (CacheInplace("Y", "Y", SHARED),)),
    (programs.chain, (CacheInplace("T", "T", LOCAL),)),
    (programs.overwritten, (CacheInplace("X", "X", LOCAL),)),
    # behind blockize
    (programs.conv, (Blockize("T"), TransformLayout("Y", "T", FOURS, 7.0))),
    # compute_at
    (programs.matmul, (CacheRead("C", "A", SHARED), ComputeAt("A_shared", "k"))),
    (programs.matmul, (CacheRead("C", "A", SHARED), ComputeAt("A_shared", "i"))),
    (programs.matmul, (*TILE, CacheRead("C", "A", SHARED), ComputeAt("A_shared", "i_0"))),
    (
        programs.matmul,
        (Split("k", (None, 2)), CacheRead("C", "B", SHARED), ComputeAt("B_shared", "k_0")),
    ),
    (programs.conv, (ComputeAt("T", "o"),)),
    (programs.conv, (Split("o", (None, 4)), ComputeAt("T", "o_0"))),
    (programs.conv, (ComputeAt("T", "r"),)),
    (programs.padded, (ComputeAt("T", "o"),)),
    (programs.padded, (Split("o", (None, 4)), ComputeAt("T", "o_0"))),
    (programs.strided, (ComputeAt("T", "o"),)),
    (programs.strided, (Split("o", (None, 3)), ComputeAt("T", "o_0"))),
    (programs.chain, (ComputeAt("U", "j_2"), ComputeAt("T", "j_2"))),
    (programs.chain, (ComputeAt("T", "i_1"), ComputeAt("U", "i_2"))),
    (programs.softmax, (ComputeAt("S", "i_3"),)),
    (programs.softmax, (ComputeAt("S", "i_3"), ComputeAt("M", "i_1"))),
    (programs.broadcast, (ComputeAt("T", "j"),)),
    (programs.gather, (ComputeAt("T", "i"),)),
    (programs.scan, (ComputeAt("T", "t"),)),
    (programs.epilogue_after, (ComputeAt("T", "i_1"),)),
    (programs.triangle, (ComputeAt("T", "o"),)),
    (programs.triangle, (Split("o", (None, 3)), ComputeAt("T", "o_0"))),
    (programs.matmul, (*SLICES, RFactor("k_0"), ComputeAt("C_rf", "j_1"))),
    (crossed("sum"), (ComputeAt("T", "o"),)),
    (programs.matmul, (*SLICES, RFactor("k_0"), *ROWS, ComputeAt("C_rf", "i_3"))),
    # reverse_compute_at
    (programs.chain, (ReverseComputeAt("U", "j"), ReverseComputeAt("Y", "j"))),
    (programs.chain, (*TILE, ReverseComputeAt("U", "i_0"), ReverseComputeAt("Y", "i_0"))),
    (programs.chain, (Split("j", (None, 3)), ReverseComputeAt("U", "j_0"))),
    (programs.matmul, (*TILE, CacheWrite("C", "C", LOCAL), ReverseComputeAt("C_local", "j"))),
    (epilogue("clip"), (*TILE, ReverseComputeAt("D", "i_0"))),
    (programs.broadcast, (*TILE, ReverseComputeAt("Y", "i_0"))),
    (programs.strided, (Split("i", (None, 2)), ReverseComputeAt("Y", "i_0"))),
    (programs.softmax, (ReverseComputeAt("S", "i_1"),)),
    (programs.diamond, (ReverseComputeAt("V", "j"), ReverseComputeAt("U", "i"))),
    (programs.softmax, (Parallel("i_1"), ReverseComputeAt("S", "i_1"))),
    # compute_inline
    (programs.conv, (ComputeInline("T"),)),
    (programs.padded, (ComputeInline("T"),)),
    (programs.chain, (ComputeInline("T"), ComputeInline("U"))),
    (programs.diamond, (ComputeInline("T"),)),
    (programs.softmax, (ComputeInline("E"),)),
    (programs.scan, (ComputeInline("T"),)),
    (programs.matmul, (CacheRead("C", "A", SHARED), ComputeInline("A_shared"))),
    # reverse_compute_inline
    (programs.chain, (ReverseComputeInline("U"), ReverseComputeInline("Y"))),
    (programs.chain, (*TILE, ReverseComputeInline("U"))),
    (programs.diamond, (ComputeInline("T"), ReverseComputeInline("Y"))),
    # fuse_reduction_epilogue
    (epilogue("bias"), (FuseReductionEpilogue("T", "D"),)),
    (epilogue("bias-first"), (*TILE, FuseReductionEpilogue("T", "D", "init"))),
    (epilogue("bias"), (FuseReductionEpilogue("T", "D", "after"),)),
    (programs.matmul, (CacheWrite("C", "C", LOCAL), FuseReductionEpilogue("C", "C_local"))),
    (epilogue("clip"), (FuseReductionEpilogue("T", "D"),)),
    (epilogue("scale"), (FuseReductionEpilogue("T", "D"),)),
    (epilogue("twice"), (FuseReductionEpilogue("T", "D"),)),
    (programs.row_maximum, (FuseReductionEpilogue("M", "Y", "init"),)),
    # reindex and caches by index maps
    (programs.matmul, (Reindex("C", "A"), Reindex("C", "B"), Reindex("C", "C"))),
    (programs.conv, (Reindex("Y", "T"),)),
    (programs.conv, (Reindex("Y", "T"), ComputeInline("T_reindex"))),
    (programs.matmul, (ReindexCacheRead("C", "A", SHARED, index_map("(i, j, k) -> (k, i)")),)),
    (
        programs.matmul,
        (ReindexCacheRead("C", "A", SHARED, index_map("(i, j, k) -> (i floordiv 4, k, i mod 4)")),),
    ),
    (programs.matmul, (ReindexCacheWrite("C", "C", LOCAL, index_map("(i, j, k) -> (6*i + j)")),)),
    # read_at, write_at
    (programs.matmul, (*TILE, ReadAt("i_0", "C", "A", SHARED))),
    (programs.matmul, (*TILE, WriteAt("i_0", "C", "C", LOCAL))),
    # storage
    (programs.chain, (SetScope("T", SHARED), StorageAlign("T", "T", 0, 32, 8))),
    (programs.chain, (SetScope("U", LOCAL),)),
    (programs.chain, (SetScope("T", SHARED), SetSwizzle("T", 64))),
    (programs.matmul, (CacheRead("C", "A", SHARED), SetSwizzle("A_shared", 128))),
    (
        programs.matmul,
        (CacheRead("C", "A", SHARED), StorageAlign("A_shared", "A_shared", -2, 8, 0)),
    ),
    (programs.halves, (SetDtype("T", "f32"),)),
    (programs.softmax, (SetDtype("E", "f64"),)),
    # layouts
    (programs.chain, (TransformLayout("T", "T", index_map("(i, j) -> (j, i)")),)),
    (
        programs.chain,
        (TransformLayout("U", "T", index_map("(i, j) -> (i floordiv 4, j, i mod 4)")),),
    ),
    (
        programs.chain,
        (TransformLayout("U", "U", index_map("(i, j) -> (i floordiv 8, j, i mod 8)"), 0),),
    ),
    (programs.conv, (TransformLayout("T", "T", index_map("(i) -> (i floordiv 2, i mod 2)"), 1.5),)),
    (programs.conv, (TransformBlockLayout("T", index_map("(i) -> (i floordiv 4, i mod 4)")),)),
    (programs.matmul, (TransformBlockLayout("C", index_map("(i, j, k) -> (j, k, i)")),)),
    (programs.matmul, (TransformBlockLayout("C", index_map("(i, j, k) -> (6*i + j, k)")),)),
    (
        programs.matmul,
        (TransformBlockLayout("C", index_map("(i, j, k) -> (i, j, k mod 2, k floordiv 2)")),),
    ),
]


def label(source: Source, steps: tuple[Primitive, ...]) -> str:
    return f"{source().name}-{'-'.join(step.name for step in steps)}"


def arrays_for(program: Program, symbols: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for parameter in program.parameters:
        assert isinstance(parameter, Buffer)
        shape = tuple(extent.evaluate(symbols) for extent in parameter.shape)
        if parameter.dtype == "index":
            arrays[parameter.name] = random.integers(0, 8, shape)
        else:
            dtype = {"f32": np.float32, "f16": np.float16}[parameter.dtype]
            signs = random.choice([-1, 1], shape)
            arrays[parameter.name] = (signs * random.uniform(0.25, 2, shape)).astype(dtype)
    return arrays


def applied(program: Program, steps: tuple[Primitive, ...]) -> Program:
    for step in steps:
        before, program = program, step.apply(program)
        assert program != before
    return program


@pytest.mark.parametrize(("source", "steps"), ACCEPTED, ids=[label(*case) for case in ACCEPTED])
def test_what_is_accepted_means_the_same(source: Source, steps: tuple[Primitive, ...]) -> None:
    program = source()
    scheduled = applied(program, steps)
    for seed, length in enumerate((2, 1 + seed_of(label(source, steps)) % 7, 8, 17)):
        symbols = {name: max(2, length - seed % 3) for name in program.ranges}
        arrays = arrays_for(program, symbols, seed)
        expected = interpret(program, arrays, symbols=symbols, is_exact=True)
        got = interpret(scheduled, arrays, symbols=symbols, is_exact=True)
        for name in program.outputs:
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-10, atol=1e-10)


def seed_of(text: str) -> int:
    return sum(map(ord, text))


MAP = index_map("(i, j) -> (j, i)")
INSIDE, BOTH = (CacheRead("C", "A", SHARED), Blockize("j")), ("A_shared", "C")
TILE_T = (Split("i", (None, 4)), ReverseComputeAt("U", "i_0"))
REFUSED: list[tuple[str, Source, tuple[Primitive, ...], Primitive]] = [
    # cache_read
    ("exists", programs.matmul, (), CacheRead("Z", "A", SHARED)),
    ("exists", programs.matmul, (), CacheRead("C", "Z", SHARED)),
    ("is-block", programs.matmul, (), CacheRead("i", "A", SHARED)),
    ("reads", programs.chain, (), CacheRead("Y", "X", SHARED)),
    ("reads", programs.diamond, (), CacheRead("U", "T", SHARED, consumers=("U", "Y"))),
    ("reads-own-writes", programs.matmul, (), CacheRead("C", "C", SHARED)),
    ("scope", programs.matmul, (), CacheRead("C", "A", "texture")),  # pyright: ignore[reportArgumentType]
    ("names", programs.matmul, (), CacheRead("C", "A", SHARED, "B")),
    ("names", programs.matmul, (), CacheRead("C", "A", SHARED, "", ("i", "a", "b", "c", "d"))),
    ("written-between", programs.updated, (), CacheRead("T", "X", SHARED, consumers=("T", "Y"))),
    ("races", programs.chain, (ComputeAt("T", "i_1"), Parallel("i_1")), CacheRead("U", "T", LOCAL)),
    ("written-before", programs.guarded, (), CacheRead("Y", "T", SHARED)),
    ("scope-of-block", programs.matmul, INSIDE, CacheRead("A_shared", "A", SHARED, consumers=BOTH)),
    # cache_write
    ("writes", programs.chain, (), CacheWrite("Y", "U", LOCAL)),
    ("sole-writer", programs.two_writers, (), CacheWrite("T", "T", LOCAL)),
    ("reads-own-writes", programs.inplace, (), CacheWrite("Y", "Y", LOCAL)),
    ("covers", programs.half_written, (), CacheWrite("Y", "Y", LOCAL)),
    ("predicate", programs.triangle, (), CacheWrite("T", "T", LOCAL)),
    # cache_inplace
    ("accesses", programs.chain, (), CacheInplace("Y", "X", LOCAL)),
    ("written-before", programs.scan, (), CacheInplace("S", "S", LOCAL)),
    ("written-before", programs.chain, TILE_T, CacheInplace("T", "T", LOCAL)),
    # compute_at
    ("is-loop", programs.chain, (), ComputeAt("T", "U")),
    ("exists", programs.chain, (), ComputeAt("T", "zz")),
    ("under-already", programs.chain, (), ComputeAt("T", "i")),
    ("output", programs.chain, (), ComputeAt("Y", "i")),
    ("consumers-below", programs.diamond, (), ComputeAt("T", "i_1")),
    ("consumers-below", programs.chain, (), ComputeAt("T", "i_2")),
    ("order", programs.loop_carried, (), ComputeAt("U", "i")),
    ("complete-or-reduction", programs.scan, (), ComputeAt("S", "i_1")),
    ("complete-or-reduction", programs.two_writers, (), ComputeAt("T", "i_2")),
    ("predicate", programs.triangle, (Split("i", (None, 4)),), ComputeAt("T", "o")),
    ("inputs-stable", programs.overwritten, (), ComputeAt("T", "i_2")),
    ("serial", programs.parallel_producer, (), ComputeAt("T", "i")),
    ("names", programs.chain, (), ComputeAt("T", "i_1", ("i", "j"))),
    ("guard", programs.guarded, (), ComputeAt("T", "j")),
    ("one-buffer", programs.two_buffers, (), ComputeAt("T", "o")),
    ("scope-of-block", programs.matmul, INSIDE, ComputeAt("A_shared", "k")),
    ("combiner", crossed("horner"), (), ComputeAt("T", "o")),
    ("first", crossed("backwards"), (), ComputeAt("T", "o")),
    # reverse_compute_at
    ("under-already", programs.chain, (), ReverseComputeAt("Y", "j_2")),
    ("order", programs.chain, (), ReverseComputeAt("T", "i_1")),
    ("producers-below", programs.dead, (), ReverseComputeAt("Y", "i")),
    ("inputs-stable", programs.chain, (), ReverseComputeAt("Y", "i")),
    ("reduced", programs.matmul, (CacheWrite("C", "C", LOCAL),), ReverseComputeAt("C_local", "k")),
    ("reduced", programs.reduced_first, (), ReverseComputeAt("D", "k")),
    ("one-iteration", programs.conv, (), ReverseComputeAt("Y", "i")),
    ("one-iteration", programs.strided, (), ReverseComputeAt("Y", "i")),
    ("one-iteration", programs.softmax, (), ReverseComputeAt("S", "k_1")),
    ("complete-or-reduction", programs.scan, (), ReverseComputeAt("S", "i")),
    ("inputs-stable", programs.overwritten_later, (), ReverseComputeAt("Y", "i")),
    ("races", programs.parallel_columns, (), ReverseComputeAt("Y", "p")),
    ("exact-region", programs.interleaved, (), ReverseComputeAt("Y", "a")),
    ("readers-behind", programs.loop_carried, (), ReverseComputeAt("U", "i")),
    ("guard", programs.guarded, (), ReverseComputeAt("Y", "i")),
    # compute_inline
    ("output", programs.chain, (), ComputeInline("Y")),
    ("complete", programs.matmul, (), ComputeInline("C")),
    ("complete", programs.softmax, (), ComputeInline("S")),
    ("complete", programs.scan, (), ComputeInline("S")),
    ("gather", programs.gather, (), ComputeInline("T")),
    ("inputs-stable", programs.overwritten, (), ComputeInline("T")),
    ("predicate", programs.triangle, (), ComputeInline("T")),
    ("consumers", programs.dead, (), ComputeInline("T")),
    ("one-store", programs.two_stores, (), ComputeInline("T")),
    ("indexed-by-axes", programs.shifted, (), ComputeInline("T")),
    # reverse_compute_inline
    ("one-producer", programs.chain, (), ReverseComputeInline("T")),
    ("complete", programs.softmax, (), ReverseComputeInline("S")),
    ("producer-complete", epilogue("clip"), (), ReverseComputeInline("D")),
    ("indexed-by-axes", programs.broadcast, (), ReverseComputeInline("Y")),
    ("indexed-by-axes", programs.strided, (), ReverseComputeInline("Y")),
    ("sole-consumer", programs.diamond, (), ReverseComputeInline("U")),
    (
        "inputs-stable",
        programs.diamond,
        (ReverseComputeAt("V", "j"), ReverseComputeAt("U", "j")),
        ReverseComputeInline("Y"),
    ),
    # fuse_reduction_epilogue
    ("combiner", epilogue("clip"), (), FuseReductionEpilogue("T", "D", "init")),
    ("combiner", epilogue("scale"), (), FuseReductionEpilogue("T", "D", "init")),
    ("combiner", epilogue("twice"), (), FuseReductionEpilogue("T", "D", "init")),
    ("reduction", programs.chain, (), FuseReductionEpilogue("U", "Y")),
    ("one-producer", programs.softmax, (), FuseReductionEpilogue("M", "Y")),
    ("loop-around", programs.reduced_first, (), FuseReductionEpilogue("T", "D")),
    ("place", epilogue("bias"), (), FuseReductionEpilogue("T", "D", "before")),
    # reindex
    ("reads", programs.chain, (), Reindex("Y", "X")),
    ("one-index", programs.strided, (), Reindex("Y", "T")),
    ("one-index", programs.gather, (), Reindex("Y", "T")),
    ("index-map", programs.matmul, (), ReindexCacheRead("C", "A", SHARED, MAP)),
    (
        "index-map",
        programs.matmul,
        (),
        ReindexCacheRead("C", "A", SHARED, index_map("(i, j, k) -> (i + k)")),
    ),
    (
        "index-map",
        programs.matmul,
        (),
        ReindexCacheRead("C", "A", SHARED, index_map("(i, j, k) -> (i, j)")),
    ),
    ("sole-writer", programs.two_writers, (), Reindex("T", "T")),
    ("shares-loops", programs.chain, (ComputeAt("T", "i_1"),), Reindex("U", "T")),
    ("predicate", programs.triangle, (), Reindex("T", "X")),
    ("reads-own-writes", programs.inplace, (), Reindex("Y", "Y")),
    # read_at, write_at
    ("reads", programs.chain, (), ReadAt("i", "Y", "X", SHARED)),
    ("reduced", programs.matmul, (), WriteAt("k", "C", "C", LOCAL)),
    # storage
    ("output", programs.matmul, (), SetScope("A", SHARED)),
    ("scope", programs.chain, (), SetScope("T", "texture")),  # pyright: ignore[reportArgumentType]
    (
        "layout",
        programs.chain,
        (SetScope("T", SHARED), StorageAlign("T", "T", 0, 32, 8)),
        SetScope("T", GLOBAL),
    ),
    ("scope", programs.chain, (), StorageAlign("T", "T", 0, 32, 8)),
    ("writes", programs.chain, (SetScope("T", SHARED),), StorageAlign("U", "T", 0, 32, 8)),
    ("axis", programs.chain, (SetScope("T", SHARED),), StorageAlign("T", "T", 1, 32, 8)),
    ("factor", programs.chain, (SetScope("T", SHARED),), StorageAlign("T", "T", 0, 0, 0)),
    ("factor", programs.chain, (SetScope("T", SHARED),), StorageAlign("T", "T", 0, 8, 8)),
    ("output", programs.matmul, (), SetSwizzle("A", 64)),
    ("scope", programs.chain, (), SetSwizzle("T", 64)),
    (
        "layout",
        programs.chain,
        (SetScope("T", SHARED), StorageAlign("T", "T", 0, 32, 8)),
        SetSwizzle("T", 64),
    ),
    ("period", programs.chain, (SetScope("T", SHARED),), SetSwizzle("T", 48)),
    ("rounds", programs.chain, (), SetDtype("T", "f16")),
    ("dtype", programs.chain, (), SetDtype("T", "f12")),
    ("output", programs.chain, (), SetDtype("X", "f64")),
    # blockize, and steps behind it
    ("separable", programs.turned, (), Blockize("j")),
    ("blocks-around", programs.matmul, (Blockize("C"),), LoopPartition("k", (1, None))),
    # layouts
    ("output", programs.chain, (), TransformLayout("T", "X", MAP)),
    ("accesses", programs.chain, (), TransformLayout("Y", "T", MAP)),
    ("index-map", programs.conv, (), TransformLayout("T", "T", MAP)),
    ("pad-value", programs.integers, (), TransformLayout("T", "T", FOURS, 7.5)),
    ("index-map", programs.chain, (), TransformLayout("T", "T", index_map("(i, j) -> (i + j)"))),
    ("gather", programs.gather, (), TransformLayout("T", "T", index_map("(i) -> (i)"))),
    (
        "layout",
        programs.chain,
        (SetScope("T", SHARED), StorageAlign("T", "T", 0, 32, 8)),
        TransformLayout("T", "T", MAP),
    ),
    (
        "kinds",
        programs.matmul,
        (),
        TransformBlockLayout("C", index_map("(i, j, k) -> (i, 5*j + k)")),
    ),
    ("index-map", programs.matmul, (), TransformBlockLayout("C", index_map("(i, j, k) -> (i, j)"))),
    ("combiner", programs.horner, (), TransformBlockLayout("Y", HALVES)),
    ("first", programs.begins_at_the_end, (), TransformBlockLayout("Y", HALVES)),
    ("own-loops", programs.chain, (ComputeAt("T", "i_1"),), TransformBlockLayout("T", MAP)),
    ("serial", programs.parallel_producer, (), TransformBlockLayout("T", index_map("(i) -> (i)"))),
    (
        "complete-or-reduction",
        programs.scan,
        (),
        TransformBlockLayout("S", index_map("(i) -> (i)")),
    ),
]


@pytest.mark.parametrize(
    ("condition", "source", "before", "step"),
    REFUSED,
    ids=[f"{case[1]().name}-{case[3].name}-{case[0]}" for case in REFUSED],
)
def test_what_is_refused_names_the_condition(
    condition: str, source: Source, before: tuple[Primitive, ...], step: Primitive
) -> None:
    program = applied(source(), before)
    kept = repr(program)
    with pytest.raises(ScheduleError) as refusal:
        step.apply(program)
    assert refusal.value.condition == condition
    assert refusal.value.primitive == step.name
    assert repr(program) == kept


@pytest.mark.parametrize(
    "step",
    [
        ComputeInline("C_init"),
        ReverseComputeInline("C_init"),
        ComputeAt("C_init", "j"),
        ReverseComputeAt("C_init", "j"),
        CacheInplace("C_init", "C", SHARED),
    ],
    ids=lambda step: step.name,
)
def test_a_block_of_an_init_is_refused(step: Primitive) -> None:
    tiles = Split("k", (None, 4)), Blockize("k_1")
    program = programs.matmul()
    for tile in tiles:
        program = tile.apply(program)
    assert program.block("C_init") is not None
    with pytest.raises(ScheduleError) as caught:
        step.apply(program)
    assert caught.value.condition == "in-init"


def test_a_step_that_names_its_results_makes_them() -> None:
    step = CacheRead("C", "A", SHARED, "Tile", ("Tile", "r", "c", "vr", "vc"))
    program = step.apply(programs.matmul())
    assert step.result_names(programs.matmul()) == ("Tile", "r", "c", "vr", "vc")
    assert [loop.name for loop in program.loops_around("Tile")] == ["r", "c"]
    assert program.buffers["Tile"].scope is SHARED


def test_a_copy_inside_its_buffer_is_not_guarded() -> None:
    steps = (Split("k", (None, 5)), CacheRead("C", "A", SHARED), ComputeAt("A_shared", "i"))
    block = applied(programs.matmul(), steps).block("A_shared")
    assert block is not None
    assert block.predicate == ()


def test_a_copy_that_may_pass_the_end_is_guarded_once() -> None:
    steps = (Split("i", (None, 4)), CacheRead("C", "A", SHARED), ComputeAt("A_shared", "i_0"))
    block = applied(programs.matmul(), steps).block("A_shared")
    assert block is not None
    (bound,) = block.predicate
    assert str(bound.right) == "n"


def test_a_halo_is_computed_again() -> None:
    steps = (Split("o", (None, 4)), ComputeAt("T", "o_0"))
    loops = applied(programs.conv(), steps).loops_around("T")
    assert [str(loop.extent) for loop in loops] == ["(n + 3) floordiv 4", "6"]


def test_a_sum_begins_at_the_bias_that_follows_it() -> None:
    program = FuseReductionEpilogue("T", "D").apply(programs.epilogue("bias"))
    assert "T" not in program.buffers
    assert [block.name for block in blocks_of(program.body)] == ["T"]


def test_a_copy_of_a_padded_sum_is_written_by_the_sum() -> None:
    program = PadEinsum("C", (4, 4, 1)).apply(programs.matmul())
    *_, copy = blocks_of(program.body)
    fused = FuseReductionEpilogue("C", copy.name, "init").apply(program)
    assert "C_m" not in fused.buffers
    block = fused.block("C")
    assert block is not None
    assert [region.buffer for region in block.writes] == ["C"]
    assert [str(bound.right) for bound in block.predicate] == ["n", "6"]


def test_a_tile_runs_where_its_consumer_does() -> None:
    steps = (
        PadEinsum("C", (4, 4, 1), ("a", "b", "c")),
        CacheRead("C", "A_m", SHARED, "T"),
        Split("a", (None, 4), ("tile", "row"), exact=True),
        Split("tile", (None, 2), ("outer", "inner")),
        ComputeAt("T", "inner"),
    )
    block = applied(programs.matmul(), steps).block("T")
    assert block is not None
    (bound,) = block.predicate
    assert {"outer", "inner"} == (bound.left - bound.right).symbols() - {"n"}


def test_a_clip_stays_behind_the_sum() -> None:
    program = FuseReductionEpilogue("T", "D").apply(programs.epilogue("clip"))
    assert [loop.name for loop in program.loops_around("D")] == ["i", "j"]


def test_a_wider_dtype_changes_no_bit() -> None:
    program = programs.halves()
    arrays = arrays_for(program, {"n": 37}, 3)
    copies = {name: array.copy() for name, array in arrays.items()}
    expected = interpret(program, arrays)["Y"]
    got = interpret(SetDtype("T", "f32").apply(program), copies)["Y"]
    np.testing.assert_array_equal(got, expected)


def test_a_narrower_dtype_rounds_where_it_is_asked_for() -> None:
    program = SetDtype("T", "f16", rounds=True).apply(programs.chain())
    arrays = arrays_for(program, {"n": 5, "m": 3}, 1)
    doubled = (arrays["X"] * np.float32(2)).astype(np.float16).astype(np.float32)
    expected = ((doubled + np.float32(1)) ** 2).T
    got = interpret(program, arrays)["Y"]
    np.testing.assert_array_equal(got, expected)


def test_a_buffer_is_filled_before_blocks_inside_of_others_write_it() -> None:
    steps = (*TILE, Blockize("i_1"), TransformLayout("Y", "T", FOURS, 7.0))
    program = applied(programs.conv(), steps)
    assert next(iter(blocks_of(program.body))).name == "T_fill"


def test_a_layout_that_leaves_elements_out_fills_them() -> None:
    layout = index_map("(i) -> (i floordiv 4, i mod 4)")
    program = TransformLayout("T", "T", layout, 7.0).apply(programs.conv())
    assert [str(extent) for extent in program.buffers["T"].shape] == ["(n + 1) floordiv 4 + 1", "4"]
    assert next(iter(blocks_of(program.body))).name == "T_fill"
