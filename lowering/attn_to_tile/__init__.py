"""
Lowers attention to what one CTA does: FlashAttention-2's loop over tiles of keys.

Source: Dao, "FlashAttention-2", section 3; the query heads of one key head are packed into the
rows of a tile, so that one kernel serves prefill and decode.
"""

from .convert import ConvertAttnToTilePass
from .geometry import Geometry, geometry_of

__all__ = ["ConvertAttnToTilePass", "Geometry", "geometry_of"]
