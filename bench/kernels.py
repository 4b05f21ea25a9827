"""The kernels of the suites: compiled here, or read from a kernel set that was made elsewhere."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..attention import LatentKV, PagedKV, compile_mla
from ..attention import compile as compile_attention
from ..attention.manifest import assembled
from ..attention.named_storage import named_format
from ..runtime.artifact import KernelArtifact
from ..runtime.attention import AttentionOp
from ..runtime.contract import JsonScalar
from ..runtime.kernel_set import KernelSet, load_kernels, save_kernels
from ..runtime.ptxas import find_ptxas
from .case import ROTATED, Kernel
from .variants import VARIANTS

TARGETS = ("sm_80", "sm_90")
DECODED_ROWS = 1


def compiled(kernel: Kernel, target: str) -> AttentionOp:
    """Returns a kernel, compiled or from the cache."""
    variant = VARIANTS[kernel.variant].make(kernel.num_qo_heads, kernel.head_dim)
    if kernel.latent:
        return compile_mla(
            num_heads=kernel.num_qo_heads,
            kv=LatentKV(kernel.page_size, kernel.head_dim, ROTATED),
            softmax_scale=kernel.scale,
            variant=variant,
            dtype=kernel.dtype,
            target=target,
        )
    return compile_attention(
        variant=variant,
        kv=PagedKV(
            kernel.page_size,
            format=named_format(kernel.kv_format)[0],
            confined=kernel.confined,
        ),
        num_qo_heads=kernel.num_qo_heads,
        num_kv_heads=kernel.num_kv_heads,
        head_dim=kernel.head_dim,
        dtype=kernel.dtype,
        target=target,
        query_len=DECODED_ROWS if kernel.decode else None,
        work=kernel.work,
    )


def build(
    directory: str | os.PathLike[str],
    kernels: Sequence[Kernel],
    targets: Sequence[str],
    say: Callable[[str], None],
) -> KernelSet:
    """Compiles kernels for all targets, assembles them where ptxas is found, and writes a set."""
    ptxas = find_ptxas()
    made: list[tuple[dict[str, JsonScalar], KernelArtifact]] = []
    for target in targets:
        for kernel in kernels:
            key = kernel.key(target)
            say(f"compiling {len(made) + 1} of {len(kernels) * len(targets)}: {kernel.variant}")
            made.append((key, assembled(compiled(kernel, target).artifact, ptxas)))
    return save_kernels(directory, made)


@dataclass(frozen=True)
class Kernels:
    """Where kernels come from: `bundles`, a kernel set, else the compiler."""

    bundles: KernelSet | None

    @staticmethod
    def of(directory: str | None) -> "Kernels":
        """Returns the kernels of a directory, None for the compiler; raises BundleError."""
        return Kernels(None if directory is None else load_kernels(Path(directory)))

    def op(self, kernel: Kernel, targets: Sequence[str]) -> AttentionOp:
        """Returns a kernel for the first of these targets that there is; raises KernelNotFound."""
        if self.bundles is None:
            return compiled(kernel, targets[0])
        known = {key["target"] for key in self.bundles.keys}
        target = next((target for target in targets if target in known), targets[0])
        return AttentionOp(self.bundles.get(kernel.key(target)))
