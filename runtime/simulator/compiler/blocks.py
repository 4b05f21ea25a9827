"""Cuts a function body into blocks and finds which registers live across them."""

from dataclasses import dataclass, field, replace
from functools import lru_cache

from ..errors import PTXError
from ..ptx.syntax import (
    Function,
    Guard,
    Immediate,
    Instruction,
    Label,
    Name,
    Operand,
    Register,
    Vector,
)

# Instructions that end a block: control flow, and what may wait.
_ENDS = ("bra", "brx", "ret", "exit", "trap", "bar", "barrier")
# What waits and begins again where the wait is in vain: alone in its block.
_RETRIED = ("mbarrier.try_wait", "barrier.cluster.wait")
# Instructions for whole warps: the position of the member mask, None for all lanes.
_COLLECTIVE: dict[str, int | None] = {
    "shfl": -1,
    "vote": -1,
    "match": -1,
    "redux": -1,
    "elect": -1,
    "ldmatrix": None,
    "stmatrix": None,
    "mma": None,
    "movmatrix": None,
    "wmma": None,
    "tensormap": None,
}
# What lanes with a false guard branch around: they must neither take part nor hold others up.
_BRANCHED = frozenset(
    {*_COLLECTIVE, "wgmma", "bar", "barrier", "brx", "activemask", "addc", "subc", "madc"}
)
_BRANCHED_OPCODES = (
    *_RETRIED,
    "cp.async.commit_group",
    "cp.async.wait",
    "cp.async.bulk.commit_group",
    "cp.async.bulk.wait_group",
)
ALL_LANES = 0xFFFFFFFF
WARPGROUP = 1 << 32  # all lanes of four warps


@dataclass(eq=False, slots=True)
class Block:
    """
    A run of instructions that is entered at its top and left at its end.

    `mask` is None, or what names the lanes that must come together before the block runs: a
    constant (WARPGROUP for four warps) or a register. `follow` is the block below, or -1.
    `around` is the guard of the instruction alone in the block below: lanes where it is off go to
    the block after that one.
    """

    index: int
    instructions: list[Instruction] = field(default_factory=list[Instruction])
    mask: int | Register | None = None
    targets: tuple[int, ...] = ()
    follow: int = -1
    leaves: bool = False  # all that is left to do is to exit
    spins: bool = False  # may be part of a loop that waits for other CTAs
    around: Guard | None = None


def _end(opcode: str) -> bool:
    """Says whether an instruction ends its block."""
    return opcode.partition(".")[0] in _ENDS or opcode.startswith(_RETRIED)


def _branched(instruction: Instruction) -> bool:
    """Says whether an instruction's guard becomes a branch around it."""
    opcode = instruction.opcode
    if instruction.guard is None:
        return False
    head = opcode.partition(".")[0]
    return head in _BRANCHED or ".cc." in opcode or opcode.startswith(_BRANCHED_OPCODES)


def member_mask(instruction: Instruction) -> int | Register | None:
    """Returns the lanes that an instruction needs together, None where it needs none."""
    head, _, rest = instruction.opcode.partition(".")
    if head == "wgmma":
        return WARPGROUP if rest.startswith("mma_async") else None
    if head not in _COLLECTIVE or not (instruction.operands and "sync" in rest):
        return None
    position = _COLLECTIVE[head]
    if position is None:
        return ALL_LANES
    operand = instruction.operands[position]
    if isinstance(operand, Immediate):
        return operand.value & ALL_LANES
    return operand if isinstance(operand, Register) else ALL_LANES


def _writes(instruction: Instruction, register: Register) -> bool:
    """Says whether an instruction may write a register: it is in the first operand."""
    first: Operand | None = instruction.operands[0] if instruction.operands else None
    items = first.items if isinstance(first, Vector) else (first,)
    return register in items


def _separate(block: Block, instruction: Instruction) -> bool:
    """Says whether an instruction needs other lanes together than the block it would join."""
    mask = member_mask(instruction)
    if mask is None or not block.instructions:
        return False
    if isinstance(mask, int):
        return block.mask is not None and block.mask != mask
    if block.mask is not mask:
        return True
    return any(_writes(earlier, mask) for earlier in block.instructions)


