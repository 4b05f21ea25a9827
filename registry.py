"""The dialects and passes of tilewright, and the plug-in by which xDSL's own tools find them."""

from collections.abc import Callable

from xdsl.ir import Dialect
from xdsl.passes import ModulePass
from xdsl.universe import Universe

from .dialects.attn import Attn
from .dialects.nvvm import NVVM
from .dialects.sym import Sym
from .dialects.tile import Tile
from .lowering.attn_to_tile.convert import ConvertAttnToTilePass
from .lowering.tile_to_thread.convert import ConvertTileToThreadPass

# From the highest level to the lowest.
DIALECTS: tuple[Dialect, ...] = (Sym, Attn, Tile, NVVM)

# In the order in which a pipeline runs them.
PASSES: tuple[type[ModulePass], ...] = (ConvertAttnToTilePass, ConvertTileToThreadPass)


def _dialect_factory(dialect: Dialect) -> Callable[[], Dialect]:
    return lambda: dialect


def _pass_factory(module_pass: type[ModulePass]) -> Callable[[], type[ModulePass]]:
    return lambda: module_pass


UNIVERSE = Universe(
    all_dialects={dialect.name: _dialect_factory(dialect) for dialect in DIALECTS},
    all_passes={module_pass.name: _pass_factory(module_pass) for module_pass in PASSES},
)
