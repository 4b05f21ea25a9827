"""The op that attends: what is computed, on which keys, over which storage format."""

from xdsl.dialects.builtin import (
    ArrayAttr,
    BFloat16Type,
    FlatSymbolRefAttr,
    Float16Type,
    SymbolRefAttr,
    f32,
)
from xdsl.ir import SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure, SymbolTable
from xdsl.utils.exceptions import VerifyException

from .types import BatchType, PagedType, RaggedType
from .variant import VariantOp


@irdl_op_definition
class AttendOp(IRDLOperation):
    """
    Attention of each query row over the keys of its request.

    The scores are `scale * (q . k)` in f32, changed and masked by the variant. `out` is the average
    of the values by the softmax of the scores, `lse` the natural logarithm of the sum of their
    exponentials; a row that sees no key has `out = 0` and `lse = -inf`. Query heads share key heads
    in equal groups.

    ```mlir
    %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @causal
      : !attn.ragged<[n, 32, 128], bf16>, !attn.paged<[pages, 16, 8, 128], bf16, NHD>,
        !attn.batch<[b, nnz]> -> !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>
    ```
    """

    name = "attn.attend"

    query = operand_def(RaggedType)
    keys = operand_def(PagedType)
    values = operand_def(PagedType)
    batch = operand_def(BatchType)
    scale = operand_def(f32)
    variant = prop_def(FlatSymbolRefAttr)
    out = result_def(RaggedType)
    lse = result_def(RaggedType)

    traits = traits_def(Pure())

    def __init__(
        self,
        query: SSAValue,
        keys: SSAValue,
        values: SSAValue,
        batch: SSAValue,
        scale: SSAValue,
        variant: str | SymbolRefAttr,
    ):
        if not isinstance(query.type, RaggedType):
            raise VerifyException(f"expected a query of !attn.ragged, got {query.type}")
        rows = query.type.extents.data[:2]
        super().__init__(
            operands=[query, keys, values, batch, scale],
            properties={"variant": SymbolRefAttr(variant) if isinstance(variant, str) else variant},
            result_types=[query.type, RaggedType(ArrayAttr(rows), f32)],
        )

    assembly_format = (
        "$query `,` $keys `,` $values `over` $batch `scale` $scale `variant` $variant attr-dict "
        "`:` type($query) `,` type($keys) `,` type($values) `,` type($batch) "
        "`->` type($out) `,` type($lse)"
    )

    def verify_(self) -> None:
        query, keys = self.query.type, self.keys.type
        if not isinstance(query, RaggedType) or not isinstance(keys, PagedType):
            return
        if self.values.type != keys:
            raise VerifyException(
                f"expects values of the keys' type {keys}, got {self.values.type}"
            )
        if len(query.extents) != 3:
            raise VerifyException(f"expects a query [rows, heads, head_dim], got {query}")
        if query.element_type != keys.element_type or not isinstance(
            query.element_type, Float16Type | BFloat16Type
        ):
            raise VerifyException(
                "expects query, keys and values of one element type, f16 or bf16, "
                f"got {query.element_type} and {keys.element_type}"
            )
        self._verify_heads(query, keys)
        self._verify_results(query)
        self._verify_variant()

    def _verify_heads(self, query: RaggedType, keys: PagedType) -> None:
        if query.extents.data[2] != keys.extents.data[3]:
            raise VerifyException(
                f"expects keys of head_dim {query.extents.data[2].data}, "
                f"got {keys.extents.data[3].data}"
            )
        heads = query.heads.data.constant_value
        kv_heads = keys.extents.data[2].data.constant_value
        if heads is None or kv_heads is None:
            raise VerifyException("expects constant numbers of heads")
        if heads % kv_heads:
            raise VerifyException(
                f"expects a number of query heads that is a multiple of the {kv_heads} key heads, "
                f"got {heads}"
            )

    def _verify_results(self, query: RaggedType) -> None:
        lse = RaggedType(ArrayAttr(query.extents.data[:2]), f32)
        if self.out.type != query or self.lse.type != lse:
            raise VerifyException(
                f"expects results {query} and {lse}, got {self.out.type} and {self.lse.type}"
            )

    def _verify_variant(self) -> None:
        found = SymbolTable.lookup_symbol(self, self.variant)
        if found is not None and not isinstance(found, VariantOp):
            raise VerifyException(f"expects {self.variant} to be an attn.variant, got {found.name}")
        if found is None:
            raise VerifyException(f"expects a variant, got {self.variant}, which is not defined")
