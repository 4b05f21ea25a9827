"""Compiles attention and tensor programs with symbolic shapes to PTX."""
