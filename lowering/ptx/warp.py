"""Rules for thread indices, warp exchanges, barriers, tensor cores and inline assembly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from xdsl.dialects import gpu, llvm
from xdsl.dialects.builtin import VectorType, f16, i32
from xdsl.ir import Operation

from ...dialects import nvvm
from ...dialects.diagnostic import error_at
from .elements import BITS, REGISTER_CLASS, Element, Half, element_kind
from .kernel import EIGHT_BIT_VERSION, KernelPrinter, Rule, Step, kind_of, result_kind
from .memory import address_of, bracketed

_F16X2 = VectorType(f16, [2])
# Bounds that hold for every launch (PTX ISA, "Special Registers"; CUDA C++ Programming Guide,
# "Technical Specifications per Compute Capability").
_LIMITS: dict[str, int] = {
    "tid.x": 1023,
    "tid.y": 1023,
    "tid.z": 63,
    "ntid.x": 1024,
    "ntid.y": 1024,
    "ntid.z": 64,
    "ctaid.x": (1 << 31) - 2,
    "ctaid.y": 65534,
    "ctaid.z": 65534,
    "nctaid.x": (1 << 31) - 1,
    "nctaid.y": 65535,
    "nctaid.z": 65535,
    "laneid": 31,
}
_GPU_REGISTERS = {
    "gpu.thread_id": "tid",
    "gpu.block_id": "ctaid",
    "gpu.block_dim": "ntid",
    "gpu.grid_dim": "nctaid",
}


def special_register(p: KernelPrinter, name: str) -> Element:
    """Returns the register or constant that holds a special register of 32 bits."""
    limit = _LIMITS.get(name)
    root, _, axis = name.partition(".")
    if p.block_size and root in ("tid", "ntid"):
        extent = p.block_size["xyz".index(axis)]
        if root == "ntid":
            return extent
        limit = extent - 1
    if limit == 0:
        return 0
    is_vector = root in ("tid", "ntid", "ctaid", "nctaid")
    register = p.at_entry("mov.u32", "r", f"%{name if is_vector else name.replace('.', '_')}")
    if limit is not None:
        p.bounds[register] = (0, limit)
    return register


def _gpu_index(p: KernelPrinter, step: Step) -> None:
    if step.memo is None:
        dimension = step.op.properties["dimension"]
        if not isinstance(dimension, gpu.DimensionAttr):
            raise error_at(step.op, "expects a dimension")
        step.memo = f"{_GPU_REGISTERS[step.op.name]}.{dimension.data.value}"
    p.values[step.outs[0]] = [special_register(p, step.memo)]


def _lane_id(p: KernelPrinter, step: Step) -> None:
    p.values[step.outs[0]] = [special_register(p, "laneid")]


def _read_register(p: KernelPrinter, step: Step) -> None:
    name = step.op.name.removeprefix("nvvm.read.ptx.sreg.")
    if name == "warpsize":
        # PTX has a constant in place of this register.
        p.values[step.outs[0]] = [32]
        return
    if name not in nvvm.CLOCKS:
        p.values[step.outs[0]] = [special_register(p, name)]
        return
    bits = BITS[result_kind(step.op)]
    register = p.register("rd" if bits == 64 else "r")
    p.emit(f"\tmov.u{bits} %s, %s;", (register,), (f"%{name}",))
    p.values[step.outs[0]] = [register]


def _barrier(p: KernelPrinter, step: Step) -> None:
    p.emit("\tbar.sync 0;", (), ())


def _named_barrier(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, nvvm.BarrierOp | nvvm.BarrierArriveOp):
        raise error_at(op, "expects nvvm.barrier")
    number = "0" if op.barrierId is None else p.operand(p.element(step, 0), "i32")
    action = "arrive" if isinstance(op, nvvm.BarrierArriveOp) else "sync"
    mnemonic = f"bar.{action}" if op.aligned.value.data else f"barrier.{action}"
    sources = (number,)
    if op.numberOfThreads is not None:
        sources += (p.operand(p.element(step, len(step.args) - 1), "i32"),)
    p.emit(f"\t{mnemonic} " + ", ".join(["%s"] * len(sources)) + ";", (), sources)


def _plain(text: str, p: KernelPrinter, step: Step) -> None:
    p.emit(text, (), ())


def _wait_group(p: KernelPrinter, step: Step) -> None:
    if isinstance(step.op, nvvm.CpAsyncWaitGroupOp):
        p.emit(f"\tcp.async.wait_group {step.op.n.value.data};", (), ())


def _grid_dependency(p: KernelPrinter, step: Step) -> None:
    if isinstance(step.op, nvvm.GridDepControlOp):
        if not p.target.startswith("sm_9"):
            raise error_at(step.op, f"needs sm_90, got {p.target}")
        p.emit(f"\tgriddepcontrol.{step.op.kind.data.value};", (), ())


def _sync_warp(p: KernelPrinter, step: Step) -> None:
    p.emit("\tbar.warp.sync %s;", (), (p.operand(p.element(step, 0), "i32"),))


_FENCES = {"cta": "\tmembar.cta;", "gpu": "\tmembar.gl;", "sys": "\tmembar.sys;"}


def _memory_barrier(p: KernelPrinter, step: Step) -> None:
    if isinstance(step.op, nvvm.MemoryBarrierOp):
        scope = step.op.scope.data
        if scope not in _FENCES:
            raise error_at(step.op, f"expects scope {', '.join(_FENCES)}, got {scope}")
        p.emit(_FENCES[scope], (), ())


def _shuffle(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, nvvm.ShflSyncOp):
        raise error_at(op, "expects nvvm.shfl.sync")
    kind = kind_of(op, op.val)
    value = p.register_of(p.element(step, 1), kind)
    mask, offset, clamp = (p.operand(p.element(step, index), "i32") for index in (0, 2, 3))
    dest = p.register(REGISTER_CLASS[kind])
    mnemonic = f"\tshfl.sync.{op.kind.data.value}.b32"
    sources = (value, offset, clamp, mask)
    if op.return_value_and_is_valid is None:
        p.emit(f"{mnemonic} %s, %s, %s, %s, %s;", (dest,), sources)
        p.values[step.outs[0]] = [dest]
        return
    valid = p.register("p")
    p.emit(f"{mnemonic} %s|%s, %s, %s, %s, %s;", (dest, valid), sources)
    p.values[step.outs[0]] = [dest, valid]


def _vote(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, nvvm.VoteSyncOp):
        raise error_at(op, "expects nvvm.vote.sync")
    kind = op.kind.data.value
    is_ballot = kind == "ballot"
    predicate = p.register_of(p.element(step, 1), "i1")
    mask = p.operand(p.element(step, 0), "i32")
    dest = p.register("r" if is_ballot else "p")
    suffix = "b32" if is_ballot else "pred"
    p.emit(f"\tvote.sync.{kind}.{suffix} %s, %s, %s;", (dest,), (predicate, mask))
    p.values[step.outs[0]] = [dest]


_REDUX = {"umax": "max.u32", "umin": "min.u32", "max": "max.s32", "min": "min.s32"}


def _redux(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, nvvm.ReduxSyncOp):
        raise error_at(op, "expects nvvm.redux.sync")
    kind = op.kind.data.value
    if kind_of(op, op.val) == "f32":
        raise error_at(op, f"of kind {kind} needs sm_100a, got {p.target}")
    suffix = _REDUX.get(kind, "add.s32" if kind == "add" else f"{kind}.b32")
    sources = (p.register_of(p.element(step, 0), "i32"), p.operand(p.element(step, 1), "i32"))
    dest = p.register("r")
    p.emit(f"\tredux.sync.{suffix} %s, %s, %s;", (dest,), sources)
    p.values[step.outs[0]] = [dest]


def _matrix_mnemonic(op: nvvm.LdMatrixOp | nvvm.StMatrixOp, count: int) -> str:
    name = "ldmatrix" if isinstance(op, nvvm.LdMatrixOp) else "stmatrix"
    transposed = ".trans" if op.layout.data == "col" else ""
    return f"\t{name}.sync.aligned.m8n8.x{count}{transposed}.shared.b16"


def _braces(count: int) -> str:
    return "{" + ", ".join(["%s"] * count) + "}"


def is_ldmatrix(step: Step) -> bool:
    """Whether a step is one ldmatrix."""
    return step.rule is _ldmatrix


def matrices_of(step: Step) -> int:
    """Returns how many matrices, and so registers, a step that is one ldmatrix loads."""
    return _load_of(step)[1]


def _load_of(step: Step) -> tuple[str, int]:
    """Returns the text in front of a load's address, and how many registers it loads."""
    if step.memo is None:
        op = step.op
        if not isinstance(op, nvvm.LdMatrixOp):
            raise error_at(op, "expects nvvm.ldmatrix")
        count = op.num.value.data
        step.memo = (f"{_matrix_mnemonic(op, count)} {_braces(count)}", count)
    return step.memo


