"""A shape that is timed: a kernel, the lengths of the requests, and the work that they are."""

from dataclasses import dataclass, replace
from math import ceil

from ..attention.named_storage import CONFINED
from ..runtime.contract import JsonScalar
from .variants import VARIANTS

ELEMENT_BYTES = 2
# DeepSeek's: elements of a latent row beside it that carry positions, and the scale of the scores,
# that of heads of 128 + 64 elements before absorption.
ROTATED = 64
LATENT_SCALE = 192**-0.5
# Long enough to be shared by the plans of cascades.
SMALL_PREFIX = 160


@dataclass(frozen=True)
class Kernel:
    """
    What a kernel is compiled for, but for the target.

    `variant` is a name of `variants.VARIANTS`; `decode` chooses the tiles for one query row a
    request. `work` "cascade" reads shared prefixes once. `kv_format` is "same" or "e4m3". `latent`
    is multi-head latent attention in its absorbed form: `head_dim` elements of a row, 64 more that
    carry positions, and one KV head. `confined` pages keep what is no number to rows that see it.
    """

    variant: str
    head_dim: int
    num_qo_heads: int
    num_kv_heads: int
    page_size: int
    dtype: str = "f16"
    decode: bool = False
    work: str = "ranges"
    kv_format: str = "same"
    latent: bool = False
    confined: bool = False

    @property
    def storage(self) -> str:
        """The name of the storage, as manifests have it."""
        return ("latent" if self.latent else "paged") + (CONFINED if self.confined else "")

    def key(self, target: str) -> dict[str, JsonScalar]:
        """Returns the key of the kernel in a kernel set."""
        return {
            "variant": self.variant,
            "phase": "decode" if self.decode else "prefill",
            "head_dim": self.head_dim,
            "num_qo_heads": self.num_qo_heads,
            "num_kv_heads": self.num_kv_heads,
            "storage": self.storage,
            "page_size": self.page_size,
            "layout": "NHD",
            "kv_format": self.kv_format,
            "dtype": self.dtype,
            "work": self.work,
            "target": target,
        }

    @property
    def row_elements(self) -> int:
        """The elements of a row of queries and keys."""
        return self.head_dim + (ROTATED if self.latent else 0)

    @property
    def cached_elements(self) -> int:
        """The elements of the cache for a token and KV head; a latent row is key and value."""
        return self.row_elements if self.latent else 2 * self.head_dim

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        return LATENT_SCALE if self.latent else self.head_dim**-0.5

    @property
    def kv_bytes(self) -> int:
        """The bytes of an element of the cache."""
        return ELEMENT_BYTES if self.kv_format == "same" else 1

    @property
    def group(self) -> int:
        """Query heads that share one KV head."""
        return self.num_qo_heads // self.num_kv_heads


@dataclass(frozen=True)
class Case:
    """
    One shape: `requests` are (query rows, KV rows), the last query standing at the last key.

    `shuffled` says that the pages of a request are not side by side. `prefix` KV rows are the same
    pages in all requests.
    """

    name: str
    suite: str
    kernel: Kernel
    requests: tuple[tuple[int, int], ...]
    shuffled: bool = True
    prefix: int = 0

    @property
    def query_rows(self) -> int:
        """The query rows of all requests."""
        return sum(rows for rows, _ in self.requests)

    @property
    def kv_rows(self) -> int:
        """The KV rows that have to be read: a shared prefix once, and what a window leaves."""
        window = VARIANTS[self.kernel.variant].window
        if window is not None:
            return sum(min(keys, rows + window) for rows, keys in self.requests)
        own = sum(keys - self.prefix for _, keys in self.requests)
        return own + self.prefix

    @property
    def flops(self) -> float:
        """
        The operations of both products over the pairs that the mask leaves, 4 D for each head.

        Dao, FlashAttention-2, section 4.1, counted exactly; latent rows are longer as keys.
        """
        pairs = sum(self._pairs(rows, keys) for rows, keys in self.requests)
        elements = self.kernel.row_elements + self.kernel.head_dim
        return 2.0 * pairs * self.kernel.num_qo_heads * elements

    def _pairs(self, rows: int, keys: int) -> float:
        """Returns how many pairs of a query and a key of one request are seen."""
        variant = VARIANTS[self.kernel.variant]
        if not variant.causal:
            return float(rows * keys)
        first = keys - rows + 1  # the keys that the first query sees
        if variant.window is None:
            return rows * (first + keys) / 2
        most = variant.window + 1
        growing = max(0, min(rows, most - first))
        return growing * (2 * first + growing - 1) / 2 + (rows - growing) * min(most, keys)

    @property
    def bytes(self) -> float:
        """The least bytes of global memory: each input read once, each output written once."""
        kernel = self.kernel
        elements = kernel.row_elements + kernel.head_dim
        queries = float(self.query_rows * kernel.num_qo_heads * elements)
        cache = float(self.kv_rows * kernel.num_kv_heads * kernel.cached_elements)
        lse = 4.0 * self.query_rows * kernel.num_qo_heads
        return ELEMENT_BYTES * queries + kernel.kv_bytes * cache + lse

    @property
    def pages(self) -> int:
        """The pages of the KV cache that the case needs."""
        size = self.kernel.page_size
        shared = self.prefix // size
        return shared + sum(ceil(keys / size) - shared for _, keys in self.requests)

    @property
    def memory_bytes(self) -> int:
        """The bytes of all arrays of the case on a device."""
        kernel = self.kernel
        tokens = self.pages * kernel.page_size * kernel.num_kv_heads
        rows = self.query_rows * kernel.num_qo_heads
        results = ELEMENT_BYTES * rows * (kernel.row_elements + kernel.head_dim) + 4 * rows
        return kernel.kv_bytes * tokens * kernel.cached_elements + results

    @property
    def uniform(self) -> tuple[int, int] | None:
        """The lengths of every request, where they are all the same."""
        first = self.requests[0]
        return first if all(request == first for request in self.requests) else None

    def scaled_down(self) -> "Case":
        """Returns a case of the same kernel that the simulator runs in about a second."""
        size = self.kernel.page_size
        if self.kernel.decode:
            window = VARIANTS[self.kernel.variant].window
            lengths = (1, 37, 130 if window is None else window + 70)
            prefix = -(-SMALL_PREFIX // size) * size if self.prefix else 0
            requests = tuple((1, prefix + keys) for keys in lengths)
            return replace(self, requests=requests, prefix=prefix)
        rows, keys = self.requests[0]
        small = (5, 90) if rows < keys else (70, 70)
        return replace(self, requests=(small,), prefix=0)
