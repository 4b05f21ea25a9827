"""Where a thread stands in its CTA, and the shared-memory offsets that follow from that."""

from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass, field

from xdsl.dialects import arith, gpu, llvm
from xdsl.dialects.builtin import IntAttr, IntegerAttr, i8
from xdsl.ir import Attribute, Block, SSAValue
from xdsl.utils.hints import isa

from ...dialects.tile import ROWS_PER_WARP, WARP_SIZE, SharedLayout
from ...dialects.tile.types import InflightType, RingType, SharedType
from ..emitter import Emitter, name_fields

SharedTile = RingType | SharedType | InflightType
GLOBAL_SPACE, SHARED_SPACE = 1, 3
CHUNK_BYTES = 16
# Bytes within which the chunks of a swizzled row are exchanged.
SWIZZLE_PERIOD = 128


@dataclass(frozen=True)
class Team:
    """
    Where a thread stands in fragments of a number of rows, i32.

    `count` teams of the CTA hold such fragments; `team` is the index of the thread's team, `row`
    the first of the thread's rows.
    """

    count: int
    team: SSAValue
    warp_row: SSAValue
    row: SSAValue


@dataclass
class Lanes:
    """
    The coordinates of a thread, i32, and offsets that many ops share.

    They are appended in front of the loops of the branch that needs them, so that they are computed
    once for all loops, and take no registers in other branches. Where loops carry much (`crowded`),
    the lane is a register of its own, which is read again rather than kept.
    """

    emit: Emitter
    threads: int
    crowded: bool = False
    _known: dict[Hashable, SSAValue] = field(default_factory=dict[Hashable, SSAValue])
    _teams: dict[int, Team] = field(default_factory=dict[int, Team])

    def __post_init__(self) -> None:
        emit = self.emit
        dimension = gpu.DimensionAttr(gpu.DimensionEnum.X)
        self.thread = emit.to_i32(emit.result(gpu.ThreadIdOp, dimension))
        if self.crowded:
            self.lane = emit.to_i32(emit.result(gpu.LaneIdOp))
        else:
            self.lane = emit.remu(self.thread, WARP_SIZE)
        self.warp = emit.divu(self.thread, WARP_SIZE)
        self.group = emit.divu(self.lane, 4)
        self.place = emit.remu(self.lane, 4)
        self.column = emit.mul(self.place, 2)
        for name in ("thread", "lane", "warp", "group", "place", "column"):
            getattr(self, name).name_hint = name

    @contextmanager
    def within(self, branch: Block) -> Generator[None]:
        """Appends what loops share to a branch for a while, and forgets it then."""
        emit, shared = self.emit, self.emit.shared
        before = self._known, self._teams
        self._known, self._teams = dict(self._known), dict(self._teams)
        emit.shared = branch
        try:
            yield
        finally:
            emit.shared = shared
            self._known, self._teams = before

    def team(self, rows: int) -> Team:
        """Returns the place of a thread in fragments of `rows` rows."""
        if rows not in self._teams:
            with self.emit.into(self.emit.shared):
                self._teams[rows] = self._team(rows)
        return self._teams[rows]

    def _team(self, rows: int) -> Team:
        emit, warps = self.emit, rows // ROWS_PER_WARP
        count = self.threads // WARP_SIZE // warps
        in_team = self.warp if count == 1 else emit.remu(self.warp, warps)
        index = emit.integer(0) if count == 1 else emit.divu(self.warp, warps)
        warp_row = emit.mul(in_team, ROWS_PER_WARP)
        team = Team(count, index, warp_row, emit.add(warp_row, self.group))
        name_fields(team)
        return team

    def offset(self, pattern: str, tile: SharedTile, rows: int = 0) -> SSAValue:
        """
        Returns the byte offset of a thread in a tile for one of the access patterns.

        `operand_a` and `operand_b`, `operand_b_transposed`: the row of an 8x8 matrix whose
        address the lane gives to ldmatrix. `accumulator`: the first two elements of mma_c.
        `rows` counts those of the fragment, where it has any. Source: PTX ISA, ldmatrix.
        """
        key = (pattern, rows, tile.row_bytes, tile.layout.data)
        return self.once(key, lambda: self._offset(pattern, tile, rows))

    def once(self, key: Hashable, append: Callable[[], SSAValue]) -> SSAValue:
        """Returns the value of a key, appended to what loops share when first asked for."""
        if (known := self._known.get(key)) is None:
            with self.emit.into(self.emit.shared):
                known = self._known[key] = append()
        return known

    def _offset(self, pattern: str, tile: SharedTile, rows: int) -> SSAValue:
        emit = self.emit
        match pattern:
            case "operand_a":
                row = emit.add(self.team(rows).warp_row, emit.remu(self.lane, 16))
                return chunk_offset(emit, tile, row, emit.divu(self.lane, 16))
            case "operand_b_transposed":
                row = emit.remu(self.lane, 16)
                return chunk_offset(emit, tile, row, emit.divu(self.lane, 16))
            case "operand_b":
                half = emit.mul(emit.divu(self.lane, 16), 8)
                row = emit.add(half, emit.remu(self.lane, 8))
                chunk = emit.remu(emit.divu(self.lane, 8), 2)
                return chunk_offset(emit, tile, row, chunk)
            case "accumulator":
                chunk = chunk_offset(emit, tile, self.team(rows).row, emit.integer(0))
                return emit.add(chunk, emit.mul(self.place, 4))
            case _:
                raise ValueError(f"unknown access pattern {pattern}")


