"""
Compiles attention and tensor programs with symbolic shapes to PTX, and runs them.

Submodules are imported when they are first used, so that a program that only runs kernels does not
pay for the compiler.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import attention, nest, runtime

__all__ = ["__version__", "attention", "nest", "runtime"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("attention", "nest", "runtime"):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'tilewright' has no attribute '{name}'")
