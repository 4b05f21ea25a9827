"""Devices, buffers, kernel artifacts and launches. Knows no dialect."""
