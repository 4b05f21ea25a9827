"""The op that attends: what is computed, on which keys, over which storage format."""

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    ArrayAttr,
    BFloat16Type,
    FlatSymbolRefAttr,
    Float8E4M3FNType,
    Float8E5M2Type,
    Float16Type,
    IntegerType,
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
)
from xdsl.traits import Pure, SymbolTable
from xdsl.utils.exceptions import VerifyException

from .types import BatchType, PagedType, RaggedType, ScalesAttr
from .variant import VariantOp


@irdl_op_definition
class AttendOp(IRDLOperation):
    """
    Attention of each query row over the keys of its request.

    The scores are `scale * (q . k)` in f32, changed and masked by the variant. `out` is the average
    of the values by the softmax of the scores, `lse` the natural logarithm of the sum of their
    exponentials; a row that sees no key has `out = 0` and `lse = -inf`. Query heads share key heads
    in equal groups.

    Keys and values have the query's element type, or are codes of f8E4M3FN, f8E5M2, i8 or i4 with
    `scales`.

    They are in pages, or ragged rows as the query is. `combined` says that they are one array, keys
    before values in each page; `strided`, that arrays have strides that are known at run time;
    `table_of_heads`, that each key head has a row of its own in the page table, row
    `request * heads + head`; `columns`, that a page's number tells the positions of its keys,
    from `page * page_size` on, and a query's position is its row among all. With `confined` NaN and
    infinities of values reach the rows that see them and no others; without it also rows that
    visit their tile of keys and hide them, since the weight 0 times NaN is NaN.

    ```mlir
    %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @causal
      : !attn.ragged<[n, 32, 128], bf16>, !attn.paged<[pages, 16, 8, 128], bf16, NHD>,
        !attn.batch<[b, nnz]> -> !attn.ragged<[n, 32, 128], bf16>, !attn.ragged<[n, 32], f32>
    ```
    """

    name = "attn.attend"

    query = operand_def(RaggedType)
    keys = operand_def(PagedType | RaggedType)
    values = operand_def(PagedType | RaggedType)
    batch = operand_def(BatchType)
    scale = operand_def(f32)
    variant = prop_def(FlatSymbolRefAttr)
    scales = opt_prop_def(ScalesAttr)
    combined = opt_prop_def(UnitAttr)
    strided = opt_prop_def(UnitAttr)
    table_of_heads = opt_prop_def(UnitAttr)
    columns = opt_prop_def(UnitAttr)
    confined = opt_prop_def(UnitAttr)
    out = result_def(RaggedType)
    lse = result_def(RaggedType)

    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())

    def __init__(
        self,
        query: SSAValue,
        keys: SSAValue,
        values: SSAValue,
        batch: SSAValue,
        scale: SSAValue,
        variant: str | SymbolRefAttr,
        scales: ScalesAttr | None = None,
        flags: Sequence[str] = (),
    ):
        if not isinstance(query.type, RaggedType):
            raise VerifyException(f"expected a query of !attn.ragged, got {query.type}")
        rows = query.type.extents.data[:2]
        super().__init__(
            operands=[query, keys, values, batch, scale],
            properties={
                "variant": SymbolRefAttr(variant) if isinstance(variant, str) else variant,
                "scales": scales,
                **{name: UnitAttr() for name in flags},
            },
            result_types=[query.type, RaggedType(ArrayAttr(rows), f32)],
        )

    assembly_format = (
        "$query `,` $keys `,` $values `over` $batch `scale` $scale `variant` $variant attr-dict "
        "`:` type($query) `,` type($keys) `,` type($values) `,` type($batch) "
        "`->` type($out) `,` type($lse)"
    )

    def verify_(self) -> None:
        query, keys = self.query.type, self.keys.type
        if not isinstance(query, RaggedType) or not isinstance(keys, PagedType | RaggedType):
            return
        if self.values.type != keys:
            raise VerifyException(
                f"expects values of the keys' type {keys}, got {self.values.type}"
            )
        if len(query.extents) != 3:
            raise VerifyException(f"expects a query [rows, heads, head_dim], got {query}")
        if len(keys.extents) != len(self._axes(keys)):
            raise VerifyException(f"expects keys [rows, heads, head_dim], got {keys}")
        self._verify_elements(query.element_type, keys.element_type)
        self._verify_heads(query, keys)
        self._verify_results(query)
        verify_variant(self, self.variant)

    def _verify_elements(self, query: Attribute, keys: Attribute) -> None:
        known = isinstance(query, Float16Type | BFloat16Type)
        if not known or (query != keys and not is_code(keys)):
            raise VerifyException(
                "expects query, keys and values of one element type, f16 or bf16, "
                f"or keys and values of codes, got {query} and {keys}"
            )
        if is_code(keys) == (self.scales is None):
            expected = "scales" if is_code(keys) else "no scales"
            raise VerifyException(f"expects {expected} for keys and values of {keys}")

    @staticmethod
    def _axes(keys: PagedType | RaggedType) -> tuple[str, ...]:
        tokens = ("pages", "tokens") if isinstance(keys, PagedType) else ("rows",)
        return (*tokens, "heads", "head_dim")

    def _verify_heads(self, query: RaggedType, keys: PagedType | RaggedType) -> None:
        if query.extents.data[2] != keys.extents.data[-1]:
            raise VerifyException(
                f"expects keys of head_dim {query.extents.data[2].data}, "
                f"got {keys.extents.data[-1].data}"
            )
        heads = query.heads.data.constant_value
        kv_heads = keys.extents.data[-2].data.constant_value
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


def verify_variant(op: IRDLOperation, variant: SymbolRefAttr) -> None:
    """Verifies that an op's variant is one."""
    found = SymbolTable.lookup_symbol(op, variant)
    if found is not None and not isinstance(found, VariantOp):
        raise VerifyException(f"expects {variant} to be an attn.variant, got {found.name}")
    if found is None:
        raise VerifyException(f"expects a variant, got {variant}, which is not defined")


_CODES = (IntegerType(4), IntegerType(8))


def is_code(element_type: Attribute) -> bool:
    """Whether keys and values of a type are codes with scales."""
    floats = isinstance(element_type, Float8E4M3FNType | Float8E5M2Type)
    return floats or element_type in _CODES
