"""From a program to ops; the inverse of reading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.dialects import arith, math, scf
from xdsl.dialects.builtin import (
    ArrayAttr,
    IndexType,
    IntegerAttr,
    LocationAttr,
    StringAttr,
    UnitAttr,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir import Block as IRBlock
from xdsl.ir import Region as IRRegion

from ..diagnostic import DiagnosticError
from ..sym import Expression, ExpressionAttr
from .access import CallOp, IndexOp, LoadOp, StoreOp
from .function import FuncOp
from .notation import bounds_attribute, expressions_attribute, regions_attribute
from .program import (
    Annotations,
    Block,
    Body,
    Buffer,
    Call,
    Guard,
    Loop,
    Program,
    Region,
    Statement,
    Store,
)
from .reading import comparisons
from .scalars import Apply, Constant, Index, Load, Scalar, Subscript, Variable
from .statements import AllocOp, BlockOp, ForOp, InitOp
from .types import TYPES, BufferType, annotations_attribute, constant_attribute

_OPS: Mapping[str, type[Operation]] = {
    op.name: op for dialect in (arith.Arith, math.Math) for op in dialect.operations
}
Names = Mapping[str, SSAValue]


def write_program(
    program: Program,
    location: LocationAttr | None = None,
    locations: Mapping[str, LocationAttr] | None = None,
) -> FuncOp:
    """
    Returns the function that says a program; `FuncOp.program` reads the same program back.

    `location` is the place of the function's text, `locations` those of loops and blocks by name;
    what has none has that of what is around it. A number is rounded as its dtype holds it. Raises
    DiagnosticError for a scalar op that `arith` and `math` don't have.
    """
    types = [
        BufferType.of(entry) if isinstance(entry, Buffer) else TYPES[entry.dtype]
        for entry in program.parameters
    ]
    block = IRBlock(arg_types=types)
    values: dict[str, SSAValue] = {}
    for entry, argument in zip(program.parameters, block.args, strict=True):
        argument.name_hint = entry.name
        values[entry.name] = argument
    for buffer in program.allocations:
        alloc = AllocOp(buffer.name, BufferType.of(buffer), buffer.place)
        block.add_op(alloc)
        values[buffer.name] = alloc.buffer
    if unknown := program.outputs - values.keys():
        raise DiagnosticError(f"expected outputs among the buffers, got '{min(unknown)}'")
    _Writer(values).body(program.body, block, {})
    function = FuncOp(
        program.name,
        [entry.name for entry in program.parameters],
        IRRegion(block),
        program.ranges,
        sorted(program.outputs),
        _annotations(program.annotations),
    )
    if location is not None:
        _locate(function, location, locations or {})
    return function


def _locate(op: Operation, location: LocationAttr, locations: Mapping[str, LocationAttr]) -> None:
    if isinstance(op, ForOp):
        location = locations.get(op.loop_name.data, location)
    elif isinstance(op, BlockOp):
        location = locations.get(op.block_name.data, location)
    op.location = location
    for region in op.regions:
        for block in region.blocks:
            for inner in block.ops:
                _locate(inner, location, locations)


def _annotations(annotations: Annotations):
    return annotations_attribute(annotations) if annotations else None


@dataclass
class _Writer:
    """Appends ops to blocks; `values` are buffers and scalar parameters by name."""

    values: Mapping[str, SSAValue]

    def body(self, body: Body, block: IRBlock, indices: Names) -> None:
        for statement in body:
            self._statement(statement, block, indices)

    def _statement(self, statement: Statement, block: IRBlock, indices: Names) -> None:
        match statement:
            case Loop():
                block.add_op(self._loop(statement, indices))
            case Block():
                block.add_op(self._block(statement, indices))
            case Guard(condition, body):
                value = _Scalars(self.values, block, indices).value(condition)
                inner = IRBlock()
                self.body(body, inner, indices)
                inner.add_op(scf.YieldOp())
                block.add_op(scf.IfOp(value, [], IRRegion(inner)))
            case Store(buffer, subscripts, scalar):
                scalars = _Scalars(self.values, block, indices)
                value = scalars.value(scalar)
                access = scalars.access(subscripts)
                block.add_op(StoreOp(value, self.values[buffer], *access))
            case Call(intrinsic, operands):
                regions = [operand.region for operand in operands]
                block.add_op(
                    CallOp(
                        intrinsic,
                        [operand.mode.value for operand in operands],
                        [self.values[region.buffer] for region in regions],
                        regions_attribute(region.ranges for region in regions),
                        _operands(_sides(regions), indices),
                    )
                )

    def _loop(self, loop: Loop, indices: Names) -> ForOp:
        block = IRBlock(arg_types=[IndexType()])
        index = block.args[0]
        index.name_hint = loop.name
        self.body(loop.body, block, {**indices, loop.name: index})
        return ForOp(
            loop.name,
            ExpressionAttr(loop.extent),
            IRRegion(block),
            kind=loop.kind.value,
            index_values=_operands([loop.extent], indices),
            annotations=_annotations(loop.annotations),
        )

    def _block(self, block: Block, indices: Names) -> BlockOp:
        inner = IRBlock(arg_types=[IndexType()] * len(block.axes))
        names = dict(indices)
        for axis, argument in zip(block.axes, inner.args, strict=True):
            argument.name_hint = axis.name
            names[axis.name] = argument
        if block.init:
            init = IRBlock()
            self.body(block.init, init, names)
            inner.add_op(InitOp(IRRegion(init)))
        self.body(block.body, inner, names)
        bounds = [side for bound in block.predicate for side in (bound.left, bound.right)]
        around = [part for axis in block.axes for part in (axis.binding, axis.extent)]
        own = {axis.name for axis in block.axes}
        outer = {name: value for name, value in indices.items() if name not in own}
        named = [*around, *bounds, *_sides(block.reads), *_sides(block.writes)]
        return BlockOp(
            operands=[
                _operands(named, outer),
                [self.values[region.buffer] for region in block.reads],
                [self.values[region.buffer] for region in block.writes],
            ],
            properties={
                "block_name": StringAttr(block.name),
                "axis_names": ArrayAttr([StringAttr(axis.name) for axis in block.axes]),
                "axis_kinds": ArrayAttr([StringAttr(axis.kind.value) for axis in block.axes]),
                "extents": expressions_attribute(axis.extent for axis in block.axes),
                "bindings": expressions_attribute(axis.binding for axis in block.axes),
                "predicate": bounds_attribute(block.predicate),
                "reads": regions_attribute(region.ranges for region in block.reads),
                "writes": regions_attribute(region.ranges for region in block.writes),
                "annotations": _annotations(block.annotations),
            },
            regions=[IRRegion(inner)],
        )


def _sides(regions: Sequence[Region]) -> list[Expression]:
    return [
        side for region in regions for part in region.ranges for side in (part.start, part.extent)
    ]


def _operands(expressions: Sequence[Expression], indices: Names) -> list[SSAValue]:
    """Returns the values of the loops and axes that expressions name, in order of their names."""
    names: set[str] = set()
    for expression in expressions:
        names |= expression.symbols()
    return [indices[name] for name in sorted(names) if name in indices]


@dataclass
class _Scalars:
    """Appends the ops that compute the scalars of one statement; a shared scalar becomes one op."""

    values: Mapping[str, SSAValue]
    block: IRBlock
    indices: Names
    _known: dict[int, SSAValue] = field(default_factory=dict[int, SSAValue])

    def value(self, scalar: Scalar) -> SSAValue:
        """Returns the value of a scalar."""
        known = self._known.get(id(scalar))
        if known is None:
            known = self._known[id(scalar)] = self._computed(scalar)
        return known

    def access(
        self, subscripts: Sequence[Subscript]
    ) -> tuple[list[Attribute], list[SSAValue], list[SSAValue]]:
        """Returns the indices of an access, the loops and axes in them, and values of the rest."""
        data: list[SSAValue] = []
        indices: list[Attribute] = []
        expressions: list[Expression] = []
        for subscript in subscripts:
            if isinstance(subscript, Expression):
                expressions.append(subscript)
                indices.append(ExpressionAttr(subscript))
            else:
                data.append(self.value(subscript))
                indices.append(UnitAttr())
        return indices, _operands(expressions, self.indices), data

    def _computed(self, scalar: Scalar) -> SSAValue:
        match scalar:
            case Variable(name):
                return self.values[name]
            case Constant():
                op: Operation = arith.ConstantOp(constant_attribute(scalar))
            case Index(expression):
                op = IndexOp(expression, _operands([expression], self.indices))
            case Load(buffer, subscripts):
                op = LoadOp(self.values[buffer], *self.access(subscripts))
                op.value.name_hint = buffer.lower()
            case Apply():
                op = self._apply(scalar)
        self.block.add_op(op)
        return op.results[0]

    def _apply(self, scalar: Apply) -> Operation:
        if (kind := _OPS.get(scalar.op)) is None:
            raise DiagnosticError(f"expected an op of arith or math, got '{scalar.op}'")
        op = kind.create(
            operands=[self.value(operand) for operand in scalar.operands],
            result_types=[TYPES[scalar.dtype]],
        )
        if scalar.predicate:
            assert isinstance(op, arith.CmpiOp | arith.CmpfOp)
            number = comparisons(op).index(scalar.predicate)
            op.properties["predicate"] = IntegerAttr(number, i64)
        return op