def chunk_offset(emit: Emitter, tile: SharedTile, row: SSAValue, chunk: SSAValue) -> SSAValue:
    """Appends the byte offset of a 16-byte chunk of a row, in the tile's layout."""
    if tile.layout.data is SharedLayout.SWIZZLE_128:
        chunk = emit.binary("xor", chunk, emit.remu(row, 8))
    return emit.add(emit.mul(row, tile.row_bytes), emit.mul(chunk, CHUNK_BYTES))


def step_columns(
    emit: Emitter, tile: SharedTile, offset: SSAValue, column_bytes: SSAValue
) -> tuple[SSAValue, SSAValue]:
    """
    Returns the offset of a thread some columns further, as a variable and a constant part.

    Within 128 bytes of a swizzled row a step of whole chunks is an exclusive or, beyond an
    addition: the exclusive or with `row % 8` touches only the three low bits of the chunk.
    """
    if tile.layout.data is not SharedLayout.SWIZZLE_128:
        return offset, column_bytes
    low = emit.binary("and", column_bytes, 127)
    high = emit.sub(column_bytes, low)
    return emit.binary("xor", offset, low), high


def is_multiple(value: SSAValue, number: int) -> bool:
    """Whether an integer is the product of another and a constant that a number divides."""
    op = value.owner
    if isinstance(op, arith.IndexCastOp):
        return is_multiple(op.input, number)
    if not isinstance(op, arith.MuliOp):
        return False
    factors = [side.owner for side in (op.lhs, op.rhs) if isinstance(side.owner, arith.ConstantOp)]
    constants = [factor.value for factor in factors]
    return any(isa(one, IntegerAttr) and one.value.data % number == 0 for one in constants)


def pointer_type(space: int) -> llvm.LLVMPointerType:
    """Returns the type of an address in a space: global 1, shared 3."""
    return llvm.LLVMPointerType(IntAttr(space))


def address(emit: Emitter, base: SSAValue, offset: SSAValue | int) -> SSAValue:
    """Appends the address some bytes behind another, in the same space."""
    kind = base.type
    if not isinstance(kind, llvm.LLVMPointerType):
        raise TypeError(f"expected an address, got {kind}")
    return emit.pointer(base, offset, i8)


def load_element(
    emit: Emitter, pointer: SSAValue, index: SSAValue, element_type: Attribute
) -> SSAValue:
    """Appends the load of `pointer[index]`, whose index is not negative."""
    place = emit.pointer(pointer, index, element_type, forward=True)
    return emit.result(llvm.LoadOp, place, element_type)
