"""Lets the iterations of a loop overlap."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ...dialects.nest.program import Block, LoopKind, Program, blocks_of
from ..pipelines import ASYNCHRONOUS, ORDER, STAGES, PipelineError, pipeline_of
from .primitive import Primitive, place_of


@dataclass(frozen=True)
class SoftwarePipeline(Primitive):
    """
    Runs the statements of a loop in stages: those of stage `s` are `s` iterations behind.

        for k in 0..n               copy(0); copy(1)
            copy(k)        -->      for k in 0..n-2
            use(k)                      copy(k + 2); use(k)
                                    use(n - 2); use(n - 1)

    `stages` has a stage for each statement of the loop, here (0, 2), `order` the place at which it
    runs, here (0, 1). `asynchronous` is empty, or the one stage that copies in the background. The
    loop is marked; `expand-pipelines` writes it out, and gives the buffers between stages an axis
    for the iterations that are under way.

    Legal if
    - `serial`: the loop is serial;
    - `statements`, `order`, `stages`: each statement has a stage and a place, stages begin at 0;
    - `init`: no block inside has an init;
    - `dependence`: what depends on another statement runs after it;
    - `private`: what stages hand over is in buffers of the program's own that only the loop uses;
    - `covers`: an iteration reads of them only what it wrote before.

    Source: TVM's software pipeline (ASPLOS 2023, section 4.1); Allan et al., "Software pipelining",
    ACM Computing Surveys 27(3).
    """

    name: ClassVar[str] = "software_pipeline"

    loop: str
    stages: tuple[int, ...]
    order: tuple[int, ...]
    asynchronous: tuple[int, ...] = ()

    def apply(self, program: Program) -> Program:
        """Returns the program with the loop marked."""
        loop = self.loop_of(program, self.loop)
        place = place_of(program.places[self.loop])
        if loop.kind is not LoopKind.SERIAL:
            raise self.refused("serial", f"expected a serial loop, got one {loop.kind}", place)
        for block in blocks_of(loop.body):
            if block.init:
                raise self.refused(
                    "init",
                    f"expected blocks without init in a pipeline, got '{block.name}'",
                    place,
                    "decompose the reduction first",
                )
        for statement in loop.body:
            if isinstance(statement, Block) and len(statement.body) != 1:
                raise self.refused(
                    "statements",
                    f"expected one statement in '{statement.name}', got {len(statement.body)}",
                    place,
                    "put a loop of one iteration around it with add_unit_loop",
                )
        try:
            pipeline_of(program, loop, self.stages, self.order, self.asynchronous)
        except PipelineError as error:
            raise self.refused(error.condition, error.message, place, error.cure) from None
        annotations = {**loop.annotations, STAGES: self.stages, ORDER: self.order}
        if self.asynchronous:
            annotations[ASYNCHRONOUS] = self.asynchronous
        return program.replace(self.loop, replace(loop, annotations=annotations))
