"""Benchmarks of attention on a GPU, beside its peers; on the simulator a check of every kernel."""
