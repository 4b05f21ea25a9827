"""
Machine code for this CPU: LLVM IR compiled and loaded by llvmlite, and called without a lock.

llvmlite comes with the extra `mlir` and is imported when it is needed.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from threading import Lock
from typing import Any

from .errors import AssemblerError, DeviceUnavailable

# LLVM's contexts are not for several threads at once.
_LOCK = Lock()
_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


@dataclass(frozen=True)
class Machine:
    """A CPU as LLVM names it: triple, model, and features."""

    triple: str
    cpu: str
    features: str

    @property
    def feature_names(self) -> frozenset[str]:
        """The features that the CPU has, such as `avx2`."""
        features = self.features.split(",")
        return frozenset(name[1:] for name in features if name.startswith("+"))

    @property
    def vector_bytes(self) -> int:
        """The size of the widest vector registers."""
        if "avx512f" in self.feature_names:
            return 64
        return 32 if "avx" in self.feature_names else 16


@cache
def _llvm() -> Any:
    try:
        binding: Any = import_module("llvmlite.binding")
    except ImportError as err:
        raise DeviceUnavailable("host: it needs llvmlite: pip install tilewright[mlir]") from err
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    return binding


@cache
def host_machine() -> Machine:
    """Returns the CPU of this process; raises DeviceUnavailable without llvmlite."""
    llvm = _llvm()
    features: str = llvm.get_host_cpu_features().flatten()
    return Machine(llvm.get_process_triple(), llvm.get_host_cpu_name(), features)


@cache
def _target(machine: Machine) -> Any:
    target: Any = _llvm().Target.from_triple(machine.triple)
    return target.create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=3, reloc="pic", codemodel="jitdefault"
    )


def _optimised(ir: str, machine: Machine, is_short: bool) -> Any:
    """
    Returns LLVM's module for a machine.

    The short list of passes is for loops that are vectorised and unrolled already: it keeps
    arrays in registers and cleans up, in a tenth of the time of all passes of level 2.
    """
    llvm, target = _llvm(), _target(machine)
    try:
        module: Any = llvm.parse_assembly(ir)
    except RuntimeError as err:
        reason = " ".join(str(err).split())
        raise AssemblerError(f"host: LLVM refuses the module: {reason}") from err
    module.triple = machine.triple
    module.data_layout = str(target.target_data)
    options: Any = llvm.create_pipeline_tuning_options(speed_level=2)
    builder: Any = llvm.create_pass_builder(target, options)
    if not is_short:
        builder.getModulePassManager().run(module, builder)
        return module
    manager: Any = llvm.create_new_module_pass_manager()
    manager.add_sroa_pass()
    manager.add_instruction_combine_pass()
    manager.add_simplify_cfg_pass()
    manager.run(module, builder)
    return module


def object_code(ir: str, machine: Machine, is_short: bool = False) -> bytes:
    """Returns the object file of LLVM IR text for a machine; raises AssemblerError."""
    with _LOCK:
        return bytes(_target(machine).emit_object(_optimised(ir, machine, is_short)))


def assembly(ir: str, machine: Machine, is_short: bool = False) -> str:
    """Returns the assembly text of LLVM IR text for a machine; raises AssemblerError."""
    with _LOCK:
        return str(_target(machine).emit_assembly(_optimised(ir, machine, is_short)))


class LoadedCode:
    """The functions of one object file, in the memory of this process as long as this lives."""

    def __init__(self, code: bytes, name: str) -> None:
        llvm = _llvm()
        with _LOCK:
            empty = llvm.parse_assembly("")
            machine: Any = llvm.Target.from_triple(host_machine().triple).create_target_machine()
            self._engine: Any = llvm.create_mcjit_compiler(empty, machine)
            self._engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
            self._engine.finalize_object()
        # ctypes gives the interpreter's lock back during a call.
        self.entry = _ENTRY(self.address(name))

    def address(self, name: str) -> int:
        """Returns the address of a function."""
        with _LOCK:
            return self._engine.get_function_address(name)
