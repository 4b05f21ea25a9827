"""Appends ops to a block, so that a lowering reads as the program that it makes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from math import copysign
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from xdsl.dialects import arith, llvm, math, scf, vector
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    LocationAttr,
    UnitAttr,
    UnknownLoc,
    VectorType,
    f32,
    i32,
    i64,
)
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from .creation import (
    NO_ATTRIBUTES,
    Attributes,
    OperationT,
    append_op,
    build_op,
    copy_of,
    default_properties,
    insert_op,
    new_block,
    new_op,
    new_region,
    result_of,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

INDEX = IndexType()
_INTEGERS = (IntegerType, IndexType)
UNROLL = "tilewright.unroll"
# Of `llvm.getelementptr`: its distance is not negative (LLVM Language Reference, `nuw`).
NO_UNSIGNED_WRAP = 4

Scalar = SSAValue | int
ConstantAttr: TypeAlias = "IntegerAttr[Any] | FloatAttr[Any] | DenseIntOrFPElementsAttr[Any]"

_BINARY: dict[str, type[Operation]] = {
    "add": arith.AddiOp,
    "sub": arith.SubiOp,
    "mul": arith.MuliOp,
    "and": arith.AndIOp,
    "or": arith.OrIOp,
    "xor": arith.XOrIOp,
    "shl": arith.ShLIOp,
    "shru": arith.ShRUIOp,
    "divu": arith.DivUIOp,
    "floordiv": arith.FloorDivSIOp,
    "remu": arith.RemUIOp,
    "min": arith.MinSIOp,
    "max": arith.MaxSIOp,
    "addf": arith.AddfOp,
    "subf": arith.SubfOp,
    "mulf": arith.MulfOp,
    "divf": arith.DivfOp,
    "maxf": arith.MaxnumfOp,
    "minf": arith.MinnumfOp,
}
# What the constructors of these ops set, once one has run.
_binary_properties: dict[str, dict[str, Attribute]] = {}
# To make an attribute verifies it.
_UNIT = UnitAttr()
_APPROXIMATE = arith.FastMathFlagsAttr([FastMathFlag.APPROX_FUNC])


def _constant_name(attribute: ConstantAttr) -> str:
    if type(attribute) is not IntegerAttr:
        return "cst"
    value, kind = attribute.value.data, attribute.type
    if type(kind) is not IntegerType:
        return f"c{value}" if value >= 0 else f"cm{-value}"
    bits = kind.width.data
    if bits == 1:
        return "true" if value else "false"
    return f"c{value}_i{bits}" if value >= 0 else f"cm{-value}_i{bits}"


@lru_cache(maxsize=4096)
def _integer_attr(value: int, bits: int | None) -> "IntegerAttr[Any]":
    return IntegerAttr(value, INDEX if bits is None else IntegerType(bits))


@lru_cache(maxsize=1024)
def _float_attr(value: float, sign: float) -> "FloatAttr[Any]":
    # The sign tells zeros apart, which are equal.
    return FloatAttr(value, f32)


# Vectors by the identity of their elements' type, which lives in the vector's: its hash takes long.
_vectors: dict[tuple[int, tuple[int, ...]], VectorType] = {}
_MOST_VECTORS = 4096


def vector_type(element: Attribute, shape: tuple[int, ...]) -> VectorType:
    """Returns a vector's type, the same object each time."""
    key = (id(element), shape)
    if (known := _vectors.get(key)) is None:
        known = _vector_type(element, shape)
        if known.element_type is element:
            if len(_vectors) >= _MOST_VECTORS:
                _vectors.clear()
            _vectors[key] = known
    return known


@lru_cache(maxsize=4096)
def _vector_type(element: Attribute, shape: tuple[int, ...]) -> VectorType:
    return VectorType(element, shape)


