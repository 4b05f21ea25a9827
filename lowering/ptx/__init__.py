"""
The direct way from the thread level to PTX: prints a module and unrolls vectors while it prints.

Integers of type index have 32 bits. `print_ptx` is the entry.
"""

from .module import RULES, TARGETS, print_ptx

__all__ = ["RULES", "TARGETS", "print_ptx"]
