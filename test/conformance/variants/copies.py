"""Asynchronous copies: cp.async, cp.async.bulk, cp.reduce.async.bulk."""

from collections.abc import Iterator

import numpy as np

from .matrices import codes
from .variant import INDEX, Array, Variant, size_of, words

THREADS = 64
BULK = 2048  # bytes
# One thread waits for what it has been promised; the others are held back until then.
BARRIER = """.shared .align 8 .b64 full; .reg .b32 bar; .reg .pred first; mov.u32 bar, full;
{ .reg .b32 x; mov.u32 x, %tid.x; setp.eq.u32 first, x, 0; }
@first mbarrier.init.shared::cta.b64 [bar], 1;
@first fence.mbarrier_init.release.cluster; bar.sync 0;"""
WAIT = """W: mbarrier.try_wait.parity.shared::cta.b64 q, [bar], 0; @!q bra W;"""


def variants() -> Iterator[Variant]:
    """Yields every variant."""
    for how, size in (("ca", 4), ("ca", 8), ("ca", 16), ("cg", 16)):
        for more in ("", "size", "ignored"):
            yield _copy(how, size, more)
    for size in (16, 48, 1024, BULK):
        yield _fetch(size)
        yield _send(size)
    for operation, kind in _REDUCTIONS:
        yield _reduce(operation, kind)


def _copy(how: str, size: int, more: str) -> Variant:
    """Returns cp.async of each thread into its own 16 bytes, with a src-size or ignore-src."""
    lines = [INDEX, ".shared .align 16 .b8 tile[1024]; .reg .b32 s, z, count<1>, v<4>;"]
    lines += [".reg .b64 from; .reg .pred skip; mov.u32 s, tile; mov.u32 z, 0x5A5A5A5A;"]
    lines += ["mad.lo.u32 s, t, 16, s; st.shared.v4.b32 [s], {z, z, z, z};"]
    lines += ["ld.param.u64 from, [pa]; mad.wide.u32 from, t, 16, from;"]
    lines += ["ld.param.u64 at, [pb]; mad.wide.u32 at, t, 4, at; ld.global.b32 count0, [at];"]
    lines += ["and.b32 z, count0, 1; setp.ne.u32 skip, z, 0;"]
    lines += [f"rem.u32 count0, count0, {size + 1};"]
    tail = {"": "", "size": ", count0", "ignored": ", skip"}[more]
    lines += [f"cp.async.{how}.shared.global [s], [from], {size}{tail};"]
    lines += ["cp.async.commit_group; cp.async.wait_group 0; ld.param.u64 at, [po];"]
    lines += ["mad.wide.u32 at, t, 16, at; ld.shared.v4.b32 {v0, v1, v2, v3}, [s];"]
    lines += ["st.global.v4.b32 [at], {v0, v1, v2, v3};"]
    return Variant(
        family="copy",
        name=f"cp.async.{how} {size} {more}".strip(),
        body="\n".join(lines),
        out="u32",
        count=4 * THREADS,
        operands=lambda generator: [words(generator, 4 * THREADS), words(generator, THREADS)],
        block=THREADS,
    )


def dump(size: int) -> str:
    """Returns the text that stores `size` bytes of tile, of each CTA behind that of the last."""
    return f"""{{ .reg .b32 x, w, v<4>; .reg .b64 to; mov.u32 x, %tid.x; shl.b32 x, x, 4;
ld.param.u64 at, [po]; mad.wide.u32 at, cta, {size}, at;
D: setp.ge.u32 q, x, {size}; @q bra E; mov.u32 w, tile; add.u32 w, w, x;
ld.shared.v4.b32 {{v0, v1, v2, v3}}, [w]; cvt.u64.u32 to, x; add.u64 to, at, to;
st.global.v4.b32 [to], {{v0, v1, v2, v3}}; mov.u32 w, %ntid.x; mad.lo.u32 x, w, 16, x; bra D;
E: }}"""


