"""The dialects, passes and targets of tilewright, and the plug-in by which xDSL finds them."""

from collections.abc import Callable

from xdsl.ir import Dialect
from xdsl.passes import ModulePass
from xdsl.universe import Universe
from xdsl.utils.target import Target

from .dialects.attn import Attn
from .dialects.nest import Nest
from .dialects.nvvm import NVVM
from .dialects.sym import Sym
from .dialects.tile import Tile
from .lowering.attn_to_tile.convert import ConvertAttnToTilePass
from .lowering.nest_to_thread import ConvertNestToThreadPass
from .lowering.ptx.target import PTXTarget
from .lowering.tile_to_thread.convert import ConvertTileToThreadPass
from .transforms.apply_schedule import ApplySchedulePass
from .transforms.compact_buffers import CompactBuffersPass
from .transforms.expand_math import ExpandMathPass
from .transforms.expand_pipelines import ExpandPipelinesPass
from .transforms.lower_blocks import LowerBlocksPass
from .transforms.place_barriers import PlaceBarriersPass
from .transforms.shorten_loops import ShortenLoopsPass

# From the highest level to the lowest.
DIALECTS: tuple[Dialect, ...] = (Sym, Attn, Nest, Tile, NVVM)

# In the order in which a pipeline runs them.
PASSES: tuple[type[ModulePass], ...] = (
    ApplySchedulePass,
    CompactBuffersPass,
    ConvertAttnToTilePass,
    ConvertNestToThreadPass,
    ConvertTileToThreadPass,
    ExpandMathPass,
    ExpandPipelinesPass,
    LowerBlocksPass,
    PlaceBarriersPass,
    ShortenLoopsPass,
)

# What a module can be printed as, besides MLIR.
TARGETS: tuple[type[Target], ...] = (PTXTarget,)


def _dialect_factory(dialect: Dialect) -> Callable[[], Dialect]:
    return lambda: dialect


def _pass_factory(module_pass: type[ModulePass]) -> Callable[[], type[ModulePass]]:
    return lambda: module_pass


def _target_factory(target: type[Target]) -> Callable[[], type[Target]]:
    return lambda: target


UNIVERSE = Universe(
    all_dialects={dialect.name: _dialect_factory(dialect) for dialect in DIALECTS},
    all_passes={module_pass.name: _pass_factory(module_pass) for module_pass in PASSES},
    all_targets={target.name: _target_factory(target) for target in TARGETS},
)