def _ldmatrix(p: KernelPrinter, step: Step) -> None:
    text, count = _load_of(step)
    where, sources = bracketed(address_of(p, step, 0))
    dests = p.registers("r", count)
    p.emit(f"{text}, {where};", dests, sources)
    p.values[step.outs[0]] = list(dests)


def _stmatrix(p: KernelPrinter, step: Step) -> None:
    op = step.op
    if not isinstance(op, nvvm.StMatrixOp):
        raise error_at(op, "expects nvvm.stmatrix")
    if not p.target.startswith("sm_9"):
        raise error_at(op, f"needs sm_90, got {p.target}")
    count = len(op.sources)
    where, sources = bracketed(address_of(p, step, 0))
    values = tuple(p.register_of(p.element(step, 1 + i), "i32") for i in range(count))
    p.emit(f"{_matrix_mnemonic(op, count)} {where}, {_braces(count)};", (), (*sources, *values))


class MmaForm:
    """
    The instruction of one mma.sync.

    `kinds` are those of its operands: `a` of A, `b` of B and `c` of the accumulator.
    """

    def __init__(self, p: KernelPrinter, op: Operation) -> None:
        if not isinstance(op, nvvm.MmaSyncOp):
            raise error_at(op, "expects nvvm.mma.sync")
        element = op.multiplicandAPtxType.data
        if element in ("e4m3", "e5m2"):
            if p.target in ("sm_80", "sm_86"):
                raise error_at(op, f"of {element} needs sm_89, got {p.target}")
            p.versions.add(EIGHT_BIT_VERSION)
        accumulator = op.operandC[0].type
        accumulates = "f16" if accumulator == _F16X2 else "s32" if accumulator == i32 else "f32"
        self.a, self.b, self.c = len(op.operandA), len(op.operandB), len(op.operandC)
        saturates = op.intOverflowBehavior is not None and op.intOverflowBehavior.data
        suffix = ".satfinite" if saturates == "satfinite" else ""
        shape = "m{}n{}k{}".format(*op.shape.extents)
        accumulator_text = _braces(self.c)
        self.text = (
            f"\tmma.sync.aligned.{shape}.row.col{suffix}"
            f".{accumulates}.{element}.{element}.{accumulates}"
            f" {accumulator_text}, {_braces(self.a)}, {_braces(self.b)}, {accumulator_text};"
        )
        self.kinds = tuple(element_kind(value.type) or "i32" for value in op.operands)
        self.packs_result = accumulator == _F16X2
        self.cls = "f" if accumulates == "f32" else "r"


