"""The op that attends to a latent cache: multi-head latent attention in its absorbed form."""

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    ArrayAttr,
    BFloat16Type,
    FlatSymbolRefAttr,
    Float16Type,
    SymbolRefAttr,
    UnitAttr,
    f32,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from .attend import is_code, verify_variant
from .types import BatchType, PagedType, RaggedType, ScalesAttr, ScaleUnit


@irdl_op_definition
class AttendLatentOp(IRDLOperation):
    """
    Multi-head latent attention: all query heads attend to one latent row a token.

    A row of the cache is a latent vector, `ckv`, and a part that carries the position, `kpe`; they
    are two arrays of pages, or one whose rows hold `ckv` before `kpe`. The keys are whole rows, the
    values the latent vectors, so that the scores are `scale * (q_nope . ckv + q_pe . kpe)` and
    `out` has the extents of `q_nope`; both are in the space of the latent vectors, the projections
    into it absorbed into others. For the rest see `attn.attend`. The cache has the queries' element
    type, or codes with `scales`: one for `ckv`, and one for `kpe`.
    Source: DeepSeek-V2, section 2.1.

    ```mlir
    %out, %lse = attn.attend_latent %q_nope, %q_pe in %ckv, %kpe over %batch scale %scale
      variant @causal
      : !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16, 64], bf16> in
        !attn.paged<[pages, 16, 1, 512], bf16, NHD>, !attn.paged<[pages, 16, 1, 64], bf16, NHD>
        over !attn.batch<[b, nnz]>
      -> !attn.ragged<[n, 16, 512], bf16>, !attn.ragged<[n, 16], f32>
    ```
    """

    name = "attn.attend_latent"

    q_nope = operand_def(RaggedType)
    q_pe = operand_def(RaggedType)
    cache = var_operand_def(PagedType)
    batch = operand_def(BatchType)
    scale = operand_def(f32)
    variant = prop_def(FlatSymbolRefAttr)
    scales = opt_prop_def(ScalesAttr)
    confined = opt_prop_def(UnitAttr)
    out = result_def(RaggedType)
    lse = result_def(RaggedType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = (
        "$q_nope `,` $q_pe `in` $cache `over` $batch `scale` $scale `variant` $variant attr-dict "
        "`:` type($q_nope) `,` type($q_pe) `in` type($cache) `over` type($batch) "
        "`->` type($out) `,` type($lse)"
    )

    def __init__(
        self,
        queries: tuple[SSAValue, SSAValue],
        cache: Sequence[SSAValue],
        batch: SSAValue,
        scale: SSAValue,
        variant: str | SymbolRefAttr,
        scales: ScalesAttr | None = None,
        flags: Sequence[str] = (),
    ):
        q_nope, q_pe = queries
        if not isinstance(q_nope.type, RaggedType):
            raise VerifyException(f"expected a query of !attn.ragged, got {q_nope.type}")
        rows = ArrayAttr(q_nope.type.extents.data[:2])
        super().__init__(
            operands=[q_nope, q_pe, cache, batch, scale],
            properties={
                "variant": SymbolRefAttr(variant) if isinstance(variant, str) else variant,
                "scales": scales,
                **{name: UnitAttr() for name in flags},
            },
            result_types=[q_nope.type, RaggedType(rows, f32)],
        )

    def verify_(self) -> None:
        q_nope, q_pe = self.q_nope.type, self.q_pe.type
        if not isinstance(q_nope, RaggedType) or not isinstance(q_pe, RaggedType):
            return
        for query in (q_nope, q_pe):
            if len(query.extents) != 3:
                raise VerifyException(f"expects a query [rows, heads, elements], got {query}")
        if q_nope.extents.data[:2] != q_pe.extents.data[:2]:
            raise VerifyException(f"expects queries of the same rows, got {q_nope} and {q_pe}")
        self._verify_cache(q_nope, q_pe)
        lse = RaggedType(ArrayAttr(q_nope.extents.data[:2]), f32)
        if self.out.type != q_nope or self.lse.type != lse:
            raise VerifyException(
                f"expects results {q_nope} and {lse}, got {self.out.type} and {self.lse.type}"
            )
        verify_variant(self, self.variant)

    def _verify_cache(self, q_nope: RaggedType, q_pe: RaggedType) -> None:
        pages = [kind for kind in self.cache.types if isinstance(kind, PagedType)]
        if not 1 <= len(pages) <= 2:
            raise VerifyException(f"expects a cache of one or two arrays, got {len(pages)}")
        self._verify_elements(
            {q_nope.element_type, q_pe.element_type}, {kind.element_type for kind in pages}
        )
        if len({kind.extents.data[:2] for kind in pages}) != 1:
            got = " and ".join(map(str, pages))
            raise VerifyException(f"expects a cache of the same pages, got {got}")
        widths = [query.extents.data[2].data for query in (q_nope, q_pe)]
        expected = widths if len(pages) == 2 else [widths[0] + widths[1]]
        for kind, width in zip(pages, expected, strict=True):
            heads, got = (extent.data for extent in kind.extents.data[2:])
            if heads.constant_value != 1 or got != width:
                raise VerifyException(
                    f"expects rows of one head and {width} elements in the cache, got {kind}"
                )

    def _verify_elements(self, queries: set[Attribute], cache: set[Attribute]) -> None:
        (stored, *more), known = cache, Float16Type | BFloat16Type
        one_type = len(queries) == 1 and not more and all(isinstance(q, known) for q in queries)
        if not one_type or (not is_code(stored) and {stored} != queries):
            raise VerifyException(
                "expects queries and a cache of one element type, f16 or bf16, or a cache of "
                f"codes, got {', '.join(sorted(map(str, queries | cache)))}"
            )
        scaled = self.scales is not None and self.scales.unit.data == ScaleUnit.TENSOR
        if is_code(stored) != scaled or (self.scales is not None) != scaled:
            expected = "scales of whole arrays" if is_code(stored) else "no scales"
            raise VerifyException(f"expects {expected} for a cache of {stored}")
