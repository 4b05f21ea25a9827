"""
The tiles of an attention kernel, chosen for its head_dim and the usual length of its queries.

Decoding is bound by the bytes of keys and values: what counts is how many of them are under way,
so the query tile is small, its warps share the keys, and shared memory is spent on stages. On an
H100, 64 requests of 8,192 keys reach 97 % of a copy's bandwidth with 2 to 4 stages alike.

Prefill is bound by the products and by what feeds them: a larger query tile uses each key more
often. Two blocks of rows a warp use each fragment of keys twice, which is 7 to 9 % faster on an
H100 (causal, head_dim 64, 4,096 and 16,384 tokens), 5 % at head_dim 128; where the output or the
variant's own values take the registers, one block is all that does not spill, and where shared
memory holds one such CTA alone, two of one block hide more of what they wait for. 8 warps on one
tile, 32 keys a tile and three stages were slower, by 3 to 25 %.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from ..runtime.occupancy import RESERVED_BYTES, SM_SHARED_BYTES
from .kv_format import KVFormat
from .spec import BlockSparseKV, KVStorage
from .variants import TracedVariant

ELEMENT_BYTES = 2
# Up to here the outputs of two blocks of 16 rows, or of one and what a variant needs beside it,
# leave a warp registers for the scores of 64 keys.
LARGEST_HEAD_DIM_OF_TWO_BLOCKS = 64
# Here they are just enough, for the lightest variants. Between the two, ptxas is known to spill.
HEAD_DIM_OF_TWO_TIGHT_BLOCKS = 128
# Up to here the output of 16 rows leaves a warp registers for the scores of 64 keys.
LARGEST_HEAD_DIM_OF_64_KEYS = 128
SHORT_ROWS = 16
# 16 for each of 4 warps.
PREFILL_ROWS = 64
# More bytes than these stages hold are not under way before the first of them has landed.
MOST_STAGES = 4


class Registers(Enum):
    """What registers a kernel needs for its variant and its keys, beside those of its products."""

    FEWEST = "fewest"
    FEW = "few"
    USUAL = "usual"
    MANY = "many"
    MOST = "most"


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

    def share_an_sm(
        self, ctas: int, head_dim: int, target: str, form: KVFormat | None = None
    ) -> bool:
        """Whether an SM of a target has shared memory for this many CTAs at a time."""
        needed = self.shared_bytes(head_dim, form) + RESERVED_BYTES
        return ctas * needed <= SM_SHARED_BYTES[target]


def row_bytes(payload: int) -> int:
    """Returns the bytes from one row in shared memory to the next, with padding where needed."""
    return payload if payload % 128 == 0 else payload + 16


def choose_tiles(
    head_dim: int,
    group: int,
    query_len: int | None,
    target: str,
    form: KVFormat | None = None,
    needs: Registers = Registers.USUAL,
) -> Tiles:
    """
    Returns the tiles for requests of usually at most `query_len` query rows, None for any number.

    `group` query heads share a key head, and so a query tile. `form` is the format of keys and
    values, None for that of the queries. `needs` says what registers the kernel needs beside those
    of its products: see `registers_of`.
    """
    if query_len is None or query_len * group > SHORT_ROWS:
        keys = _prefill_keys(head_dim, form, needs)
        many = query_len is None or query_len * group > PREFILL_ROWS
        narrow = form is not None and form.is_quantized
        fit = head_dim in _head_dims_of_two_blocks(needs)
        tall = Tiles(2 * PREFILL_ROWS, 4, keys, 2)
        if fit and many and not narrow and tall.share_an_sm(2, head_dim, target):
            return tall
        return Tiles(PREFILL_ROWS, 4, keys, 2)
    if form is not None and form.is_quantized and head_dim > LARGEST_HEAD_DIM_OF_64_KEYS:
        # The places of codes and of what they are widened to take the registers of 64 keys.
        return Tiles(2 * SHORT_ROWS, 4, 32, 2)
    for ctas, stages in ((2, MOST_STAGES), (2, 3), (2, 2), (1, 3), (1, 2)):
        tiles = Tiles(SHORT_ROWS, 4, 64, stages)
        if tiles.share_an_sm(ctas, head_dim, target, form):
            return tiles
    return Tiles(2 * SHORT_ROWS, 4, 32, 2)


def registers_of(traced: TracedVariant, kv: KVStorage, work: str) -> Registers:
    """Returns what registers a kernel needs beside those of its products."""
    if kv.confined and traced.mask is not None:
        blocks = isinstance(kv, BlockSparseKV) or (kv.format is not None and kv.format.has_blocks)
        return Registers.USUAL if traced.compares_positions and not blocks else Registers.MOST
    if isinstance(kv, BlockSparseKV):
        return Registers.MANY if traced.mask_reads_tensors else Registers.USUAL
    if work != "ranges" or not traced.compares_positions:
        return Registers.USUAL
    return Registers.FEW if traced.regions.keys() - {"mask"} else Registers.FEWEST


def _head_dims_of_two_blocks(needs: Registers) -> Collection[int]:
    """Returns the head_dims at which two blocks of rows spill no register."""
    small = range(1, LARGEST_HEAD_DIM_OF_TWO_BLOCKS + 1)
    if needs is Registers.FEWEST:
        return *small, HEAD_DIM_OF_TWO_TIGHT_BLOCKS
    return small if needs is Registers.FEW else ()


def _prefill_keys(head_dim: int, form: KVFormat | None, needs: Registers) -> int:
    """Returns the keys of a tile beside which the output of 16 rows spills no register."""
    if head_dim <= LARGEST_HEAD_DIM_OF_64_KEYS:
        many = needs in (Registers.MANY, Registers.MOST)
        return 32 if many and head_dim > LARGEST_HEAD_DIM_OF_TWO_BLOCKS else 64
    # A chunk of 4-bit codes is 32 elements that are widened at a time.
    return 16 if needs is Registers.MOST or (form is not None and form.dtype == "i4") else 32