def is_mma(step: Step) -> bool:
    """Whether a step is one mma.sync."""
    return step.rule is _mma


def form_of(p: KernelPrinter, step: Step) -> MmaForm:
    """Returns the form of a step that is one mma.sync."""
    if step.memo is None:
        step.memo = MmaForm(p, step.op)
    return step.memo


def sources_of(
    p: KernelPrinter, operands: Sequence[Sequence[Element]], kinds: Sequence[str]
) -> list[str]:
    """Returns the registers of operands of a product: one each, or pairs of 16 bits."""
    sources: list[str] = []
    for elements, kind in zip(operands, kinds):
        element = elements[0]
        if len(elements) == 2:
            sources.append(p.pack(element, elements[1], "f16"))
        elif type(element) is str:
            sources.append(element)
        else:
            sources.append(p.register_of(element, kind))
    return sources


def _mma(p: KernelPrinter, step: Step) -> None:
    form, values = form_of(p, step), p.values
    sources = sources_of(p, [values[arg] for arg in step.args], form.kinds)
    accumulators = sources[form.a + form.b :]
    dests = p.registers(form.cls, form.c)
    p.wish(dests, accumulators)
    p.emit(form.text, dests, tuple(sources))
    if form.packs_result:
        values[step.outs[0]] = [Half(dest, upper) for dest in dests for upper in (0, 1)]
    else:
        values[step.outs[0]] = list(dests)


