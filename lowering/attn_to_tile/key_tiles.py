"""Tiles of keys and values: their shared memory, the copies into it, and their widening."""

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import Region, SSAValue

from ...dialects.tile import AllocOp, CopyAsyncOp, WaitOp, WidenOp
from ..emitter import Emitter, name_fields
from .geometry import Geometry
from .params import Strides
from .regions import Scope
from .request import KeyRows
from .scales import Scaled, scale_before


@dataclass(frozen=True)
class KeyRings:
    """The rings of the tiles of keys and values; the wide ones are None where they need none."""

    keys: SSAValue
    values: SSAValue
    wide_keys: SSAValue | None = None
    wide_values: SSAValue | None = None

    @classmethod
    def alloc(cls, emit: Emitter, geometry: Geometry) -> "KeyRings":
        """Appends the allocations."""
        ring, wide = geometry.kv_ring, geometry.wide_ring
        kinds = [ring, ring, *([wide, wide] if geometry.storage.narrow else [])]
        rings = cls(*(emit.result(AllocOp, kind) for kind in kinds))
        name_fields(rings)
        return rings

    @property
    def scratch(self) -> SSAValue:
        """The shared memory that holds other things once all keys are seen."""
        return self.keys if self.wide_keys is None else self.wide_keys


@dataclass(frozen=True)
class KeyTiles:
    """A tile of keys and the one of their values; it begins at the key `first_key`."""

    scope: Scope
    rings: KeyRings
    first_key: SSAValue

    @property
    def rows(self) -> KeyRows:
        """Where its rows lie."""
        scope = self.scope
        return KeyRows(scope.emit, scope.params, scope.request, scope.geometry, self.first_key)

    def copy(self, stage: SSAValue, exists: SSAValue) -> Sequence[SSAValue]:
        """Appends the start of the copies into a stage, if the tile exists."""
        emit, params, rings = self.scope.emit, self.scope.params, self.rings
        pairs = [
            (params.k, rings.keys, params.k_strides),
            (params.v, rings.values, params.v_strides),
        ]
        if params.k_strides is None or params.k_strides is params.v_strides:
            sources, targets = (params.k, params.v), (rings.keys, rings.values)
            rows = self._copied_rows(params.k_strides)
            return emit.append(CopyAsyncOp(sources, targets, stage, exists, rows)).results
        return [
            emit.value(CopyAsyncOp((source,), (ring,), stage, exists, self._copied_rows(strides)))
            for source, ring, strides in pairs
        ]

    def _copied_rows(self, strides: Strides | None) -> Region:
        if strides is None:
            return self.rows.contiguous(self.scope.geometry.head_dim)
        return self.rows.strided(strides)

    def landed_keys(self, in_flight: SSAValue) -> SSAValue:
        """Appends the wait for the keys, and returns their stage in 16 bits."""
        return self._landed(in_flight, self.rings.wide_keys, self.scope.params.k_scales, "key")

    def landed_values(self, in_flight: SSAValue) -> SSAValue:
        """Appends the wait for the values, and returns their stage in 16 bits."""
        return self._landed(in_flight, self.rings.wide_values, self.scope.params.v_scales, "value")

    def _landed(
        self, in_flight: SSAValue, wide: SSAValue | None, scales: SSAValue | None, what: Scaled
    ) -> SSAValue:
        scope, storage = self.scope, self.scope.geometry.storage
        emit, block = scope.emit, storage.block
        if wide is None:
            return emit.result(WaitOp, in_flight)
        if block is None or storage.scales is None:
            scale = scale_before(scope, what)
            return emit.value(WidenOp(in_flight, wide, scale, convert=storage.converts))
        rows = self.rows.contiguous(scope.geometry.head_dim // block)
        kind = storage.scales.element_type
        widen = WidenOp(in_flight, wide, scales, block, kind, rows, storage.converts)
        return emit.value(widen)
