"""Pass pipelines as text, `a,b{option=1}`, with one-line answers to what is misspelt."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeVar, get_type_hints

from xdsl.passes import ModulePass
from xdsl.utils.arg_spec import ArgSpec, ArgSpecConvertible, ParameterListType, parse_pipeline
from xdsl.utils.exceptions import ArgSpecParseError
from xdsl.utils.hints import isa, type_repr

_T = TypeVar("_T", bound=ArgSpecConvertible)
PassFactories = Mapping[str, Callable[[], type[ModulePass]]]


class PipelineSpecError(ValueError):
    """A pipeline is not understood; the message is one line."""


def parse_pipeline_spec(
    spec: str, available: PassFactories, own: Sequence[str] = ()
) -> tuple[ModulePass, ...]:
    """
    Returns the passes of a pipeline such as `canonicalize,convert-x-to-y{target="sm_80"}`.

    `own` are the names to list in full when a name is not known. Raises `PipelineSpecError`.
    """
    try:
        specs = tuple(parse_pipeline(spec))
    except ArgSpecParseError as err:
        raise PipelineSpecError(_syntax_error(spec, err)) from None
    for pass_spec in specs:
        if pass_spec.name not in available:
            raise PipelineSpecError(_unknown_pass(pass_spec.name, available, own))
    return tuple(instantiate(available[s.name](), s, "pass") for s in specs)


def _syntax_error(spec: str, err: ArgSpecParseError) -> str:
    # The last line of xDSL's message says what is wrong, the carets above it where.
    lines = [line for line in str(err).splitlines() if line.strip()]
    caret = next((line for line in lines if set(line.strip()) == {"^"}), "^")
    reason = lines[-1].strip()
    column = caret.index("^") + 1
    return f"pipeline '{spec}', column {column}: {reason[:1].lower()}{reason[1:]}"


def _unknown_pass(name: str, available: PassFactories, own: Sequence[str]) -> str:
    nearest = get_close_matches(name, available, n=3)
    listed = nearest + [other for other in own if other not in nearest]
    others = len(available) - len(listed)
    there_are = ", ".join(listed)
    more = f" and {others} more" if listed else f"{others} passes"
    return f"there is no pass '{name}'; there are {there_are}{more} (--show-passes)"


def instantiate(cls: type[_T], spec: ArgSpec, kind: str) -> _T:
    """Returns the pass or target (`kind`) with the options of a spec, or `PipelineSpecError`."""
    what = f"{kind} '{cls.name}'"
    spec = spec.normalize_parameter_names()
    fields = [f.name for f in dataclasses.fields(cls) if f.init and f.name != "name"]
    for option in spec.parameters:
        if option not in fields:
            raise PipelineSpecError(_unknown_option(what, option, fields))
    for option in cls.required_fields():
        if option not in spec.parameters:
            raise PipelineSpecError(f"{what} needs option '{_dashed(option)}'")
    types = get_type_hints(cls)
    for option, value in spec.parameters.items():
        if not _fits(value, types[option]):
            raise PipelineSpecError(
                f"option '{_dashed(option)}' of {what} expects "
                f"{type_repr(types[option])}, got {_shown(value)}"
            )
    try:
        return cls.from_spec(spec)
    except ValueError as err:
        raise PipelineSpecError(f"{what}: {err}") from None


def _unknown_option(what: str, option: str, options: Sequence[str]) -> str:
    if not options:
        return f"{what} has no options, got '{_dashed(option)}'"
    nearest = get_close_matches(option, options, n=1)
    listed = nearest + [other for other in options if other not in nearest]
    there_are = ", ".join(map(_dashed, listed))
    return f"{what} has no option '{_dashed(option)}'; it has {there_are}"


def _fits(value: ParameterListType, expected: type) -> bool:
    if not value:
        return isa(None, expected) or isa(value, expected)
    return isa(value, expected) or (len(value) == 1 and isa(value[0], expected))


def _dashed(option: str) -> str:
    return option.replace("_", "-")


def _shown(value: ParameterListType) -> str:
    return ",".join(f'"{v}"' if isinstance(v, str) else str(v).lower() for v in value) or "nothing"