_CONSTRAINT_KINDS = {"r": "i32", "l": "i64", "f": "f32", "d": "f64"}


def _inline_asm(p: KernelPrinter, step: Step) -> None:
    """Prints inline assembly as it stands; its operands take the places `$0`, `$1`, ..."""
    op = step.op
    if not isinstance(op, llvm.InlineAsmOp):
        raise error_at(op, "expects llvm.inline_asm")
    constraints = [c for c in op.constraints.data.split(",") if c and c[0] != "~"]
    outputs = [c for c in constraints if c[0] == "="]
    inputs = constraints[len(outputs) :]
    if len(inputs) != len(step.args):
        raise error_at(op, f"expects {len(inputs)} inputs by its constraints, got {len(step.args)}")
    dests: list[str] = []
    for constraint in outputs:
        kind = _CONSTRAINT_KINDS.get(constraint.lstrip("=&"))
        if kind is None:
            raise error_at(op, f"expects outputs =r, =l, =f or =d, got {constraint}")
        dests.append(p.register(REGISTER_CLASS[kind]))
    sources: list[str] = []
    for index, constraint in enumerate(inputs):
        kind, element = kind_of(op, op.operands_[index]), p.element(step, index)
        if constraint.isdigit() and int(constraint) < len(dests):
            p.move(dests[int(constraint)], p.register_of(element, kind))
        elif constraint != "n" and constraint not in _CONSTRAINT_KINDS:
            raise error_at(op, f"expects inputs r, l, f, d, n or tied, got {constraint}")
        sources.append(p.operand(element, kind))
    text, order = _filled(op, op.asm_string.data, [*dests, *sources])
    p.emit_text(f"\t{text}", tuple(order), tuple(dests), tuple(sources))
    if step.outs:
        p.values[step.outs[0]] = list(dests)


def _filled(op: llvm.InlineAsmOp, text: str, names: list[str]) -> tuple[str, list[str]]:
    """Returns the template of inline assembly and the operands that fill it."""
    order: list[str] = []

    def place(match: re.Match[str]) -> str:
        if match[0] in ("$$", "%"):
            return "$" if match[0] == "$$" else "%%"
        number = int(match[1] or match[2])
        if number >= len(names):
            raise error_at(op, f"names operand ${number}, but has {len(names)} operands")
        order.append(names[number])
        return "%s"

    return re.sub(r"\$\$|\$(\d+)|\$\{(\d+)(?::\w+)?\}|%", place, text), order


RULES: dict[str, Rule] = {
    **{name: _gpu_index for name in _GPU_REGISTERS},
    "gpu.lane_id": _lane_id,
    "gpu.barrier": _barrier,
    "nvvm.barrier": _named_barrier,
    "nvvm.barrier.arrive": _named_barrier,
    "nvvm.bar.warp.sync": _sync_warp,
    "nvvm.memory.barrier": _memory_barrier,
    "nvvm.cp.async.commit.group": partial(_plain, "\tcp.async.commit_group;"),
    "nvvm.cp.async.wait.group": _wait_group,
    "nvvm.griddepcontrol": _grid_dependency,
    "nvvm.shfl.sync": _shuffle,
    "nvvm.vote.sync": _vote,
    "nvvm.redux.sync": _redux,
    "nvvm.ldmatrix": _ldmatrix,
    "nvvm.stmatrix": _stmatrix,
    "nvvm.mma.sync": _mma,
    "llvm.inline_asm": _inline_asm,
    **{op.name: _read_register for op in nvvm.SPECIAL_REGISTER_OPS.values()},
}
