"""Loop nests: blocks with read and write regions inside loops, over buffers of symbolic shape."""
