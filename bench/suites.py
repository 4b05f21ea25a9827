"""The shapes of each suite."""

import re
from collections.abc import Callable, Iterator

import numpy as np

from ..runtime.errors import ArgumentError
from .case import Case, Kernel

SUITES = ("attention", "decode", "mla", "all")
# Prefill, as FlashAttention is measured: 16k tokens in all, a model width of 2,048.
TOKENS = 16_384
WIDTH = 2_048
LENGTHS = (512, 1024, 2048, 4096, 8192, 16_384)
# The heads of Llama-3.1-8B.
HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
ZIPF = 1.2
# Tokens of a request behind a shared prefix.
SUFFIX = 128


def prefill() -> Iterator[Case]:
    """Yields whole prompts: head_dim 64 to 256, causal and full, one to eight heads a KV head."""
    for head_dim in (64, 128, 256):
        heads = WIDTH // head_dim
        for variant in ("causal", "full"):
            for group in (1, 4, 8):
                kernel = Kernel(variant, head_dim, heads, heads // group, 16)
                for length in LENGTHS:
                    name = f"prefill-{variant}-d{head_dim}-g{group}-{length}"
                    requests = ((length, length),) * (TOKENS // length)
                    yield Case(name, "prefill", kernel, requests, shuffled=False)


def paged() -> Iterator[Case]:
    """Yields prompts, and prompts that go on, over shuffled pages of 1, 16 and 64 tokens."""
    for page_size in (1, 16, 64):
        kernel = Kernel("causal", HEAD_DIM, HEADS, KV_HEADS, page_size)
        for name, requests in (
            ("prefill-2048", ((2048, 2048),) * 8),
            ("append-512-of-8192", ((512, 8192),) * 4),
        ):
            yield Case(f"paged-{name}-page{page_size}", "paged", kernel, requests)


def decode() -> Iterator[Case]:
    """Yields one query row a request, over pages of 16, with equal and with skewed lengths."""
    kernel = Kernel("causal", HEAD_DIM, HEADS, KV_HEADS, 16, decode=True)
    for batch in (1, 4, 16, 64, 128, 256):
        for length in (1024, 4096, 8192, 32_768):
            equal = ((1, length),) * batch
            yield Case(f"decode-b{batch}-{length}-uniform", "decode", kernel, equal)
            if batch > 1:
                name = f"decode-b{batch}-{length}-skewed"
                yield Case(name, "decode", kernel, skewed(batch, length))


def eight_bit() -> Iterator[Case]:
    """Yields decoding over keys and values in e4m3."""
    numbers = ("causal", HEAD_DIM, HEADS, KV_HEADS, 16)
    kernel = Kernel(*numbers, decode=True, kv_format="e4m3")
    for batch in (16, 64):
        for length in (1024, 8192, 32_768):
            requests = ((1, length),) * batch
            yield Case(f"decode-b{batch}-{length}-e4m3", "decode", kernel, requests)


def skewed(batch: int, mean: int) -> tuple[tuple[int, int], ...]:
    """Returns decoding requests whose lengths have this mean, and follow Zipf's law."""
    weights = 1.0 / np.arange(1, batch + 1) ** ZIPF
    lengths = np.maximum(mean * batch * weights / weights.sum(), 1).astype(int)
    order = np.random.default_rng(batch).permutation(batch)
    return tuple((1, int(lengths[place])) for place in order)


def variants() -> Iterator[Case]:
    """Yields the variants of the library, on prompts and on decoding."""
    for variant in ("causal", "window", "soft-cap", "alibi", "sinks", "rope"):
        numbers = (variant, HEAD_DIM, HEADS, KV_HEADS, 16)
        prompts = ((4096, 4096),) * 4
        yield Case(f"variant-{variant}-prefill", "variants", Kernel(*numbers), prompts)
        kernel = Kernel(*numbers, decode=True)
        yield Case(f"variant-{variant}-decode", "variants", kernel, ((1, 8192),) * 64)


def confined() -> Iterator[Case]:
    """Yields what it costs to keep values that are no numbers to the rows that see them."""
    numbers = ("causal", HEAD_DIM, HEADS, KV_HEADS, 16)
    prompts = ((4096, 4096),) * 4
    yield Case("confined-prefill", "variants", Kernel(*numbers, confined=True), prompts)
    kernel = Kernel(*numbers, decode=True, confined=True)
    yield Case("confined-decode", "variants", kernel, ((1, 8192),) * 64)


def cascade() -> Iterator[Case]:
    """Yields decoding behind a prefix that all requests share, read once or by each for itself."""
    for work in ("cascade", "ranges"):
        kernel = Kernel("causal", HEAD_DIM, HEADS, KV_HEADS, 16, decode=True, work=work)
        name = "once" if work == "cascade" else "each"
        for batch in (16, 64):
            for prefix in (1024, 8192, 32_768):
                requests = ((1, prefix + SUFFIX),) * batch
                title = f"cascade-b{batch}-{prefix}-{name}"
                yield Case(title, "cascade", kernel, requests, prefix=prefix)


def mla() -> Iterator[Case]:
    """Yields decoding of multi-head latent attention: 512 + 64 elements, pages of 64 tokens."""
    for heads in (16, 64, 128):
        kernel = Kernel("causal", 512, heads, 1, 64, decode=True, latent=True)
        for batch in (1, 16, 64, 128):
            for length in (1024, 4096, 8192, 32_768):
                requests = ((1, length),) * batch
                yield Case(f"mla-h{heads}-b{batch}-{length}", "mla", kernel, requests)


_PARTS: dict[str, tuple[Callable[[], Iterator[Case]], ...]] = {
    "attention": (prefill, paged, variants, confined),
    "decode": (decode, eight_bit, cascade),
    "mla": (mla,),
}


def cases_of(suite: str, only: str | None = None) -> list[Case]:
    """
    Returns the cases of a suite, those alone in whose names `only`, a regular expression, is found.

    Raises ArgumentError for an unknown suite, and where nothing is left.
    """
    if suite not in SUITES:
        raise ArgumentError("--suite", f"one of {', '.join(SUITES)}", repr(suite))
    parts = [part for name, made in _PARTS.items() if suite in (name, "all") for part in made]
    cases = [case for part in parts for case in part()]
    if only is None:
        return cases
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise ArgumentError("--only", "a regular expression", f"{only!r}: {error}") from None
    chosen = [case for case in cases if pattern.search(case.name)]
    if not chosen:
        raise ArgumentError("--only", f"a part of a name such as {cases[0].name}", repr(only))
    return chosen


def kernels_of(cases: list[Case]) -> list[Kernel]:
    """Returns the kernels that cases need, each once."""
    return list(dict.fromkeys(case.kernel for case in cases))


def scaled_down(cases: list[Case]) -> list[Case]:
    """Returns small cases in place of these, one for each kernel and kind of shape."""
    small: dict[tuple[object, ...], Case] = {}
    for case in cases:
        scaled = case.scaled_down()
        small.setdefault((scaled.kernel, scaled.requests, scaled.prefix), scaled)
    return list(small.values())
