"""GPUs through the CUDA driver and cuda-bindings, which is imported where a GPU is asked for."""
