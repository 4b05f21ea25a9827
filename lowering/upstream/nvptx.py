"""Turns LLVM IR text into PTX with llvmlite's NVPTX target."""

from __future__ import annotations

import re
from typing import Any

from xdsl.dialects.builtin import ModuleOp

from ..ptx.kernel import EIGHT_BIT_VERSION
from ..ptx.module import TARGETS
from .bindings import UpstreamError, llvmlite
from .device_library import link
from .llvm_ir import to_llvm_ir

_EIGHT_BIT = re.compile(r"@llvm\.nvvm\.\S*e(?:4m3|5m2)")
_TRIPLE = "nvptx64-nvidia-cuda"


def print_ptx_upstream(module: ModuleOp, target: str = "sm_80") -> str:
    """
    Returns the PTX text of the kernels of a thread-level module, made by MLIR and LLVM.

    The module is left as it is. Raises UpstreamError where a tool refuses it or is missing.
    """
    if target not in TARGETS:
        known = ", ".join(TARGETS)
        raise UpstreamError(f"expected a target among {known}, got {target!r}")
    return ptx_of(link(to_llvm_ir(module)), target)


def ptx_of(text: str, target: str) -> str:
    """Returns the PTX of LLVM IR text."""
    llvm = llvmlite()
    try:
        parsed: Any = llvm.parse_assembly(text)
        parsed.verify()
    except RuntimeError as err:
        raise UpstreamError(f"LLVM refuses the module: {str(err).splitlines()[0]}") from err
    features = "+ptx" + _version(text, target).replace(".", "")
    machine: Any = llvm.Target.from_triple(_TRIPLE).create_target_machine(
        cpu=target, features=features, opt=3
    )
    parsed.triple = _TRIPLE
    parsed.data_layout = str(machine.target_data)
    _optimise(llvm, machine, parsed)
    return str(machine.emit_assembly(parsed))


def _version(text: str, target: str) -> str:
    """Returns the version of PTX that LLVM IR needs; LLVM ends the process where it is too low."""
    if not _EIGHT_BIT.search(text):
        return TARGETS[target]
    if target in ("sm_80", "sm_86"):
        raise UpstreamError(f"conversions and products of 8-bit floats need sm_89, got {target}")
    return EIGHT_BIT_VERSION


def _optimise(llvm: Any, machine: Any, module: Any) -> None:
    """Runs the few passes that pay: folding and clean-up, nothing that lengthens live ranges."""
    options: Any = llvm.create_pipeline_tuning_options(speed_level=1)
    builder: Any = llvm.create_pass_builder(machine, options)
    manager: Any = llvm.create_new_module_pass_manager()
    manager.add_always_inliner_pass()
    manager.add_instruction_combine_pass()
    manager.add_simplify_cfg_pass()
    manager.add_new_gvn_pass()
    manager.add_instruction_combine_pass()
    manager.add_aggressive_dce_pass()
    manager.run(module, builder)