def cut(function: Function) -> list[Block]:
    """
    Returns the blocks of a body in text order.

    Raises PTXError for a branch to a label that isn't there.
    """
    blocks = [Block(0)]
    labels: dict[str, int] = {}
    for item in function.body or ():
        block = blocks[-1]
        ended = bool(block.instructions) and _end(block.instructions[-1].opcode)
        ended = ended or (len(blocks) > 1 and blocks[-2].around is not None)
        if isinstance(item, Label):
            if block.instructions:
                blocks.append(Block(len(blocks)))
            labels[item.name] = len(blocks) - 1
            continue
        alone = bool(block.instructions) and item.opcode.startswith(_RETRIED)
        if _branched(item):
            if ended:
                blocks.append(Block(len(blocks)))
            blocks[-1].around = item.guard
            item, ended = replace(item, guard=None), True
        if ended or alone or _separate(block, item):
            blocks.append(Block(len(blocks)))
        block = blocks[-1]
        if block.mask is None:
            block.mask = member_mask(item)
        block.instructions.append(item)
    if len(blocks) > 1 and blocks[-2].around is not None:
        blocks.append(Block(len(blocks)))
    for block in blocks:
        _link(function, block, labels, len(blocks))
        block.spins = any(_is_strong(instruction.opcode) for instruction in block.instructions)
    _find_leaving(blocks)
    return blocks


@lru_cache(maxsize=1024)
def _is_strong(opcode: str) -> bool:
    """Says whether an instruction reads what other CTAs may write meanwhile."""
    head, *parts = opcode.split(".")
    ordered = {"volatile", "relaxed", "acquire", "mmio"} & set(parts)
    near = any(part.partition("::")[0] in ("shared", "local", "param") for part in parts)
    return (head == "atom" or (head == "ld" and bool(ordered))) and not near


def _find_leaving(blocks: list[Block]) -> None:
    """Marks the blocks from which every way leads out of the kernel without doing anything."""
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks):
            heads = {each.opcode.partition(".")[0] for each in block.instructions}
            ways = (*block.targets, *(() if block.follow < 0 else (block.follow,)))
            idle = heads <= {"bra", "ret", "exit"} and (ways or heads & {"ret", "exit"})
            if idle and not block.leaves and all(blocks[way].leaves for way in ways):
                block.leaves = changed = True


def _link(function: Function, block: Block, labels: dict[str, int], count: int) -> None:
    """Fills in where a block leads."""
    last = block.instructions[-1] if block.instructions else None
    head = last.opcode.partition(".")[0] if last is not None else ""
    below = block.index + 1 if block.index + 1 < count else -1
    if last is not None and head in ("bra", "brx"):
        block.targets = tuple(_target(last, name, labels) for name in _names(function, last))
    leaves = head in ("bra", "brx", "ret", "exit", "trap")
    if not leaves or (last is not None and last.guard is not None):
        block.follow = below
    if block.around is not None:
        block.targets = (block.index + 2,)


def _names(function: Function, branch: Instruction) -> tuple[str, ...]:
    """Returns the labels that a branch may go to."""
    operand = branch.operands[-1] if branch.operands else None
    if not isinstance(operand, Name):
        raise PTXError(f"'{branch.opcode}' expects a label", branch.line, branch.column)
    if branch.opcode.startswith("brx"):
        names = function.branch_targets.get(operand.text)
        if names is None:
            message = f"no .branchtargets list {operand.text}"
            raise PTXError(message, branch.line, branch.column)
        return names
    return (operand.text,)


def _target(branch: Instruction, name: str, labels: dict[str, int]) -> int:
    """Returns the block that a label begins."""
    if name not in labels:
        raise PTXError(f"label {name} is not defined", branch.line, branch.column)
    return labels[name]


def liveness(
    blocks: list[Block], reads: list[int], writes: list[int]
) -> tuple[list[int], list[int]]:
    """
    Returns the registers that live into and out of each block, as bit sets.

    `reads` holds what each block reads before it writes it, `writes` what it writes.
    """
    live_in = list(reads)
    live_out = [0] * len(blocks)
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks):
            successors = block.targets if block.follow < 0 else (*block.targets, block.follow)
            out = 0
            for successor in successors:
                out |= live_in[successor]
            index = block.index
            now = reads[index] | (out & ~writes[index])
            if out != live_out[index] or now != live_in[index]:
                live_out[index], live_in[index] = out, now
                changed = True
    return live_in, live_out
