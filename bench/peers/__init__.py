"""
Peers: other implementations of attention, where they are installed on the machine.

None of them is a dependency. What is not there is listed with the reason, and so is what a peer
does not compute.
"""

from ...runtime.errors import ArgumentError
from .flashinfer import FlashInfer
from .flex import FlexAttention
from .peer import Missing, NotApplicable, OnDevice, Peer, Runnable
from .sdpa import Sdpa
from .triton_tutorial import TritonTutorial

__all__ = (
    "FlashInfer",
    "FlexAttention",
    "Missing",
    "NotApplicable",
    "OnDevice",
    "Peer",
    "Runnable",
    "Sdpa",
    "TritonTutorial",
    "all_peers",
    "chosen_peers",
)


def chosen_peers(names: str, tutorial: str | None, for_sm_80: str | None = None) -> list[Peer]:
    """
    Returns the peers with some names, between commas, "all" or "none"; raises ArgumentError.

    `tutorial` is the file of Triton's tutorial of attention; `for_sm_80` is an earlier one that is
    compiled for sm_80, by default the same.
    """
    peers = {peer.name: peer for peer in all_peers(tutorial, for_sm_80 or tutorial)}
    if names in ("all", "none"):
        return list(peers.values()) if names == "all" else []
    wanted = names.split(",")
    for name in wanted:
        if name not in peers:
            expected = f"all, none, or some of {', '.join(peers)}"
            raise ArgumentError("--peers", expected, repr(name))
    return [peers[name] for name in wanted]


def all_peers(tutorial: str | None, for_sm_80: str | None = None) -> list[Peer]:
    """Returns every peer."""
    return [
        Sdpa("cudnn"),
        Sdpa("flash"),
        FlexAttention(),
        TritonTutorial(tutorial),
        TritonTutorial(for_sm_80, sm_80=True),
        FlashInfer("fa2"),
        FlashInfer("fa3"),
    ]