def fill(size: int, param: str = "pa") -> str:
    """Returns the text that puts `size` bytes of operands into tile, for the async proxy to see."""
    return f"""{{ .reg .b32 x, w, v<4>; .reg .b64 from; mov.u32 x, %tid.x; shl.b32 x, x, 4;
ld.param.u64 at, [{param}]; mad.wide.u32 at, cta, {size}, at;
D: setp.ge.u32 q, x, {size}; @q bra E; mov.u32 w, tile; add.u32 w, w, x;
cvt.u64.u32 from, x; add.u64 from, at, from; ld.global.v4.b32 {{v0, v1, v2, v3}}, [from];
st.shared.v4.b32 [w], {{v0, v1, v2, v3}}; mov.u32 w, %ntid.x; mad.lo.u32 x, w, 16, x; bra D;
E: fence.proxy.async; bar.sync 0; }}"""


def _fetch(size: int) -> Variant:
    """Returns a copy from global to shared memory."""
    lines = [INDEX, f".shared .align 128 .b8 tile[{BULK}]; .reg .b32 s; .reg .b64 from;"]
    lines += [BARRIER, "mov.u32 s, tile; ld.param.u64 from, [pa]; @!first bra W;"]
    lines += [f"mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {size};"]
    copy = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
    lines += [f"{copy} [s], [from], {size}, [bar];", WAIT, dump(size)]
    return Variant(
        family="bulk",
        name=f"cp.async.bulk.shared.global {size}",
        body="\n".join(lines),
        out="u32",
        count=size // 4,
        operands=lambda generator: [words(generator, BULK // 4)],
        target="sm_90",
    )


def _send(size: int) -> Variant:
    """Returns a copy from shared to global memory."""
    lines = [INDEX, f".shared .align 128 .b8 tile[{BULK}]; .reg .b32 s; .reg .b64 to;"]
    lines += [fill(BULK), "mov.u32 s, tile; ld.param.u64 to, [po]; setp.ne.u32 q, t, 0; @q ret;"]
    lines += [f"cp.async.bulk.global.shared::cta.bulk_group [to], [s], {size};"]
    lines += ["cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"]
    return Variant(
        family="bulk",
        name=f"cp.async.bulk.global.shared {size}",
        body="\n".join(lines),
        out="u32",
        count=BULK // 4,
        operands=lambda generator: [words(generator, BULK // 4)],
        target="sm_90",
    )


_REDUCTIONS = [
    *[("add", kind) for kind in ("u32", "s32", "u64", "f32", "f64")],
    *[("add.noftz", kind) for kind in ("f16", "bf16")],
    *[(op, kind) for op in ("min", "max") for kind in ("u32", "s32", "u64", "s64", "f16", "bf16")],
    *[(op, "u32") for op in ("inc", "dec")],
    *[(op, kind) for op in ("and", "or", "xor") for kind in ("b32", "b64")],
]


def numbers(generator: np.random.Generator, kind: str, count: int) -> Array:
    """Returns `count` elements as bits: whole numbers for floats, any bits for the rest."""
    if kind in ("f16", "bf16", "f32", "f64"):
        return codes(generator.integers(-99, 100, count), "tf32" if kind == "f32" else kind)
    return words(generator, count, kind=f"u{size_of(kind)}")


def _reduce(operation: str, kind: str) -> Variant:
    """Returns a reduction of shared into global memory."""
    count = 1024 // size_of(kind)
    lines = [INDEX, ".shared .align 128 .b8 tile[1024]; .reg .b32 s; .reg .b64 to;"]
    lines += [fill(1024), "mov.u32 s, tile; ld.param.u64 to, [po]; setp.ne.u32 q, t, 0; @q ret;"]
    opcode = f"cp.reduce.async.bulk.global.shared::cta.bulk_group.{operation}.{kind}"
    lines += [f"{opcode} [to], [s], 1024;"]
    lines += ["cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"]
    return Variant(
        family="bulk",
        name=opcode,
        body="\n".join(lines),
        out=kind if kind in ("f16", "bf16", "f32", "f64") else f"u{8 * size_of(kind)}",
        count=count,
        operands=lambda generator: [numbers(generator, kind, count) for _ in "ab"],
        target="sm_90",
        keeps=True,
    )
