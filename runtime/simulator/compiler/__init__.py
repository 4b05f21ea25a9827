"""From a syntax tree to a program: calls inlined, blocks cut, one Python function a block."""
