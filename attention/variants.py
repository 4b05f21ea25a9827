"""
Variants of attention: what becomes of queries, keys, values and scores, and which keys are seen.

The signatures are those of FlexAttention: `score_mod(score, b, h, q_idx, kv_idx)` and
`mask_mod(b, h, q_idx, kv_idx)`, where h is the query head. Positions count in the request's
sequence, whose last query stands at its last key: with a KV cache `q_idx` begins where the cached
tokens end.
"""

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, cast

from .expression import (
    Parameter,
    ScalarType,
    SourceLine,
    Value,
    VariantError,
    canonical,
    convert,
    in_order,
    lift,
    refuse,
)
from .parameters import Vector, element_reader

ScoreMod = Callable[[Any, Any, Any, Any, Any], Any]
MaskMod = Callable[[Any, Any, Any, Any], Any]
Transform = Callable[[Any, Any, Any, Any, Any], Any]
StateUpdate = Callable[[Any, Any, Any, Any, Any], Any]
Function = Callable[..., Any]

POSITIONS = ("b", "h", "q_idx", "kv_idx")
# The functions of a variant: the region that each becomes, its parameters, what it returns.
FUNCTIONS: dict[str, tuple[str, tuple[str, ...], tuple[ScalarType, ...]]] = {
    "query_transform": ("query", ("x", "b", "h", "q_idx", "d"), (ScalarType.F32,)),
    "key_transform": ("key", ("x", "b", "h", "kv_idx", "d"), (ScalarType.F32,)),
    "value_transform": ("value", ("x", "b", "h", "kv_idx", "d"), (ScalarType.F32,)),
    "score_mod": ("score", ("score", *POSITIONS), (ScalarType.F32,)),
    "mask_mod": ("mask", POSITIONS, (ScalarType.I1,)),
    "state_update": ("state", ("m", "total", "b", "h", "q_idx"), (ScalarType.F32,) * 2),
    "output_transform": ("output", ("out", "b", "h", "q_idx", "d"), (ScalarType.F32,)),
}
# The functions whose first parameter is a row.
ROW_FUNCTIONS = ("query_transform", "key_transform", "value_transform")
_REALS = ("x", "score", "m", "total", "out")


