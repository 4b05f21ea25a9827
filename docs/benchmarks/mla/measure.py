"""
Measures the kernels of multi-head latent attention against the limits of a GPU.

    python docs/benchmarks/mla/measure.py

One request decodes on one CTA, with two lengths of its cache; what the simulator counts more for
the longer one is what a tile costs. Given for 64 keys, in cycles of an SM:

- `memory`: the bytes of the cache, once for each tile of rows, at the bandwidth of an SM's share;
- `shared`: wavefronts of shared memory, one a cycle;
- `tensor`: products at the peak of the tensor cores for 16 bits, which mma.sync does not reach on
  sm_90;
- `issue`: instructions of warps, four a cycle.

The longest is the limit. `of memory` is how much of the bandwidth that limit leaves; with several
tiles of rows for a token, the later ones find the cache in L2. `sectors` are those that copies of
the cache ask for, over the least. Registers and spilled bytes are ptxas', where it is installed;
`compile` is CPU time of a kernel that no cache has. Latencies are in none of the four.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.attention import AttentionOp, LatentKV, causal
from tilewright.attention.compiler import compile_attention
from tilewright.attention.mla import latent_spec
from tilewright.runtime import simulator
from tilewright.runtime.ptxas import find_ptxas

# Bytes of DRAM and multiply-adds of 16 bits a cycle and SM: A100 80 GB, H100 SXM (data sheets).
BYTES = {"sm_80": 13.4, "sm_90": 13.9}
PRODUCTS = {"sm_80": 1024, "sm_90": 2048}
MMA_PRODUCTS = 16 * 8 * 16
SECTOR_BYTES = 32
PAGE = 64
SHORT, LONG = 256, 512
KEYS = 64


@dataclass(frozen=True)
class Counts:
    """What a launch did: warp instructions, products, wavefronts, and sectors of copies."""

    issued: float
    products: float
    wavefronts: float
    sectors: float

    def beyond(self, less: "Counts") -> "Counts":
        """Returns what this launch did more than another, for 64 keys."""
        tiles = (LONG - SHORT) / KEYS
        mine, others = vars(self), vars(less)
        return Counts(**{name: (mine[name] - others[name]) / tiles for name in mine})


def launched(op: AttentionOp, heads: int, kv_len: int) -> Counts:
    """Returns the counts of one token that sees `kv_len` keys on one CTA."""
    rng, pages = np.random.default_rng(0), kv_len // PAGE
    tables = ([0, 1], [0, pages], range(pages), [PAGE])
    plan = op.plan(*(np.array(table, np.int32) for table in tables), num_ctas=1)
    given: dict[str, Any] = {
        "q_nope": rng.standard_normal((1, heads, 512)).astype(np.float16),
        "q_pe": rng.standard_normal((1, heads, 64)).astype(np.float16),
        "ckv_pages": rng.standard_normal((pages, PAGE, 512)).astype(np.float16),
        "kpe_pages": rng.standard_normal((pages, PAGE, 64)).astype(np.float16),
        **plan.arrays.tables,
    }
    device = simulator.Device(checks="none")
    buffers = {name: device.array(array, name=name) for name, array in given.items()}
    slots, rows = plan.arrays.slots, op.section.tile_rows
    for name, shape, kind in (
        ("out", (1, heads, 512), "f16"),
        ("lse", (1, heads), "f32"),
        ("partial_out", (slots, rows, 512), "f32"),
        ("partial_lse", (slots, rows), "f32"),
    ):
        buffers[name] = device.empty(shape, kind, name)
    contract = op.contract
    arguments = [buffers.get(param.name, 0.07) for param in contract.params]
    kernel, grid = device.load(op.ptx)[contract.name], (plan.ctas, 1, 1)
    shared = contract.dynamic_shared_bytes
    report = kernel.launch(grid, contract.block, arguments, shared, profile=True)
    return counted(report.profile.lines)


def counted(lines: Any) -> Counts:
    """Returns the counts of a profile."""
    copies = [line for line in lines if line.opcode.startswith("cp.async.c")]
    return Counts(
        issued=sum(line.warps for line in lines),
        products=sum(line.warps for line in lines if line.opcode.startswith("mma")),
        wavefronts=sum(line.wavefronts for line in lines),
        sectors=sum(line.sectors for line in copies),
    )


def measure(target: str, heads: int) -> None:
    """Prints the row of one kernel."""
    spec = latent_spec(
        num_heads=heads, kv=LatentKV(PAGE), softmax_scale=0.07, dtype="f16", target=target
    )
    start = time.process_time()
    op = AttentionOp(compile_attention(spec, causal().traced))
    seconds = time.process_time() - start
    tile = launched(op, heads, LONG).beyond(launched(op, heads, SHORT))
    tiles_of_rows = -(-heads // spec.tile_rows)
    least = KEYS * 576 * 2 * tiles_of_rows
    cycles = {
        "memory": least / BYTES[target],
        "shared": tile.wavefronts,
        "tensor": tile.products * MMA_PRODUCTS / PRODUCTS[target],
        "issue": tile.issued / 4,
    }
    limit = max(cycles, key=lambda name: cycles[name])
    numbers = " ".join(f"{count:8.0f}" for count in cycles.values())
    ptxas = find_ptxas()
    found = ptxas.assemble(op.ptx, target).resources[op.contract.name] if ptxas else None
    resources = f"{found.registers:4} {found.spilled_bytes:7}" if found else "   -       -"
    shape = f"{spec.tile_rows}x{spec.kv_tile}x{spec.stages}"
    share = cycles["memory"] / cycles[limit]
    print(
        f"{target:7} {heads:5}  {shape:9} {numbers}  {limit:6} {share:10.2f} "
        f"{tile.sectors * SECTOR_BYTES / least:8.2f} {resources} {seconds * 1e3:8.0f}"
    )


def main() -> None:
    """Prints the table."""
    print("rows x keys x stages; cycles of an SM for 64 keys")
    print(
        "target  heads  tile        memory   shared   tensor    issue  limit   of memory  sectors "
        "regs spilled compile ms"
    )
    for target in BYTES:
        for heads in (16, 32, 64, 128):
            measure(target, heads)


if __name__ == "__main__":
    main()
