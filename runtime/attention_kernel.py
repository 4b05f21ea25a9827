"""What the parameters of an attention kernel are called, and whether somebody passes each."""

from .contract import AttentionContract, KernelContract, PointerParam
from .errors import ContractError

TABLES = (
    "qo_indptr",
    "kv_indptr",
    "kv_indices",
    "kv_last_page_len",
    "cta_indptr",
    "items",
    "item_merge",
    "merges",
    "counters",
    "kv_tiles",
    "query_rows",
    "parts",
)
# The tables of more than one dimension, and the scratch memory of partial results.
_DIMENSIONS = {"items": 2, "merges": 2, "query_rows": 2}
PARTIALS = ("partial_out", "partial_lse")
_OUTPUTS = ("out", "lse")
SCALE = "softmax_scale"
# The scales of keys and values that are stored as codes: numbers, or arrays.
KV_SCALES = ("k_scale", "v_scale", "k_scales", "v_scales", "kv_scales")
LATENT_SCALES: tuple[str, ...] = ("ckv_scale", "kpe_scale")


def check_kernel_params(contract: KernelContract, section: AttentionContract) -> None:
    """Raises ContractError for a parameter that nobody passes, and for one that is missing."""
    pointers = {param.name for param in contract.pointers}
    required = {*section.query_arrays, *section.kv_arrays, "out"}
    for name in sorted(required - pointers):
        raise ContractError("params", f"an attention kernel needs the pointer '{name}'")
    inputs = {*section.query_arrays, *section.kv_arrays, *KV_SCALES, *LATENT_SCALES}
    known = {*inputs, *_OUTPUTS, *TABLES, *PARTIALS, *section.params}
    for index, param in enumerate(contract.params):
        passed = param.name in known or param.name == SCALE
        if isinstance(param, PointerParam):
            passed = param.name in known
            dimensions = _DIMENSIONS.get(param.name, 1)
            if section.work == "cascade" and param.name == "item_merge":
                dimensions = 2
            if param.name in TABLES and (param.dtype, len(param.shape)) != ("i32", dimensions):
                path, expected = f"params[{index}]", f"i32 with {dimensions} dimensions"
                raise ContractError(path, f"'{param.name}' must be {expected}")
        elif param.symbol is not None:
            passed = True
        if not passed:
            raise ContractError(f"params[{index}].name", f"nothing provides '{param.name}'")
