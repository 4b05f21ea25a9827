"""
The variant op: what becomes of queries, keys, values, scores and results, and what is seen.

Each region is the meaning of one number: it is evaluated for each element, with no state.
"""

from collections.abc import Iterator, Mapping, Sequence

from xdsl.dialects.builtin import (
    ArrayAttr,
    StringAttr,
    SymbolNameConstraint,
    UnitAttr,
    f32,
    i1,
    i32,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.irdl import (
    AttrSizedRegionSegments,
    IRDLOperation,
    attr_def,
    irdl_op_definition,
    opt_prop_def,
    opt_region_def,
    prop_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsolatedFromAbove, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException

from .reads import ElementOp, PageOp, ParamAttr, ParamOp, QueryRowOp, RowSumOp, YieldOp

# The arguments of a variant's regions: request, query head, query position, key position.
POSITION_TYPES: tuple[Attribute, ...] = (i32, i32, i32, i32)
# Of transforms: the element's value, request, head, position, index in the head.
ELEMENT_TYPES: tuple[Attribute, ...] = (f32, i32, i32, i32, i32)
# Of the update of a row's state: maximum, total, request, query head, query position.
STATE_TYPES: tuple[Attribute, ...] = (f32, f32, i32, i32, i32)

# Each region in the order of the text: its arguments and what it yields.
REGIONS: Mapping[str, tuple[tuple[Attribute, ...], tuple[Attribute, ...]]] = {
    "query": (ELEMENT_TYPES, (f32,)),
    "key": (ELEMENT_TYPES, (f32,)),
    "value": (ELEMENT_TYPES, (f32,)),
    "score": ((f32, *POSITION_TYPES), (f32,)),
    "mask": (POSITION_TYPES, (i1,)),
    "state": (STATE_TYPES, (f32, f32)),
    "output": (ELEMENT_TYPES, (f32,)),
}
# Which argument of a region is the request, where it is not the second.
_REQUEST = {**dict.fromkeys(REGIONS, 1), "mask": 0, "state": 2}
# Where a region may read: other elements of its row, and pages of keys.
_REGIONS_OF: Mapping[type[Operation], Sequence[str]] = {
    ElementOp: ("query", "key", "value"),
    RowSumOp: ("query", "key", "value"),
    PageOp: ("key", "value", "score", "mask"),
    QueryRowOp: ("query", "score", "mask", "state", "output"),
}


@irdl_op_definition
class VariantOp(IRDLOperation):
    """
    A variant of attention: what becomes of a score, which keys a query sees, and more.

    `score` gives from a scaled score (f32) the score that enters the softmax; `mask` tells whether
    the key is seen. Both know the request, the query head, and the positions of query and key in
    the request's sequence (i32): the last query of a request stands at its last key.

    `query`, `key` and `value` give an element of a row before the products, from the element
    (f32), the request, the head (of keys and values the key head), the position and the index in
    the head (i32). The result is rounded to the row's type. `output` does so with the elements of
    the result, of the query head and position, before they are rounded.

    `state` is called once a row when all keys are seen, with the maximum `m` of the scores and
    the total `d` of `exp(score - m)`; a row that sees no key has `m = -inf` and `d = 0`. It yields
    the two anew: the result is the sum of `exp(score - m') * value` divided by `d'`, `lse` is
    `m' + log d'`. So an attention sink is one more score in the total.

    With `no_softmax` the score that `score` gives is the weight of the value itself (sigmoid
    attention): the result is the sum of the weighted values, a key that is not seen weighs 0, and
    `lse` is the natural logarithm of the sum of the weights.

    Parameters are passed at run time: scalars, and tensors with extents over symbols.

    ```mlir
    attn.variant @alibi(slopes: f32[32]) score {
    ^bb0(%score: f32, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
      %slope = attn.param "slopes"[%h] : f32
      %distance = arith.subi %kv_idx, %q_idx : i32
      %far = arith.sitofp %distance : i32 to f32
      %bias = arith.mulf %slope, %far : f32
      %changed = arith.addf %score, %bias : f32
      attn.yield %changed : f32
    } mask {
    ^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
      %seen = arith.cmpi sge, %q_idx, %kv_idx : i32
      attn.yield %seen : i1
    }
    ```
    """

    name = "attn.variant"

    sym_name = attr_def(SymbolNameConstraint())
    params = prop_def(ArrayAttr[ParamAttr])
    no_softmax = opt_prop_def(UnitAttr)
    query = opt_region_def("single_block")
    key = opt_region_def("single_block")
    value = opt_region_def("single_block")
    score = opt_region_def("single_block")
    mask = opt_region_def("single_block")
    state = opt_region_def("single_block")
    output = opt_region_def("single_block")

    irdl_options = (AttrSizedRegionSegments(as_property=True),)
    traits = traits_def(IsolatedFromAbove(), SymbolOpInterface())

    def __init__(
        self,
        name: str,
        regions: Mapping[str, Region],
        params: Sequence[ParamAttr] = (),
        no_softmax: bool = False,
    ):
        super().__init__(
            attributes={"sym_name": StringAttr(name)},
            properties={
                "params": ArrayAttr(params),
                "no_softmax": UnitAttr() if no_softmax else None,
            },
            regions=[[regions[kind]] if kind in regions else [] for kind in REGIONS],
        )

    def named_regions(self) -> Iterator[tuple[str, Region]]:
        """The regions that it has, with their names."""
        for kind in REGIONS:
            region: Region | None = getattr(self, kind)
            if region is not None:
                yield kind, region

    @property
    def reads_key_position(self) -> bool:
        """Whether scores or the mask depend on the position of the key."""
        regions = (self.score, self.mask)
        return any(region is not None and region.block.args[-1].uses for region in regions)

    @property
    def reads_request(self) -> bool:
        """Whether a region depends on the request: its number, its pages, its query rows."""
        return any(
            bool(region.block.args[_REQUEST[kind]].uses)
            or any(isinstance(op, PageOp | QueryRowOp) for op in region.walk())
            for kind, region in self.named_regions()
        )

    @classmethod
    def parse(cls, parser: Parser) -> "VariantOp":
        name = parser.parse_symbol_name()
        params = parser.parse_optional_comma_separated_list(
            parser.Delimiter.PAREN, lambda: ParamAttr.parse_bare(parser)
        )
        no_softmax = parser.parse_optional_keyword("no_softmax") is not None
        regions = {
            kind: parser.parse_region()
            for kind in REGIONS
            if parser.parse_optional_keyword(kind) is not None
        }
        return cls(name.data, regions, params or (), no_softmax)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        if self.params.data:
            printer.print_string("(")
            printer.print_list(self.params, lambda param: param.print_bare(printer))
            printer.print_string(")")
        if self.no_softmax is not None:
            printer.print_string(" no_softmax")
        for keyword, region in self.named_regions():
            printer.print_string(f" {keyword} ")
            printer.print_region(region)

    def verify_(self) -> None:
        names = [param.param_name.data for param in self.params]
        for name in names:
            if names.count(name) > 1:
                raise VerifyException(f"expects parameters of different names, got '{name}' twice")
        for kind, region in self.named_regions():
            arguments, results = REGIONS[kind]
            _verify_region(kind, region, arguments, results)
            self._verify_reads(kind, region)
        if self.no_softmax is not None and self.state is not None:
            raise VerifyException("expects no state region without a softmax, which has no state")

    def _verify_reads(self, kind: str, region: Region) -> None:
        params = {param.param_name.data: param for param in self.params}
        for op in region.walk():
            if isinstance(op, ParamOp):
                op.verify_against(params.get(op.param.data))
            elif kind not in _REGIONS_OF.get(type(op), (kind,)):
                raise VerifyException(f"expects no {op.name} in its {kind} region")


def _verify_region(
    name: str, region: Region, arguments: Sequence[Attribute], results: Sequence[Attribute]
) -> None:
    if tuple(region.block.arg_types) != tuple(arguments):
        raise VerifyException(
            f"expects its {name} region to have arguments ({_types(arguments)}), "
            f"got ({_types(region.block.arg_types)})"
        )
    terminator = region.block.last_op
    got = list(terminator.operand_types) if isinstance(terminator, YieldOp) else []
    if got != list(results):
        raise VerifyException(
            f"expects its {name} region to yield {_types(results)}, got {_types(got) or 'nothing'}"
        )


def _types(types: Sequence[Attribute]) -> str:
    return ", ".join(str(kind) for kind in types)


def variant_region(kind: str) -> Region:
    """Returns an empty region of a variant: "query", "score", "mask", ..."""
    return Region(Block(arg_types=REGIONS[kind][0]))


def mask_region() -> Region:
    """Returns an empty mask region."""
    return variant_region("mask")


def yielded(region: Region) -> Sequence[SSAValue]:
    """Returns what a region of a variant yields."""
    terminator = region.block.last_op
    return terminator.operands if terminator is not None else ()
