"""Elements of a row that a lane reads and has itself."""

from collections.abc import Callable

import pytest
from xdsl.dialects.builtin import UnknownLoc, i32
from xdsl.ir import Block, SSAValue

from tilewright.lowering.emitter import Emitter
from tilewright.lowering.tile_to_thread.own_elements import own_places

Index = Callable[[Emitter, SSAValue, int], SSAValue]


def _other_half(emit: Emitter, column: SSAValue, columns: int) -> SSAValue:
    half = columns // 2
    in_front = emit.compare("slt", column, half)
    return emit.select(in_front, emit.add(column, half), emit.sub(column, half))


def _neighbour(emit: Emitter, column: SSAValue, columns: int) -> SSAValue:
    return emit.binary("xor", column, 1)


def _next(emit: Emitter, column: SSAValue, columns: int) -> SSAValue:
    return emit.min(emit.add(column, 1), columns - 1)


def _first(emit: Emitter, column: SSAValue, columns: int) -> SSAValue:
    return emit.mul(column, 0)


def _places(index: Index, columns: int) -> tuple[list[int], list[int]] | None:
    block = Block(arg_types=[i32])
    emit = Emitter(block, UnknownLoc())
    own = own_places(index(emit, block.args[0], columns), block.args[0], columns)
    return None if own is None else (list(own.pairs), list(own.halves))


# The half of 64 columns lies with other lanes.
OWN = [(_other_half, 128), (_other_half, 256), (_neighbour, 64), (_neighbour, 128)]


@pytest.mark.parametrize(("index", "columns"), OWN)
def test_every_lane_has_what_the_places_name(index: Index, columns: int) -> None:
    places = _places(index, columns)
    assert places is not None
    for place, (pair, half) in enumerate(zip(*places, strict=True)):
        for lane in range(32):
            column = 2 * (lane + 32 * (place // 2)) + place % 2
            read = column ^ 1 if index is _neighbour else (column + columns // 2) % columns
            assert read == 2 * (lane + 32 * pair) + half


@pytest.mark.parametrize(
    ("index", "columns"), [(_next, 128), (_first, 128), (_neighbour, 48), (_other_half, 64)]
)
def test_what_other_lanes_have_is_loaded(index: Index, columns: int) -> None:
    assert _places(index, columns) is None


def test_an_index_that_depends_on_the_row_is_not_known() -> None:
    block = Block(arg_types=[i32, i32])
    emit = Emitter(block, UnknownLoc())
    row, column = block.args
    assert own_places(emit.add(row, column), column, 128) is None
