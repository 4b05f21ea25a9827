"""
The kernels of Triton's own tutorials, and the configurations in which they are compiled.

The sources are the files python/tutorials/NN-*.py of the GitHub repository triton-lang/triton, at
the tag that equals the installed version (`v` + triton.__version__). None of them is kept here.
The files import torch and launch kernels when they are imported; only their `@triton.jit`
functions are taken, so neither torch nor a GPU is needed. Tile sizes, stages and warps below
are entries of the tutorials' own lists for autotuning, or what their host code chooses.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
import triton.language as tl

HALF, FLOAT, INT32, INT64 = "*fp16", "*fp32", "*i32", "*i64"
# An integer that is a multiple of 16, as the JIT finds out at a launch; pointers always are.
WHOLE = "i32:16"
# Multiprocessors of the device, few, so that each CTA of a persistent kernel walks over tiles.
PROCESSORS = 4


@dataclass(frozen=True)
class Kernel:
    """A kernel of a tutorial with the types of its arguments and its constants."""

    name: str
    tutorial: str
    function: str
    arguments: dict[str, str]
    constants: dict[str, Any]
    warps: int = 4
    stages: int = 3
    capabilities: tuple[int, ...] = (80, 90)
    options: dict[str, Any] = field(default_factory=dict[str, Any])


def functions(path: Path) -> dict[str, Any]:
    """Returns the jit functions of a tutorial by name; nothing else of it is executed."""
    tree = ast.parse(path.read_text())
    body: list[ast.stmt] = []
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if ast.unparse(decorator).startswith("triton.jit"):
                plain = ast.parse("triton.jit", mode="eval").body
                for part in ast.walk(plain):
                    ast.copy_location(part, decorator)
                node.decorator_list = [plain]
                body.append(node)
    scope: dict[str, Any] = {"triton": triton, "tl": tl, "__name__": path.stem}
    exec(compile(ast.Module(body, []), str(path), "exec"), scope)
    return scope


def tile(m: int, n: int, k: int) -> dict[str, Any]:
    """Returns the tile sizes of a matrix product."""
    return {"BLOCK_SIZE_M": m, "BLOCK_SIZE_N": n, "BLOCK_SIZE_K": k}


def _rows() -> Iterator[Kernel]:
    """Yields the kernels that have a row or a block of a vector in each CTA."""
    pointers = dict.fromkeys(("x_ptr", "y_ptr", "output_ptr"), FLOAT)
    yield Kernel(
        "add", "01-vector-add", "add_kernel", pointers | {"n_elements": "i32"}, {"BLOCK_SIZE": 1024}
    )
    numbers = ("input_row_stride", "output_row_stride", "n_rows", "n_cols")
    arguments: dict[str, str] = {"output_ptr": FLOAT, "input_ptr": FLOAT}
    arguments |= dict.fromkeys(numbers, "i32")
    for capability, stages in ((80, 2), (90, 4)):
        yield Kernel(
            "softmax",
            "02-fused-softmax",
            "softmax_kernel",
            arguments,
            {"BLOCK_SIZE": 1024, "num_stages": stages},
            warps=8,
            capabilities=(capability,),
        )


def _layer_norm() -> Iterator[Kernel]:
    """Yields layer normalisation, forward and backward; the latter spins on locks."""
    file = "05-layer-norm"
    forward = dict.fromkeys("XYWB", HALF) | {"Mean": FLOAT, "Rstd": FLOAT}
    forward |= {"stride": "i32", "N": "i32", "eps": "fp32"}
    yield Kernel(
        "layer_norm", file, "_layer_norm_fwd_fused", forward, {"BLOCK_SIZE": 1024}, warps=4
    )
    backward = dict.fromkeys(("DX", "DY", "DW", "DB", "X", "W"), HALF)
    backward |= {"Mean": FLOAT, "Rstd": FLOAT, "Lock": INT32, "stride": WHOLE, "N": WHOLE}
    for group, block, warps in ((256, 1024, 4), (96, 8192, 8)):
        yield Kernel(
            f"layer_norm_dx_{block}",
            file,
            "_layer_norm_bwd_dx_fused",
            backward,
            {"GROUP_SIZE_M": group, "BLOCK_SIZE_N": block},
            warps=warps,
        )
    yield Kernel(
        "layer_norm_dwdb",
        file,
        "_layer_norm_bwd_dwdb",
        dict.fromkeys(("DW", "DB", "FINAL_DW", "FINAL_DB"), HALF) | {"M": "i32", "N": "i32"},
        {"BLOCK_SIZE_M": 32, "BLOCK_SIZE_N": 128},
    )


_MATRICES = {"a_ptr": HALF, "b_ptr": HALF, "c_ptr": HALF}
# The innermost strides are 1, which the JIT makes constants.
_UNITS = {"stride_ak": 1, "stride_bn": 1, "stride_cn": 1}


def _product(kind: str) -> dict[str, str]:
    """Returns the arguments of a matrix product whose numbers are of one kind."""
    return _MATRICES | dict.fromkeys(("M", "N", "K", "stride_am", "stride_bk", "stride_cm"), kind)


def _matmul() -> Iterator[Kernel]:
    """Yields the tutorial's matrix product in eight configurations."""
    for m, n, k, stages, warps, activation, kind in (
        (128, 256, 64, 3, 8, "", WHOLE),
        (64, 256, 32, 4, 4, "", WHOLE),
        (128, 128, 32, 4, 4, "leaky_relu", WHOLE),
        (128, 32, 32, 4, 4, "", WHOLE),
        (64, 32, 32, 5, 2, "leaky_relu", WHOLE),
        (32, 64, 32, 5, 2, "", "i32"),
        (128, 64, 64, 4, 4, "leaky_relu", "i32"),
        (64, 128, 64, 4, 4, "", WHOLE),
    ):
        yield Kernel(
            f"matmul_{m}x{n}x{k}",
            "03-matrix-multiplication",
            "matmul_kernel",
            _product(kind),
            tile(m, n, k) | {"GROUP_SIZE_M": 8, "ACTIVATION": activation} | _UNITS,
            warps,
            stages,
        )


