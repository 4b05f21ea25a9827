"""A small kernel, its options on the command line, its MLIR, and arrays for it in files."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.attention import causal
from tilewright.attention.module import attention_module
from tilewright.attention.spec import AttentionSpec, PagedKV
from tilewright.cli.batch import Inputs, Request, random_inputs

SPEC = AttentionSpec(
    num_qo_heads=4,
    num_kv_heads=2,
    head_dim=32,
    kv=PagedKV(4),
    dtype="f16",
    target="sm_80",
    softmax_scale=32**-0.5,
)
OPTIONS = "--heads 4 --kv-heads 2 --head-dim 32 --page-size 4 --dtype f16".split()
REQUESTS = (Request(5, 9), Request(1, 20), Request(2, 0))
TABLES = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_len")


def write_mlir(path: Path, spec: AttentionSpec = SPEC) -> Path:
    """Writes the module of causal attention."""
    path.write_text(str(attention_module(spec, causal().traced)))
    return path


def arrays_of(inputs: Inputs) -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays of a batch by the name that a bundle knows them by."""
    tables = {name: getattr(inputs.batch, name) for name in TABLES}
    return tables | {"q": inputs.q, "k_pages": inputs.k_pages, "v_pages": inputs.v_pages}


def random_arrays() -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays of a random batch by name."""
    return arrays_of(random_inputs(SPEC, REQUESTS, np.random.default_rng()))


def write_arrays(folder: Path, arrays: dict[str, npt.NDArray[Any]]) -> list[str]:
    """Writes the arrays to files; returns the options that name them."""
    options: list[str] = []
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        options += ["--arg", f"{name}={folder / f'{name}.npy'}"]
    return options