@lru_cache(maxsize=1024)
def _distance_properties(number: int, forward: bool) -> Mapping[str, Attribute]:
    return {
        "rawConstantIndices": DenseArrayBase.from_list(i32, [number]),
        "noWrapFlags": IntegerAttr(NO_UNSIGNED_WRAP if forward else 0, i32),
    }


def _position(places: Sequence[Scalar]) -> tuple[list[SSAValue], Mapping[str, Attribute]]:
    numbers = (place if isinstance(place, int) else DYNAMIC_INDEX for place in places)
    dynamic = [place for place in places if not isinstance(place, int)]
    return dynamic, {"static_position": integers_attr(tuple(numbers))}


@lru_cache(maxsize=1024)
def integers_attr(numbers: tuple[int, ...]) -> Attribute:
    """Returns the array of 64-bit integers that these numbers are."""
    return DenseArrayBase.from_list(i64, numbers)


def name_fields(record: "DataclassInstance") -> None:
    """Names each value of a dataclass by its field, for who reads the program."""
    for entry in fields(record):
        value = getattr(record, entry.name)
        if isinstance(value, SSAValue) and not isinstance(value.owner, arith.ConstantOp):
            value.name_hint = value.name_hint or entry.name


def _nothing_from(body: Callable[[], None]) -> Callable[[], Sequence[SSAValue]]:
    def run() -> Sequence[SSAValue]:
        body()
        return ()

    return run


class _Into:
    """Lets an emitter append to another block until it ends."""

    __slots__ = ("before", "block", "emit")

    def __init__(self, emit: "Emitter", block: Block) -> None:
        self.emit, self.block, self.before = emit, block, emit.block

    def __enter__(self) -> Block:
        self.emit.block = self.block
        return self.block

    def __exit__(self, *_: object) -> None:
        self.emit.block = self.before


