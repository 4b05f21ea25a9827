"""Runs the command `tilewright` as `python -m tilewright`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
