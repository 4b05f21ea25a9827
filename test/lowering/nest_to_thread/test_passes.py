"""The passes from a nest to one thread do on ops what they do on programs."""

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, UnknownLoc

from tilewright.dialects.nest.writing import write_program
from tilewright.lowering.pipelines.nest import nest_to_thread
from tilewright.lowering.ptx import print_ptx
from tilewright.nest.gpu import compile_for_gpu

from ...nest.gpu_programs import gemm


def test_passes_and_functions_give_the_same_kernel() -> None:
    module = ModuleOp([write_program(gemm(), UnknownLoc(), {})])
    for step in nest_to_thread("sm_80"):
        step.apply(Context(), module)
        module.verify()
    assert print_ptx(module, "sm_80") == compile_for_gpu(gemm(), "sm_80").artifact.ptx
