"""The form of a rule: what one thread does for an op of the tile level."""

from collections.abc import Callable
from typing import Any

from .thread import Thread

# Each rule names the class of its op; the table that it stands in says the same.
Rule = Callable[[Thread, Any], None]