class Emitter:
    """
    Appends ops to the current block and gives each the location that is set.

    Constants are kept at the head of the entry block, one op for each value.
    """

    def __init__(self, entry: Block, location: LocationAttr):
        self.entry = entry
        # Where what loops share is appended, in front of them.
        self.shared = entry
        self.block = entry
        self.location = location
        self._constants: dict[Attribute, SSAValue] = {}
        # Integers are asked for far more often than there are different ones.
        self._integers: dict[tuple[int, int | None], SSAValue] = {}
        self._last_constant: Operation | None = None

    def append(self, op: Operation) -> Operation:
        """Appends an op to the current block."""
        append_op(self.block, op)
        if type(op.location) is UnknownLoc:
            op.location = self.location
        return op

    def op(self, kind: type[OperationT], *arguments: Any) -> OperationT:
        """Appends `kind(*arguments)`, an op without regions, and returns it."""
        op = build_op(kind, arguments, self.location)
        append_op(self.block, op)
        return op

    def result(self, kind: type[Operation], *arguments: Any) -> SSAValue:
        """Appends `kind(*arguments)`, an op without regions, and returns its only result."""
        op = build_op(kind, arguments, self.location)
        append_op(self.block, op)
        return result_of(op)

    def create(
        self,
        kind: type[Operation],
        operands: Sequence[SSAValue],
        result: Attribute,
        properties: Attributes = NO_ATTRIBUTES,
    ) -> SSAValue:
        """Appends an op of one result, with properties beside those that have a default."""
        if defaults := default_properties(kind):
            properties = {**defaults, **properties}
        op = new_op(kind, operands, (result,), properties, self.location)
        append_op(self.block, op)
        return result_of(op)

    def with_regions(
        self,
        kind: type[OperationT],
        operands: Sequence[SSAValue],
        types: Sequence[Attribute],
        *regions: Region,
    ) -> OperationT:
        """Appends an op with regions, and with no properties but those that have a default."""
        properties = default_properties(kind)
        op = new_op(kind, operands, types, properties, self.location, regions)
        append_op(self.block, op)
        return op

    def value(self, op: Operation) -> SSAValue:
        """Appends an op and returns its only result."""
        return result_of(self.append(op))

    def constant(self, attribute: ConstantAttr) -> SSAValue:
        """Returns the constant of an attribute, made once for the whole kernel."""
        if type(attribute) is IntegerAttr and type(kind := attribute.type) in _INTEGERS:
            return self.integer(attribute.value.data, kind)
        if type(attribute) is FloatAttr and str(attribute.value.data) == "-0.0":
            # It is equal to 0.
            return self._new_constant(attribute)
        if (known := self._constants.get(attribute)) is None:
            known = self._constants[attribute] = self._new_constant(attribute)
        return known

    def constant_of(self, op: Operation) -> SSAValue:
        """Returns the constant that an `arith.constant` of another program is."""
        return self.constant(cast(ConstantAttr, op.properties["value"]))

    def _new_constant(self, attribute: ConstantAttr) -> SSAValue:
        properties = {"value": attribute}
        op = new_op(arith.ConstantOp, (), (attribute.get_type(),), properties, self.location)
        result = result_of(op)
        result.name_hint = _constant_name(attribute)
        insert_op(self.entry, op, self._last_constant)
        self._last_constant = op
        return result

    def integer(self, value: int, kind: Attribute = i32) -> SSAValue:
        """Returns an integer constant."""
        # Attributes are of an abstract class: to ask for the very class is many times faster.
        if type(kind) is IntegerType:
            bits = kind.width.data
        elif type(kind) is IndexType:
            bits = None
        else:
            raise TypeError(f"expected an integer type, got {kind}")
        if (known := self._integers.get((value, bits))) is None:
            attribute = _integer_attr(value, bits)
            known = self._integers[value, bits] = self._new_constant(attribute)
        return known

    def scalar(self, value: Scalar) -> SSAValue:
        """Returns a value, of an int the constant of type i32."""
        return self.integer(value) if isinstance(value, int) else value

    def index(self, value: int) -> SSAValue:
        """Returns a constant of type index."""
        return self.integer(value, INDEX)

    def constant_true(self) -> SSAValue:
        """Returns the condition that always holds."""
        return self.integer(1, IntegerType(1))

    def float32(self, value: float) -> SSAValue:
        """Returns an f32 constant."""
        return self.constant(_float_attr(value, copysign(1.0, value)))

    def dense(self, kind: VectorType[Any], values: Sequence[int]) -> SSAValue:
        """Returns a constant vector of integers."""
        return self.constant(DenseIntOrFPElementsAttr.from_list(kind, values))

    def binary(self, name: str, lhs: Scalar, rhs: Scalar) -> SSAValue:
        """Appends `lhs name rhs`; an int takes the type of the other operand."""
        left, right = self._same_type(lhs, rhs)
        kind = _BINARY[name]
        if (properties := _binary_properties.get(name)) is None:
            op = kind(left, right)  # pyright: ignore[reportCallIssue]
            _binary_properties[name] = dict(op.properties)
            return self.value(op)
        made = new_op(kind, (left, right), (left.type,), properties, self.location)
        append_op(self.block, made)
        return result_of(made)

    def _same_type(self, lhs: Scalar, rhs: Scalar) -> tuple[SSAValue, SSAValue]:
        # Values are of an abstract class: to ask for int is many times faster.
        if isinstance(lhs, int):
            kind = i32 if isinstance(rhs, int) else rhs.type
            lhs = self.integer(lhs, kind)
        if isinstance(rhs, int):
            rhs = self.integer(rhs, lhs.type)
        return lhs, rhs

    def add(self, lhs: Scalar, rhs: Scalar) -> SSAValue:
        """Appends an integer addition."""
        return lhs if rhs == 0 and not isinstance(lhs, int) else self.binary("add", lhs, rhs)

    def sub(self, lhs: Scalar, rhs: Scalar) -> SSAValue:
        """Appends an integer subtraction."""
        return self.binary("sub", lhs, rhs)

    def mul(self, lhs: Scalar, rhs: Scalar) -> SSAValue:
        """Appends an integer multiplication."""
        return lhs if rhs == 1 and not isinstance(lhs, int) else self.binary("mul", lhs, rhs)

    def divu(self, lhs: SSAValue, rhs: int) -> SSAValue:
        """Appends a division of a number that is not negative, rounded down."""
        return lhs if rhs == 1 else self.binary("divu", lhs, rhs)

    def remu(self, lhs: SSAValue, rhs: int) -> SSAValue:
        """Appends the remainder of a number that is not negative."""
        return self.integer(0) if rhs == 1 else self.binary("remu", lhs, rhs)

    def min(self, lhs: Scalar, rhs: Scalar) -> SSAValue:
        """Appends a signed minimum."""
        return self.binary("min", lhs, rhs)

    def max(self, lhs: Scalar, rhs: Scalar) -> SSAValue:
        """Appends a signed maximum."""
        return self.binary("max", lhs, rhs)

    def compare(self, predicate: str, lhs: Scalar, rhs: Scalar) -> SSAValue:
        """Appends an integer comparison: "slt", "sle", "eq", ..."""
        left, right = self._same_type(lhs, rhs)
        return self.result(arith.CmpiOp, left, right, predicate)

    def select(self, condition: SSAValue, yes: SSAValue, no: SSAValue) -> SSAValue:
        """Appends a selection."""
        return self.result(arith.SelectOp, condition, yes, no)

    def exp2(self, value: SSAValue) -> SSAValue:
        """Appends a power of two, within the approximation of the hardware."""
        return self.result(math.Exp2Op, value, _APPROXIMATE)

    def log2(self, value: SSAValue) -> SSAValue:
        """Appends a logarithm of base 2, within the approximation of the hardware."""
        return self.result(math.Log2Op, value, _APPROXIMATE)

    def fma(self, a: SSAValue, b: SSAValue, c: SSAValue) -> SSAValue:
        """Appends `a * b + c`, rounded once."""
        return self.result(math.FmaOp, a, b, c)

    def to_i64(self, value: SSAValue) -> SSAValue:
        """Appends a sign extension to i64."""
        return self.result(arith.ExtSIOp, value, i64)

    def to_i32(self, value: SSAValue) -> SSAValue:
        """Appends a cast of an index to i32."""
        return self.create(arith.IndexCastOp, (value,), i32)

    def to_index(self, value: SSAValue) -> SSAValue:
        """Appends a cast of an i32 to an index."""
        return self.create(arith.IndexCastOp, (value,), INDEX)

    def pointer(
        self, start: SSAValue, distance: Scalar, element: Attribute, *, forward: bool = False
    ) -> SSAValue:
        """
        Appends the address of the element at a distance from `start`.

        `forward` tells that the distance is not negative.
        """
        number = distance if isinstance(distance, int) else llvm.GEP_USE_SSA_VAL
        operands = (start,) if isinstance(distance, int) else (start, distance)
        properties = {"elem_type": element, **_distance_properties(number, forward)}
        return self.create(llvm.GEPOp, operands, start.type, properties)

    def extract(self, whole: SSAValue, kind: Attribute, *places: Scalar) -> SSAValue:
        """Appends the read of an element, or of a row, of a vector."""
        operands, properties = _position(places)
        return self.create(vector.ExtractOp, (whole, *operands), kind, properties)

    def insert(self, part: SSAValue, whole: SSAValue, *places: Scalar) -> SSAValue:
        """Appends the write of an element, or of a row, of a vector."""
        operands, properties = _position(places)
        return self.create(vector.InsertOp, (part, whole, *operands), whole.type, properties)

    def field(self, struct: SSAValue, number: int, kind: Attribute) -> SSAValue:
        """Appends the read of a field of a struct."""
        properties = {"position": integers_attr((number,))}
        return self.create(llvm.ExtractValueOp, (struct,), kind, properties)

    def into(self, block: Block) -> "_Into":
        """Appends to another block for a while."""
        return _Into(self, block)

    def loop(
        self,
        bounds: tuple[SSAValue, SSAValue],
        carried: Sequence[SSAValue],
        body: Callable[[SSAValue, Sequence[SSAValue]], Sequence[SSAValue]],
        *,
        step: int = 1,
        unroll: bool = False,
    ) -> Sequence[SSAValue]:
        """Appends a loop and returns what it carries out."""
        lower, upper = bounds
        types = [value.type for value in carried]
        block = new_block([lower.type, *types])
        with self.into(block):
            index, *inner = block.args
            self.op(scf.YieldOp, *body(index, inner))
        operands = (lower, upper, self.integer(step, lower.type), *carried)
        loop = self.with_regions(scf.ForOp, operands, types, new_region(block))
        if unroll:
            loop.attributes[UNROLL] = _UNIT
        return loop.results

    def unrolled(
        self,
        trips: int,
        carried: Sequence[SSAValue],
        body: Callable[[SSAValue, Sequence[SSAValue]], Sequence[SSAValue]],
    ) -> Sequence[SSAValue]:
        """Appends a loop of constant length that the printer unrolls."""
        return self.loop((self.index(0), self.index(trips)), carried, body, unroll=True)

    def repeat(
        self,
        start: SSAValue,
        again: Callable[[SSAValue], SSAValue],
        body: Callable[[SSAValue], SSAValue],
    ) -> None:
        """Appends a loop that carries one value, for as long as `again` holds of it."""
        regions: list[Region] = []
        with self.into(Block(arg_types=[start.type])) as before:
            (value,) = before.args
            self.op(scf.ConditionOp, again(value), value)
        regions.append(Region(before))
        with self.into(Block(arg_types=[start.type])) as after:
            self.op(scf.YieldOp, body(after.args[0]))
        regions.append(Region(after))
        self.with_regions(scf.WhileOp, (start,), (start.type,), *regions)

    def when(self, condition: SSAValue, body: Callable[[], None]) -> None:
        """Appends a branch that is taken where the condition holds."""
        self.choose(condition, (), _nothing_from(body))

    def branch(self, condition: SSAValue, yes: Callable[[], None], no: Callable[[], None]) -> None:
        """Appends a branch to one of two bodies."""
        self.choose(condition, (), _nothing_from(yes), _nothing_from(no))

    def choose(
        self,
        condition: SSAValue,
        types: Sequence[Attribute],
        *bodies: Callable[[], Sequence[SSAValue]],
    ) -> Sequence[SSAValue]:
        """Appends a branch to one of one or two bodies, and returns what that one returns."""
        regions: list[Region] = []
        for body in bodies:
            with self.into(new_block(())) as block:
                self.op(scf.YieldOp, *body())
            regions.append(new_region(block))
        regions += [new_region() for _ in range(2 - len(bodies))]
        return self.with_regions(scf.IfOp, (condition,), types, *regions).results

    def copy(self, op: Operation, values: dict[SSAValue, SSAValue]) -> None:
        """Appends a copy of an op, and records its results in `values`, which has its operands."""
        if type(op) is arith.ConstantOp:
            values[result_of(op)] = self.constant_of(op)
        elif op.regions:
            self.append(op.clone(values))
        else:
            operands = [values.get(operand, operand) for operand in op.operands]
            copy = copy_of(op, operands, [result.type for result in op.results])
            append_op(self.block, copy)
            values.update(zip(op.results, copy.results, strict=True))

    def inline(self, region: Region, arguments: Sequence[SSAValue]) -> list[SSAValue]:
        """Appends copies of a region's ops and returns what its terminator yields."""
        values: dict[SSAValue, SSAValue] = {}
        values.update(zip(region.block.args, arguments, strict=True))
        terminator = region.block.last_op
        for op in region.block.ops:
            if op is terminator:
                break
            self.copy(op, values)
        operands = terminator.operands if terminator is not None else ()
        return [values.get(operand, operand) for operand in operands]
