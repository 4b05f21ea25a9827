"""Verification of a module that names the op at fault and its place."""

# Operands and types are read where they are kept: xDSL's properties take several times longer.
# pyright: reportPrivateUsage=false

from collections.abc import Iterator
from dataclasses import dataclass, field

from xdsl.dialects.builtin import ModuleOp, UnregisteredOp
from xdsl.ir import Block, BlockArgument, Operation, OpResult, Region, SSAValue
from xdsl.irdl.dominance import DominanceInfo
from xdsl.utils.exceptions import VerifyException

from .diagnostic import DiagnosticError, Note, error_at, nearest_location


def verify_module(module: Operation) -> None:
    """
    Verifies a module, inner ops before the ops around them.

    Checks every op's own constraints, and that each value is defined before it is used (MLIR
    language reference, "SSA dominance"), which xDSL does not check. A verifier that knows better
    which op is at fault raises `error_at` for that op. Raises `DiagnosticError` for the first op
    that does not verify.
    """
    for op in module.walk(region_first=True):
        try:
            _verify_op(op)
        except VerifyException as err:
            message = _in_one_line(str(err)).removeprefix(f"Operation {op.name} ")
            raise error_at(op, message) from None
    _verify_dominance(module)


# Patterns of ops that verify: class, types, properties and attributes say all of these dialects.
_patterns: set[tuple[object, ...]] = set()
_OF_PATTERNS = ("arith.", "math.")
_MOST_PATTERNS = 4096


def _pattern_of(op: Operation) -> tuple[object, ...] | None:
    """Returns what the verification of an op depends on, None where that is more than a pattern."""
    is_plain = op.name.startswith(_OF_PATTERNS) and not op.regions and not op._successors
    if not is_plain or op._next_op is None:
        return None
    operands = op._operands
    if any(type(operand) not in (OpResult, BlockArgument) for operand in operands):
        return None
    types = tuple([operand._type for operand in operands])
    results = tuple([result._type for result in op.results])
    return type(op), types, results, (*op.properties.items(),), (*op.attributes.items(),)


def _verify_op(op: Operation) -> None:
    pattern = _pattern_of(op)
    if pattern is not None and pattern in _patterns:
        return
    _verify_any_op(op)
    if pattern is not None:
        if len(_patterns) >= _MOST_PATTERNS:
            _patterns.clear()
        _patterns.add(pattern)


def _verify_any_op(op: Operation) -> None:
    try:
        op.verify(verify_nested_ops=False)
        for region in op.regions:
            for block in region.blocks:
                if block.first_op is None:
                    block.verify()
    except (VerifyException, DiagnosticError):
        raise
    except Exception as err:
        # xDSL prints the module while it handles a VerifyException, which can fail in its turn.
        cause = err.__context__
        while cause is not None and not isinstance(cause, VerifyException):
            cause = cause.__context__
        raise cause or VerifyException(f"cannot be verified: {_in_one_line(str(err))}") from None


def _in_one_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines).removeprefix("Operation does not verify: ")


@dataclass
class _Order:
    """Where ops stand in their block, and which blocks dominate which."""

    position: dict[Operation, int]
    _dominance: dict[Region, DominanceInfo] = field(default_factory=dict[Region, DominanceInfo])

    def dominates(self, definition: Block, use: Block) -> bool:
        region = definition.parent
        if region is None:
            return True
        info = self._dominance.get(region)
        if info is None:
            info = self._dominance[region] = DominanceInfo(region)
        entry = region.blocks.first
        reachable = entry is not None and info.dominates(entry, use)
        return not reachable or info.dominates(definition, use)


def _verify_dominance(module: Operation) -> None:
    order = _Order({op: index for index, op in enumerate(module.walk())})
    for op in order.position:
        for index, operand in enumerate(op.operands):
            if not _is_defined_before(operand, op, order):
                raise _dominance_error(op, index, operand)


def _is_defined_before(value: SSAValue, user: Operation, order: _Order) -> bool:
    # Values are of an abstract class: to ask for the very class is many times faster.
    definition = value.op if type(value) is OpResult else None
    home = value.owner if definition is None else definition.parent
    if not isinstance(home, Block) or home.parent is None:
        return False
    for ancestor in _with_ancestors(user):
        block = ancestor.parent
        if block is None or block.parent is not home.parent:
            continue
        if isinstance(home.parent.parent, ModuleOp | UnregisteredOp):
            return True
        if block is not home:
            return order.dominates(home, block)
        return definition is None or order.position[definition] < order.position[ancestor]
    return False


def _with_ancestors(op: Operation) -> Iterator[Operation]:
    around: Operation | None = op
    while around is not None:
        yield around
        around = around.parent_op()


def _dominance_error(op: Operation, index: int, operand: SSAValue) -> DiagnosticError:
    name = f" (%{operand.name_hint})" if operand.name_hint else ""
    owner = operand.owner
    note: tuple[Note, ...] = ()
    if isinstance(owner, Operation):
        note = (Note("operand defined here", nearest_location(owner)),)
    return error_at(op, f"expects operand #{index}{name} to be defined before its use", note)
