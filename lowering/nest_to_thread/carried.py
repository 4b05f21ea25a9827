"""Values that a loop counts on from one iteration to the next: slots of rings, and pointers."""

from collections.abc import Callable
from dataclasses import dataclass, field

from xdsl.ir import Block, SSAValue

from ..emitter import Emitter

Step = Callable[[SSAValue], SSAValue]


@dataclass
class Carried:
    """
    What the iterations of a loop hand on besides its registers.

    `block` is the loop's body. Values are added while it is written; `nexts` appends at its end
    what the next iteration begins with.
    """

    loop: str
    block: Block
    starts: list[SSAValue] = field(default_factory=list[SSAValue])
    steps: list[Step] = field(default_factory=list[Step])

    def add(self, start: SSAValue, step: Step) -> SSAValue:
        """Returns a value that is `start` in the first iteration, and each time a step further."""
        self.starts.append(start)
        self.steps.append(step)
        return self.block.insert_arg(start.type, len(self.block.args))

    def nexts(self) -> list[SSAValue]:
        """Appends the steps and returns the values of the next iteration."""
        values = self.block.args[len(self.block.args) - len(self.steps) :]
        return [step(value) for step, value in zip(self.steps, values, strict=True)]


def add_slot(emit: Emitter, carried: Carried, offset: int, length: int) -> SSAValue:
    """Returns `(loop + offset) mod length`: one more each time, but the first after the last."""

    def step(value: SSAValue) -> SSAValue:
        further = emit.add(value, 1)
        is_last = emit.compare("eq", value, length - 1)
        return emit.select(is_last, emit.integer(0), further)

    return carried.add(emit.integer(offset % length), step)
