"""Instructions of a warp or a CTA: shfl, vote, match, redux, elect, ldmatrix, barriers."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from .variant import INDEX, Array, Operands, Variant, group, loads, stores, words

THREADS = 128  # of four warps
# Lanes that run together: guard, and the mask that they name.
SPLITS = {"odd": 0xAAAAAAAA, "even": 0x55555555}
WIDTHS = (32, 16, 8, 4, 2, 1)


def variants() -> Iterator[Variant]:
    """Yields every variant."""
    yield from _shuffles()
    yield from _votes()
    yield from _matches()
    yield from _reductions()
    yield from _elections()
    yield from _barriers()
    yield from _matrices()


def _of(
    family: str,
    name: str,
    text: str,
    inputs: Sequence[str],
    results: Sequence[str],
    operands: Operands,
    promised: bool = True,
    target: str = "sm_80",
) -> Variant:
    """
    Returns the variant of a text over registers a0, b0, c0 of 128 threads and their lane.

    `inputs` are types of operands, `results` names of 32-bit registers; p and r are predicates.
    """
    lines = [INDEX, ".reg .pred p, r; .reg .b32 o<4>;"]
    lines += [loads(name, kind, 1, THREADS) for name, kind in zip("abc", inputs, strict=False)]
    lines += [text, stores(results, "u32", THREADS)]
    return Variant(
        family=family,
        name=name,
        body="\n".join(lines),
        out="u32",
        count=len(results) * THREADS,
        operands=operands,
        block=THREADS,
        promised=promised,
        target=target,
    )


def _odd(name: str) -> str:
    """Returns the text that sets q in odd lanes, by a register."""
    return f"and.b32 {name}, lane, 1; setp.ne.u32 q, {name}, 0;"


def _random(count: int, generator: np.random.Generator) -> list[Array]:
    return [words(generator, THREADS) for _ in range(count)]


def _shuffles() -> Iterator[Variant]:
    selected = "selp.u32 o1, 1, 0, p;"
    two, three = partial(_random, 2), partial(_random, 3)
    for mode in ("up", "down", "bfly", "idx"):
        text = f"shfl.sync.{mode}.b32 o0|p, a0, b0, c0, -1; {selected}"
        name = f"shfl.{mode}"
        yield _of("warp", name, text, ("u32",) * 3, ("o0", "o1"), three)
        for width in WIDTHS:
            clamp = 0 if mode == "up" else 31
            segment = (32 - width) << 8 | clamp
            text = f"shfl.sync.{mode}.b32 o0|p, a0, b0, {segment:#x}, -1; {selected}"
            yield _of("warp", f"{name} {segment:#x}", text, ("u32",) * 2, ("o0", "o1"), two)
        # Lanes of equal parity read each other.
        for split, mask in SPLITS.items():
            guard = "@q" if split == "odd" else "@!q"
            clamp = "0" if mode == "up" else "31"
            other = "and.b32 b0, b0, 30;"
            if mode == "idx":
                other += "and.b32 o1, lane, 1; or.b32 b0, b0, o1;"
            text = (
                f"{other} {_odd('o0')} mov.u32 o0, 0; setp.ne.u32 p, lane, lane;"
                f"{guard} shfl.sync.{mode}.b32 o0|p, a0, b0, {clamp}, {mask:#x}; {selected}"
            )
            yield _of("warp", f"{name} {split}", text, ("u32",) * 2, ("o0", "o1"), two)


def _flags(generator: np.random.Generator) -> list[Array]:
    """Returns warps of which all, none, one and some lanes hold."""
    flags = generator.integers(0, 2, (4, 32)).astype("u4")
    flags[0], flags[1], flags[2] = 1, 0, 0
    flags[2, generator.integers(32)] = 1
    return [flags]


def _votes() -> Iterator[Variant]:
    for mode in ("all", "any", "uni", "ballot"):
        for split in ("", *SPLITS):
            guard = {"": "", "odd": "@q ", "even": "@!q "}[split]
            mask = SPLITS.get(split, 0xFFFFFFFF)
            begin = f"setp.ne.u32 p, a0, 0; mov.u32 o0, 9; {_odd('o1')}"
            if mode == "ballot":
                text = f"{begin} {guard}vote.sync.ballot.b32 o0, p, {mask:#x};"
            else:
                text = f"{begin} {guard}vote.sync.{mode}.pred r, p, {mask:#x};"
                text += f"{guard}selp.u32 o0, 1, 0, r;"
            name = f"vote.{mode} {split}".strip()
            yield _of("warp", name, text, ("u32",), ("o0",), _flags)


def _few(kind: str, generator: np.random.Generator) -> list[Array]:
    """Returns warps with few different values: one, two that differ in one bit, and four."""
    choices = words(generator, 4, kind=kind)
    choices[1] = choices[0] ^ (1 << 8 * choices.itemsize - 1)
    picks = [generator.integers(0, top, 32) for top in (1, 2, 3, 4)]
    return [choices[np.concatenate(picks)]]


def _matches() -> Iterator[Variant]:
    for bits in (32, 64):
        for mode in ("any", "all"):
            for split in ("", *SPLITS):
                guard = {"": "", "odd": "@q ", "even": "@!q "}[split]
                mask = SPLITS.get(split, 0xFFFFFFFF)
                target = "o0|r" if mode == "all" else "o0"
                text = f"{_odd('o1')} mov.u32 o0, 9; mov.u32 o1, 9; setp.ne.u32 r, lane, lane;"
                text += f"{guard}match.{mode}.sync.b{bits} {target}, a0, {mask:#x};"
                text += "selp.u32 o1, 1, 0, r;" if mode == "all" else ""
                name = f"match.{mode}.b{bits} {split}".strip()
                few = partial(_few, f"u{bits // 8}")
                yield _of("warp", name, text, (f"u{bits}",), ("o0", "o1"), few)


def _reductions() -> Iterator[Variant]:
    kinds = [(op, kind) for op in ("add", "min", "max") for kind in ("u32", "s32")]
    kinds += [(op, "b32") for op in ("and", "or", "xor")]
    for op, kind in kinds:
        for split in ("", *SPLITS):
            guard = {"": "", "odd": "@q ", "even": "@!q "}[split]
            mask = SPLITS.get(split, 0xFFFFFFFF)
            text = f"mov.u32 o0, 9; {_odd('o1')}"
            text += f"{guard}redux.sync.{op}.{kind} o0, a0, {mask:#x};"
            one = partial(_random, 1)
            yield _of("warp", f"redux.{op}.{kind} {split}".strip(), text, ("u32",), ("o0",), one)


def _elections() -> Iterator[Variant]:
    """Yields elect.sync: the ISA says that one lane is elected, not which."""
    none = partial(_random, 1)
    for split in ("", *SPLITS):
        guard = {"": "", "odd": "@q ", "even": "@!q "}[split]
        mask = SPLITS.get(split, 0xFFFFFFFF)
        begin = f"mov.u32 o0, 99; {_odd('o1')} setp.ne.u32 p, lane, lane;"
        elect = f"{guard}elect.sync o0|p, {mask:#x}; selp.u32 o1, 1, 0, p;"
        name = f"elect {split}".strip()
        yield _of("warp", name, begin + elect, ("u32",), ("o0", "o1"), none, False, target="sm_90")
        # However the leader is chosen, there is one, and it is the lane that all are told of.
        if not split:
            count = "vote.sync.ballot.b32 o1, p, -1; popc.b32 o2, o1; shl.b32 o3, o2, o0;"
            count += "xor.b32 o3, o3, o1;"
            yield _of(
                "warp", "elect one", begin + elect + count, ("u32",), ("o2", "o3"), none,
                target="sm_90",
            )  # fmt: skip


def _barriers() -> Iterator[Variant]:
    flags = "setp.ne.u32 p, a0, 0;"
    for op in ("and", "or"):
        text = f"{flags} bar.red.{op}.pred r, 0, p; selp.u32 o0, 1, 0, r;"
        yield _of("barrier", f"bar.red.{op}", text, ("u32",), ("o0",), _flags)
    popc = f"{flags} bar.red.popc.u32 o0, 0, p;"
    yield _of("barrier", "bar.red.popc", popc, ("u32",), ("o0",), _flags)
    half = "setp.ge.u32 q, t, 64; mov.u32 o0, 999; @q bra E;"
    half += f"{flags} barrier.red.popc.u32 o0, 3, 64, p; E:"
    yield _of("barrier", "barrier.red.popc of 64", half, ("u32",), ("o0",), _flags)
    # Threads that have exited are not waited for, be they whole warps or lanes of one.
    for name, leave in (
        ("a warp has exited", "setp.lt.u32 q, t, 32; @q ret;"),
        ("half a warp has exited", "setp.lt.u32 q, t, 16; @q ret;"),
        ("odd lanes have exited", f"{_odd('o1')} @q ret;"),
    ):
        text = f"{leave} {flags} barrier.red.popc.u32 o0, 0, p; add.u32 o0, o0, 1000;"
        settled = name == "a warp has exited"
        yield _of("barrier", name, text, ("u32",), ("o0",), _flags, settled)
    after = (
        ".shared .align 4 .b32 slots[128]; .reg .b32 s; mov.u32 s, slots; shl.b32 o1, t, 2;"
        "add.u32 s, s, o1; mov.u32 o0, 0; setp.lt.u32 q, t, 32; @q ret; st.shared.b32 [s], a0;"
        "bar.sync 0; setp.eq.u32 q, t, 127; selp.s32 o1, -380, 4, q; add.u32 s, s, o1;"
        "ld.shared.b32 o0, [s];"
    )
    one = partial(_random, 1)
    yield _of("barrier", "bar.sync after an exit", after, ("u32",), ("o0",), one)


def _addresses(generator: np.random.Generator) -> list[Array]:
    """Returns 1 KiB of bits and a place of 16 bytes in it for each of 128 threads."""
    places = np.concatenate([generator.permutation(64)[:32] * 16 for _ in range(4)])
    return [words(generator, 256), places.astype("u4")]


def _matrices() -> Iterator[Variant]:
    fill = """.shared .align 16 .b8 tile[1024]; .reg .b32 s, at0, v<4>; mov.u32 s, tile;
