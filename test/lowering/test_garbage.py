"""The collector of cycles stands still while something is compiled, and has nothing to do then."""

import gc
from collections.abc import Sequence

import pytest
from xdsl.dialects.builtin import ModuleOp, UnknownLoc, i32
from xdsl.ir import SSAValue

from tilewright.attention import RaggedKV, causal
from tilewright.attention.compiler import compile_attention
from tilewright.attention.spec import AttentionSpec
from tilewright.lowering.emitter import Emitter
from tilewright.lowering.garbage import paused_collection, take_apart


def test_the_collector_is_paused_inside_and_runs_again_behind() -> None:
    with paused_collection():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with paused_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_error_inside_lets_the_collector_run_again() -> None:
    with pytest.raises(ValueError, match="inside"), paused_collection():
        raise ValueError("inside")
    assert gc.isenabled()


def _module() -> ModuleOp:
    """Returns a module with a loop that carries a value, and a branch in it."""
    module = ModuleOp([])
    emit = Emitter(module.body.block, UnknownLoc())
    start = emit.integer(3)

    def body(index: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        total = emit.add(carried[0], emit.to_i32(index))
        even = emit.compare("eq", emit.remu(total, 2), 0)
        return emit.choose(even, (i32,), lambda: (total,), lambda: (start,))

    emit.unrolled(4, (start,), body)
    return module


def test_a_program_that_is_taken_apart_leaves_nothing_to_the_collector() -> None:
    gc.collect()
    with paused_collection():
        module = _module()
        take_apart(module)
        del module
        assert gc.collect() == 0


def test_a_compilation_leaves_nothing_to_the_collector() -> None:
    spec = AttentionSpec(
        num_qo_heads=2,
        num_kv_heads=1,
        head_dim=64,
        kv=RaggedKV(),
        dtype="bf16",
        target="sm_80",
        softmax_scale=0.125,
    )
    variant = causal().traced
    compile_attention(spec, variant)
    gc.collect()
    with paused_collection():
        compile_attention(spec, variant)
        assert gc.collect() == 0
