"""Loop nests: blocks with read and write regions inside loops, over buffers of symbolic shape."""

from xdsl.ir import Dialect

from .access import CallOp, IndexOp, LoadOp, StoreOp
from .function import FuncOp
from .statements import AllocOp, BlockOp, ForOp, InitOp
from .types import BufferType
from .writing import write_program

Nest = Dialect(
    "nest",
    [AllocOp, BlockOp, CallOp, ForOp, FuncOp, IndexOp, InitOp, LoadOp, StoreOp],
    [BufferType],
)

__all__ = [
    "AllocOp",
    "BlockOp",
    "BufferType",
    "CallOp",
    "ForOp",
    "FuncOp",
    "IndexOp",
    "InitOp",
    "LoadOp",
    "Nest",
    "StoreOp",
    "write_program",
]
