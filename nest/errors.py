"""What the nest level raises."""

from ..runtime.errors import TilewrightError


class NestError(TilewrightError):
    """A nest cannot be built as it is written; the message says what was expected."""