def _descriptor(*shape: int) -> str:
    """Returns the type of a tensor descriptor with blocks of f16."""
    return f"tensordesc<fp16{list(shape)}>".replace(" ", "")


def _persistent() -> Iterator[Kernel]:
    """Yields persistent matrix products: pointers, descriptors of the host and of the device."""
    file, m, n, k = "09-persistent-matmul", 128, 128, 64
    sizes = tile(m, n, k) | {"GROUP_SIZE_M": 8}
    numbers = {"M": WHOLE, "N": WHOLE, "K": WHOLE}
    for name, function, more in (
        ("naive", "matmul_kernel", {}),
        ("persistent", "matmul_kernel_persistent", {"NUM_SMS": PROCESSORS}),
    ):
        yield Kernel(f"matmul_{name}", file, function, _product(WHOLE), sizes | more | _UNITS)
    descriptors = {"a_desc": _descriptor(m, k), "b_desc": _descriptor(n, k)}
    sizes |= {"FP8_OUTPUT": False}
    # The tutorial specialises no warps on Hopper where the host makes the descriptors.
    yield Kernel(
        "matmul_tma",
        file,
        "matmul_kernel_tma",
        descriptors | {"c_desc": _descriptor(m, n)} | numbers,
        sizes | {"WARP_SPECIALIZE": False},
        capabilities=(90,),
    )
    for halves in (False, True):
        yield Kernel(
            f"matmul_tma_persistent{'_halves' * halves}",
            file,
            "matmul_kernel_tma_persistent",
            descriptors | {"c_desc": _descriptor(m, n // 2 if halves else n)} | numbers,
            sizes | {"EPILOGUE_SUBTILE": halves, "NUM_SMS": PROCESSORS, "WARP_SPECIALIZE": False},
            capabilities=(90,),
        )


def _device_descriptors() -> Iterator[Kernel]:
    """Yields persistent matrix products whose CTAs make their own tensor descriptors."""
    sizes = tile(128, 128, 64) | {"GROUP_SIZE_M": 8, "NUM_SMS": PROCESSORS}
    for special, halves, warps in (
        (False, False, 4),
        (False, True, 8),
        (True, False, 4),
        (True, False, 8),
    ):
        yield Kernel(
            f"matmul_device_tma{'_halves' * halves}{'_ws' * special}_w{warps}",
            "09-persistent-matmul",
            "matmul_kernel_descriptor_persistent",
            _MATRICES | {"M": WHOLE, "N": WHOLE, "K": WHOLE},
            sizes
            | {"EPILOGUE_SUBTILE": halves, "WARP_SPECIALIZE": special, "FLATTEN": not special},
            warps=warps,
            capabilities=(90,),
        )


def _grouped() -> Iterator[Kernel]:
    """Yields grouped products: pointers to matrices in memory, descriptors made on the device."""
    pointers = dict.fromkeys(("group_a_ptrs", "group_b_ptrs", "group_c_ptrs"), INT64)
    arguments = pointers | {"group_gemm_sizes": INT32, "g_lds": INT32, "group_size": "i32"}
    for m, n, k, processors in ((128, 128, 32, 84), (64, 64, 32, 84), (64, 128, 64, PROCESSORS)):
        yield Kernel(
            f"grouped_{m}x{n}x{k}",
            "08-grouped-gemm",
            "grouped_matmul_kernel",
            arguments,
            tile(m, n, k) | {"NUM_SM": processors},
        )
    for n, k, stages, warps in ((128, 64, 3, 4), (256, 64, 3, 8), (128, 128, 3, 8)):
        yield Kernel(
            f"grouped_tma_128x{n}x{k}",
            "08-grouped-gemm",
            "grouped_matmul_tma_kernel",
            arguments,
            tile(128, n, k) | {"NUM_SM": PROCESSORS, "FP8": False},
            warps,
            stages,
            capabilities=(90,),
        )


def _attention_forward(head_dim: int, causal: bool) -> Iterator[Kernel]:
    """Yields attention: descriptors from the host, from the device, specialised warps, pointers."""
    first = {"sm_scale": "fp32", "M": FLOAT, "Z": "i32", "H": "i32"}
    for kind, m, n, warps, stages, capability in (
        ("pointers", 64, 32, 4, 3, 80),
        ("pointers", 128, 64, 4, 3, 80),
        ("host", 64, 64, 4, 3, 90),
        ("host", 128, 64, 4, 3, 90),
        ("host", 128, 128, 8, 2, 90),
        ("device", 64, 32, 4, 2, 90),
        ("device", 128, 64, 4, 3, 90),
        ("ws", 64, 64, 4, 2, 90),
        ("ws", 128, 64, 4, 2, 90),
        ("ws", 128, 128, 8, 2, 90),
    ):
        # As in the tutorial, Hopper specialises warps without a causal mask only.
        if n > head_dim or (kind == "ws" and causal):
            continue
        blocks = {"desc_q": m, "desc_k": n, "desc_v": n, "desc_o": m}
        made = {x: _descriptor(y, head_dim) if kind == "host" else HALF for x, y in blocks.items()}
        yield Kernel(
            f"attention_{kind}_{m}x{n}_d{head_dim}_{'causal' if causal else 'full'}",
            "06-fused-attention",
            "_attn_fwd",
            first | made | {"N_CTX": WHOLE},
            {
                "HEAD_DIM": head_dim,
                "BLOCK_M": m,
                "BLOCK_N": n,
                "FP8_OUTPUT": False,
                "STAGE": 3 if causal else 1,
                "warp_specialize": kind == "ws",
                "IS_HOPPER": capability == 90,
            },
            warps,
            stages,
            (capability,),
        )


def _attention_backward(head_dim: int, causal: bool) -> Iterator[Kernel]:
    """Yields the gradients of attention."""
    pointers = dict.fromkeys(("Q", "K", "V"), HALF) | {"sm_scale": "fp32"}
    pointers |= dict.fromkeys(("DO", "DQ", "DK", "DV"), HALF) | {"M": FLOAT, "D": FLOAT}
    strides = dict.fromkeys(("stride_z", "stride_h", "stride_tok"), WHOLE)
    blocks = {"BLOCK_M1": 32, "BLOCK_N1": 128, "BLOCK_M2": 128, "BLOCK_N2": 32}
    more = {"BLK_SLICE_FACTOR": 2, "HEAD_DIM": head_dim, "CAUSAL": causal, "stride_d": 1}
    yield Kernel(
        f"attention_backward_d{head_dim}_{'causal' if causal else 'full'}",
        "06-fused-attention",
        "_attn_bwd",
        pointers | strides | {"H": "i32", "N_CTX": WHOLE},
        blocks | more,
        warps=4,
        stages=5,
    )


def kernels() -> Iterator[Kernel]:
    """Yields all kernels."""
    yield from _rows()
    yield from _layer_norm()
    yield from _matmul()
    yield from _grouped()
    yield from _persistent()
    yield from _device_descriptors()
    for head_dim in (64, 128):
        yield Kernel(
            f"attention_delta_d{head_dim}",
            "06-fused-attention",
            "_attn_bwd_preprocess",
            {"O": HALF, "DO": HALF, "Delta": FLOAT, "Z": "i32", "H": "i32", "N_CTX": WHOLE},
            {"BLOCK_M": 128, "HEAD_DIM": head_dim},
        )
        for causal in (False, True):
            yield from _attention_forward(head_dim, causal)
            yield from _attention_backward(head_dim, causal)
