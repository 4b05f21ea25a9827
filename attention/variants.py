"""
Variants of attention: what becomes of a score, and which keys a query sees.

The signatures are those of FlexAttention: `score_mod(score, b, h, q_idx, kv_idx)` and
`mask_mod(b, h, q_idx, kv_idx)`, where h is the query head. Positions count in the request's
sequence, whose last query stands at its last key: with a KV cache `q_idx` begins where the cached
tokens end.
"""

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from .expression import (
    LARGEST_F32,
    ScalarType,
    SourceLine,
    Value,
    VariantError,
    canonical,
    convert,
    in_order,
    is_integer,
    is_real,
    lift,
    refuse,
)
from .functions import exp2, tanh

ScoreMod = Callable[[Any, Any, Any, Any, Any], Any]
MaskMod = Callable[[Any, Any, Any, Any], Any]

POSITIONS = ("b", "h", "q_idx", "kv_idx")
ARGUMENTS = {"score_mod": ("score", *POSITIONS), "mask_mod": POSITIONS}


@dataclass(frozen=True)
class TracedVariant:
    """The expressions of a variant's functions; None where it has no such function."""

    score: Value | None
    mask: Value | None

    @cached_property
    def key(self) -> str:
        """A text that tells variants apart by what they compute."""
        parts = (self.score, self.mask)
        return "|".join("" if part is None else canonical(part) for part in parts)


@dataclass(frozen=True)
class Variant:
    """A variant of attention, given by Python functions on traced values."""

    score_mod: ScoreMod | None = None
    mask_mod: MaskMod | None = None

    @cached_property
    def traced(self) -> TracedVariant:
        """The traced functions; raises `VariantError` for what cannot be traced."""
        return TracedVariant(
            _trace("score_mod", self.score_mod, ScalarType.F32),
            _trace("mask_mod", self.mask_mod, ScalarType.I1),
        )


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


def _trace(name: str, function: Callable[..., Any] | None, result: ScalarType) -> Value | None:
    if function is None:
        return None
    place = _first_line(function)
    names = ARGUMENTS[name]
    arguments = [
        Value(argument, (), ScalarType.F32 if argument == "score" else ScalarType.I32)
        for argument in names
    ]
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError) as error:
        refuse(f"{name} expects the parameters ({', '.join(names)}): {error}", place)
    try:
        returned = function(*arguments)
    except VariantError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame for frame in frames if frame.filename == place.filename] or list(frames)
        line = SourceLine(inside[-1].filename, inside[-1].lineno or 0)
        text = " ".join(str(error).split())
        refuse(f"{name} cannot be traced: {type(error).__name__}: {text}", line)
    if not isinstance(returned, Value | bool | int | float):
        refuse(f"{name} expects to return {result}, got {type(returned).__name__}", place)
    value = lift(returned)
    leaves = (node for node in in_order(value) if not node.operands and node.constant is None)
    if not all(any(leaf is argument for argument in arguments) for leaf in leaves):
        refuse(f"{name} uses a traced value of another function", place)
    if value.dtype is ScalarType.I32 and result is ScalarType.F32:
        return convert(value, result)
    if value.dtype is not result:
        refuse(f"{name} expects to return {result}, got {value.dtype}", place)
    return value


def full() -> Variant:
    """Every query sees every key of its request."""
    return Variant()


def causal() -> Variant:
    """A query sees the keys up to its own position."""
    return Variant(mask_mod=lambda b, h, q_idx, kv_idx: q_idx >= kv_idx)


def sliding_window(window: int) -> Variant:
    """A query sees itself and the `window` keys before it."""
    if not is_integer(window) or not 0 <= window < 2**31:
        raise VariantError(f"argument 'window': expected an integer from 0, got {window!r}")
    return Variant(
        mask_mod=lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) & (q_idx - kv_idx <= window)
    )


def soft_cap(cap: float, mask_mod: MaskMod | None = None) -> Variant:
    """Scores are bent into (-cap, cap): `cap * tanh(score / cap)` (Gemma 2, section 2)."""
    if not is_real(cap) or not 0 < cap <= LARGEST_F32:
        raise VariantError(f"argument 'cap': expected a positive number of type f32, got {cap!r}")
    return Variant(
        score_mod=lambda score, b, h, q_idx, kv_idx: cap * tanh(score / cap), mask_mod=mask_mod
    )


def alibi(num_heads: int) -> Variant:
    """
    Causal attention with a penalty that grows with the distance (Press et al., ALiBi, section 3).

    The slope of head h is `2^(-8 (h + 1) / num_heads)`.
    """
    if not is_integer(num_heads) or num_heads < 1:
        raise VariantError(f"argument 'num_heads': expected an integer from 1, got {num_heads!r}")

    def penalise(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        return score - exp2((h + 1) * (-8.0 / num_heads)) * (q_idx - kv_idx)

    return Variant(score_mod=penalise, mask_mod=causal().mask_mod)
