"""Kernel contracts as JSON text: `to_json` writes one, `from_json` reads it strictly."""

import json
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar, cast

from .contract import (
    VERSION,
    Access,
    AttentionContract,
    JsonScalar,
    KernelContract,
    Param,
    ParamReach,
    PointerParam,
    Resources,
    ScalarParam,
    SymbolRange,
)
from .errors import ContractError

T = TypeVar("T")
Reader: TypeAlias = Callable[[object, str], T]
_BOUNDS = ("kv_lower", "kv_upper")


def to_json(contract: KernelContract) -> str:
    """Returns the contract as JSON text, indented, with a version field."""
    document = {
        "version": VERSION,
        "name": contract.name,
        "target": contract.target,
        "params": [_write_param(param) for param in contract.params],
        "grid": list(contract.grid),
        "block": list(contract.block),
        "shared_bytes": {
            "static": contract.static_shared_bytes,
            "dynamic": contract.dynamic_shared_bytes,
        },
        "symbols": {name: _write_range(span) for name, span in contract.symbols.items()},
        "compile_key": dict(contract.compile_key),
        "resources": _write_resources(contract.resources),
        "attention": _write_attention(contract.attention),
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def from_json(text: str) -> KernelContract:
    """Returns the contract that `text` holds; raises ContractError with the JSON path."""
    return _contract(parse_json(text))


def parse_json(text: str) -> object:
    """Returns the JSON value of `text`; raises ContractError where it is not JSON."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ContractError("$", f"not JSON: {error}") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ContractError("$", "a field is given twice")
    return result


def _refuse_constant(text: str) -> float:
    raise ContractError("$", f"{text} is not a number")


def _write_param(param: Param) -> dict[str, object]:
    if isinstance(param, ScalarParam):
        return {"kind": "scalar", **vars(param)}
    return {"kind": "pointer", **vars(param), "shape": list(param.shape)}


def _write_range(span: SymbolRange) -> list[int | None]:
    ends = [span.minimum, span.maximum]
    return ends if span.multiple == 1 else [*ends, span.multiple]


def _write_resources(resources: Resources | None) -> dict[str, object] | None:
    return None if resources is None else dict(vars(resources))


def _write_attention(section: AttentionContract | None) -> dict[str, object] | None:
    if section is None:
        return None
    reaches = [[reach.param, reach.axis, reach.position] for reach in section.reaches]
    bounds = {name: [list(bound) for bound in getattr(section, name)] for name in _BOUNDS}
    lists = {"params": list(section.params), "reaches": reaches, "kv": list(section.kv)}
    return {**vars(section), **lists, **bounds}


def _fields(value: object, path: str, *names: str) -> Mapping[str, object]:
    """Returns the object `value`, which must have exactly the fields `names`."""
    where = path or "$"
    if not isinstance(value, dict):
        raise ContractError(where, f"expected an object, got {_kind(value)}")
    found = cast("dict[str, object]", value)
    prefix = f"{path}." if path else ""
    for name in names:
        if name not in found:
            raise ContractError(prefix + name, "missing field")
    for name in found:
        if name not in names:
            raise ContractError(prefix + name, "unknown field")
    return found


def _kind(value: object) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "a truth value"}
    return "null" if value is None else kinds.get(type(value), f"the number {value}")


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise ContractError(path, f"expected text, got {_kind(value)}")
    return value


def _integer(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ContractError(path, f"expected an integer, got {_kind(value)}")
    return value


def _number(value: object, path: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ContractError(path, f"expected a number, got {_kind(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ContractError(path, "the number is too large") from None


def _scalar(value: object, path: str) -> JsonScalar:
    if isinstance(value, dict | list):
        raise ContractError(path, f"expected a scalar, got {_kind(cast('object', value))}")
    return cast("JsonScalar", value)


def _optional(value: object, path: str, read: Reader[T]) -> T | None:
    return None if value is None else read(value, path)


def _list(value: object, path: str, read: Reader[T], length: int | None = None) -> tuple[T, ...]:
    if not isinstance(value, list):
        raise ContractError(path, f"expected a list, got {_kind(value)}")
    items = cast("list[object]", value)
    if length is not None and len(items) != length:
        raise ContractError(path, f"expected {length} items, got {len(items)}")
    return tuple(read(item, f"{path}[{index}]") for index, item in enumerate(items))


def _table(value: object, path: str, read: Reader[T]) -> dict[str, T]:
    if not isinstance(value, dict):
        raise ContractError(path, f"expected an object, got {_kind(value)}")
    items = cast("dict[str, object]", value)
    return {name: read(item, f"{path}.{name}") for name, item in items.items()}


def _peek(value: object, name: str, default: object = None) -> object:
    """Returns the field `name` of what may be an object, `default` where there is none."""
    return (
        cast("dict[str, object]", value).get(name, default) if isinstance(value, dict) else default
    )


def _param(value: object, path: str) -> Param:
    kind = _peek(value, "kind")
    if kind == "scalar":
        found = _fields(value, path, "kind", "name", "dtype", "symbol")
        symbol = _optional(found["symbol"], f"{path}.symbol", _text)
        name, dtype = _text(found["name"], f"{path}.name"), _text(found["dtype"], f"{path}.dtype")
        return ScalarParam(name, dtype, symbol)
    if kind != "pointer":
        raise ContractError(f"{path}.kind", "expected 'pointer' or 'scalar'")
    found = _fields(value, path, "kind", "name", "dtype", "shape", "access", "alignment")
    return PointerParam(
        _text(found["name"], f"{path}.name"),
        _text(found["dtype"], f"{path}.dtype"),
        _list(found["shape"], f"{path}.shape", _text),
        cast("Access", _text(found["access"], f"{path}.access")),
        _integer(found["alignment"], f"{path}.alignment"),
    )


def _range(value: object, path: str) -> SymbolRange:
    count = 3 if isinstance(value, list) and len(cast("list[object]", value)) == 3 else 2
    ends = _list(
        cast("object", value), path, lambda item, where: _optional(item, where, _integer), count
    )
    low, high, multiple = (*ends, 1)[:3]
    for index, number in ((0, low), (2, multiple)):
        if number is None:
            raise ContractError(f"{path}[{index}]", "expected an integer, got null")
    return SymbolRange(low or 0, high, multiple or 0)


def _resources(value: object, path: str) -> Resources:
    found = _fields(value, path, "registers", "spilled_bytes")
    registers = _integer(found["registers"], f"{path}.registers")
    return Resources(registers, _integer(found["spilled_bytes"], f"{path}.spilled_bytes"))


def _attention(value: object, path: str) -> AttentionContract:
    found = _fields(value, path, *AttentionContract.__dataclass_fields__)

    def integer(name: str) -> int:
        return _integer(found[name], f"{path}.{name}")

    return AttentionContract(
        num_qo_heads=integer("num_qo_heads"),
        num_kv_heads=integer("num_kv_heads"),
        head_dim=integer("head_dim"),
        page_size=integer("page_size"),
        layout=_text(found["layout"], f"{path}.layout"),
        dtype=_text(found["dtype"], f"{path}.dtype"),
        tile_rows=integer("tile_rows"),
        softmax_scale=_number(found["softmax_scale"], f"{path}.softmax_scale"),
        params=_list(found["params"], f"{path}.params", _text),
        reaches=_list(found["reaches"], f"{path}.reaches", _reach),
        short_rows=integer("short_rows"),
        kv_tile=integer("kv_tile"),
        kv_lower=_list(found["kv_lower"], f"{path}.kv_lower", _bound),
        kv_upper=_list(found["kv_upper"], f"{path}.kv_upper", _bound),
        kv=_list(found["kv"], f"{path}.kv", _text),
        work=_text(found["work"], f"{path}.work"),
    )


def _bound(value: object, path: str) -> tuple[int, int]:
    slope, offset = _list(value, path, _integer, 2)
    return slope, offset


def _reach(value: object, path: str) -> ParamReach:
    param, axis, position = _list(value, path, lambda item, _: item, 3)
    return ParamReach(
        _text(param, f"{path}[0]"), _integer(axis, f"{path}[1]"), _text(position, f"{path}[2]")
    )


def _contract(value: object) -> KernelContract:
    version = _peek(value, "version", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise ContractError("version", f"expected {VERSION}, got {version!r}")
    names = ("name", "target", "params", "grid", "block", "shared_bytes", "symbols")
    more = ("compile_key", "resources", "attention")
    found = _fields(value, "", "version", *names, *more)
    shared = _fields(found["shared_bytes"], "shared_bytes", "static", "dynamic")
    grid = _list(found["grid"], "grid", _text, 3)
    block = _list(found["block"], "block", _integer, 3)
    return KernelContract(
        name=_text(found["name"], "name"),
        target=_text(found["target"], "target"),
        params=_list(found["params"], "params", _param),
        grid=(grid[0], grid[1], grid[2]),
        block=(block[0], block[1], block[2]),
        static_shared_bytes=_integer(shared["static"], "shared_bytes.static"),
        dynamic_shared_bytes=_integer(shared["dynamic"], "shared_bytes.dynamic"),
        symbols=_table(found["symbols"], "symbols", _range),
        compile_key=_table(found["compile_key"], "compile_key", _scalar),
        resources=_optional(found["resources"], "resources", _resources),
        attention=_optional(found["attention"], "attention", _attention),
    )
