"""
Where the CTAs of a launch stand: slots, one after the other, cluster by cluster.

A slot is the position of a CTA on the axis that batches are cut from. The CTAs of a cluster take
neighbouring slots in the order of their ranks (PTX ISA, "Cluster of Cooperative Thread Arrays").
"""

from typing import Any

import numpy as np

from .scalars import Lanes

WARP = 32  # threads
Extents = tuple[int, int, int]


class Placement:
    """The grid of a launch, cut into clusters."""

    def __init__(self, grid: Extents, cluster: Extents, explicit: bool = False) -> None:
        self.grid = grid
        self.cluster = cluster
        self.explicit = explicit  # the launch or the kernel names the cluster
        self.clusters: Extents = (
            grid[0] // cluster[0],
            grid[1] // cluster[1],
            grid[2] // cluster[2],
        )
        self.size = cluster[0] * cluster[1] * cluster[2]  # CTAs of a cluster
        self.total = grid[0] * grid[1] * grid[2]

    def coordinate(self, slot: Any, axis: str) -> Any:
        """Returns %ctaid.x, .y or .z of a slot, or of an array of slots."""
        number = "xyz".index(axis)
        if self.size == 1:
            return _coordinate(slot, self.grid, number)
        outer = _coordinate(slot // self.size, self.clusters, number)
        return outer * self.cluster[number] + _coordinate(slot % self.size, self.cluster, number)

    def ctaid(self, slot: int) -> Extents:
        """Returns %ctaid of a slot."""
        x, y, z = (self.coordinate(slot, axis) for axis in "xyz")
        return x, y, z

    def slot(self, number: int) -> int:
        """Returns the slot of the CTA that is `number` in the order of the grid, x fastest."""
        if self.size == 1:
            return number
        ctaid = [_coordinate(number, self.grid, axis) for axis in range(3)]
        inner = [at % extent for at, extent in zip(ctaid, self.cluster, strict=True)]
        outer = [at // extent for at, extent in zip(ctaid, self.cluster, strict=True)]
        return _linear(outer, self.clusters) * self.size + _linear(inner, self.cluster)

    def special(self, name: str, slot: Any) -> Lanes:
        """Returns a special register that says where CTAs stand; `slot` is one or an array."""
        kind, _, axis = name[1:].partition(".")
        number = "xyz".find(axis)
        constants = {
            "nctaid": self.grid,
            "nclusterid": self.clusters,
            "cluster_nctaid": self.cluster,
        }
        if kind in constants:
            return np.uint32(constants[kind][number])
        if kind == "cluster_nctarank":
            return np.uint32(self.size)
        if kind == "is_explicit_cluster":
            return np.bool_(self.explicit)
        value: Any = {
            "ctaid": lambda: self.coordinate(slot, axis),
            "clusterid": lambda: _coordinate(slot // self.size, self.clusters, number),
            "cluster_ctaid": lambda: _coordinate(slot % self.size, self.cluster, number),
            "cluster_ctarank": lambda: slot % self.size,
        }[kind]()
        extent = {"ctaid": self.grid, "clusterid": self.clusters}.get(kind, self.cluster)
        single = self.size == 1 if kind == "cluster_ctarank" else extent[number] == 1
        return np.uint32(0) if single else np.asarray(value).astype(np.uint32)


PLACES = frozenset(
    {
        "nctaid",
        "ctaid",
        "nclusterid",
        "clusterid",
        "cluster_nctaid",
        "cluster_ctaid",
        "cluster_nctarank",
        "cluster_ctarank",
        "is_explicit_cluster",
    }
)


def _coordinate(linear: Any, extents: Extents, axis: int) -> Any:
    """Returns one coordinate of a linear index, x fastest."""
    if axis == 0:
        return linear % extents[0]
    if axis == 1:
        return linear // extents[0] % extents[1]
    return linear // (extents[0] * extents[1])


def _linear(at: list[int], extents: Extents) -> int:
    """Returns the linear index of coordinates, x fastest."""
    return at[0] + extents[0] * (at[1] + extents[1] * at[2])
