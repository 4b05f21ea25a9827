"""
Measures block masks: a million by a million positions, and beside FlexAttention's own.

    python docs/benchmarks/block_mask/measure.py [--tokens 16384 32768]

Prints CPU time in ms, the best and the median of several runs, the bytes of the result and the
most that was allocated at once. No plan can be faster than reading the documents once and writing
the runs, so that this is measured beside it. Where torch is installed, `create_block_mask` makes
the same masks, eager and on the CPU; the tiles of both are compared, and the ratio of the times is
that of this run.
"""

import argparse
import importlib
import resource
import statistics
import time
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.attention import BlockMask, block_mask
from tilewright.runtime.block_mask import Instruction, MaskProgram

MILLION = 1 << 20
WINDOW = 4096
DOCUMENTS_OF = 4096
ROUNDS = 15
Documents = npt.NDArray[np.int32]


def program(*instructions: tuple[Any, ...]) -> MaskProgram:
    """Returns the program of instructions behind the two positions, which are 0 and 1."""
    rows: list[tuple[Any, ...]] = [("q_idx", ()), ("kv_idx", ()), *instructions]
    return MaskProgram(tuple(Instruction(*row) for row in rows))


CAUSAL = program(("ge", (0, 1)))
WINDOWED = program(
    ("ge", (0, 1)),
    ("sub", (0, 1)),
    ("constant", (), WINDOW),
    ("le", (3, 4)),
    ("and", (2, 5)),
)
PACKED = program(
    *((i.op, i.operands, i.value) for i in WINDOWED.instructions[2:]),
    ("load", (0,), "documents"),
    ("load", (1,), "documents"),
    ("eq", (7, 8)),
    ("and", (6, 9)),
)
MASKS = {"causal": CAUSAL, "causal, window": WINDOWED, "causal, window, documents": PACKED}


def documents_of(tokens: int) -> Documents:
    """Returns the document of each token; documents have random lengths."""
    rng = np.random.default_rng(0)
    cuts = rng.choice(tokens, max(1, tokens // DOCUMENTS_OF), replace=False)
    return np.searchsorted(np.sort(cuts), np.arange(tokens), side="right").astype(np.int32)


def ours(mask: MaskProgram, tokens: int, documents: Documents) -> BlockMask:
    """Returns the block mask of a million tokens, or fewer."""
    parameters = {"documents": documents} if mask.tensors else {}
    return block_mask(mask, tokens, tokens, parameters=parameters)


def milliseconds(run: Callable[[], object], rounds: int) -> list[float]:
    """Returns the CPU time of each run."""
    times: list[float] = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        times.append(1e3 * (time.process_time() - start))
    return times


def allocated(run: Callable[[], object]) -> int:
    """Returns the most bytes that a run has allocated at once."""
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def measure_ours() -> None:
    """Prints the cost of a million by a million positions."""
    print(f"{MILLION} x {MILLION} positions, tiles of 128 x 128, CPU ms")
    print(
        f"{'mask':28} {'best':>6} {'median':>6} {'kept tiles':>11} {'KiB runs':>8} {'MiB peak':>8}"
    )
    documents = documents_of(MILLION)
    for name, mask in MASKS.items():
        times = milliseconds(lambda mask=mask: ours(mask, MILLION, documents), ROUNDS)
        found = ours(mask, MILLION, documents)
        peak = allocated(lambda mask=mask: ours(mask, MILLION, documents))
        print(
            f"{name:28} {min(times):6.1f} {statistics.median(times):6.1f} "
            f"{found.kept_tiles:11} {found.nbytes / 1024:8.0f} {peak / 2**20:8.1f}"
        )
    found = ours(PACKED, MILLION, documents)
    times = milliseconds(lambda: (csr(found), csr(ours(PACKED, MILLION, documents))), ROUNDS)
    print(f"with the lists of all kept tiles (CSR) of the last: {min(times):.1f} ms")
    floor = milliseconds(lambda: floor_of(documents, found), ROUNDS)
    print(f"reading the documents once and writing the runs of the last: {min(floor):.2f} ms")


def floor_of(documents: Documents, mask: BlockMask) -> None:
    """Reads each document number once, and writes the runs of a block mask once."""
    documents.max()
    for runs in (mask.full, mask.partial):
        for part in (runs.indptr, runs.start, runs.stop):
            part.copy()


def csr(mask: BlockMask) -> int:
    """Makes the lists of tiles, and returns their bytes."""
    return mask.full.tiles.nbytes + mask.partial.tiles.nbytes


def measure_beside_flex(lengths: list[int]) -> None:
    """Prints our time beside that of create_block_mask, if torch is there."""
    if find_spec("torch") is None:
        print("torch is not installed: no comparison with FlexAttention's create_block_mask")
        return
    torch: Any = importlib.import_module("torch")
    flex: Any = importlib.import_module("torch.nn.attention.flex_attention")
    print(f"\nbeside create_block_mask of torch {torch.__version__}, eager, CPU ms")
    print(f"{'tokens':>6} {'mask':28} {'ours':>7} {'torch':>9} {'ratio':>8}  tiles   MiB of torch")
    for tokens in lengths:
        documents = documents_of(tokens)
        for name, mask_mod in flex_masks(torch.from_numpy(documents)).items():
            mask = MASKS[name]
            times = milliseconds(lambda mask=mask: ours(mask, tokens, documents), ROUNDS)
            start = time.process_time()
            made = flex.create_block_mask(mask_mod, None, None, tokens, tokens, device="cpu")
            theirs = 1e3 * (time.process_time() - start)
            same = "equal" if is_same(ours(mask, tokens, documents), made) else "DIFFERENT"
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{tokens:6} {name:28} {min(times):7.2f} {theirs:9.0f} "
                f"{theirs / min(times):8.0f}x  {same:7} {most:.0f} (most so far)"
            )


def flex_masks(documents: Any) -> dict[str, Callable[..., Any]]:
    """Returns the same masks as functions on torch tensors."""

    def causal(b: Any, h: Any, q: Any, k: Any) -> Any:
        return q >= k

    def windowed(b: Any, h: Any, q: Any, k: Any) -> Any:
        return (q >= k) & (q - k <= WINDOW)

    def packed(b: Any, h: Any, q: Any, k: Any) -> Any:
        return (q >= k) & (q - k <= WINDOW) & (documents[q] == documents[k])

    return dict(zip(MASKS, (causal, windowed, packed), strict=True))


def is_same(mine: BlockMask, theirs: Any) -> bool:
    """Whether both have the same full and the same partial tiles in each row."""
    pairs = (
        (mine.partial, theirs.kv_num_blocks, theirs.kv_indices),
        (mine.full, theirs.full_kv_num_blocks, theirs.full_kv_indices),
    )
    for runs, counts, indices in pairs:
        for row in range(runs.rows):
            count = int(counts[0, 0, row])
            listed = sorted(indices[0, 0, row, :count].tolist())
            if listed != runs.row(row).tolist():
                return False
    return True


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, nargs="*", default=[16384, 32768])
    arguments = parser.parse_args()
    measure_ours()
    measure_beside_flex(arguments.tokens)


if __name__ == "__main__":
    main()
