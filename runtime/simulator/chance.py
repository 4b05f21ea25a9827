"""What a seed decides besides the schedule: orders, leaders, when data comes (see exploring.py)."""

import numpy as np

from .placement import WARP
from .scalars import Array, Lanes


def shuffled(random: np.random.Generator | None, count: int) -> Array | None:
    """Returns positions of lanes in any order; None where the order is that of the lanes."""
    return None if random is None or count < 2 else random.permutation(count)


def early(random: np.random.Generator | None) -> bool:
    """Says whether data comes as soon as it may."""
    return random is not None and bool(random.random() < 0.5)


def leader(seed: int, mask: Lanes) -> Lanes:
    """Returns one lane of each member mask, always the same one for a mask."""
    masks, which = np.unique(np.atleast_1d(mask), return_inverse=True)
    lanes = np.zeros(masks.size, np.uint32)
    for number, value in enumerate(masks.tolist()):
        members = [lane for lane in range(WARP) if value >> lane & 1] or [0]
        lanes[number] = np.random.default_rng((seed, value)).choice(members)
    return lanes[which].reshape(mask.shape) if mask.ndim else lanes[0]
