"""Turns scalars of a nest into ops of `arith`, `math` and `vector`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...dialects.diagnostic import DiagnosticError
from ...dialects.nest.program import Buffer
from ...dialects.nest.scalars import Apply, Constant, Index, Load, Scalar, Subscript, Variable
from ...dialects.nest.strides import strides_of
from ...dialects.sym import Expression, constant
from ...dialects.sym.expression import Atom, Monomial, Symbol
from .elements import HELD, NARROW, Elements
from .functions import LIBRARY, Functions
from .indices import Indices
from .memory import Lanes, Memory, Place, offset_of
from .writer import Value, Writer

_PLAIN = frozenset("addi subi muli andi ori xori shli shrsi shrui maxsi minsi maxui minui".split())
_DIVISIONS = frozenset("divsi divui remsi remui floordivsi ceildivsi".split())
_FLOAT = frozenset("addf subf mulf divf maximumf minimumf maxnumf minnumf".split())
_ROUNDINGS = frozenset("absf floor ceil roundeven trunc sqrt".split())
_WIDER = {"extsi": "arith.extsi", "extui": "arith.extui", "index_castui": "arith.extui"}
_BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64}


class Scalars:
    """Writes the computation of scalars; `flags` are those of floating-point arithmetic."""

    def __init__(
        self,
        writer: Writer,
        indices: Indices,
        memory: Memory,
        buffers: Mapping[str, Buffer],
        flags: str,
    ) -> None:
        self._writer = writer
        self._indices = indices
        self._memory = memory
        self._elements = Elements(writer)
        self._functions = Functions(writer)
        self._buffers = buffers
        self._flags = f" fastmath<{flags}>" if flags else ""
        self.numbers: dict[str, Value] = {}
        # What loops that are written out stand for.
        self.names: dict[str, Expression] = {}
        self._images: dict[tuple[object, ...], Expression] = {}
        self.library: set[tuple[str, int]] = set()
        # Tells that an index of an axis is out of bounds; None where indices are trusted.
        self.report: Callable[[Buffer, int], None] | None = None

    def value(self, scalar: Scalar, lanes: Lanes | None) -> Value:
        """Returns the value of a scalar, one for each lane where it differs between them."""
        return self._value(scalar, lanes, {})

    def place(self, buffer: str, indices: tuple[Subscript, ...], lanes: Lanes | None) -> Place:
        """Returns the address of an element."""
        return self._place(buffer, indices, lanes, {})

    def expression(self, expression: Expression) -> Expression:
        """Returns an index expression with the indices of loops that are written out."""
        moved = expression.symbols() & self.names.keys()
        if not moved:
            return expression
        key = (expression, *((name, self.names[name]) for name in sorted(moved)))
        image = self._images.get(key)
        if image is None:
            numbers = {name: self.names[name].constant_value for name in moved}
            image = _at_numbers(expression, numbers) or expression.substitute(self.names)
            self._images[key] = image
        return image

    def _place(
        self,
        name: str,
        indices: tuple[Subscript, ...],
        lanes: Lanes | None,
        known: dict[int, Value],
    ) -> Place:
        buffer = self._buffers[name]
        plain: list[Expression] = []
        scalars: list[tuple[Value, Expression]] = []
        for axis, (index, stride) in enumerate(zip(indices, strides_of(buffer), strict=True)):
            if isinstance(index, Index):
                index = index.expression
            if isinstance(index, Expression):
                plain.append(index)
            else:
                plain.append(constant(0))
                value = self._value(index, lanes, known)
                scalars.append((self._inside(buffer, axis, value), stride))
        offset = self.expression(offset_of(buffer, tuple(plain)))
        return Place(buffer, offset, tuple(scalars))

    def _inside(self, buffer: Buffer, axis: int, index: Value) -> Value:
        """Returns an index from data, 0 where it is out of bounds, which is reported."""
        if self.report is None:
            return index
        writer = self._writer
        # Without its sign a negative index is large.
        end = self._indices.value(buffer.shape[axis])
        outside = writer.compare("arith.cmpi", "uge", index, end)
        with writer.condition(writer.any(outside)):
            self.report(buffer, axis)
        return writer.select(outside, writer.integer(0, index.element), index)

    def _value(self, scalar: Scalar, lanes: Lanes | None, known: dict[int, Value]) -> Value:
        value = known.get(id(scalar))
        if value is None:
            value = known[id(scalar)] = self._written(scalar, lanes, known)
        return value

    def _written(self, scalar: Scalar, lanes: Lanes | None, known: dict[int, Value]) -> Value:
        match scalar:
            case Constant(value, dtype):
                return self._constant(value, dtype)
            case Index(expression):
                return self._index(self.expression(expression), lanes)
            case Variable(name):
                return self.numbers[name]
            case Load(buffer, indices):
                return self._memory.load(self._place(buffer, indices, lanes, known), lanes)
            case Apply():
                operands = [self._value(operand, lanes, known) for operand in scalar.operands]
                return self._apply(scalar, operands)

    def _constant(self, value: int | float, dtype: str) -> Value:
        held = HELD[dtype]
        if held not in ("f32", "f64"):
            bits = _BITS[held]
            half = 1 << bits - 1
            wrapped = int(value) if bits == 1 else (int(value) + half) % (2 * half) - half
            return self._writer.integer(wrapped, held)
        number = self._writer.float(float(value), held)
        return self._elements.rounded(number, dtype) if dtype in NARROW else number

    def _index(self, expression: Expression, lanes: Lanes | None) -> Value:
        if lanes is None or lanes.name not in expression.symbols():
            return self._indices.value(expression)
        writer = self._writer
        factor, rest = expression.split(Symbol(lanes.name))
        if lanes.name in factor.symbols() | rest.symbols():
            each = (expression.substitute({lanes.name: lane}) for lane in range(lanes.count))
            return writer.gather([self._indices.value(one) for one in each])
        steps = writer.iota(lanes.count)
        if factor != 1:
            steps = writer.binary("arith.muli", steps, self._indices.value(factor))
        return writer.binary("arith.addi", steps, self._indices.value(rest))

    def _apply(self, scalar: Apply, operands: list[Value]) -> Value:
        source, dtype = scalar.operands[0].dtype, scalar.dtype
        dialect, _, op = scalar.op.partition(".")
        if scalar.op in ("arith.cmpi", "arith.cmpf"):
            return self._compare(scalar.op, scalar.predicate, operands)
        if op == "select":
            return self._writer.select(*operands)
        if dialect == "arith" and (op in _PLAIN or op in _DIVISIONS):
            return self._integer(op, operands)
        if scalar.op == "math.absi":
            zero = self._writer.integer(0, operands[0].element)
            negative = self._writer.binary("arith.subi", zero, operands[0])
            return self._writer.binary("arith.maxsi", operands[0], negative)
        if (result := self._float(scalar.op, operands)) is not None:
            return self._elements.rounded(result, dtype) if dtype in NARROW else result
        return self._convert(op, operands[0], source, dtype)

    def _compare(self, op: str, predicate: str, operands: list[Value]) -> Value:
        if predicate in ("false", "true") and op == "arith.cmpf":
            return self._writer.integer(predicate == "true", "i1")
        return self._writer.compare(op, predicate, *operands)

    def _integer(self, op: str, operands: list[Value]) -> Value:
        writer = self._writer
        left, right = operands
        if op in _PLAIN:
            return writer.binary(f"arith.{op}", left, right)
        if op not in ("floordivsi", "ceildivsi"):
            return self._division(op, left, right)
        quotient = self._division("divsi", left, right)
        zero = writer.integer(0, left.element)
        rest = writer.binary("arith.subi", left, writer.binary("arith.muli", quotient, right))
        is_inexact = writer.compare("arith.cmpi", "ne", rest, zero)
        signs = writer.binary("arith.xori", left, right)
        below = "slt" if op == "floordivsi" else "sge"
        is_moved = writer.compare("arith.cmpi", below, signs, zero)
        moves = writer.binary("arith.andi", is_inexact, is_moved)
        step = writer.integer(-1 if op == "floordivsi" else 1, left.element)
        return writer.select(moves, writer.binary("arith.addi", quotient, step), quotient)

    def _division(self, op: str, left: Value, right: Value) -> Value:
        # It stays under the guard that keeps the divisor from being 0.
        lanes = left.lanes or right.lanes
        left, right = self._writer.broadcast(left, lanes), self._writer.broadcast(right, lanes)
        text = f"arith.{op} {{0}}, {{1}} : {left.type}"
        return self._writer.effect(text, left.element, lanes, left, right)

    def _float(self, name: str, operands: list[Value]) -> Value | None:
        """Returns the result of an op on floats before it is rounded; None for other ops."""
        writer = self._writer
        dialect, _, op = name.partition(".")
        if dialect == "arith" and op in _FLOAT:
            return writer.binary(name, operands[0], operands[1], self._flags)
        if op == "negf" or (dialect == "math" and op in _ROUNDINGS):
            return writer.unary(name, operands[0])
        if name == "math.fma":
            return writer.fma(*operands)
        if name == "math.rsqrt":
            root = writer.unary("math.sqrt", operands[0])
            return writer.binary("arith.divf", writer.float(1.0, root.element), root)
        function = self._functions.find(name) if operands[0].element == "f32" else None
        if function is not None:
            return function(operands[0])
        return self._call(LIBRARY[name], operands) if name in LIBRARY else None

    def _call(self, name: str, operands: list[Value]) -> Value:
        """Returns the result of a function of the C library, computed in f64 lane by lane."""
        self.library.add((name, len(operands)))
        element = operands[0].element
        lanes = max(operand.lanes for operand in operands)
        results: list[Value] = []
        for lane in range(max(lanes, 1)):
            numbers = [self._writer.extract(operand, lane) for operand in operands]
            if element == "f32":
                numbers = [self._writer.convert("arith.extf", n, "f64") for n in numbers]
            names = ", ".join(f"{{{position}}}" for position in range(len(numbers)))
            kinds = ", ".join(["f64"] * len(numbers))
            text = f"llvm.call @{name}({names}) : ({kinds}) -> f64"
            result = self._writer.effect(text, "f64", 0, *numbers)
            if element == "f32":
                result = self._writer.convert("arith.truncf", result, "f32")
            results.append(result)
        return self._writer.gather(results) if lanes else results[0]

    def _convert(self, op: str, value: Value, source: str, dtype: str) -> Value:
        writer, held = self._writer, HELD[dtype]
        if op in ("extf", "truncf"):
            if held == "f64" and value.element != "f64":
                return writer.convert("arith.extf", value, "f64")
            return self._elements.rounded(value, dtype) if held != "f64" else value
        if op in ("sitofp", "uitofp"):
            return self._elements.rounded(writer.convert(f"arith.{op}", value, held), dtype)
        if op in ("fptosi", "fptoui"):
            return writer.convert(f"arith.{op}", value, held)
        if op == "bitcast":
            return self._bitcast(value, source, dtype)
        if op in ("extsi", "extui", "trunci", "index_cast", "index_castui"):
            return self._resized(op, value, held)
        raise DiagnosticError(f"expected an op that the host has, got '{op}'")

    def _resized(self, op: str, value: Value, held: str) -> Value:
        if _BITS[held] == _BITS[value.element]:
            return value
        if _BITS[held] < _BITS[value.element]:
            return self._writer.convert("arith.trunci", value, held)
        return self._writer.convert(_WIDER.get(op, "arith.extsi"), value, held)

    def _bitcast(self, value: Value, source: str, dtype: str) -> Value:
        stored = self._elements.encode(value, source)
        bits = "i" + "".join(c for c in stored.element if c.isdigit())
        target = {"f16": "f16", "f32": "f32", "f64": "f64"}.get(dtype, bits)
        if stored.element != target:
            stored = self._writer.convert("arith.bitcast", stored, target)
        return self._elements.decode(stored, dtype)


def _at_numbers(expression: Expression, numbers: Mapping[str, int | None]) -> Expression | None:
    """Returns an expression at numbers; None where one is no number, or in a quotient."""
    terms: dict[Monomial, int] = {}
    for monomial, factor in expression.terms.items():
        rest: list[Atom] = []
        for atom in monomial:
            if not isinstance(atom, Symbol):
                if any(part.symbols() & numbers.keys() for part in atom.parts):
                    return None
                rest.append(atom)
            elif atom.name not in numbers:
                rest.append(atom)
            elif (number := numbers[atom.name]) is None:
                return None
            else:
                factor *= number
        key = tuple(rest)
        terms[key] = terms.get(key, 0) + factor
    return Expression({monomial: factor for monomial, factor in terms.items() if factor})


def declaration(name: str, operands: int) -> str:
    """Returns the declaration of a function of the C library."""
    kinds = ", ".join(["f64"] * operands)
    return f"llvm.func @{name}({kinds}) -> f64"
