"""The numbers that an attention kernel is specialised on, and the tiles chosen for them."""

from dataclasses import dataclass, replace
from enum import Enum

from xdsl.dialects.builtin import BFloat16Type, Float8E4M3FNType
from xdsl.ir import Attribute, Operation

from ...dialects.attn import AttendOp, PagedType, PageLayout, RaggedType, ScalesAttr, is_code
from ...dialects.diagnostic import error_at
from ...dialects.tile import (
    RING_ALIGNMENT,
    ROWS_PER_WARP,
    RingType,
    SharedLayout,
    SharedType,
    element_bits,
    ring_type,
)

# Targets whose instruction set the kernels of this lowering use: mma.sync, ldmatrix, cp.async.
# With each the bytes of shared memory that a CTA can have (CUDA programming guide, table of
# technical specifications by compute capability).
SHARED_BYTES = {
    "sm_80": 163 * 1024,
    "sm_86": 99 * 1024,
    "sm_89": 99 * 1024,
    "sm_90": 227 * 1024,
    "sm_90a": 227 * 1024,
}

LARGEST_HEAD_DIM = 256
# Targets without an instruction that converts 8-bit floats (PTX ISA, "cvt").
BY_BITS = ("sm_80", "sm_86")
# Up to here the query tile stays in registers beside the two accumulators without spills.
LARGEST_HEAD_DIM_IN_REGISTERS = 128


@dataclass(frozen=True)
class Storage:
    """
    How keys and values are stored: their elements, and where those of a request lie.

    `page_size` is in tokens, 0 for ragged rows. See `attn.attend` for the flags. `scales` are those
    of codes, None for elements that are what they are; `converts` says that the target has an
    instruction for codes of e4m3.
    """

    element_type: Attribute
    page_size: int
    layout: PageLayout
    scales: ScalesAttr | None = None
    combined: bool = False
    strided: bool = False
    table_of_heads: bool = False
    columns: bool = False
    confined: bool = False
    converts: bool = False

    @property
    def paged(self) -> bool:
        """Whether there is a page table."""
        return self.page_size > 0

    @property
    def narrow(self) -> bool:
        """Whether elements are codes, which are widened before products are computed."""
        return is_code(self.element_type)

    @property
    def block(self) -> int | None:
        """How many neighbours of a row share a scale, None where scales are not stored."""
        scales = self.scales
        return scales.block.data if scales is not None and scales.unit.data == "block" else None


class Work(Enum):
    """
    What the items of a kernel's queue are, beside rows of queries for one key head.

    A range of keys of the rows' own request; a list of tiles of its keys, some of which need no
    mask; or a range of keys of one request that rows of many see, with merges of rows of each.
    """

    RANGES = "ranges"
    TILE_LISTS = "tile_lists"
    CASCADE = "cascade"

    @property
    def item_fields(self) -> int:
        """How many numbers an item has."""
        return {Work.RANGES: 6, Work.TILE_LISTS: 7, Work.CASCADE: 9}[self]

    @property
    def merge_fields(self) -> int:
        """How many numbers a merge has."""
        return 5 if self is Work.CASCADE else 2


