"""The numbers that a kernel of multi-head latent attention is specialised on."""

from dataclasses import dataclass

from xdsl.ir import Attribute

from ....dialects.attn import AttendLatentOp, PagedType, PageLayout, RaggedType
from ....dialects.diagnostic import error_at
from ....dialects.tile import (
    RING_ALIGNMENT,
    ROWS_PER_WARP,
    WARP_SIZE,
    RingType,
    SharedLayout,
    SharedType,
    element_bits,
    ring_type,
)
from ..geometry import Geometry, Storage, Work, check_target, constant_extent, converts

# The accumulator of 16 rows and so many columns takes half of a warp's registers.
LARGEST_TEAM_COLUMNS = 256
# Columns at which each team's part of a row begins at the start of a period of the swizzle.
COLUMN_PERIOD = 64
LATENT_DIMS = (256, 512)
LARGEST_KPE_DIM = 64
_WORD_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class LatentGeometry(Geometry):
    """
    The compile-time numbers of a kernel whose keys have `head_dim + kpe_dim` elements.

    The first `head_dim` of a row are the value. `combined` says that a row of the cache holds both
    parts. Teams share the keys of a tile for the scores, and the columns of the output.
    """

    kpe_dim: int
    combined: bool

    @property
    def out_columns(self) -> int:
        """The number of columns of the output that one team holds."""
        return self.head_dim // self.teams

    @property
    def short(self) -> "LatentGeometry":
        """The tile itself: there is one."""
        return self

    @property
    def teams_have_room(self) -> bool:
        """True: teams have shared memory of their own for what they exchange."""
        return True

    def _ring_of(
        self, stages: int, rows: int, columns: int, element: Attribute | None = None
    ) -> RingType:
        element = element or self.element_type
        swizzled = columns * element_bits(element) % (16 * COLUMN_PERIOD) == 0
        layout = SharedLayout.SWIZZLE_128 if swizzled else SharedLayout.PADDED_16
        return ring_type(stages, (rows, columns), element, layout)

    @property
    def kpe_query_ring(self) -> RingType:
        """The shared memory of the part of the queries that carries positions."""
        return self._ring_of(1, self.rows, self.kpe_dim)

    @property
    def kpe_ring(self) -> RingType:
        """The shared memory of the part of the key tiles that carries positions."""
        return self._ring_of(self.stages, self.kv_tile, self.kpe_dim, self.storage.element_type)

    @property
    def wide_kpe_ring(self) -> RingType:
        """The shared memory of that part of a tile of codes, widened."""
        return self._ring_of(1, self.kv_tile, self.kpe_dim)

    @property
    def kpe_team_stage(self) -> SharedType:
        """The part of such a tile that one team works on."""
        return self._ring_of(1, self.team_keys, self.kpe_dim).landed()

    @property
    def probability_ring(self) -> RingType:
        """The shared memory of the probabilities of a tile of keys, which every team reads."""
        return self._ring_of(1, self.rows, self.kv_tile)

    @property
    def exchange_ring(self) -> RingType:
        """The shared memory through which teams find the greatest score: two f32 a thread."""
        return self._ring_of(1, 8, self.warps * WARP_SIZE * 2 * _WORD_BYTES // (8 * 2))

    @property
    def rings(self) -> tuple[RingType, ...]:
        """The shared memory of a CTA, in order."""
        return (
            self.query_ring,
            self.kpe_query_ring,
            self.kv_ring,
            self.kpe_ring,
            self.probability_ring,
            self.exchange_ring,
            *((self.wide_ring, self.wide_kpe_ring) if self.storage.narrow else ()),
        )

    @property
    def shared_bytes(self) -> int:
        """The bytes of shared memory of a CTA: the rings, each where one may begin."""
        end = 0
        for ring in self.rings:
            start = -(-end // RING_ALIGNMENT) * RING_ALIGNMENT
            end = start + ring.stages.data * ring.stage_bytes
        return end


def latent_geometry_of(
    op: AttendLatentOp,
    target: str,
    warps: int,
    rows: int,
    kv_tile: int,
    stages: int,
    work: str = Work.RANGES.value,
) -> LatentGeometry:
    """
    Returns the numbers of the kernel of an op that attends to a latent cache.

    `rows` 0 are those of two teams, `kv_tile` 0 is 16 keys a team. Raises `DiagnosticError` for
    what the target or these kernels cannot do.
    """
    if work != Work.RANGES.value:
        raise error_at(op, f"expects a queue of ranges of keys, got {work}")
    q_nope, q_pe, pages = op.q_nope.type, op.q_pe.type, op.cache[0].type
    assert isinstance(q_nope, RaggedType), "verified: the queries are ragged"
    assert isinstance(q_pe, RaggedType), "verified: the queries are ragged"
    assert isinstance(pages, PagedType), "verified: the cache is paged"
    rows = rows or max(ROWS_PER_WARP * warps // 2, ROWS_PER_WARP)
    geometry = LatentGeometry(
        qo_heads=constant_extent(op, q_nope, 1, "number of query heads"),
        kv_heads=1,
        head_dim=constant_extent(op, q_nope, 2, "number of latent elements"),
        storage=_storage(op, pages, target),
        element_type=q_nope.element_type,
        warps=warps,
        rows=rows,
        kv_tile=kv_tile or max(ROWS_PER_WARP * warps // rows, 1) * 16,
        stages=stages,
        kpe_dim=constant_extent(op, q_pe, 2, "number of elements that carry positions"),
        combined=len(op.cache) == 1,
    )
    _check_dims(op, geometry)
    _check_teams(op, geometry)
    check_target(op, geometry, target)
    return geometry


def _storage(op: AttendLatentOp, pages: PagedType, target: str) -> Storage:
    return Storage(
        element_type=pages.element_type,
        page_size=constant_extent(op, pages, 1, "page size"),
        layout=PageLayout.NHD,
        scales=op.scales,
        confined=op.confined is not None,
        converts=converts(pages.element_type, target),
    )


def _check_dims(op: AttendLatentOp, geometry: LatentGeometry) -> None:
    if geometry.head_dim not in LATENT_DIMS:
        known = " or ".join(map(str, LATENT_DIMS))
        raise error_at(op, f"expects {known} latent elements, got {geometry.head_dim}")
    if geometry.storage.narrow and element_bits(geometry.storage.element_type) != 8:
        raise error_at(op, f"expects codes of 8 bits, got {geometry.storage.element_type}")
    if geometry.kpe_dim % 16 or not 16 <= geometry.kpe_dim <= LARGEST_KPE_DIM:
        raise error_at(
            op,
            f"expects a multiple of 16 up to {LARGEST_KPE_DIM} elements that carry positions, "
            f"got {geometry.kpe_dim}",
        )


def _check_teams(op: AttendLatentOp, geometry: LatentGeometry) -> None:
    held = ROWS_PER_WARP * geometry.warps
    if geometry.rows % ROWS_PER_WARP or held % geometry.rows:
        return  # refused with the rows of any kernel
    if (
        geometry.teams < 2
        or geometry.head_dim % (COLUMN_PERIOD * geometry.teams)
        or geometry.out_columns > LARGEST_TEAM_COLUMNS
    ):
        raise error_at(
            op,
            f"expects at least 2 teams, with {COLUMN_PERIOD} to {LARGEST_TEAM_COLUMNS} columns of "
            f"the output each, got {geometry.teams} of {geometry.warps} warps for {geometry.rows} "
            "rows",
        )
