"""
The tiles of an attention kernel, chosen for its head_dim and the usual length of its queries.

The choice is modelled, not measured. Decoding is bound by the bytes of keys and values: what
counts is how many of them are under way, so the query tile is small, its warps share the keys, and
shared memory is spent on stages. Prefill is bound by the products: a larger query tile uses each
key more often.
"""

from dataclasses import dataclass

from ..runtime.occupancy import RESERVED_BYTES, SM_SHARED_BYTES

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

    def shared_bytes(self, head_dim: int) -> int:
        """Returns the bytes of shared memory of a CTA, but for padding."""
        rows = self.rows + 2 * self.stages * self.kv_tile
        return rows * head_dim * ELEMENT_BYTES


def choose_tiles(head_dim: int, group: int, query_len: int | None, target: str) -> Tiles:
    """
    Returns the tiles for requests of usually at most `query_len` query rows, None for any number.

    `group` query heads share a key head, and so a query tile.
    """
    few_keys = head_dim > LARGEST_HEAD_DIM_OF_64_KEYS
    if query_len is None or query_len * group > SHORT_ROWS:
        return Tiles(64, 4, 32 if few_keys else 64, 2)
    for ctas, stages in ((2, MOST_STAGES), (2, 3), (2, 2), (1, 3), (1, 2)):
        tiles = Tiles(SHORT_ROWS, 4, 64, stages)
        # The padding of rows that are not swizzled is 16 bytes each.
        padding = 16 * (tiles.rows + 2 * stages * tiles.kv_tile)
        needed = tiles.shared_bytes(head_dim) + padding + RESERVED_BYTES
        if ctas * needed <= SM_SHARED_BYTES[target]:
            return tiles
    return Tiles(2 * SHORT_ROWS, 4, 32, 2)
