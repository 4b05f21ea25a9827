"""
Makes ops without their constructors, which take most of the time of a lowering.

A lowering makes thousands of ops of a few patterns. The constructor of an op looks at each of its
operands, attributes and regions by the op's definition; here that happens once for a pattern. What
comes out is the same op, field by field, as `test/lowering/test_creation.py` checks.
"""

# xDSL has no other way to make an op but its constructor, so its own fields are set here.
# pyright: reportPrivateUsage=false

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, cast

from xdsl.dialects.builtin import LocationAttr, UnknownLoc
from xdsl.ir import Attribute, Block, BlockArgument, Operation, OpResult, Region, SSAValue
from xdsl.ir.core import SSAValues, Use
from xdsl.irdl import IRDLOperation, OptionalDef

OperationT = TypeVar("OperationT", bound=Operation)
Attributes = Mapping[str, Attribute]

NO_ATTRIBUTES: Attributes = {}
_new = object.__new__
_NO_USES: tuple[Use, ...] = ()
_NO_OPERANDS: SSAValues[SSAValue] = SSAValues()
_NO_RESULTS: SSAValues[OpResult] = SSAValues()
_NOWHERE = UnknownLoc()
_VALUES = (OpResult, BlockArgument)
# Patterns beyond this many are forgotten, all at once.
_MOST_PATTERNS = 4096


def new_op(
    kind: type[OperationT],
    operands: Sequence[SSAValue],
    types: Sequence[Attribute],
    properties: Attributes,
    location: LocationAttr,
    regions: Sequence[Region] = (),
) -> OperationT:
    """
    Returns the op that `kind.create` would make, in a fraction of its time.

    Properties that have a default are not filled in: `properties` has all of them.
    """
    op = _new(kind)
    if operands:
        op._operands, op._operand_uses = SSAValues(operands), _uses(op, operands)
    else:
        op._operands, op._operand_uses = _NO_OPERANDS, _NO_USES
    if len(types) == 1:
        # What a result or a use does not set is a default of its class.
        result = _new(OpResult)
        result._type, result.op, result.index = types[0], op, 0
        op.results = SSAValues((result,))
    elif types:
        op.results = SSAValues([_result(type_, op, index) for index, type_ in enumerate(types)])
    else:
        op.results = _NO_RESULTS
    op.properties = dict(properties)
    op.attributes = {}
    op.location = location
    op._successors, op._successor_uses = (), _NO_USES
    op.regions = tuple(regions)
    for region in regions:
        region.parent = op
    return op


def _result(type_: Attribute, op: Operation, index: int) -> OpResult:
    result = _new(OpResult)
    result._type, result.op, result.index = type_, op, index
    return result


def _uses(op: Operation, operands: Sequence[SSAValue]) -> tuple[Use, ...]:
    uses: list[Use] = []
    for index, operand in enumerate(operands):
        use = _new(Use)
        use._operation, use._index = op, index
        if (first := operand.first_use) is not None:
            use._next_use = first
            first._prev_use = use
        operand.first_use = use
        uses.append(use)
    return tuple(uses)


def result_of(op: Operation) -> OpResult:
    """Returns the only result of an op."""
    # Results by their index would be looked up in Python.
    (result,) = op.results
    return result


def copy_of(op: Operation, operands: Sequence[SSAValue], types: Sequence[Attribute]) -> Operation:
    """Returns a copy of an op without regions, with other operands and types of its results."""
    copy = new_op(type(op), operands, types, op.properties, op.location)
    if op.attributes:
        copy.attributes = dict(op.attributes)
    return copy


def new_block(types: Sequence[Attribute]) -> Block:
    """Returns an empty block with arguments of these types."""
    block = _new(Block)
    args: list[BlockArgument] = []
    for index, type_ in enumerate(types):
        argument = _new(BlockArgument)
        argument._type, argument.block, argument.index = type_, block, index
        argument.location = _NOWHERE
        args.append(argument)
    block._args = tuple(args)
    block._first_op = block._last_op = block._next_block = block._prev_block = None
    block.parent = None
    return block


def new_region(block: Block | None = None) -> Region:
    """Returns a region of one block that was just made, or of none."""
    region = _new(Region)
    region._first_block = region._last_block = block
    region.parent = None
    if block is not None:
        block.parent = region
    return region


def append_op(block: Block, op: Operation) -> None:
    """Appends an op that was just made, and so stands in no block and contains none."""
    op.parent = block
    last = block._last_op
    if last is None:
        block._first_op = op
    else:
        op._prev_op = last
        last._next_op = op
    block._last_op = op


def ops_of(block: Block) -> list[Operation]:
    """Returns the ops of a block, in a fraction of the time that the block's own view takes."""
    ops: list[Operation] = []
    op = block._first_op
    while op is not None:
        ops.append(op)
        op = op._next_op
    return ops


def insert_op(block: Block, op: Operation, behind: Operation | None) -> None:
    """Inserts an op that was just made behind another one, or in front of all."""
    following = block._first_op if behind is None else behind._next_op
    if following is None:
        append_op(block, op)
        return
    op.parent, op._prev_op, op._next_op = block, behind, following
    following._prev_op = op
    if behind is None:
        block._first_op = op
    else:
        behind._next_op = op


@lru_cache(maxsize=1024)
def default_properties(kind: type[Operation]) -> Attributes:
    """Returns the properties that an op of a class has where none are given."""
    if not issubclass(kind, IRDLOperation):
        return NO_ATTRIBUTES
    definitions = kind.get_irdl_definition().properties
    return {
        name: definition.default_value
        for name, definition in definitions.items()
        if not isinstance(definition, OptionalDef) and definition.default_value is not None
    }


class _Pattern(NamedTuple):
    """What ops have in common that are made of the same arguments, but for their operands."""

    types: tuple[Attribute, ...]
    properties: Attributes
    # Keeps the types alive that stand in the pattern's key by their identity.
    operand_types: tuple[Attribute, ...]


_patterns: dict[tuple[Any, ...], _Pattern] = {}


def build_op(
    kind: Callable[..., OperationT], arguments: Sequence[Any], location: LocationAttr
) -> OperationT:
    """
    Returns `kind(*arguments)`; the constructor runs only for the first op of a pattern.

    Arguments are values, sequences of values, and what can be hashed: types, attributes, numbers.
    Ops with regions, and those whose operands are not the values among the arguments in this order,
    have no pattern.
    """
    key: list[Any] = [kind]
    operands: list[SSAValue] = []
    for argument in arguments:
        # Values are of an abstract class, which takes much longer to ask for.
        of = cast(object, type(argument))
        if of is OpResult or of is BlockArgument:
            operands.append(argument)
            key.append(id(argument._type))
        elif of is list or of is tuple or of is SSAValues:
            if argument and type(argument[0]) in _VALUES:
                operands += argument
                key.append(tuple([id(value._type) for value in argument]))
            else:
                key.append(tuple(argument))
        else:
            key.append(argument)
    pattern = _patterns.get(whole := tuple(key))
    if pattern is not None:
        made: Any = kind
        return new_op(made, operands, pattern.types, pattern.properties, location)
    op: OperationT = kind(*arguments)
    op.location = location
    if op.regions or op.attributes or tuple(op._operands) != tuple(operands):
        return op
    if len(_patterns) >= _MOST_PATTERNS:
        _patterns.clear()
    types = tuple(value.type for value in operands)
    _patterns[whole] = _Pattern(tuple(op.result_types), dict(op.properties), types)
    return op
