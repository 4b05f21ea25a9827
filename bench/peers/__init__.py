"""
Peers: other implementations of attention, where they are installed on the machine.

None of them is a dependency. What is not there is listed with the reason, and so is what a peer
does not compute.
"""

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
)


def all_peers(tutorial: str | None) -> list[Peer]:
    """Returns every peer; `tutorial` is the file of Triton's tutorial of attention."""
    return [
        Sdpa("cudnn"),
        Sdpa("flash"),
        FlexAttention(),
        TritonTutorial(tutorial),
        FlashInfer("fa2"),
        FlashInfer("fa3"),
    ]
