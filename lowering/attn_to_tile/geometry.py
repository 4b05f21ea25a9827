"""The numbers that an attention kernel is specialised on, and the tiles chosen for them."""

from dataclasses import dataclass

from xdsl.dialects.builtin import BFloat16Type
from xdsl.ir import Attribute

from ...dialects.attn import AttendOp, PagedType, PageLayout, RaggedType
from ...dialects.diagnostic import error_at
from ...dialects.tile import RING_ALIGNMENT, RingType, SharedLayout

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
# Up to here the query tile stays in registers beside the two accumulators without spills.
LARGEST_HEAD_DIM_IN_REGISTERS = 128


@dataclass(frozen=True)
class Geometry:
    """
    The compile-time numbers of an attention kernel.

    `kv_tile` keys are worked on at a time, in a ring of `stages` tiles; a CTA of `warps` warps has
    16 packed query rows a warp.
    """

    qo_heads: int
    kv_heads: int
    head_dim: int
    page_size: int
    layout: PageLayout
    element_type: Attribute
    warps: int
    kv_tile: int
    stages: int

    @property
    def group(self) -> int:
        """The number of query heads that share a key head."""
        return self.qo_heads // self.kv_heads

    @property
    def rows(self) -> int:
        """The number of packed query rows of a CTA."""
        return 16 * self.warps

    @property
    def query_in_registers(self) -> bool:
        """Whether the query tile is kept in registers, not read again for each tile of keys."""
        return self.head_dim <= LARGEST_HEAD_DIM_IN_REGISTERS

    @property
    def dtype(self) -> str:
        """The element type's short name: "f16" or "bf16"."""
        return "bf16" if isinstance(self.element_type, BFloat16Type) else "f16"

    def _ring(self, stages: int, rows: int) -> RingType:
        swizzled = self.head_dim % 64 == 0
        layout = SharedLayout.SWIZZLE_128 if swizzled else SharedLayout.PADDED_16
        return RingType(stages, (rows, self.head_dim), self.element_type, layout)

    @property
    def query_ring(self) -> RingType:
        """The shared memory of the query tile, and later of the output tile."""
        return self._ring(1, self.rows)

    @property
    def kv_ring(self) -> RingType:
        """The shared memory of the key tiles, and as much again of the value tiles."""
        return self._ring(self.stages, self.kv_tile)

    @property
    def shared_bytes(self) -> int:
        """The bytes of shared memory of a CTA: the rings, each where one may begin."""
        end = 0
        for ring in (self.query_ring, self.kv_ring, self.kv_ring):
            start = -(-end // RING_ALIGNMENT) * RING_ALIGNMENT
            end = start + ring.stages.data * ring.stage_bytes
        return end


def geometry_of(op: AttendOp, target: str, warps: int, kv_tile: int, stages: int) -> Geometry:
    """
    Returns the numbers of an attention op's kernel; `kv_tile` 0 chooses by head_dim.

    Raises `DiagnosticError` for what the target or these kernels cannot do.
    """
    query, keys = op.query.type, op.keys.type
    if not isinstance(query, RaggedType) or not isinstance(keys, PagedType):
        raise error_at(op, f"expects a ragged query and paged keys, got {query} and {keys}")
    head_dim = _constant(op, query, 2, "head_dim")
    if head_dim % 16 or not 16 <= head_dim <= LARGEST_HEAD_DIM:
        raise error_at(
            op, f"expects a head_dim that is a multiple of 16 up to 256 on {target}, got {head_dim}"
        )
    geometry = Geometry(
        qo_heads=_constant(op, query, 1, "number of query heads"),
        kv_heads=_constant(op, keys, 2, "number of key heads"),
        head_dim=head_dim,
        page_size=_constant(op, keys, 1, "page size"),
        layout=keys.layout.data,
        element_type=query.element_type,
        warps=warps,
        kv_tile=kv_tile or (64 if head_dim <= LARGEST_HEAD_DIM_IN_REGISTERS else 32),
        stages=stages,
    )
    _check_target(op, geometry, target)
    return geometry


def _constant(op: AttendOp, kind: RaggedType | PagedType, axis: int, name: str) -> int:
    extent = kind.extents.data[axis].data
    if (constant := extent.constant_value) is None:
        raise error_at(op, f"expects a constant {name}, got {extent}")
    return constant


def _check_target(op: AttendOp, geometry: Geometry, target: str) -> None:
    if (limit := SHARED_BYTES.get(target)) is None:
        raise error_at(op, f"expects a target among {', '.join(SHARED_BYTES)}, got {target}")
    whole_steps = geometry.kv_tile >= 16 and geometry.kv_tile % 16 == 0
    if not whole_steps or geometry.stages < 2 or not 1 <= geometry.warps <= 16:
        raise error_at(
            op,
            "expects a key tile of a positive multiple of 16, at least 2 stages and 1 to 16 warps, "
            f"got {geometry.kv_tile}, {geometry.stages} and {geometry.warps}",
        )
    if geometry.shared_bytes > limit:
        raise error_at(
            op,
            f"needs {geometry.shared_bytes} bytes of shared memory, {target} has {limit}: "
            "choose fewer stages or a smaller key tile",
        )