shl.b32 at0, t, 3; ld.param.u64 at, [pa]; mad.wide.u32 at, t, 8, at;
ld.global.v2.b32 {v0, v1}, [at]; add.u32 at0, at0, s; st.shared.v2.b32 [at0], {v0, v1};
bar.sync 0; add.u32 s, s, b0;"""
    place = loads("b", "u32", 1, THREADS)
    for count in (1, 2, 4):
        for trans in ("", ".trans"):
            names = [f"o{i}" for i in range(count)]
            load = (
                f"ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {group('o', count)}, [s];"
            )
            yield _of(
                "warp", f"ldmatrix.x{count}{trans}", f"{place} {fill} {load}", (), names, _addresses
            )
            yield _stored_matrix(count, trans)
    text = "movmatrix.sync.aligned.m8n8.trans.b16 o0, a0;"
    yield _of("warp", "movmatrix.trans", text, ("u32",), ("o0",), partial(_random, 1))


def _rows(generator: np.random.Generator) -> list[Array]:
    """Returns four registers a lane and 32 different rows of 512 bytes."""
    return [words(generator, 4, 32), (generator.permutation(32) * 16).astype("u4")]


def _stored_matrix(count: int, trans: str) -> Variant:
    """Returns stmatrix of one warp into 512 bytes, read back in their order."""
    lines = [INDEX, loads("a", "u32", 4, 32), loads("b", "u32", 1, 32)]
    lines += [".shared .align 16 .b8 tile[512]; .reg .b32 s, w, z, o<4>; mov.u32 s, tile;"]
    lines += ["shl.b32 w, t, 4; add.u32 w, w, s; mov.u32 z, 0; add.u32 s, s, b0;"]
    lines += ["st.shared.v4.b32 [w], {z, z, z, z}; bar.warp.sync -1;"]
    lines += [f"stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [s], {group('a', count)};"]
    lines += ["bar.warp.sync -1; ld.shared.v4.b32 {o0, o1, o2, o3}, [w];"]
    lines += [stores([f"o{i}" for i in range(4)], "u32", 32)]
    return Variant(
        family="warp",
        name=f"stmatrix.x{count}{trans}",
        body="\n".join(lines),
        out="u32",
        count=128,
        operands=_rows,
        target="sm_90",
    )
