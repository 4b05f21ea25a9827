"""Passes from one level to the next, and the pipelines they form."""
