"""Pieces of the command line tools: how diagnostics look, pipelines as text, inspection."""
