"""The instructions that the simulator covers: one file for each family of the PTX ISA."""

from . import (
    addresses,
    asynchronous,
    atomic,
    bits,
    bulk,
    comparison,
    control,
    conversion,
    floating,
    half,
    integer,
    matrix,
    mbarrier,
    memory,
    packing,
    tensor,
    warp,
    wgmma,
)
from .forms import Forms

FORMS = Forms(
    integer.FORMS,
    bits.FORMS,
    comparison.FORMS,
    floating.FORMS,
    half.FORMS,
    conversion.FORMS,
    packing.FORMS,
    memory.FORMS,
    addresses.FORMS,
    atomic.FORMS,
    warp.FORMS,
    matrix.FORMS,
    asynchronous.FORMS,
    mbarrier.FORMS,
    bulk.FORMS,
    tensor.FORMS,
    wgmma.FORMS,
    control.FORMS,
)
