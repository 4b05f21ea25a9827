"""Lowers a thread-level module to LLVM IR with upstream MLIR's passes."""

from __future__ import annotations

from typing import Any

from xdsl.dialects.builtin import ModuleOp

from ..ptx.elements import float_bits
from .bindings import Bindings, UpstreamError, mlir
from .text import generic_text, tag_unrolled_loops, unroll_script

# An index has 32 bits, as in the direct way.
_INDEX = "{index-bitwidth=32}"
_PASSES = (
    # Positions become constants once loops are unrolled.
    "canonicalize",
    "cse",
    # Structured control flow and vectors go before `gpu` and `math`.
    "gpu.module("
    "convert-scf-to-cf,"
    "convert-vector-to-llvm,"
    f"convert-gpu-to-nvvm{_INDEX},"
    "convert-math-to-llvm,"
    "convert-nvvm-to-llvm,"
    f"convert-index-to-llvm{_INDEX},"
    f"convert-arith-to-llvm{_INDEX},"
    "reconcile-unrealized-casts)",
    f"convert-cf-to-llvm{_INDEX}",
    "reconcile-unrealized-casts",
    "canonicalize",
)
PIPELINE = f"builtin.module({','.join(_PASSES)})"
_FLOAT_KINDS = {"f16": "f16", "bf16": "bf16", "f32": "f32", "f64": "f64"}
_FLOAT_BITS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}


def _message(err: Exception) -> str:
    lines = [line for line in str(err).splitlines() if line.strip()]
    errors = [line.strip() for line in lines if "error:" in line]
    return errors[0] if errors else "; ".join(line.strip() for line in lines[:2])


def verify_upstream(module: ModuleOp) -> None:
    """
    Parses and verifies the generic form of a module with upstream MLIR.

    Raises UpstreamError with upstream's message where it refuses the module, or where the
    bindings are not installed.
    """
    bindings = mlir()
    with bindings.ir.Context(), bindings.ir.Location.unknown():
        _parse(bindings, generic_text(module))


def _parse(bindings: Bindings, text: str) -> Any:
    try:
        module = bindings.ir.Module.parse(text)
        module.operation.verify()
        return module
    except Exception as err:
        raise UpstreamError(f"upstream MLIR refuses the module: {_message(err)}") from err


def to_llvm_ir(module: ModuleOp) -> str:
    """
    Returns LLVM IR text of the kernels of a thread-level module; the module is left as it is.

    The text holds no floating-point literal, because the bindings and llvmlite belong to
    versions of LLVM that write them differently. Raises UpstreamError.
    """
    bindings = mlir()
    copy = module.clone()
    script = unroll_script(tag_unrolled_loops(copy))
    with bindings.ir.Context(), bindings.ir.Location.unknown():
        lowered = _parse(bindings, generic_text(copy))
        try:
            sequence = bindings.ir.Module.parse(script)
            bindings.interpreter.apply_named_sequence(
                lowered.operation, sequence.body.operations[0], sequence.operation
            )
            bindings.passmanager.PassManager.parse(PIPELINE).run(lowered.operation)
        except Exception as err:
            raise UpstreamError(f"upstream MLIR cannot lower the module: {_message(err)}") from err
        flat = _without_gpu_modules(bindings, lowered)
        _require_block_size(flat)
        _hide_float_literals(bindings, flat)
        return str(bindings.translation.translate_module_to_llvmir(flat.operation))


def _without_gpu_modules(bindings: Bindings, module: Any) -> Any:
    flat = bindings.ir.Module.create()
    for device in module.body.operations:
        for op in device.regions[0].blocks[0].operations:
            flat.body.append(op.operation.clone())
    return flat


def _require_block_size(module: Any) -> None:
    """Turns the largest block size into the only one: `.maxntid` into `.reqntid`."""
    for op in module.body.operations:
        attributes = op.operation.attributes
        if "nvvm.maxntid" in attributes:
            attributes["nvvm.reqntid"] = attributes["nvvm.maxntid"]
            del attributes["nvvm.maxntid"]


def _hide_float_literals(bindings: Bindings, module: Any) -> None:
    """
    Replaces each float constant by the bitcast of its bits.

    A `freeze` between keeps the translation from folding it back; LLVM folds it later.
    """
    constants: list[Any] = []

    def collect(op: Any) -> Any:
        if op.name == "llvm.mlir.constant" and _element_of(op.results[0].type)[1]:
            constants.append(op)
        return bindings.ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    for op in constants:
        _replace_by_bits(bindings, op)


def _element_of(type_: Any) -> tuple[str, str | None]:
    """Returns the shape of a type, as text before its element, and its float kind or None."""
    text = str(type_)
    if text.startswith("vector<"):
        shape, _, element = text[len("vector<") : -1].rpartition("x")
        return f"{shape}x", _FLOAT_KINDS.get(element)
    return "", _FLOAT_KINDS.get(text)


def _replace_by_bits(bindings: Bindings, op: Any) -> None:
    ir = bindings.ir
    result = op.results[0]
    shape, kind = _element_of(result.type)
    if kind is None:
        raise UpstreamError(f"expected a float constant, got {result.type}")
    bits = _bits_of(bindings, op.attributes["value"], kind)
    width = _FLOAT_BITS[kind]
    integer = f"i{width}"
    if shape:
        type_ = ir.Type.parse(f"vector<{shape}{integer}>")
        inner = f"{bits[0]}" if len(set(bits)) == 1 else f"[{', '.join(map(str, bits))}]"
        value = ir.Attribute.parse(f"dense<{inner}> : {type_}")
    else:
        type_ = ir.Type.parse(integer)
        value = ir.IntegerAttr.get(type_, bits[0])
    with ir.InsertionPoint(op), op.location:
        make = ir.Operation.create
        constant = make("llvm.mlir.constant", [type_], attributes={"value": value})
        frozen = make("llvm.freeze", [type_], [constant.results[0]])
        cast = make("llvm.bitcast", [result.type], [frozen.results[0]])
    result.replace_all_uses_with(cast.results[0])
    op.erase()


def _bits_of(bindings: Bindings, attribute: Any, kind: str) -> list[int]:
    """Returns the bits of a float attribute, as signed integers of the kind's width."""
    width = _FLOAT_BITS[kind]
    text = str(attribute)
    if text.startswith("dense"):
        elements = bindings.ir.DenseElementsAttr(attribute)
        if elements.is_splat:
            values = [float(bindings.ir.FloatAttr(elements.get_splat_value()).value)]
        else:
            values = [float(value) for value in bindings.ir.DenseFPElementsAttr(attribute)]
    else:
        values = [float(bindings.ir.FloatAttr(attribute).value)]
    half = 1 << (width - 1)
    return [((float_bits(value, kind) + half) & ((1 << width) - 1)) - half for value in values]
