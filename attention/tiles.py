"""
The tiles of an attention kernel, chosen for its head_dim and the usual length of its queries.

The choice is modelled, not measured. Decoding is bound by the bytes of keys and values: what
counts is how many of them are under way, so the query tile is small, its warps share the keys, and
shared memory is spent on stages. Prefill is bound by the products: a larger query tile uses each
key more often.
"""

from dataclasses import dataclass

from ..runtime.occupancy import RESERVED_BYTES, SM_SHARED_BYTES
from .kv_format import KVFormat

ELEMENT_BYTES = 2
# Up to here the output of 16 rows leaves a warp registers for the scores of 64 keys.
LARGEST_HEAD_DIM_OF_64_KEYS = 128
SHORT_ROWS = 16
# More bytes than these stages hold are not under way before the first of them has landed.
MOST_STAGES = 4


@dataclass(frozen=True)
class Tiles:
    """
    The tiles of a kernel: `rows` packed query rows on `warps` warps, `kv_tile` keys.

    `stages` tiles of keys and values are in shared memory at a time.
    """

    rows: int
    warps: int
    kv_tile: int
    stages: int

    def shared_bytes(self, head_dim: int, form: KVFormat | None = None) -> int:
        """
        Returns the bytes of shared memory of a CTA, with the padding of rows that have some.

        Keys and values in a quantised format have a stage of 16 bits each beside their rings.
        """
        wide = row_bytes(head_dim * ELEMENT_BYTES)
        if form is None or not form.is_quantized or head_dim % 2:
            return (self.rows + 2 * self.stages * self.kv_tile) * wide
        narrow = row_bytes(form.width(head_dim))
        return (self.rows + 2 * self.kv_tile) * wide + 2 * self.stages * self.kv_tile * narrow


def row_bytes(payload: int) -> int:
    """Returns the bytes from one row in shared memory to the next, with padding where needed."""
    return payload if payload % 128 == 0 else payload + 16


def choose_tiles(
    head_dim: int, group: int, query_len: int | None, target: str, form: KVFormat | None = None
) -> Tiles:
    """
    Returns the tiles for requests of usually at most `query_len` query rows, None for any number.

    `group` query heads share a key head, and so a query tile. `form` is the format of keys and
    values, None for that of the queries.
    """
    if query_len is None or query_len * group > SHORT_ROWS:
        return Tiles(64, 4, _prefill_keys(head_dim, form), 2)
    if form is not None and form.is_quantized and head_dim > LARGEST_HEAD_DIM_OF_64_KEYS:
        # The places of codes and of what they are widened to take the registers of 64 keys.
        return Tiles(2 * SHORT_ROWS, 4, 32, 2)
    for ctas, stages in ((2, MOST_STAGES), (2, 3), (2, 2), (1, 3), (1, 2)):
        tiles = Tiles(SHORT_ROWS, 4, 64, stages)
        needed = tiles.shared_bytes(head_dim, form) + RESERVED_BYTES
        if ctas * needed <= SM_SHARED_BYTES[target]:
            return tiles
    return Tiles(2 * SHORT_ROWS, 4, 32, 2)


def _prefill_keys(head_dim: int, form: KVFormat | None) -> int:
    """Returns the keys of a tile beside which the output of 16 rows spills no register."""
    if head_dim <= LARGEST_HEAD_DIM_OF_64_KEYS:
        return 64
    # A chunk of 4-bit codes is 32 elements that are widened at a time.
    return 16 if form is not None and form.dtype == "i4" else 32
