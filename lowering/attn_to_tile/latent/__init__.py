"""
Lowers multi-head latent attention: all query heads share one row a token, whose part is its value.

The tile of queries of 512 + 64 elements fills the shared memory that other kernels give to values,
and its output takes all registers of a CTA. So teams of warps share the rows of a tile twice: each
computes the scores of its keys, then all probabilities times its columns of the values.

Source: DeepSeek-V2, section 2.1, for the attention; FlashMLA for the two roles of a team.
"""

from .geometry import LatentGeometry, latent_geometry_of
from .kernel import build_latent_kernel

__all__ = ["LatentGeometry", "build_latent_kernel", "latent_geometry_of"]
