"""KV storages by name, as manifests write them: where keys and values lie, and in which format."""

from dataclasses import replace

from ..runtime.errors import ArgumentError
from .kv_format import BLOCKS, LARGEST_CODE, KVFormat
from .latent_kv import LatentKV
from .spec import BlockSparseKV, KVStorage, PagedKV, RaggedKV

# Each KV head with pages, or blocks, of its own.
_BY_HEAD = "-by-head"
# What is no number in values stays in the rows that see it.
CONFINED = "-confined"
STORAGES = (
    *("paged", "combined", "ragged", "block-sparse", "latent", "latent-combined"),
    *(f"{storage}{_BY_HEAD}" for storage in ("paged", "combined", "block-sparse")),
)
# Elements as those of the queries.
SAME = "same"
_PER_HEAD = "head"
FORMATS = f"{SAME}, {', '.join(LARGEST_CODE)}, each of these also with :head, :0, :16 or :32"


def named_storage(
    storage: str, page_size: int, layout: str, kv_format: str, head_dim: int
) -> KVStorage | LatentKV:
    """
    Returns a storage; raises ArgumentError.

    `storage` is "paged", "combined" (keys and values in one array of pages), "ragged",
    "block-sparse", of which `page_size` is the columns of a block, "latent" (pages of latent rows
    of `head_dim` elements, 64 that carry positions apart) or "latent-combined". Where each KV head
    has pages or blocks of its own, as sparse decoding chooses them, it is "paged-by-head",
    "combined-by-head" or "block-sparse-by-head". Each of these with "-confined" behind it keeps NaN
    and infinities of values in the rows that see them. `kv_format` is "same", or codes such as
    "e4m3", with one scale for all, one a KV head ("e4m3:head"), or one for each block of a row
    ("i4:16", 0 being the whole row).
    """
    named = storage.removesuffix(CONFINED)
    if named not in STORAGES:
        known = f"one of {', '.join(STORAGES)}, each of these also with {CONFINED}"
        raise ArgumentError("storage", known, repr(storage))
    kv = _storage(named, page_size, layout, kv_format, head_dim)
    return replace(kv, confined=named != storage)


def _storage(
    storage: str, page_size: int, layout: str, kv_format: str, head_dim: int
) -> KVStorage | LatentKV:
    form, per_head = named_format(kv_format)
    by_head, storage = storage.endswith(_BY_HEAD), storage.removesuffix(_BY_HEAD)
    if storage in ("paged", "combined"):
        numbers = (page_size, layout, form, storage == "combined")
        return PagedKV(*numbers, scale_per_head=per_head, table_of_heads=by_head)
    if layout != "NHD":
        raise ArgumentError("layout", f"'NHD' for {storage} keys", repr(layout))
    if storage in ("latent", "latent-combined"):
        if per_head:
            raise ArgumentError("kv_format", "one scale for all latent rows", repr(kv_format))
        combined = storage == "latent-combined"
        return LatentKV(page_size, head_dim, combined=combined, format=form)
    if storage == "ragged":
        return RaggedKV(form, scale_per_head=per_head)
    return BlockSparseKV(page_size, form, scale_per_head=per_head, per_head=by_head)


def named_format(text: str) -> tuple[KVFormat | None, bool]:
    """Returns the format of a text, and whether each KV head has a scale; raises ArgumentError."""
    if text == SAME:
        return None, False
    dtype, colon, scales = text.partition(":")
    known = (_PER_HEAD, "0", *(str(block) for block in BLOCKS))
    if dtype not in LARGEST_CODE or (colon and scales not in known):
        raise ArgumentError("kv_format", f"one of {FORMATS}", repr(text))
    block = int(scales) if scales.isdecimal() else None
    return KVFormat(dtype, block), scales == _PER_HEAD