@dataclass(frozen=True)
class TracedVariant:
    """
    The expressions of a variant by region: "query", "score", "mask", ...; state has two.

    `softmax` tells whether scores are weights by a softmax, or as they are.
    """

    regions: Mapping[str, tuple[Value, ...]] = field(default_factory=dict[str, tuple[Value, ...]])
    softmax: bool = True

    @cached_property
    def key(self) -> str:
        """A text that tells variants apart by what they compute."""
        parts = [
            f"{kind}: " + "|".join(canonical(root) for root in self.regions[kind])
            for kind in sorted(self.regions)
        ]
        return "\n".join([*parts, "" if self.softmax else "no softmax"])

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The run-time parameters, each once, in the order in which they are read."""
        found: dict[str, Parameter] = {}
        for root in (root for kind in sorted(self.regions) for root in self.regions[kind]):
            for node in in_order(root):
                read = node.parameter
                if read is not None and found.setdefault(read.name, read) != read:
                    refuse(
                        f"the parameter '{read.name}' is declared twice: {found[read.name]} "
                        f"and {read}",
                        node.place,
                    )
        return tuple(found.values())

    @cached_property
    def compares_positions(self) -> bool:
        """Whether all that it asks of each key is a comparison of positions, or nothing."""
        if self.regions.keys() - {"mask", "state", "output"}:
            return False
        nodes = [] if self.mask is None else in_order(self.mask)
        operations = [node for node in nodes if node.operands]
        return len(operations) <= 1 and all(node.parameter is None for node in nodes)

    @property
    def mask_reads_tensors(self) -> bool:
        """Whether the mask depends on elements of tensors."""
        nodes = [] if self.mask is None else in_order(self.mask)
        return any(node.parameter is not None and node.parameter.shape for node in nodes)

    @property
    def score(self) -> Value | None:
        """The score, None where it stays as it is."""
        return self.regions.get("score", (None,))[0]

    @property
    def mask(self) -> Value | None:
        """The mask, None where every key is seen."""
        return self.regions.get("mask", (None,))[0]


@dataclass(frozen=True)
class Variant:
    """
    A variant of attention, given by Python functions on traced values.

    `query_transform(x, b, h, q_idx, d)` gives element d of a query from the row x, before the
    product: `x[d]`, `x[d ^ 1]`, `x.sum(term)`; `key_transform` and `value_transform` do so for
    keys and values, where h is the key head and the position is `kv_idx`. Results are rounded to
    the kernel's dtype. `output_transform(out, b, h, q_idx, d)` changes an element of the result.
    `state_update(m, total, b, h, q_idx)` returns the maximum of a row's scores and its total of
    `exp(score - m)` anew when all keys are seen; of a row that sees none they are -inf and 0.
    Without `softmax` the score that `score_mod` gives is the weight of the value.

    A key that is not seen weighs 0. In a tile of keys that a row visits 0 is multiplied with its
    value all the same, so that NaN or an infinity in `v` makes NaN there, unless the storage is
    `confined`; in `k` it does not.

    `a & b` sees what both see and does a's changes first; `a | b` sees what either mask sees.
    """

    score_mod: ScoreMod | None = None
    mask_mod: MaskMod | None = None
    query_transform: Transform | None = None
    key_transform: Transform | None = None
    value_transform: Transform | None = None
    output_transform: Transform | None = None
    state_update: StateUpdate | None = None
    softmax: bool = True

    @cached_property
    def traced(self) -> TracedVariant:
        """The traced functions; raises `VariantError` for what cannot be traced."""
        regions: dict[str, tuple[Value, ...]] = {}
        for name, (kind, _, _) in FUNCTIONS.items():
            function: Callable[..., Any] | None = getattr(self, name)
            if function is not None:
                regions[kind] = _trace(name, function)
        traced = TracedVariant(regions, self.softmax)
        _ = traced.parameters  # refuses two of one name
        if not self.softmax and self.state_update is not None:
            refuse("without a softmax there is no state to update", _first_line(self.state_update))
        return traced

    def __and__(self, other: "Variant") -> "Variant":
        return compose(self, other)

    def __or__(self, other: "Variant") -> "Variant":
        return either(self, other)


def compose(first: Variant, second: Variant) -> Variant:
    """Returns the variant that sees what both see, and does the changes of both in order."""

    def both(name: str, chain: Callable[[Function, Function], Function]) -> Any:
        left, right = getattr(first, name), getattr(second, name)
        return (left or right) if left is None or right is None else chain(left, right)

    return Variant(
        score_mod=both("score_mod", _chain),
        mask_mod=both("mask_mod", _both_see),
        query_transform=both("query_transform", _chain_rows),
        key_transform=both("key_transform", _chain_rows),
        value_transform=both("value_transform", _chain_rows),
        output_transform=both("output_transform", _chain),
        state_update=both("state_update", _chain_states),
        softmax=first.softmax and second.softmax,
    )


def either(first: Variant, second: Variant) -> Variant:
    """Returns the variant that sees what either of two masks sees; raises `VariantError`."""
    for variant in (first, second):
        if variant != Variant(mask_mod=variant.mask_mod) or variant.mask_mod is None:
            raise VariantError("'|' expects two variants that are masks and nothing else")

    def mask(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        at = (b, h, q_idx, kv_idx)
        return cast("Function", first.mask_mod)(*at) | cast("Function", second.mask_mod)(*at)

    return Variant(mask_mod=mask)


def _both_see(first: Function, second: Function) -> Function:
    def mask(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return first(b, h, q_idx, kv_idx) & second(b, h, q_idx, kv_idx)

    return mask


def _chain(first: Function, second: Function) -> Function:
    def chained(value: Any, b: Any, h: Any, q_idx: Any, place: Any) -> Any:
        return second(first(value, b, h, q_idx, place), b, h, q_idx, place)

    return chained


def _chain_states(first: Function, second: Function) -> Function:
    def chained(m: Any, total: Any, b: Any, h: Any, q_idx: Any) -> Any:
        return second(*first(m, total, b, h, q_idx), b, h, q_idx)

    return chained


def _chain_rows(first: Transform, second: Transform) -> Transform:
    def chained(x: Vector, b: Any, h: Any, position: Any, d: Any) -> Any:
        changed = Vector(lambda index: lift(first(x, b, h, position, index)))
        return second(changed, b, h, position, d)

    return chained


def as_variant(variant: object) -> Variant:
    """Returns a variant from a variant or from one function, told apart by its parameters."""
    if isinstance(variant, Variant):
        return variant
    if variant is None:
        return Variant()
    if not callable(variant):
        raise VariantError(
            f"argument 'variant': expected a variant or a function, got {type(variant).__name__}"
        )
    match len(_parameters(variant)):
        case 5:
            return Variant(score_mod=variant)
        case 4:
            return Variant(mask_mod=variant)
        case count:
            refuse(
                "a variant's function expects (score, b, h, q_idx, kv_idx) or "
                f"(b, h, q_idx, kv_idx), got {count} parameters",
                _first_line(variant),
            )


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise VariantError(
            f"argument 'variant': the signature of {function!r} is unknown"
        ) from None
    return [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _first_line(function: Callable[..., Any]) -> SourceLine:
    while isinstance(function, partial):
        function = function.func
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    if code is None:
        return SourceLine(repr(function), 0)
    return SourceLine(code.co_filename, code.co_firstlineno)


def _trace(name: str, function: Callable[..., Any]) -> tuple[Value, ...]:
    """Traces a function twice: a variant keeps no state, so that both calls give the same."""
    first, second = (_trace_once(name, function) for _ in range(2))
    if [canonical(root) for root in first] != [canonical(root) for root in second]:
        refuse(
            f"{name} expects to compute the same each time it is called, got two different "
            "expressions: a variant keeps no state between calls",
            _first_line(function),
        )
    return first


def _trace_once(name: str, function: Callable[..., Any]) -> tuple[Value, ...]:
    place = _first_line(function)
    _, names, results = FUNCTIONS[name]
    leaves = [
        Value(argument, (), ScalarType.F32 if argument in _REALS else ScalarType.I32)
        for argument in names
    ]
    arguments: list[Any] = list(leaves)
    if name in ROW_FUNCTIONS:
        arguments[0] = Vector(element_reader(leaves[0]))
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError) as error:
        refuse(f"{name} expects the parameters ({', '.join(names)}): {error}", place)
    returned = _call(name, function, arguments, place)
    values: tuple[object, ...] = (returned,)
    if len(results) > 1:
        values = cast("tuple[object, ...]", returned if isinstance(returned, tuple) else values)
    if len(values) != len(results):
        refuse(f"{name} expects to return {len(results)} values, got {len(values)}", place)
    roots = tuple(
        _result(name, value, kind, place) for value, kind in zip(values, results, strict=True)
    )
    for root in roots:
        _check_reads(name, root, leaves, place)
    return roots


def _call(
    name: str, function: Callable[..., Any], arguments: Sequence[Any], place: SourceLine
) -> object:
    try:
        return function(*arguments)
    except VariantError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame for frame in frames if frame.filename == place.filename] or list(frames)
        line = SourceLine(inside[-1].filename, inside[-1].lineno or 0)
        text = " ".join(str(error).split())
        refuse(f"{name} cannot be traced: {type(error).__name__}: {text}", line)


def _result(name: str, returned: object, kind: ScalarType, place: SourceLine) -> Value:
    if not isinstance(returned, Value | bool | int | float):
        refuse(f"{name} expects to return {kind}, got {type(returned).__name__}", place)
    value = lift(returned)
    if value.dtype is ScalarType.I32 and kind is ScalarType.F32:
        return convert(value, kind)
    if value.dtype is not kind:
        refuse(f"{name} expects to return {kind}, got {value.dtype}", place)
    return value


def _check_reads(name: str, root: Value, arguments: Sequence[Value], place: SourceLine) -> None:
    """Checks that an expression reads its own arguments, and what its region may read."""
    free: dict[int, frozenset[int]] = {}
    for node in in_order(root):
        reads = frozenset[int]().union(*(free[id(operand)] for operand in node.operands))
        if not node.operands and node.constant is None and node.op != "scalar":
            reads = frozenset({id(node)})
        if node.op == "row_sum":
            reads -= {id(node.operands[1])}
            if id(arguments[-1]) in reads:
                refuse(
                    f"the term of a sum depends on {arguments[-1].op}, which is a matrix product "
                    "and no transform of elements",
                    node.place,
                )
        if node.op in ("page", "query_row"):
            _check_place(name, node)
        free[id(node)] = reads
    if not free[id(root)] <= {id(argument) for argument in arguments}:
        refuse(f"{name} uses a traced value of another function", place)


def _check_place(name: str, node: Value) -> None:
    wanted, function = ("kv_idx", "page_of") if node.op == "page" else ("q_idx", "row_of")
    if wanted not in FUNCTIONS[name][1]:
        refuse(f"'{function}' expects a function with the parameter {wanted}", node.place)
