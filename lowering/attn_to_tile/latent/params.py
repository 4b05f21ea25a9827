"""The parameters of a kernel of multi-head latent attention."""

from dataclasses import dataclass, fields

from xdsl.dialects.builtin import f32, i8
from xdsl.ir import Attribute, SSAValue

from ....dialects.tile import element_bits
from ...emitter import Emitter
from ..params import GLOBAL, WORK_TABLES, Params
from .geometry import LatentGeometry

_QUERIES = ("q_nope", "q_pe")
_SCALES = ("ckv_scale", "kpe_scale")
_TABLES = ("qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_len")


@dataclass(frozen=True)
class LatentArrays:
    """
    The arrays of queries and of the cache, in their two parts.

    Rows of `ckv` and `kpe` lie `ckv_elements` and `kpe_elements` apart: in one array that holds
    both, `kpe` begins behind the first `ckv`. `scales` are those of the codes of `ckv` and `kpe`.
    """

    q_nope: SSAValue
    q_pe: SSAValue
    ckv: SSAValue
    kpe: SSAValue
    ckv_elements: int
    kpe_elements: int
    scales: tuple[SSAValue, SSAValue] | None = None


def latent_params(geometry: LatentGeometry) -> list[tuple[str, Attribute]]:
    """Returns the parameters of a kernel, in order, without those of its variant."""
    names = (*_QUERIES, *_cache(geometry), *_TABLES, *WORK_TABLES, "out", "lse")
    numbers = ("softmax_scale", *(_SCALES if geometry.storage.narrow else ()))
    return [*((name, GLOBAL) for name in names), *((name, f32) for name in numbers)]


def _cache(geometry: LatentGeometry) -> tuple[str, ...]:
    return ("kv_pages",) if geometry.combined else ("ckv_pages", "kpe_pages")


def bound_latent_params(
    emit: Emitter, geometry: LatentGeometry, values: dict[str, SSAValue]
) -> tuple[Params, LatentArrays]:
    """Appends what is behind the names of parameters; keys and values are both in `ckv`."""
    first, *more = (values[name] for name in _cache(geometry))
    elements = geometry.head_dim, geometry.kpe_dim
    if geometry.combined:
        elements = (sum(elements),) * 2
        bits = element_bits(geometry.storage.element_type)
        more = [emit.pointer(first, geometry.head_dim * bits // 8, i8)]
    known = {field.name for field in fields(Params)}
    found = {name: value for name, value in values.items() if name in known}
    q_nope, q_pe = (values[name] for name in _QUERIES)
    scales = None
    if geometry.storage.narrow:
        scales = values["ckv_scale"], values["kpe_scale"]
        found |= {"k_scale": scales[0], "v_scale": scales[0]}
    arrays = LatentArrays(q_nope, q_pe, first, more[0], *elements, scales=scales)
    params = Params(**found, q=q_nope, k=first, v=first, k_strides=None, v_strides=None)
    return params, arrays
