"""The pass from attention to tiles."""

from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.traits import SymbolTable

from ...dialects.attn import AttendLatentOp, AttendOp, VariantOp
from ...dialects.diagnostic import error_at
from ..garbage import take_apart
from .geometry import Work, geometry_of
from .kernel import build_kernel
from .latent import build_latent_kernel, latent_geometry_of

Attends = AttendOp | AttendLatentOp


@dataclass(frozen=True)
class ConvertAttnToTilePass(ModulePass):
    """
    Turns each function that attends into a kernel that says what one CTA does.

    The function holds one `attn.attend` or `attn.attend_latent`, whose results it returns.
    """

    name = "convert-attn-to-tile"

    target: str = field(default="sm_80", metadata={"doc": "the architecture: sm_80, sm_90, ..."})
    warps: int = field(default=4, metadata={"doc": "warps of a CTA"})
    rows: int = field(
        default=0, metadata={"doc": "packed rows of a query tile; 0 gives each warp its own 16"}
    )
    kv_tile: int = field(default=0, metadata={"doc": "keys of a tile; 0 chooses by head_dim"})
    stages: int = field(default=2, metadata={"doc": "tiles of keys and values in shared memory"})

    work: str = field(
        default="ranges", metadata={"doc": "work items: ranges, tile_lists or cascade"}
    )

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        functions = [
            function
            for function in op.walk()
            if isinstance(function, func.FuncOp)
            and any(isinstance(inner, Attends) for inner in function.walk())
        ]
        variants = [found for found in op.walk() if isinstance(found, VariantOp)]
        for function in functions:
            self._convert(function)
        for variant in variants:
            variant.detach()
            take_apart(variant)

    def _convert(self, function: func.FuncOp) -> None:
        attend = _only_attend(function)
        variant = SymbolTable.lookup_symbol(attend, attend.variant)
        if not isinstance(variant, VariantOp):
            raise error_at(attend, f"expects a variant, got {attend.variant}")
        numbers = (self.warps, self.rows, self.kv_tile, self.stages)
        name, place = function.sym_name.data, attend.location
        if isinstance(attend, AttendLatentOp):
            latent = latent_geometry_of(attend, self.target, *numbers, self.work)
            kernel = build_latent_kernel(name, variant, latent, place)
        else:
            geometry = geometry_of(attend, self.target, *numbers, self.work)
            if geometry.work is Work.CASCADE and variant.reads_request:
                raise error_at(
                    variant,
                    "expects a variant that reads nothing of the request where requests share "
                    "keys, got one that reads its number, a page or a query row",
                )
            kernel = build_kernel(name, variant, geometry, place)
        Rewriter.insert_op(kernel, InsertPoint.before(function))
        function.detach()
        take_apart(function)


def _only_attend(function: func.FuncOp) -> Attends:
    match list(function.body.walk()):
        case [AttendOp() | AttendLatentOp() as attend, func.ReturnOp() as end] if tuple(
            end.operands
        ) == (
            attend.out,
            attend.lse,
        ):
            return attend
        case ops:
            first = next(op for op in ops if isinstance(op, Attends))
            raise error_at(
                first, "expects to be alone in its function, which returns its two results"
            )
