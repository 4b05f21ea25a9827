"""
Distributed shared memory: addresses of the shared memory of all CTAs of a cluster.

An address in .shared::cluster holds the CTA's rank plus one from bit 24 on, and below it the
place in that CTA's shared memory; 0 from bit 24 on means the CTA of the thread itself, so that
an address in .shared::cta is one in .shared::cluster too (PTX ISA, "State Spaces: Shared").
"""

from typing import TYPE_CHECKING

import numpy as np

from .memory import SHARED_WINDOW, Window
from .scalars import Array, Lanes

if TYPE_CHECKING:
    from .compiler.program import Site
    from .machine import Group, Machine

RANK = 24  # bit from which the rank stands
_PLACE = (1 << RANK) - 1
_RANKS = 0xFE  # the largest that an address holds
_NOWHERE = 0xFE  # a rank that no cluster has


def mapped(address: Lanes, rank: Lanes) -> Lanes:
    """Returns the address of the same place in the CTA of another rank (mapa)."""
    kind = address.dtype.type
    window = address & kind(~_PLACE & (1 << 8 * address.itemsize) - 1 & ~(0xFF << RANK))
    field = np.minimum(rank, np.uint32(_NOWHERE)) + np.uint32(1)
    return window | (address & kind(_PLACE)) | (field.astype(kind) << kind(RANK))


def rank_of(group: "Group", address: Lanes) -> Lanes:
    """Returns the rank of the CTA that addresses lie in, u32 (getctarank)."""
    machine = group.machine
    field = ((address >> address.dtype.type(RANK)) & address.dtype.type(0xFF)).astype(np.uint32)
    own = (group.lanes() // machine.padded % machine.cluster).astype(np.uint32)
    return np.where(field == 0, own, field - np.uint32(1)).astype(np.uint32)


def target_of(machine: "Machine", cta: int, address: int) -> tuple[int, int]:
    """Returns the CTA of the batch and the place in it that an address of a CTA's thread means."""
    if address >= SHARED_WINDOW:
        address -= SHARED_WINDOW
    rank = (address >> RANK) - 1
    if rank < 0:
        return cta, address
    if rank >= machine.cluster:
        return -1, address & _PLACE
    return cta - cta % machine.cluster + rank, address & _PLACE


def is_gone(machine: "Machine", cta: int) -> bool:
    """Says whether all threads of a CTA have exited, and its shared memory with them."""
    rows = machine.exited[cta * machine.padded : (cta + 1) * machine.padded]
    return bool(rows.all())


def _no_such_cta(
    group: "Group", site: "Site", rank: int, address: int, positions: Array
) -> Exception:
    """Returns the fault of lanes whose addresses name a CTA that their cluster doesn't have."""
    message = (
        f"an access of {site.size} bytes at {address:#x}: CTA {rank} of a cluster that has "
        f"{group.machine.cluster}"
    )
    return group.fault(site, "bounds", message, positions, address)


def cluster_index(group: "Group", site: "Site", window: Window, address: Lanes) -> Array | None:
    """
    Returns the places in a batch's shared memory that addresses mean, in bytes.

    None where some lane's address lies outside of its cluster's shared memory.
    """
    machine = group.machine
    full = np.broadcast_to(address, group.n).astype(np.int64)
    own = group.lanes() // machine.padded
    rank, place = (full >> RANK) - 1, full & _PLACE
    beyond = np.flatnonzero(rank >= machine.cluster)
    if beyond.size and int(rank.max()) <= _RANKS:
        raise _no_such_cta(group, site, int(rank[beyond[0]]), int(full[beyond[0]]), beyond)
    if beyond.size or (place > window.limit - site.size).any():
        return None
    target = np.where(rank < 0, own, own - own % machine.cluster + rank)
    foreign = np.flatnonzero(target - own)
    if foreign.size:
        exited = np.all(machine.exited.reshape(machine.ctas, -1), axis=1)
        gone = foreign[exited[target[foreign]]]
        if gone.size:
            first = int(gone[0])
            message = (
                f"an access of {site.size} bytes at {int(place[first]):#x} of the shared memory "
                f"of CTA {int(rank[first])} of the cluster, which has exited"
            )
            raise group.fault(site, "use-after-free", message, gone, int(full[first]))
    return target * window.pitch + place


def is_distributed(site: "Site", window: Window, top: int) -> bool:
    """Says whether addresses in a window, the largest of them `top`, may name other CTAs."""
    spaces = ("", "shared::cluster")
    return window.space == "shared" and site.space in spaces and top >> RANK > 0
