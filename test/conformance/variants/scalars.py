"""How scalar instructions are recorded: one result a thread, over edges and random bits."""

import math
from functools import partial

import numpy as np

from .variant import FLOATS, INDEX, Array, Variant, register, size_of, words

RANDOM = 1024  # operands with random bits, besides the lattice of edges
BLOCK = 128


def scalar(family: str, opcode: str, kinds: str, out: str, ulps: int = 0) -> Variant:
    """Returns the variant of `opcode o, a, b, c`."""
    operands = ", ".join("oabc"[: len(kinds.split()) + 1])
    return script(family, opcode, f"{opcode} {operands};", kinds, out, ulps)


def script(
    family: str, name: str, text: str, kinds: str, out: str, ulps: int = 0, target: str = "sm_80"
) -> Variant:
    """
    Returns the variant of a text that makes o of a, b and c; predicates q and r are free to use.

    `kinds` are the operands' types for the lattice of edges, `out` is the result's.
    """
    found = tuple(kinds.split())
    count = math.prod(len(edges(kind)) for kind in found) + RANDOM
    return Variant(
        family=family,
        name=name,
        body=_kernel(text, found, out),
        out=out,
        count=count,
        operands=partial(_operands, found),
        grid=-(-count // BLOCK),
        block=BLOCK,
        ulps=ulps,
        target=target,
        version="8.2",
    )


def _kernel(text: str, kinds: tuple[str, ...], out: str) -> str:
    """Returns a body that computes one result a thread."""
    lines = [INDEX, f".reg .{register(out)} o; .reg .b32 n; .reg .pred r;"]
    lines += ["ld.param.u32 n, [count]; setp.ge.u32 q, t, n; @q ret;"]
    for name, kind in zip("abc", kinds, strict=False):
        lines += [f".reg .{register(kind)} {name}; ld.param.u64 at, [p{name}];"]
        lines += [f"mad.wide.u32 at, t, {size_of(kind)}, at;"]
        lines += [f"ld.global.b{8 * size_of(kind)} {name}, [at];"]
    lines += [text, f"ld.param.u64 at, [po]; mad.wide.u32 at, t, {size_of(out)}, at;"]
    return "\n".join([*lines, f"st.global.b{8 * size_of(out)} [at], o;"])


def _operands(kinds: tuple[str, ...], generator: np.random.Generator) -> list[Array]:
    """Returns the operands as unsigned integers: the lattice of edges, then random bits."""
    lattice = np.meshgrid(*[np.array(edges(kind), np.uint64) for kind in kinds])
    return [
        np.concatenate([column.reshape(-1), words(generator, RANDOM, kind="u8")]).astype(
            f"u{size_of(kind)}"
        )
        for kind, column in zip(kinds, lattice, strict=True)
    ]


def edges(kind: str) -> list[int]:
    """Returns the bits of values where a type's behaviour changes."""
    if kind in FLOATS:
        size, fraction = FLOATS[kind]
        infinity = ((1 << 8 * size - 1) - 1) >> fraction << fraction
        one = infinity >> 1 >> fraction << fraction
        plain = [0, 1, (1 << fraction) - 1, 1 << fraction, one - 1, one, one + 1]
        plain += [one + (3 << fraction - 1), infinity - 1, infinity, infinity + 1]
        plain += [infinity | 1 << fraction - 1, one + (31 << fraction)]
        return plain + [value | 1 << 8 * size - 1 for value in plain]
    bits = 8 * size_of(kind)
    top = 1 << bits - 1
    return [0, 1, 2, 7, 31, 32, 33, 63, 64, 65, top - 1, top, top + 1, 2 * top - 2, 2 * top - 1]
