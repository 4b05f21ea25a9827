"""
Compiles Triton kernels to PTX for sm_80 and sm_90a; needs Triton, but no GPU.

    python -m venv aside && aside/bin/pip install triton
    aside/bin/python docs/benchmarks/triton_kernels/make_ptx.py build/triton

Each kernel is written as NAME.ptx, with NAME.json beside it: its entry, threads, shared memory.
"""

import json
import sys
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def add(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.load(x + i, mask=i < n) + tl.load(y + i, mask=i < n)
    tl.store(out + i, total, mask=i < n)


@triton.jit
def softmax(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0) * columns
    i = tl.arange(0, BLOCK)
    scores = tl.load(x + row + i, mask=i < columns, other=float("-inf"))
    weights = tl.exp(scores - tl.max(scores, 0))
    tl.store(out + row + i, weights / tl.sum(weights, 0), mask=i < columns)


@triton.jit
def matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m = (tl.program_id(0) * BM + tl.arange(0, BM))[:, None]
    n = (tl.program_id(1) * BN + tl.arange(0, BN))[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        left = tl.load(a + m * K + k[None, :], mask=(m < M) & (k[None, :] < K), other=0.0)
        right = tl.load(b + k[:, None] * N + n, mask=(k[:, None] < K) & (n < N), other=0.0)
        acc = tl.dot(left, right, acc)
    tl.store(c + m * N + n, acc.to(tl.float16), mask=(m < M) & (n < N))


@triton.jit
def attention(
    q, k, v, out, S, scale,
    BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    m = (tl.program_id(0) * BM + tl.arange(0, BM))[:, None]
    d = tl.arange(0, D)
    base = tl.program_id(1) * S * D
    query = tl.load(q + base + m * D + d[None, :], mask=m < S, other=0.0)
    acc = tl.zeros((BM, D), tl.float32)
    highest = tl.full((BM,), float("-inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    end = S
    if CAUSAL:
        end = tl.minimum(S, (tl.program_id(0) + 1) * BM)
    for n0 in range(0, end, BN):
        n = n0 + tl.arange(0, BN)
        keys = tl.load(k + base + n[None, :] * D + d[:, None], mask=n[None, :] < S, other=0.0)
        seen = n[None, :] < S
        if CAUSAL:
            seen = seen & (m >= n[None, :])
        scores = tl.where(seen, tl.dot(query, keys) * scale, float("-inf"))
        renewed = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2((scores - renewed[:, None]) * 1.44269504)
        rescale = tl.exp2((highest - renewed) * 1.44269504)
        values = tl.load(v + base + n[:, None] * D + d[None, :], mask=n[:, None] < S, other=0.0)
        total = total * rescale + tl.sum(weights, 1)
        acc = tl.dot(weights.to(tl.float16), values, acc * rescale[:, None])
        highest = renewed
    average = acc / total[:, None]
    tl.store(out + base + m * D + d[None, :], average.to(tl.float16), mask=m < S)


HALF, FLOAT = "*fp16", "*fp32"
ATTENTION = {"q": HALF, "k": HALF, "v": HALF, "out": HALF, "S": "i32", "scale": "fp32"}
MATMUL = {"a": HALF, "b": HALF, "c": HALF, "M": "i32", "N": "i32", "K": "i32"}
# Name, kernel, types of its arguments, constants.
KERNELS = (
    ("add", add, {"x": FLOAT, "y": FLOAT, "out": FLOAT, "n": "i32"}, {"BLOCK": 1024}),
    ("softmax", softmax, {"x": FLOAT, "out": FLOAT, "columns": "i32"}, {"BLOCK": 1024}),
    ("matmul", matmul, MATMUL, {"BM": 64, "BN": 64, "BK": 32}),
    *(
        (
            f"attention_d{head_dim}_{'causal' if causal else 'full'}",
            attention,
            ATTENTION,
            {"BM": 64, "BN": 64, "D": head_dim, "CAUSAL": causal},
        )
        for head_dim in (64, 128)
        for causal in (False, True)
    ),
)


def main() -> None:
    """Writes every kernel for both targets."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for capability in (80, 90):
        for name, kernel, types, constants in KERNELS:
            signature = types | dict.fromkeys(constants, "constexpr")
            source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
            made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
            facts = {
                "entry": made.metadata.name,
                "threads": 32 * made.metadata.num_warps,
                "shared_bytes": made.metadata.shared,
            }
            stem = f"{name}.sm_{capability}"
            (folder / f"{stem}.ptx").write_text(made.asm["ptx"])
            (folder / f"{stem}.json").write_text(json.dumps(facts))
            print(stem, facts)


if __name__ == "__main__":
    main()
