"""
Writes block functions: one Python function for each block, over all lanes of a group.

A block function takes the group and the registers that live in, works on local names that are
each assigned once, and returns its flag (what the scheduler asks of the last instruction)
followed by the registers that live out. A register that nobody reads later is never stored.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar

from ..errors import PTXError
from ..isa.operations import guarded, idle, select
from ..isa.refusals import reason
from ..isa.rounding import flush
from ..ptx.syntax import (
    Address,
    Immediate,
    Instruction,
    Name,
    Negated,
    Operand,
    Register,
    Special,
    SymbolAddress,
    Variable,
    shown,
)
from ..scalars import BITS, DTYPES, FLOATS, NUMPY, Lanes
from .blocks import Block
from .program import CompiledBlock, Site, Terminator
from .scope import FunctionScope

_SIGN_EXTENDED = frozenset({"s8", "s16", "s32"})


class Value:
    """What a register holds at one point: Python names of one value seen as several dtypes."""

    __slots__ = ("code", "fragment", "make", "names")

    def __init__(
        self, code: str, name: str = "", make: Callable[["Value"], None] | None = None
    ) -> None:
        self.code = code  # the dtype it comes in
        self.names = {code: name} if name else {}
        self.make = make  # fills `names` of a value that is computed when it is first read
        self.fragment = ""  # Python tuple of the ldmatrix fragment and register that it comes from


Kept = TypeVar("Kept")
# From an opcode to what emits it and the fields of its spelling; None for what is not covered.
EmitForm: TypeAlias = "Callable[[BlockEmitter, Instruction, Mapping[str, str]], None]"
FindForm: TypeAlias = "Callable[[str], tuple[EmitForm, Mapping[str, str]] | None]"


class BlockEmitter:
    """Writes the function of one block; the tables in isa/ call its methods."""

    def __init__(self, scope: FunctionScope, block: Block, find: "FindForm") -> None:
        self.scope = scope
        self.block = block
        self._find = find
        self._kept: dict[Any, Any] = {}
        self.lines: list[str] = []
        self.values: dict[int, Value] = {}
        self.inputs: dict[int, str] = {}
        self.inputs_only: set[int] = set()
        self.terminator = Terminator()
        self.instruction: Instruction | None = None
        self.guard: str | None = None
        self._inverse: dict[str, str] = {}
        self._flushed: dict[str, str] = {}
        self._guarded: dict[str, int] = {}
        self._count = 0
        self._outputs: tuple[int, ...] = ()

    # What instructions ask for.

    def error(self, message: str) -> PTXError:
        """Returns an error at the current instruction."""
        at = self.instruction
        if at is None:
            return PTXError(message, 1, 1)
        return PTXError(f"'{at.opcode}' {message}", at.line, at.column)

    def operands(self, *counts: int) -> tuple[Operand, ...]:
        """Returns the operands of the current instruction, whose number must be in `counts`."""
        assert self.instruction is not None
        operands = self.instruction.operands
        if len(operands) not in counts:
            wanted = " or ".join(map(str, counts))
            raise self.error(f"expects {wanted} operands, got {len(operands)}")
        return operands

    def use(self, thing: Any, name: str = "") -> str:
        """Returns the name under which block functions see a run-time function or object."""
        name = name or f"f_{thing.__name__}"
        while self.scope.globals.setdefault(name, thing) is not thing:
            name += "_"
        return name

    def dtype(self, code: str) -> str:
        """Returns the name of a NumPy scalar type."""
        return "bool_" if code == "?" else code

    def define(self, expression: str) -> str:
        """Assigns an expression to a new name."""
        name = f"v{self._count}"
        self._count += 1
        self.lines.append(f"{name} = {expression}")
        return name

    def site(self, **fields: Any) -> str:
        """Returns the name of the current instruction's site."""
        assert self.instruction is not None
        site = Site(self.instruction, **fields)
        return self.use(site, f"s{len(self.scope.globals)}")

    def site_object(self, **fields: Any) -> Site:
        """Returns a site of the current instruction for use inside another one."""
        assert self.instruction is not None
        return Site(self.instruction, **fields)

    def end(self, kind: str, flag: str, aligned: bool = False, **fields: Any) -> None:
        """Ends the block: the scheduler asks for `flag`."""
        assert self.instruction is not None
        site = Site(self.instruction, extra=aligned, **fields)
        self.terminator = Terminator(kind, flag, site)

    def is_predicate(self, operand: Operand) -> bool:
        """Says whether an operand is a predicate."""
        register = operand.register if isinstance(operand, Negated) else operand
        return isinstance(register, Register) and register.type == "pred"

    def value(self, register: Register, wanted: str = "") -> Value:
        """Returns what a register holds here; `wanted` is the dtype code that is asked for."""
        wanted = wanted or DTYPES[register.type]
        return self._load(register.index, wanted)

    def _load(self, index: int, wanted: str) -> Value:
        """Returns the value at an index of the register file."""
        known = self.values.get(index)
        if known is None:
            name = f"r{index}"
            known = Value(self.scope.code_of(index, wanted), name)
            self.values[index] = known
            self.inputs[index] = name
            self.inputs_only.add(index)
        return known

    def launch_value(self, kind: str, key: str, code: str) -> str:
        """Returns the name of a launch-time value."""
        index = self.scope.pseudo_register(kind, key, code)
        return self.view(self._load(index, code), code)

    def view(self, value: Value, code: str) -> str:
        """Returns the name of a value as a dtype of the same size."""
        if value.make is not None and not value.names:
            value.make(value)
        name = value.names.get(code)
        if name is None:
            name = self.define(f"{value.names[value.code]}.view({code})")
            value.names[code] = name
        return name

    def read(self, operand: Operand, type: str, wide: bool = False) -> str:
        """
        Returns the name of an operand's value as a PTX type.

        `wide` admits registers wider than the type, as ld, st and cvt do; they are cut off.
        """
        code = DTYPES[type]
        if isinstance(operand, Register):
            return self._read_register(operand, type, wide)
        if isinstance(operand, Immediate):
            return self.scope.constant(code, self._immediate(operand, type))
        if isinstance(operand, Special):
            return self._special(operand.name, type)
        if isinstance(operand, SymbolAddress):
            return self._symbol(operand.variable, operand.offset, type)
        if isinstance(operand, Negated) and type == "pred":
            return self.inverse(self.view(self.value(operand.register), "?"))
        if isinstance(operand, Name) and operand.text in self.scope.module.functions:
            message = f"takes the address of function {operand.text}"
            raise self.error(f"{message}: calls through pointers are not covered")
        raise self.error(f"expects a value of type .{type}, got {shown(operand)}")

    def _read_register(self, register: Register, type: str, wide: bool) -> str:
        """Reads a register as a type; see `read`."""
        code = DTYPES[type]
        have, need = BITS[register.type], BITS[type]
        if have != need:
            if not wide or not need <= have <= 64 or "pred" in (type, register.type):
                raise self.error(
                    f"expects {need}-bit registers for .{type}, got .{register.type} {register}"
                )
            whole = self.view(self.value(register), f"u{have // 8}")
            return self.define(f"{whole}.astype(u{need // 8}).view({code})")
        return self.view(self.value(register, code), code)

    def inverse(self, name: str) -> str:
        """Returns the name of `not name`."""
        if name not in self._inverse:
            self._inverse[name] = self.define(f"~{name}")
        return self._inverse[name]

    def _immediate(self, operand: Immediate, type: str) -> int:
        """Returns the bits of a constant as a type."""
        if type == "pred":
            return int(operand.value != 0)
        bits = BITS[type]
        mask = (1 << bits) - 1
        if operand.kind == "int" and type in ("f32", "f64"):
            raise self.error(f"expects a floating-point constant, got {operand.value}")
        if operand.kind == "f64" and bits < 64:
            number = NUMPY["u8"](operand.value).view(NUMPY["f8"])
            code = {"f16": "f2", "f32": "f4", "b32": "f4"}.get(type)
            if code is None:
                raise self.error(f"expects a constant of type .{type}, got {number}")
            kind = NUMPY.get(code, "float16")
            return int(number.astype(kind).view(f"u{bits // 8}"))
        if operand.kind == "f32" and bits != 32:
            if type != "f64":
                raise self.error(f"expects a constant of type .{type}, got a 0f constant")
            return int(NUMPY["u4"](operand.value).view("f4").astype("f8").view("u8"))
        return operand.value & mask

    def _special(self, name: str, type: str) -> str:
        """Reads a special register."""
        clock = name in ("%clock", "%clock64", "%clock_hi") or name.startswith("%globaltimer")
        wide = name in ("%clock64", "%globaltimer", "%gridid", "%current_graph_exec")
        wide = wide or name.endswith("_64")
        code = "u8" if wide else "u4"
        if name == "%is_explicit_cluster":
            if type != "pred":
                raise self.error(f"expects a value of type .{type}, got the predicate {name}")
            return self.launch_value("special", name, "?")
        if BITS[type] < int(code[1:]) * 8 and not (BITS[type] == 16):
            raise self.error(f"expects a value of type .{type}, got {name}")
        value = (
            self.define(f"g.clock({name!r})") if clock else self.launch_value("special", name, code)
        )
        wanted = DTYPES[type]
        if wanted == code:
            return value
        if BITS[type] == int(code[1:]) * 8:
            return self.define(f"{value}.view({wanted})")
        return self.define(f"{value}.astype({wanted})")

    def _symbol(self, variable: Variable, offset: int, type: str) -> str:
        """Returns the address of a variable in its own space."""
        if BITS[type] not in (32, 64) or type in FLOATS:
            raise self.error(f"expects a value of type .{type}, got the address {variable.name}")
        code = DTYPES[type]
        place = self.scope.layout.offset(variable)
        if place is None:
            if BITS[type] != 64:
                raise self.error(f"expects a 64-bit register for the address of {variable.name}")
            base = self.launch_value("symbol", variable.name, "u8")
            if not offset:
                return base
            return self.define(f"{base} + {self.scope.constant('u8', offset & (1 << 64) - 1)}")
        return self.scope.constant(code, (place + offset) & (1 << BITS[type]) - 1)

    def write(self, operand: Operand, type: str, expression: str, wide: bool = False) -> None:
        """
        Assigns an expression, which has the dtype of a PTX type, to a destination.

        `wide` admits wider registers, extended by the sign or by zeros. `_` takes nothing.
        """
        if isinstance(operand, Name) and operand.text == "_":
            return
        if not isinstance(operand, Register):
            raise self.error(f"expects a register as its destination, got {shown(operand)}")
        have, need = BITS[operand.type], BITS[type]
        code = DTYPES[type]
        if have != need:
            if not wide or not need <= have <= 64 or "pred" in (type, operand.type):
                raise self.error(
                    f"expects {need}-bit registers for .{type}, got .{operand.type} {operand}"
                )
            signed = "i" if type in _SIGN_EXTENDED else "u"
            size = have // 8
            expression = f"({expression}).astype({signed}{size})"
            code = f"{signed}{size}"
            if signed == "i":
                expression, code = f"{expression}.view(u{size})", f"u{size}"
        self.assign(operand, code, expression)

    def assign(self, register: Register, code: str, expression: str) -> None:
        """Assigns an expression of a dtype to a register; merges it where a guard is off."""
        if self.guard is not None:
            old = self.view(self.value(register, code), code)
            expression = f"{self.use(select)}({self.guard}, {expression}, {old})"
        self.put(register, Value(code, self.define(expression)))

    def put(self, register: Register, value: Value) -> None:
        """Makes a register hold a value from here on."""
        self.scope.code_of(register.index, value.code)
        self.values[register.index] = value
        self.inputs_only.discard(register.index)

    def alias(self, target: Operand, source: Operand, type: str) -> None:
        """Emits a move: no work where both are registers and no guard is set."""
        if (
            self.guard is None
            and isinstance(source, Register)
            and isinstance(target, Register)
            and BITS[source.type] == BITS[target.type] == BITS[type]
        ):
            self.put(target, self.value(source))
            return
        self.write(target, type, self.read(source, type))

    def address(self, operand: Operand, bits: int = 64) -> tuple[str, int]:
        """
        Returns the name of an address's base (u64 or u32 lanes) and its constant offset.

        The base of a variable with a known place is the constant 0 and the offset holds it all.
        Addresses wrap, so that the offset is within 64 bits with a sign.
        """
        if not isinstance(operand, Address):
            raise self.error(f"expects an address in brackets, got {shown(operand)}")
        base = operand.base
        if isinstance(base, Register):
            have = BITS[base.type]
            if have not in (32, 64) or base.type in FLOATS or have > bits:
                raise self.error(f"expects a {bits}-bit address, got .{base.type} {base}")
            name = self.view(self.value(base, f"u{have // 8}"), f"u{have // 8}")
            return name, _signed(operand.offset)
        if isinstance(base, Immediate):
            return self.scope.constant("u8", 0), _signed(base.value + operand.offset)
        place = self.scope.layout.offset(base)
        if place is None:
            return self.launch_value("symbol", base.name, "u8"), _signed(operand.offset)
        return self.scope.constant("u4", 0), _signed(place + operand.offset)

    def call(
        self,
        function: Callable[..., Any],
        site: str,
        operands: Iterable[str],
        targets: Iterable[tuple[Operand, str]] = (),
    ) -> None:
        """
        Emits `function(g, site, *operands)` for the lanes whose guard is on.

        `targets` are destinations with the dtype code that the function returns for each; a code
        must be as wide as its register.
        """
        into = [(self._destination(target, code), code) for target, code in targets]
        name = self.use(function)
        if self.guard is None:
            expression = f"{name}({', '.join(['g', site, *operands])})"
        else:
            old = "".join(f"{self._former(register, code)}, " for register, code in into)
            given = "".join(f"{operand}, " for operand in operands)
            expression = f"{self.use(guarded)}(g, {self.guard}, {name}, {site}, ({given}), ({old}))"
        if not into:
            self.lines.append(expression)
            return
        names = [f"v{self._count + number}" for number in range(len(into))]
        self._count += len(into)
        self.lines.append(f"{', '.join(names)} = {expression}")
        for (register, code), result in zip(into, names, strict=True):
            if register is not None:
                self.put(register, Value(code, result))

    def _destination(self, target: Operand, code: str) -> Register | None:
        """Returns a destination register of the size of a dtype, None for `_`."""
        if isinstance(target, Name) and target.text == "_":
            return None
        if not isinstance(target, Register):
            raise self.error(f"expects a register as its destination, got {shown(target)}")
        need = 1 if code == "?" else 8 * int(code[1:])
        if BITS[target.type] != need:
            raise self.error(f"expects {need}-bit registers, got .{target.type} {target}")
        return target

    def _former(self, register: Register | None, code: str) -> str:
        """Returns the name of what a destination held before."""
        if register is None:
            return self.scope.constant(code, 0)
        return self.view(self.value(register, code), code)

    def flush(self, name: str, type: str) -> str:
        """Returns the name of a float value with subnormals flushed; type f32, others stay."""
        if type != "f32" or name in self._flushed:
            return self._flushed.get(name, name)
        flushed = self.define(f"{self.use(flush)}({name})")
        self._flushed[name] = flushed
        return self.without_subnormals(flushed)

    def without_subnormals(self, name: str) -> str:
        """Returns the name of an f32 value after noting that `flush` has nothing to do there."""
        self._flushed[name] = name
        return name

    def operand(self, operand: Operand, type: str) -> Value:
        """Returns an operand's value without computing it yet; registers keep what they hold."""
        if isinstance(operand, Register) and BITS[operand.type] == BITS[type]:
            return self.value(operand, DTYPES[type])
        return Value(DTYPES[type], self.read(operand, type))

    def put_lazily(self, targets: tuple[Register, ...], code: str) -> tuple[Value, ...]:
        """Makes registers hold values that somebody computes when they are first read."""
        values = tuple(Value(code) for _ in targets)
        for register, value in zip(targets, values, strict=True):
            self.put(register, value)
        return values

    def put_fragment(self, target: Register, fragment: str, index: int) -> None:
        """Makes a register hold register `index` of a fragment that ldmatrix loaded."""

        def make(value: Value) -> None:
            value.names["u4"] = self.define(f"{fragment}.register({index})")

        value = Value("u4", make=make)
        value.fragment = f"({fragment}, {index})"
        self.put(target, value)

    def carry_in(self) -> str:
        """Returns the name of the condition-code register's carry."""
        index = self.scope.pseudo_register("carry", "cc", "?")
        return self.view(self._load(index, "?"), "?")

    def carry_out(self, expression: str) -> None:
        """Sets the condition-code register's carry."""
        index = self.scope.pseudo_register("carry", "cc", "?")
        self.values[index] = Value("?", self.define(expression))
        self.inputs_only.discard(index)

    # Whole instructions and blocks.

    def emit(self) -> list[PTXError]:
        """Emits all instructions; returns what is not covered or malformed."""
        problems: list[PTXError] = []
        if isinstance(self.block.mask, Register):
            self.value(self.block.mask, "u4")  # the scheduler reads it from the register file
        for instruction in self.block.instructions:
            try:
                self._emit(instruction)
            except PTXError as problem:
                problems.append(problem)
        around = self.block.around
        if around is not None:
            name = self.view(self.value(around.register), "?")
            flag = name if around.negated else self.inverse(name)
            self.terminator = Terminator("branch", flag)
        return problems

    def _emit(self, instruction: Instruction) -> None:
        """Emits one instruction through its table row."""
        self.instruction = instruction
        found = self._find(instruction.opcode)
        if found is None:
            raise self.error(f"is not covered by the simulator{reason(instruction.opcode)}")
        self.guard = None
        if instruction.guard is not None:
            name = self.view(self.value(instruction.guard.register), "?")
            self.guard = self.inverse(name) if instruction.guard.negated else name
        emit, fields = found
        emit(self, instruction, fields)
        if self.guard is not None and self.terminator.kind == "fall":
            self._guarded[self.guard] = self._guarded.get(self.guard, 0) + 1

    def kept(self, make: "Callable[[BlockEmitter], Kept]") -> "Kept":
        """Returns what a family of instructions keeps for this block, made at its first use."""
        if make not in self._kept:
            self._kept[make] = make(self)
        return self._kept[make]

    def finish(self, live_out: int) -> list[str]:
        """Returns the source of the block function, given the registers that live out."""
        outputs: list[int] = []
        names: list[str] = []
        for index in sorted(self.values.keys() - self.inputs_only):
            if not live_out >> index & 1:
                continue
            value = self.values[index]
            outputs.append(index)
            names.append(self.view(value, self.scope.code_of(index, value.code)))
        for guard, count in self._guarded.items():
            self.lines.append(f"{self.use(idle)}(g, {guard}, {count})")
        self._outputs = tuple(outputs)
        parameters = ", ".join(["g", *self.inputs.values()])
        returned = ", ".join([self.terminator.flag, *names])
        head = f"def block{self.block.index}({parameters}):"
        return [head, *(f"    {line}" for line in self.lines), f"    return ({returned},)"]

    def result(self, source: str, name: str) -> CompiledBlock:
        """Returns the block; its source, in a file of some name, is compiled when it first runs."""
        inputs, block, namespace = tuple(self.inputs), self.block, self.scope.globals

        def compile_and_run(*arguments: Any) -> tuple[Any, ...]:
            exec(compile(source, f"<{name}>", "exec"), namespace)
            compiled.run = namespace[f"block{compiled.index}"]
            return compiled.run(*arguments)

        compiled = CompiledBlock(
            block.index,
            compile_and_run,
            inputs,
            self._outputs,
            _fetcher(inputs),
            len(block.instructions),
            self.terminator,
            block.targets,
            block.follow,
            block.mask,
            block.instructions[0] if block.instructions else None,
            block.leaves,
            block.spins,
        )
        return compiled


def _signed(offset: int) -> int:
    """Returns the number within 64 bits with a sign that is the same modulo 2^64."""
    return (offset + (1 << 63)) % (1 << 64) - (1 << 63)


def _fetcher(inputs: tuple[int, ...]) -> Callable[[list[Lanes]], tuple[Lanes, ...]]:
    """Returns what takes these registers out of a register file."""
    if len(inputs) > 1:
        return itemgetter(*inputs)
    if inputs:
        only = inputs[0]
        return lambda file: (file[only],)
    return lambda file: ()
