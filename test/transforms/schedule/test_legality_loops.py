"""When steps on loops and reductions are accepted, and by which condition they are refused."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tilewright.dialects.nest.program import Program
from tilewright.dialects.sym import parse_expression
from tilewright.nest.schedule import apply
from tilewright.test.nest.random_schedules import reversed_concurrent
from tilewright.test.nest.small_programs import (
    chain,
    clipped,
    convolution,
    extremes,
    float_gemm,
    fused,
    gemm,
    halo,
    norm,
    scan,
    triangle,
)
from tilewright.test.nest.test_random_schedules import Expected
from tilewright.test.transforms.schedule.loop_programs import (
    backwards,
    fixed,
    global_halo,
    maybe_empty,
    mirrored,
    not_an_update,
    ragged,
    rescaled,
    shared_halo,
    shifted,
    squares,
    stencil,
    unbounded,
    wide,
)
from tilewright.transforms.schedule.add_unit_loop import AddUnitLoop
from tilewright.transforms.schedule.annotate import Annotate, Unannotate
from tilewright.transforms.schedule.bind import Bind
from tilewright.transforms.schedule.decompose_reduction import DecomposeReduction
from tilewright.transforms.schedule.fuse import Fuse
from tilewright.transforms.schedule.kinds import Parallel, Unroll, Vectorize
from tilewright.transforms.schedule.loop_partition import LoopPartition
from tilewright.transforms.schedule.merge import Merge
from tilewright.transforms.schedule.primitive import Primitive, ScheduleError
from tilewright.transforms.schedule.reorder import Reorder, ReorderBlockAxes
from tilewright.transforms.schedule.rfactor import RFactor
from tilewright.transforms.schedule.split import Split


@dataclass(frozen=True)
class Case:
    """A step on a program after other steps, and the condition that refuses it, if one does."""

    what: str
    build: Callable[[], Program]
    step: Primitive
    before: tuple[Primitive, ...] = ()
    condition: str = ""


TILED = (Split("i", (None, 2)), Split("j", (None, 2)), Split("k", (None, 3)))

REPEATED_INSIDE = (AddUnitLoop("C", ("u",)), Split("u", (None, 3), ("u_0", "u_1")))
REPEATED_AROUND = (AddUnitLoop("k", ("u",)), Split("u", (None, 3), ("u_0", "u_1")))

NO_SYMBOL = parse_expression("q mod 4 + 1")
ACCEPTED = [
    # split
    Case("an extent that the factor divides", fixed, Split("i", (2, 4))),
    Case("a remainder", fixed, Split("i", (None, 3))),
    Case("a symbolic extent", gemm, Split("i", (None, 4))),
    Case("a symbolic factor", gemm, Split("k", (None, parse_expression("n")))),
    Case("a reduce loop with a remainder", gemm, Split("k", (None, 4))),
    Case("an ordered loop", scan, Split("i", (None, 2))),
    Case("a triangle's outer loop", triangle, Split("i", (None, 2))),
    # fuse
    Case("two spatial loops", gemm, Fuse(("i", "j"))),
    Case("a spatial and a reduce loop", gemm, Fuse(("j", "k"))),
    Case("three reduce loops", convolution, Fuse(("r", "s", "c"))),
    Case("all loops", convolution, Fuse(("i", "j", "r", "s", "c"))),
    Case("what was split", gemm, Fuse(("i_0", "i_1")), (Split("i", (None, 4)),)),
    Case("an inner tile and another loop", gemm, Fuse(("i_1", "j")), (Split("i", (None, 4)),)),
    Case("an ordered loop with a spatial one", scan, Fuse(("i", "j"))),
    Case("a cut tile", clipped, Fuse(("u", "j"))),
    Case(
        "equal annotations",
        gemm,
        Fuse(("i", "j")),
        (Annotate("i", "a", 1), Annotate("j", "a", 1)),
    ),
    # reorder
    Case("spatial loops", gemm, Reorder(("j", "i"))),
    Case("a reduce loop to the outside", gemm, Reorder(("k", "i", "j"))),
    Case("reduce loops among themselves", convolution, Reorder(("c", "s", "r"))),
    Case("tiles of a product", gemm, Reorder(("i_0", "j_0", "k_0", "i_1", "k_1", "j_1")), TILED),
    Case("named loops only, around one that stays", gemm, Reorder(("k", "i"))),
    Case("the spatial loop of a scan", scan, Reorder(("j", "i"))),
    Case("a cut tile to the outside", clipped, Reorder(("u", "o"))),
    Case(
        "fused reduce loops that were split",
        convolution,
        Reorder(("f_1", "f_0")),
        (Fuse(("r", "s", "c"), ("f",)), Split("f", (None, 4), ("f_0", "f_1"))),
    ),
    Case(
        "fused spatial loops with a reduce loop",
        gemm,
        Reorder(("k", "f")),
        (Fuse(("i", "j"), ("f",)),),
    ),
    Case("loops of private windows", halo, Reorder(("i_1", "i_0")), (Split("i", (None, 2)),)),
    Case("the order as it is", gemm, Reorder(("i", "j"))),
    Case(
        "a decomposed reduction",
        gemm,
        Reorder(("k", "j")),
        (Reorder(("i", "k", "j")), DecomposeReduction("C", "k")),
    ),
    Case("all axes of a block", gemm, ReorderBlockAxes("C", ("vk", "vj", "vi"))),
    # merge
    Case("two sums", squares, Merge(("i", "j"))),
    Case("producer and consumer of one element", chain, Merge(("i", "i_1"))),
    Case("three at once", chain, Merge(("i", "i_1", "i_2"))),
    Case("inner loops, once the outer ones are", squares, Merge(("k", "m")), (Merge(("i", "j")),)),
    Case("a sum and its use", norm, Merge(("i", "i_1"))),
    Case("concurrent loops", squares, Merge(("i", "j")), (Parallel("i"), Parallel("j"))),
    # loop_partition
    Case("a spatial loop", gemm, LoopPartition("i", (2, None))),
    Case("a reduce loop", gemm, LoopPartition("k", (1, 2, 3))),
    Case("a symbolic length", gemm, LoopPartition("i", (parse_expression("n - 1"), None))),
    Case("an outer tile", fixed, LoopPartition("i_0", (1, None)), (Split("i", (None, 2)),)),
    Case(
        "a tile with a remainder", fixed, LoopPartition("i_0", (1, None)), (Split("i", (None, 3)),)
    ),
    Case("an ordered loop", scan, LoopPartition("i", (1, None))),
    Case("a producer and its consumer", fused, LoopPartition("i", (1, None))),
    Case(
        "a loop that feeds nothing",
        gemm,
        LoopPartition("u_1", (1, None)),
        (AddUnitLoop("C", ("u",)), Split("u", (None, 3), ("u_0", "u_1"))),
    ),
    # add_unit_loop, annotate, unannotate
    Case("around a block", gemm, AddUnitLoop("C")),
    Case("around a loop", gemm, AddUnitLoop("j")),
    Case("a note at a block", gemm, Annotate("C", "stage", "one")),
    Case("the same note again", gemm, Annotate("i", "a", 1), (Annotate("i", "a", 1),)),
    Case("a note is taken away", gemm, Unannotate("i", "a"), (Annotate("i", "a", 1),)),
    # parallel, vectorize, unroll
    Case("rows of a product", gemm, Parallel("i")),
    Case("fused rows and columns", gemm, Parallel("f"), (Fuse(("i", "j"), ("f",)),)),
    Case(
        "fused tiles",
        gemm,
        Parallel("f"),
        (*TILED, Reorder(("i_0", "j_0", "i_1", "j_1")), Fuse(("i_0", "j_0"), ("f",))),
    ),
    Case("rows with what they need", fused, Parallel("i")),
    Case("columns of a scan", scan, Parallel("j")),
    Case("windows of their own", halo, Parallel("i")),
    Case("cut tiles", clipped, Parallel("o")),
    Case("a triangle's rows", triangle, Parallel("i")),
    Case("columns", gemm, Vectorize("j"), (Reorder(("k", "j")),)),
    Case("a cut tile of columns", clipped, Vectorize("j")),
    Case("around a loop of one iteration", scan, Vectorize("j"), (AddUnitLoop("Y"),)),
    Case(
        "the init's columns",
        gemm,
        Vectorize("j_1"),
        (Reorder(("k", "j")), DecomposeReduction("C", "k")),
    ),
    Case("a reduce loop", gemm, Unroll("k")),
    Case("an ordered loop of four", scan, Unroll("i_1"), (Split("i", (None, 4)),)),
    # bind
    Case("rows to the grid", gemm, Bind("i", "block.x")),
    Case("an inner loop of the grid", gemm, Bind("j", "block.y")),
    Case("columns to threads", gemm, Bind("j", "thread.x")),
    Case("1,024 threads", wide, Bind("j_1", "thread.x"), (Split("j", (None, 1024)),)),
    Case(
        "two axes of 32",
        wide,
        Bind("j_2", "thread.y"),
        (Split("j", (None, 32, 32)), Bind("j_1", "thread.x")),
    ),
    Case(
        "siblings of one extent",
        chain,
        Bind("j_1", "thread.x"),
        (Merge(("i", "i_1")), Bind("j", "thread.x")),
    ),
    Case(
        "another extent in another kernel",
        norm,
        Bind("j", "thread.x"),
        (Split("i", (None, 4)), Bind("i_0", "thread.x")),
    ),
    Case("shared windows to the grid", shared_halo, Bind("i", "block.x")),
    Case("local windows to threads", halo, Bind("i_1", "thread.x"), (Split("i", (None, 2)),)),
    Case(
        "partial results to threads",
        gemm,
        Bind("k_1", "thread.x"),
        (Split("k", (None, 3)), RFactor("k_1", 0, buffer="P")),
    ),
    # decompose_reduction
    Case("at the reduce loop", gemm, DecomposeReduction("C", "k")),
    Case("at the outermost loop", gemm, DecomposeReduction("C", "i")),
    Case(
        "at an outer reduce tile",
        gemm,
        DecomposeReduction("C", "k_0"),
        (*TILED, Reorder(("i_0", "j_0", "k_0", "i_1", "j_1", "k_1"))),
    ),
    Case("with a cut reduce tile", gemm, DecomposeReduction("C", "k_0"), (Split("k", (None, 4)),)),
    Case("of a maximum", extremes, DecomposeReduction("H", "k")),
    Case("with a producer beside it", fused, DecomposeReduction("Y", "j")),
    Case(
        "of a convolution with fused loops",
        convolution,
        DecomposeReduction("Y", "j"),
        (Fuse(("r", "s", "c")),),
    ),
    Case("a sum whose use is elsewhere", norm, DecomposeReduction("S", "i")),
    Case(
        "a sum whose use is in the same iteration",
        norm,
        DecomposeReduction("S", "row"),
        (Merge(("i", "i_1"), ("row",)),),
    ),
    Case(
        "loops of windows that overlap",
        global_halo,
        Reorder(("i_1", "i_0")),
        (Split("i", (None, 2)),),
    ),
    # rfactor
    Case("an inner reduce tile", gemm, RFactor("k_1"), (Split("k", (None, 3)),)),
    Case("an outer reduce tile", gemm, RFactor("k_0", -1), (Split("k", (None, 3)),)),
    Case("a whole reduce loop", gemm, RFactor("k", 1)),
    Case("a cut tile", gemm, RFactor("k_1"), (Split("k", (None, 4)),)),
    Case(
        "a cut tile with whole partial results",
        gemm,
        RFactor("k_1", is_whole=True),
        (Split("k", (None, 4)),),
    ),
    Case("a whole reduce loop with whole partial results", float_gemm, RFactor("k", is_whole=True)),
    Case("a minimum with whole partial results", extremes, RFactor("i_1", is_whole=True)),
    Case("a maximum", extremes, RFactor("u"), (Split("k", (None, 2), ("o", "u")),)),
    Case("a minimum over a symbolic extent", extremes, RFactor("i_1")),
    Case("one of three reduce loops", convolution, RFactor("s", 2)),
    Case(
        "half of fused loops",
        convolution,
        RFactor("f_1"),
        (Fuse(("r", "s", "c"), ("f",)), Split("f", (None, 4), ("f_0", "f_1"))),
    ),
    Case("a sum of floats", float_gemm, RFactor("k_1"), (Split("k", (None, 2)),)),
    Case("beside a producer", fused, RFactor("k")),
]

REFUSED = [
    # split
    Case("a kind is given", gemm, Split("j", (None, 2)), (Unroll("j"),), "serial"),
    Case("a factor of zero", gemm, Split("i", (None, 0)), (), "positive"),
    Case("a negative factor", gemm, Split("i", (None, -2)), (), "positive"),
    Case("a factor of no symbol", gemm, Split("i", (None, NO_SYMBOL)), (), "symbols"),
    Case("factors that don't reach", fixed, Split("i", (2, 3)), (), "reaches"),
    Case(
        "a factor that doesn't divide where it must",
        fixed,
        Split("i", (None, 3), exact=True),
        (),
        "divides",
    ),
    Case("two factors to infer", gemm, Split("i", (None, None)), (), "factors"),
    Case("one factor", gemm, Split("i", (4,)), (), "factors"),
    Case("no such loop", gemm, Split("z", (None, 2)), (), "exists"),
    Case("a block", gemm, Split("C", (None, 2)), (), "is-loop"),
    Case("a name that is taken", gemm, Split("i", (None, 2), ("j", "u")), (), "names"),
    # fuse
    Case("loops with another between", gemm, Fuse(("i", "k")), (), "adjacent"),
    Case("inside out", gemm, Fuse(("j", "i")), (), "adjacent"),
    Case("siblings", chain, Fuse(("i", "i_1")), (), "adjacent"),
    Case("a loop that is not alone", fused, Fuse(("i", "j")), (), "adjacent"),
    Case("an extent over the outer loop", triangle, Fuse(("i", "k")), (), "adjacent"),
    Case("one loop", gemm, Fuse(("i",)), (), "loops"),
    Case("one loop twice", gemm, Fuse(("i", "i")), (), "loops"),
    Case("a vectorised loop", clipped, Fuse(("u", "j")), (Vectorize("j"),), "serial"),
    Case("an extent that may be zero", maybe_empty, Fuse(("i", "j")), (), "positive"),
    Case(
        "two values of a note",
        gemm,
        Fuse(("i", "j")),
        (Annotate("i", "a", 1), Annotate("j", "a", 2)),
        "annotations",
    ),
    # reorder
    Case(
        "an ordered axis in tiles",
        scan,
        Reorder(("i_1", "i_0")),
        (Split("i", (None, 2)),),
        "ordered",
    ),
    Case("a dependence along a diagonal", stencil, Reorder(("j", "i")), (), "dependence"),
    Case("updates that don't commute", not_an_update, Reorder(("m", "k")), (), "dependence"),
    Case(
        "an init that would come late",
        gemm,
        Reorder(("f_1", "f_0")),
        (Reorder(("k", "j")), Fuse(("k", "j"), ("f",)), Split("f", (None, 3), ("f_0", "f_1"))),
        "dependence",
    ),
    Case("siblings", chain, Reorder(("i_1", "i")), (), "nested"),
    Case("statements beside", fused, Reorder(("j", "i")), (), "nested"),
    Case("one loop", gemm, Reorder(("i",)), (), "loops"),
    Case(
        "a vectorised loop to the outside",
        clipped,
        Reorder(("j", "u")),
        (Vectorize("j"),),
        "vectorized",
    ),
    Case("an axis is missing", gemm, ReorderBlockAxes("C", ("vi", "vj")), (), "permutation"),
    Case("an axis twice", gemm, ReorderBlockAxes("C", ("vi", "vi", "vj")), (), "permutation"),
    Case("a loop for a block", gemm, ReorderBlockAxes("i", ()), (), "is-block"),
    # merge
    Case("loops of other extents", shifted, Merge(("i", "j")), (), "extent"),
    Case("nested loops", gemm, Merge(("i", "j")), (), "siblings"),
    Case("the wrong order", squares, Merge(("j", "i")), (), "siblings"),
    Case("one between", chain, Merge(("i", "i_2")), (), "siblings"),
    Case("other kinds", squares, Merge(("i", "j")), (Parallel("i"),), "kind"),
    Case(
        "other notes",
        squares,
        Merge(("i", "j")),
        (Annotate("i", "a", 1), Annotate("j", "a", 2)),
        "annotations",
    ),
    # loop_partition
    Case(
        "an inner tile", fixed, LoopPartition("i_1", (1, None)), (Split("i", (None, 2)),), "whole"
    ),
    Case("a fused loop", gemm, LoopPartition("f", (1, None)), (Fuse(("i", "j"), ("f",)),), "whole"),
    Case("longer than the loop", fixed, LoopPartition("i", (9, None)), (), "positive"),
    Case("perhaps longer than the loop", gemm, LoopPartition("i", (4, None)), (), "positive"),
    Case("a sum that falls short", fixed, LoopPartition("i", (2, 3)), (), "sum"),
    Case("one length", fixed, LoopPartition("i", (8,)), (), "lengths"),
    Case("a parallel loop", gemm, LoopPartition("i", (1, None)), (Parallel("i"),), "serial"),
    # annotate
    Case("another value", gemm, Annotate("i", "a", 2), (Annotate("i", "a", 1),), "new"),
    Case("no such note", gemm, Unannotate("i", "a"), (), "known"),
    Case("a unit loop around nothing", gemm, AddUnitLoop("z"), (), "exists"),
    # parallel, vectorize, unroll
    Case("a reduce loop", gemm, Parallel("k"), (), "reduction"),
    Case("an ordered loop", scan, Parallel("i"), (), "ordered"),
    Case(
        "a loop fused with a reduce loop",
        gemm,
        Parallel("f"),
        (Fuse(("j", "k"), ("f",)),),
        "reduction",
    ),
    Case("a dependence", stencil, Parallel("i"), (), "dependence"),
    Case("windows in global memory", global_halo, Parallel("i"), (), "dependence"),
    Case(
        "a loop that repeats a block",
        gemm,
        Parallel("u_1"),
        (AddUnitLoop("C", ("u",)), Split("u", (None, 3), ("u_0", "u_1"))),
        "dependence",
    ),
    Case("a second kind", gemm, Parallel("i"), (Bind("i", "block.x"),), "serial"),
    Case("a symbolic extent", gemm, Vectorize("i"), (Reorder(("k", "j", "i")),), "constant"),
    Case("an outer loop", gemm, Vectorize("j"), (), "innermost"),
    Case("a carried sum", gemm, Vectorize("k"), (), "reduction"),
    Case(
        "a carried scan",
        scan,
        Vectorize("i_1"),
        (Reorder(("j", "i")), Split("i", (None, 4))),
        "ordered",
    ),
    Case("an unrolled loop", gemm, Vectorize("k"), (Unroll("k"),), "serial"),
    Case("a symbolic extent to unroll", gemm, Unroll("i"), (), "constant"),
    Case("unrolled twice", gemm, Unroll("k"), (Unroll("k"),), "serial"),
    # bind
    Case("no such axis", gemm, Bind("i", "thread.w"), (), "axis"),
    Case("serial is no axis", gemm, Bind("i", "serial"), (), "axis"),
    Case("a reduce loop", gemm, Bind("k", "thread.x"), (), "reduction"),
    Case("an ordered loop", scan, Bind("i", "block.x"), (), "ordered"),
    Case("2,048 threads", wide, Bind("j", "thread.x"), (), "limit"),
    Case("128 on thread.z", wide, Bind("j_1", "thread.z"), (Split("j", (None, 128)),), "limit"),
    Case(
        "64 x 32 threads",
        wide,
        Bind("j_2", "thread.y"),
        (Split("j", (None, 64, 32)), Bind("j_1", "thread.x")),
        "threads",
    ),
    Case("no bound of the grid", unbounded, Bind("i", "block.y"), (), "limit"),
    Case(
        "one axis with two extents",
        fused,
        Bind("p", "thread.x"),
        (Bind("j", "thread.x"),),
        "extent",
    ),
    Case(
        "one axis twice around",
        gemm,
        Bind("j", "thread.x"),
        (Split("i", (None, 4)), Bind("i_1", "thread.x")),
        "nested",
    ),
    Case(
        "one axis twice inside",
        gemm,
        Bind("i_1", "thread.x"),
        (Split("i", (None, 4)), Bind("j", "thread.x")),
        "nested",
    ),
    Case("a grid beside other statements", fused, Bind("j", "block.x"), (), "alone"),
    Case(
        "shared windows to threads",
        shared_halo,
        Bind("i_1", "thread.x"),
        (Split("i", (None, 2)),),
        "dependence",
    ),
    Case("an extent over a loop", triangle, Bind("k", "thread.x"), (), "invariant"),
    Case("a second axis", gemm, Bind("i", "block.y"), (Bind("i", "block.x"),), "serial"),
    # decompose_reduction
    Case(
        "inside the reduce loop",
        gemm,
        DecomposeReduction("C", "j"),
        (Reorder(("k", "i", "j")),),
        "outside",
    ),
    Case("no loop around it", squares, DecomposeReduction("P", "j"), (), "around"),
    Case("no init", chain, DecomposeReduction("T", "i"), (), "init"),
    Case("twice", gemm, DecomposeReduction("C", "k"), (DecomposeReduction("C", "k"),), "init"),
    Case(
        "a loop of both kinds",
        gemm,
        DecomposeReduction("C", "f"),
        (Fuse(("j", "k"), ("f",)),),
        "pure",
    ),
    # rfactor
    Case("a spatial loop", gemm, RFactor("i"), (), "reduce-loop"),
    Case("a loop of both kinds", gemm, RFactor("f"), (Fuse(("j", "k"), ("f",)),), "reduce-loop"),
    Case(
        "a decomposed reduction", gemm, RFactor("k"), (DecomposeReduction("C", "k"),), "reduction"
    ),
    Case("no combiner", not_an_update, RFactor("k"), (), "reduction"),
    Case("no such axis of the new buffer", gemm, RFactor("k", 3), (), "factor-axis"),
    Case("below the first axis", gemm, RFactor("k", -4), (), "factor-axis"),
    Case("an extent over a loop", triangle, RFactor("k"), (), "reduction"),
    Case("a block beside it", fused, RFactor("i"), (), "one-block"),
    Case("a buffer's name that is taken", gemm, RFactor("k", buffer="A"), (), "names"),
    Case("columns in the box of what is read", stencil, Vectorize("j"), (), "dependence"),
    Case("ragged loops", ragged, Fuse(("i", "k")), (), "rectangular"),
    Case("ragged loops", ragged, Reorder(("k", "i")), (), "rectangular"),
    Case("an element of another iteration", mirrored, Merge(("i", "j")), (), "dependence"),
    Case("reduce axes that begin at the end", backwards, Reorder(("b", "a")), (), "init-first"),
    Case("reduce axes that begin at the end", backwards, DecomposeReduction("Y", "a"), (), "first"),
    Case("reduce axes that begin at the end", backwards, RFactor("b"), (), "first"),
    Case("another loop of both kinds", convolution, RFactor("c"), (Fuse(("j", "r")),), "pure"),
    Case("iterations that repeat it", gemm, RFactor("k"), REPEATED_INSIDE, "once"),
    Case(
        "iterations that repeat it", gemm, DecomposeReduction("C", "u_1"), REPEATED_AROUND, "once"
    ),
    Case("a second writer", rescaled, DecomposeReduction("S", "i"), (), "untouched"),
]


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: f"{case.step.name}: {case.what}")
def test_accepted(case: Case) -> None:
    program = apply(case.build(), case.before)
    after = case.step.apply(program)
    Expected(case.build(), 3).check(reversed_concurrent(after))


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.step.name}: {case.what}")
def test_refused(case: Case) -> None:
    program = apply(case.build(), case.before)
    with pytest.raises(ScheduleError) as caught:
        case.step.apply(program)
    assert caught.value.condition == case.condition
    assert caught.value.message.startswith("expected ")
