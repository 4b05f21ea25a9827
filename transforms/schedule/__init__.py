"""
Schedule primitives: each a frozen dataclass that turns a program into one with the same meaning.

A schedule is a tuple of them. A primitive checks its conditions before it builds anything, and
refuses with the condition that failed, the place and a cure.
"""
