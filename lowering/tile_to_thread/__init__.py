"""
Lowers what a CTA does with tiles to what one thread does with its elements.

A fragment becomes the vector of the elements that a thread holds, a stage of shared memory its
address. Loops over the registers of a fragment stay loops, marked to be unrolled when printed.
"""

from .convert import ConvertTileToThreadPass

__all__ = ["ConvertTileToThreadPass"]
