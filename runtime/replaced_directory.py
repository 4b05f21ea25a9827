"""Directories that are written whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from .errors import BundleError


def replace_directory(target: Path, what: str, write: Callable[[Path], None]) -> None:
    """
    Puts the directory that `write` fills in the place of `target`, which may be there already.

    It is written beside it, and then renamed. Raises BundleError, that begins with `what`, where
    the system refuses; `target` is then what it was.
    """
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    fresh = target.with_name(f".{target.name}.{mark}.new")
    stale = target.with_name(f".{target.name}.{mark}.old")
    try:
        fresh.mkdir(parents=True)
        write(fresh)
        if target.exists():
            target.rename(stale)
        fresh.rename(target)
    except OSError as error:
        if stale.exists() and not target.exists():
            stale.rename(target)
        raise BundleError(f"{what} '{target}': can't be written: {error.strerror}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(stale, ignore_errors=True)
