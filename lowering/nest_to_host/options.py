"""What a caller may ask of the code for the host."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """
    `fast_math` lets sums of floats be computed in another order, as vectors need it.

    With `trusts_indices`, indices that are read from arrays are not checked; one that is out of
    bounds then reads or writes any memory. `features` of the CPU, such as `avx512vnni`, say which
    intrinsics are instructions; others are written out as the loops that describe them.
    """

    fast_math: bool = False
    trusts_indices: bool = False
    features: frozenset[str] = frozenset()

    @property
    def flags(self) -> str:
        """The flags of floating-point arithmetic."""
        return "contract, reassoc, nsz" if self.fast_math else "contract"
