"""Passes within one level, and the analyses they rest on."""
