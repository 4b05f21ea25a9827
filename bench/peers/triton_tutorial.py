"""The attention kernel of Triton's tutorials, from the file that the caller names."""

import importlib.util
import inspect
import os
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ..variants import VARIANTS
from .peer import Missing, NotApplicable, OnDevice, Runnable, imported
from .torch_arrays import dense, rows_of_dense, runnable, torch_with_cuda

HEAD_DIMS = (16, 32, 64, 128, 256)
# What Triton's lowerings to LLVM take in place of the GPU's own architecture.
ARCH_VARIABLE = "TRITON_OVERRIDE_ARCH"


class TritonTutorial:
    """
    `attention` of python/tutorials/06-fused-attention.py, of the tag of the installed Triton.

    The file is not part of Triton's wheels; it may be that of an earlier tag. Warp specialisation
    is off, for which the tutorial needs more than the kernels of sm_80's instruction set. With
    `sm_80` Triton compiles for that instruction set alone, as ours are, on whatever GPU.
    """

    def __init__(self, path: str | None, sm_80: bool = False) -> None:
        self.name = "triton-tutorial-sm80" if sm_80 else "triton-tutorial"
        self._path = path
        self._compiling = as_sm_80 if sm_80 else nullcontext
        self._torch: Any = None
        self._attend: Any = None

    def open(self) -> str:
        """Returns the version of Triton; raises Missing."""
        self._torch = torch_with_cuda()
        triton: Any = imported("triton")
        if self._path is None:
            raise Missing("name the tutorial's file by --triton-tutorial")
        with self._compiling():
            self._attend = loaded(Path(self._path)).attention
        return str(triton.__version__)

    def prepare(self, inputs: OnDevice) -> Runnable:
        """Returns the case; raises NotApplicable."""
        torch, kernel = self._torch, inputs.case.kernel
        variant = VARIANTS[kernel.variant]
        if not variant.plain or variant.alibi or variant.window or variant.soft_cap:
            raise NotApplicable(f"no {kernel.variant}")
        if kernel.group > 1:
            raise NotApplicable("no grouped heads")
        if kernel.dtype != "f16" or kernel.head_dim not in HEAD_DIMS:
            raise NotApplicable(f"no {kernel.dtype} of head_dim {kernel.head_dim}")
        q, k, v = dense(torch, inputs)
        if q.shape[2] != k.shape[2]:
            raise NotApplicable("as many queries as keys only")
        q, k, v = (tensor.contiguous() for tensor in (q, k, v))
        scale, attend, compiling = kernel.head_dim**-0.5, self._attend, self._compiling
        options = warp_specialization(attend)

        def call() -> Any:
            with torch.no_grad(), compiling():
                return attend(q, k, v, variant.causal, scale, *options)

        return runnable(torch, inputs, call, rows_of_dense(inputs))


def _capability_of_sm_80(*_: object) -> tuple[int, int]:
    return 8, 0


@contextmanager
def as_sm_80() -> Generator[None]:
    """Makes Triton use the instructions of sm_80, and a tutorial believe in such a GPU."""
    cuda: Any = imported("torch").cuda
    # Triton asks for the real GPU once, for which machine code is made.
    imported("triton").runtime.driver.active.get_current_target()
    capability, known = cuda.get_device_capability, os.environ.get(ARCH_VARIABLE)
    cuda.get_device_capability = _capability_of_sm_80
    os.environ[ARCH_VARIABLE] = "sm80"
    try:
        yield
    finally:
        cuda.get_device_capability = capability
        if known is None:
            del os.environ[ARCH_VARIABLE]
        else:
            os.environ[ARCH_VARIABLE] = known


def warp_specialization(attend: Any) -> tuple[bool, ...]:
    """Returns the argument that switches warp specialisation off, where the tutorial has it."""
    forward = getattr(getattr(attend, "__self__", None), "forward", None)
    if forward is None or "warp_specialize" not in inspect.signature(forward).parameters:
        return ()
    return (False,)


def loaded(path: Path) -> Any:
    """Returns a tutorial as a module; raises Missing."""
    spec = importlib.util.spec_from_file_location("triton_tutorial", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise Missing(f"no tutorial '{path}'")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a file of others raises
        first = str(error).partition("\n")[0] or type(error).__name__
        raise Missing(f"can't import '{path}': {first}") from None
    if not hasattr(module, "attention"):
        raise Missing(f"'{path}' has no function 'attention'")
    return module
