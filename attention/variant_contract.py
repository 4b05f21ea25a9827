"""What the contract of a kernel says of its variant's parameters, read off the `attn.variant`."""

from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import BlockArgument, SSAValue

from ..dialects.attn import PageOp, ParamAttr, ParamOp, QueryRowOp, VariantOp
from ..lowering.attn_to_tile.regions import extent_name
from ..runtime.contract import Param, ParamReach, PointerParam, ScalarParam

# What the arguments of each region are, as positions of the contract.
_SCORE = ("b", "h", "q_idx", "kv_idx")
_POSITIONS: dict[str, tuple[str, ...]] = {
    "query": ("", "b", "h", "q_idx", "d"),
    "key": ("", "b", "kv_head", "kv_idx", "d"),
    "value": ("", "b", "kv_head", "kv_idx", "d"),
    "score": ("", *_SCORE),
    "mask": _SCORE,
    "state": ("", "", "b", "h", "q_idx"),
    "output": ("", "b", "h", "q_idx", "d"),
}


@dataclass(frozen=True)
class VariantContract:
    """The kernel's parameters for a variant, the symbols of their extents, what is read of them."""

    params: tuple[Param, ...] = ()
    names: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    reaches: tuple[ParamReach, ...] = ()


def variant_contract(module: ModuleOp) -> VariantContract:
    """Returns the contract of the variant of a module that attends once."""
    variants = [op for op in module.walk() if isinstance(op, VariantOp)]
    if not variants:
        return VariantContract()
    (variant, *_) = variants
    symbols = tuple(dict.fromkeys(_symbols(variant)))
    extents = [ScalarParam(extent_name(symbol), "i32", symbol) for symbol in symbols]
    return VariantContract(
        params=(*(_param(param) for param in variant.params), *extents),
        names=tuple(param.param_name.data for param in variant.params),
        symbols=symbols,
        reaches=tuple(dict.fromkeys(_reaches(variant))),
    )


def _param(param: ParamAttr) -> Param:
    dtype = "f32" if param.element_type == f32 else "i32"
    if not param.extents.data:
        return ScalarParam(param.param_name.data, dtype)
    shape = tuple(str(extent.data) for extent in param.extents)
    return PointerParam(param.param_name.data, dtype, shape, alignment=4)


def _symbols(variant: VariantOp) -> Iterator[str]:
    for param in variant.params:
        for extent in param.extents:
            if extent.data.constant_value is None:
                yield str(extent.data)


def _reaches(variant: VariantOp) -> Iterator[ParamReach]:
    for kind, region in variant.named_regions():
        for op in region.walk():
            if isinstance(op, ParamOp):
                for axis, index in enumerate(op.indices):
                    if position := _position(kind, index):
                        yield ParamReach(op.param.data, axis, position)


def _position(kind: str, index: SSAValue) -> str:
    """Returns the position that an index is, "" for any other number."""
    owner = index.owner
    if isinstance(index, BlockArgument):
        # Of the term of a sum the argument is an index in the head.
        named = index.block.parent_op()
        return _POSITIONS[kind][index.index] if isinstance(named, VariantOp) else "d"
    if isinstance(owner, PageOp):
        return "page"
    return _row_of_query(kind, owner) if isinstance(owner, QueryRowOp) else ""


def _row_of_query(kind: str, op: QueryRowOp) -> str:
    return "query_row" if _position(kind, op.position) == "q_idx" else ""