@dataclass(frozen=True)
class Geometry:
    """
    The compile-time numbers of an attention kernel, for query tiles of `tile_rows` packed rows.

    `kv_tile` keys are worked on at a time, in a ring of `stages` tiles. A query tile is `blocks` of
    `rows` rows, all of which use a fragment of keys while it is in registers. The warps of a CTA
    have 16 rows each of a block; where that is more than `rows`, teams of warps share the keys of a
    tile. `work` says what the items of its queue are.
    """

    qo_heads: int
    kv_heads: int
    head_dim: int
    storage: Storage
    element_type: Attribute
    warps: int
    rows: int
    kv_tile: int
    stages: int
    work: Work = Work.RANGES
    blocks: int = 1

    @property
    def tile_rows(self) -> int:
        """The number of packed rows of a query tile."""
        return self.rows * self.blocks

    @property
    def group(self) -> int:
        """The number of query heads that share a key head."""
        return self.qo_heads // self.kv_heads

    @property
    def teams(self) -> int:
        """The number of teams of warps that share the keys of a tile."""
        return ROWS_PER_WARP * self.warps // self.rows

    @property
    def team_keys(self) -> int:
        """The number of keys of a tile that one team works on."""
        return self.kv_tile // self.teams

    @property
    def teams_have_keys(self) -> bool:
        """Whether every team has keys for whole steps of a product."""
        return self.kv_tile % (16 * self.teams) == 0

    @property
    def teams_have_room(self) -> bool:
        """Whether teams can exchange 8 columns of f32 at a time through the ring of keys."""
        ring = self.scratch_ring.stages.data * self.scratch_ring.stage_bytes
        return self.teams == 1 or ring >= ROWS_PER_WARP * self.warps * 8 * 4

    @property
    def short(self) -> "Geometry":
        """The numbers for requests of few packed rows: the smallest tile that warps can share."""
        smaller = (
            replace(self, rows=ROWS_PER_WARP * warps, blocks=1)
            for warps in range(1, self.tile_rows // ROWS_PER_WARP)
            if self.warps % warps == 0
        )
        return next((g for g in smaller if g.teams_have_keys and g.teams_have_room), self)

    @property
    def out_columns(self) -> int:
        """The number of columns of the output that one team holds."""
        return self.head_dim

    @property
    def query_in_registers(self) -> bool:
        """Whether the query tile is kept in registers, not read again for each tile of keys."""
        return self.head_dim * self.blocks <= LARGEST_HEAD_DIM_IN_REGISTERS

    @property
    def sums_by_product(self) -> bool:
        """
        Whether weights are summed up as they are rounded, by products with ones.

        Weights that are added up as they are stay in registers until then, for which the outputs
        of two blocks leave no room; and 8 products take the place of 60 additions.
        """
        return self.blocks > 1

    @property
    def dtype(self) -> str:
        """The element type's short name: "f16" or "bf16"."""
        return "bf16" if isinstance(self.element_type, BFloat16Type) else "f16"

    def _ring(self, stages: int, rows: int, element: Attribute | None = None) -> RingType:
        element = element or self.element_type
        swizzled = self.head_dim * element_bits(element) % 1024 == 0
        layout = SharedLayout.SWIZZLE_128 if swizzled else SharedLayout.PADDED_16
        return ring_type(stages, (rows, self.head_dim), element, layout)

    @property
    def query_ring(self) -> RingType:
        """The shared memory of the query tile, a stage for each block of rows."""
        return self._ring(self.blocks, self.rows)

    @property
    def out_ring(self) -> RingType:
        """The shared memory of a block of the output, once no query is needed any more."""
        return self._ring(1, self.rows)

    @property
    def kv_ring(self) -> RingType:
        """The shared memory of the key tiles, and as much again of the value tiles."""
        return self._ring(self.stages, self.kv_tile, self.storage.element_type)

    @property
    def wide_ring(self) -> RingType:
        """The shared memory of a widened tile of keys, and as much again of values."""
        return self._ring(1, self.kv_tile)

    @property
    def scratch_ring(self) -> RingType:
        """The shared memory of keys that holds other things once all keys are seen."""
        return self.wide_ring if self.storage.narrow else self.kv_ring

    @property
    def team_stage(self) -> SharedType:
        """The part of a tile of keys or values that one team works on."""
        return self._ring(1, self.team_keys).landed()

    @property
    def shared_bytes(self) -> int:
        """The bytes of shared memory of a CTA: the rings, each where one may begin."""
        end = 0
        wide = (self.wide_ring, self.wide_ring) if self.storage.narrow else ()
        for ring in (self.query_ring, self.kv_ring, self.kv_ring, *wide):
            start = -(-end // RING_ALIGNMENT) * RING_ALIGNMENT
            end = start + ring.stages.data * ring.stage_bytes
        return end


def geometry_of(
    op: AttendOp,
    target: str,
    warps: int,
    rows: int,
    kv_tile: int,
    stages: int,
    work: str = "ranges",
) -> Geometry:
    """
    Returns the numbers of an attention op's kernel; `kv_tile` 0 chooses by head_dim.

    `rows` are the packed rows of its query tiles; 0 gives each warp 16 of its own. More than that
    are as many blocks, which use fragments of keys and values together.

    Raises `DiagnosticError` for what the target or these kernels cannot do.
    """
    query, keys = op.query.type, op.keys.type
    if not isinstance(query, RaggedType) or not isinstance(keys, PagedType | RaggedType):
        raise error_at(op, f"expects a ragged query and stored keys, got {query} and {keys}")
    head_dim = _head_dim(op, query, target)
    blocks = _blocks_of(rows, warps)
    geometry = Geometry(
        qo_heads=constant_extent(op, query, 1, "number of query heads"),
        kv_heads=constant_extent(op, keys, len(keys.extents) - 2, "number of key heads"),
        head_dim=head_dim,
        storage=_storage(op, keys, target),
        element_type=query.element_type,
        warps=warps,
        rows=(rows or ROWS_PER_WARP * warps) // blocks,
        kv_tile=kv_tile or (64 if head_dim <= LARGEST_HEAD_DIM_IN_REGISTERS else 32),
        stages=stages,
        work=_work(op, work),
        blocks=blocks,
    )
    check_target(op, geometry, target)
    return geometry


def _head_dim(op: AttendOp, query: RaggedType, target: str) -> int:
    head_dim = constant_extent(op, query, 2, "head_dim")
    if head_dim % 16 or not 16 <= head_dim <= LARGEST_HEAD_DIM:
        raise error_at(
            op, f"expects a head_dim that is a multiple of 16 up to 256 on {target}, got {head_dim}"
        )
    return head_dim


def _blocks_of(rows: int, warps: int) -> int:
    """Returns how many blocks of all warps' rows a query tile has: 2 at most, registers are few."""
    return 2 if rows == 2 * ROWS_PER_WARP * warps else 1


def _work(op: AttendOp, name: str) -> Work:
    if name not in [work.value for work in Work]:
        known = ", ".join(work.value for work in Work)
        raise error_at(op, f"expects work among {known}, got {name}")
    if Work(name) is not Work.RANGES and (op.columns or op.table_of_heads):
        raise error_at(op, f"expects work 'ranges' for block-sparse keys, got '{name}'")
    return Work(name)


def _storage(op: AttendOp, keys: PagedType | RaggedType, target: str) -> Storage:
    paged = isinstance(keys, PagedType)
    storage = Storage(
        element_type=keys.element_type,
        page_size=constant_extent(op, keys, 1, "page size") if paged else 0,
        layout=keys.layout.data if paged else PageLayout.NHD,
        scales=op.scales,
        combined=op.combined is not None,
        strided=op.strided is not None,
        table_of_heads=op.table_of_heads is not None,
        columns=op.columns is not None,
        confined=op.confined is not None,
        converts=converts(keys.element_type, target),
    )
    head_dim = constant_extent(op, keys, len(keys.extents) - 1, "head_dim")
    if head_dim * element_bits(keys.element_type) % 128:
        raise error_at(
            op, f"expects rows of keys of a multiple of 16 bytes, got {head_dim} elements of {keys}"
        )
    for name in ("combined", "table_of_heads", "columns"):
        if not paged and getattr(storage, name):
            raise error_at(op, f"expects pages for '{name}', got {keys}")
    if storage.scales is not None and storage.block is not None:
        block = storage.block
        if head_dim % block or (block % 16 and block != head_dim):
            raise error_at(
                op,
                f"expects blocks of a multiple of 16 that divides head_dim {head_dim}, or of that, "
                f"got {block}",
            )
    return storage


def converts(element_type: Attribute, target: str) -> bool:
    """Whether a target has an instruction that converts codes of a type."""
    return isinstance(element_type, Float8E4M3FNType) and target not in BY_BITS


def constant_extent(op: Operation, kind: RaggedType | PagedType, axis: int, name: str) -> int:
    """Returns an extent of a type of an op's operand, which must be constant."""
    extent = kind.extents.data[axis].data
    if (constant := extent.constant_value) is None:
        raise error_at(op, f"expects a constant {name}, got {extent}")
    return constant


def check_target(op: Operation, geometry: Geometry, target: str) -> None:
    """Refuses numbers that no kernel for a target can have."""
    if (limit := SHARED_BYTES.get(target)) is None:
        raise error_at(op, f"expects a target among {', '.join(SHARED_BYTES)}, got {target}")
    whole_steps = geometry.kv_tile >= 16 and geometry.kv_tile % 16 == 0
    if not whole_steps or geometry.stages < 2 or not 1 <= geometry.warps <= 16:
        raise error_at(
            op,
            "expects a key tile of a positive multiple of 16, at least 2 stages and 1 to 16 warps, "
            f"got {geometry.kv_tile}, {geometry.stages} and {geometry.warps}",
        )
    _check_rows(op, geometry)
    if geometry.shared_bytes > limit:
        raise error_at(
            op,
            f"needs {geometry.shared_bytes} bytes of shared memory, {target} has {limit}: "
            "choose fewer stages or a smaller key tile",
        )


def _check_rows(op: Operation, geometry: Geometry) -> None:
    warps, rows = geometry.warps, geometry.rows
    if rows < ROWS_PER_WARP or rows % ROWS_PER_WARP or (ROWS_PER_WARP * warps) % rows:
        raise error_at(
            op,
            f"expects a multiple of 16 packed rows that divides the {ROWS_PER_WARP * warps} of "
            f"{warps} warps, or twice as many, got {rows}",
        )
    if not geometry.teams_have_keys:
        raise error_at(
            op,
            f"expects a key tile of a multiple of {16 * geometry.teams} keys for the "
            f"{geometry.teams} teams that share it, got {geometry.kv_tile}",
        )
    if not geometry.teams_have_room:
        raise error_at(
            op,
            f"expects keys of at least {ROWS_PER_WARP * warps * 8 * 4} bytes in shared memory for "
            f"the {geometry.teams} teams that exchange results through them, got "
            f"{geometry.scratch_ring.stages.data * geometry.scratch_ring.stage_bytes}: choose more "
            "stages",
        )
