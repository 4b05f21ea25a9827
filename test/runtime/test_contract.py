"""Kernel contracts: the round trip through JSON, and what is refused, with its path."""

import json
from dataclasses import replace
from typing import Any, cast

import pytest

from tilewright.runtime.contract import (
    KernelContract,
    PointerParam,
    Resources,
    ScalarParam,
    SymbolRange,
    parse_target,
)
from tilewright.runtime.contract_json import from_json, to_json
from tilewright.runtime.errors import ContractError
from tilewright.test.runtime.attention_case import SYMBOLS, Geometry, contract_of

CONTRACT = replace(
    contract_of(Geometry(), (ScalarParam("cap", "f32"),)),
    static_shared_bytes=64,
    dynamic_shared_bytes=49152,
    resources=Resources(168, 0),
    compile_key={"dtype": "bf16", "group": 2, "causal": True, "scale": 0.25, "note": None},
    symbols={name: SymbolRange(0, 8192) for name in SYMBOLS},
)


@pytest.mark.parametrize("contract", [CONTRACT, replace(CONTRACT, attention=None, resources=None)])
def test_json_round_trip(contract: KernelContract) -> None:
    assert from_json(to_json(contract)) == contract


def _set(document: Any, path: list[str | int], value: object) -> None:
    for part in path[:-1]:
        document = document[part]
    document[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["version"], 2, "version: expected 1, got 2"),
        (["version"], None, "version: expected 1, got None"),
        (["extra"], 1, "extra: unknown field"),
        (["name"], 7, "name: expected text, got the number 7"),
        (["name"], "a b", "name: expected a PTX identifier, got 'a b'"),
        (
            ["target"],
            "gfx90a",
            "target: expected a target such as sm_80, sm_90a or host, got 'gfx90a'",
        ),
        (["params"], {}, "params: expected a list, got an object"),
        (["params", 0, "kind"], "array", "params[0].kind: expected 'pointer' or 'scalar'"),
        (["params", 0, "stride"], [], "params[0].stride: unknown field"),
        (
            ["params", 0, "dtype"],
            "f80",
            "params[0].dtype: expected one of f16, bf16, f32, f64, i1, i8, u8, i16, i32, i64, "
            "got 'f80'",
        ),
        (
            ["params", 1, "access"],
            "none",
            "params[1].access: expected one of read, write, read_write, got 'none'",
        ),
        (["params", 1, "alignment"], 12, "params[1].alignment: expected a power of two, got 12"),
        (["params", 1, "name"], "q", "params[1].name: 'q' is declared twice"),
        (
            ["params", 0, "shape", 0],
            "n +",
            "params[0].shape[0]: extent 'n +': column 4: expected an integer, a symbol or '(', "
            "got the end",
        ),
        (
            ["params", 17, "dtype"],
            "f16",
            "params[17].dtype: expected one of i32, i64, f32, f64, got 'f16'",
        ),
        (["grid"], ["1", "1"], "grid: expected 3 items, got 2"),
        (["grid", 0], "blocks", "grid[0]: symbol 'blocks' has no range in 'symbols'"),
        (["block", 0], 0, "block[0]: expected at least 1 thread, got 0"),
        (["block", 0], 2048, "block: expected at most 1024 threads, got 2048"),
        (["block", 0], True, "block[0]: expected an integer, got a truth value"),
        (["shared_bytes", "dynamic"], -1, "shared_bytes.dynamic: expected at least 0, got -1"),
        (["shared_bytes"], 0, "shared_bytes: expected an object, got the number 0"),
        (["symbols", "free"], [0, 1], "symbols.free: no shape or scalar binds symbol 'free'"),
        (["symbols", "n"], [5, 4], "symbols.n: [5, 4] holds no value"),
        (["symbols", "n"], [None, 4], "symbols.n[0]: expected an integer, got null"),
        (["compile_key", "x"], [1], "compile_key.x: expected a scalar, got a list"),
        (["resources"], {"registers": 1}, "resources.spilled_bytes: missing field"),
        (["attention", "layout"], "DHN", "attention.layout: expected one of NHD, HND, got 'DHN'"),
        (["attention", "page_size"], 0, "attention.page_size: expected at least 1, got 0"),
        (
            ["attention", "num_qo_heads"],
            5,
            "attention.num_qo_heads: expected a multiple of num_kv_heads = 2, got 5",
        ),
        (["attention", "dtype"], "f32", "attention.dtype: expected f16 or bf16, got 'f32'"),
        (
            ["attention", "params"],
            ["slopes"],
            "attention.params[0]: 'slopes' is no parameter of the kernel",
        ),
        (
            ["attention", "softmax_scale"],
            "1",
            "attention.softmax_scale: expected a number, got text",
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_path(
    path: list[str | int], value: object, message: str
) -> None:
    document = json.loads(to_json(CONTRACT))
    _set(document, path, value)
    with pytest.raises(ContractError) as caught:
        from_json(json.dumps(document))
    assert str(caught.value) == f"kernel contract: {message}"


def _fields(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Returns the paths of the fields whose absence is a mistake."""
    if isinstance(value, list):
        items = enumerate(cast("list[object]", value))
        return [field for i, item in items for field in _fields(item, (*path, i))]
    if not isinstance(value, dict) or path in (("symbols",), ("compile_key",)):
        return []
    found: list[tuple[str | int, ...]] = []
    for key, item in cast("dict[str, object]", value).items():
        found += [(*path, key), *_fields(item, (*path, key))]
    return found


def test_every_missing_field_is_refused() -> None:
    text = to_json(CONTRACT)
    for path in _fields(json.loads(text)):
        document = json.loads(text)
        owner: Any = document
        for part in path[:-1]:
            owner = owner[part]
        del owner[path[-1]]
        with pytest.raises(ContractError):
            from_json(json.dumps(document))


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, True, -1, 1.5])
def test_a_field_of_any_other_type_is_a_contract_error(value: object) -> None:
    text = to_json(CONTRACT)
    for path in _fields(json.loads(text)):
        document = json.loads(text)
        _set(document, list(path), value)
        try:
            read = from_json(json.dumps(document))
        except ContractError:
            continue
        # Where the value is allowed it is kept, and not replaced by a default.
        assert json.loads(to_json(read)) == document


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": NaN}', '{"a": 1, "a": 1}'])
def test_text_that_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(ContractError):
        from_json(text)


@pytest.mark.parametrize(
    ("target", "capability", "runs"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (9, 0), True),
        ("sm_80", (12, 0), True),
        ("sm_80", (7, 5), False),
        ("sm_86", (8, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_90a", (10, 0), False),
        ("sm_100", (9, 0), False),
    ],
)
def test_targets_run_on_their_capabilities(
    target: str, capability: tuple[int, int], runs: bool
) -> None:
    parsed = parse_target(target)
    assert parsed is not None
    assert parsed.runs_on(capability) is runs


def test_a_pointer_knows_its_extents() -> None:
    param = PointerParam("q", "f16", ("n + 1", "8"))
    assert [extent.evaluate({"n": 4}) for extent in param.extents] == [5, 8]
