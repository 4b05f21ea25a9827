"""What generic addresses mean, and cache policies (PTX ISA, isspacep, createpolicy)."""

from typing import TYPE_CHECKING

import numpy as np

from ..memory import LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW_BYTES
from ..ptx.syntax import Instruction
from ..scalars import Lanes
from .forms import Fields, Table
from .memory import emit_nothing
from .operations import lanes_of

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group

_WINDOWS = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "param": PARAM_WINDOW}


def _within(address: Lanes, space: str) -> Lanes:
    """Says whether u64 addresses lie in the window of a space."""
    return (address - np.uint64(_WINDOWS[space])) < np.uint64(WINDOW_BYTES)


def _constant(group: "Group", address: Lanes) -> Lanes:
    """Says whether u64 addresses lie in constant variables, the only read-only allocations."""
    flat = lanes_of(group, address)
    found = np.zeros(flat.size, bool)
    for value in np.unique(flat):
        allocation = group.machine.launch.memory.find(int(value))
        if allocation is not None and not allocation.writable:
            found[flat == value] = int(value) - allocation.base < allocation.size
    return found


def lies_in(group: "Group", site: "Site", address: Lanes) -> Lanes:
    """Says whether u64 generic addresses lie in the site's space; .global contains .param."""
    if site.space in _WINDOWS:
        return _within(address, site.space)
    constant = _constant(group, address)
    if site.space == "const":
        return constant
    return ~(_within(address, "shared") | _within(address, "local") | constant)


def _is_space(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits isspacep."""
    d, address = b.operands(2)
    site = b.site(space=fields["space"].partition("::")[0])
    b.write(d, "pred", f"{b.use(lies_in)}(g, {site}, {b.read(address, 'u64')})")


def _policy(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits createpolicy: what a policy holds is nobody's business but the cache's."""
    d, *_ = b.operands(1, 2, 4)
    b.write(d, "b64", b.scope.constant("u8", 0))


_PRIORITY = "L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged"
_SECOND = "[.<second:L2::evict_first|L2::evict_unchanged>]"
FORMS: Table = (
    (
        "isspacep.<space:const|global|local|shared::cta|shared::cluster|shared|param::entry|param>",
        _is_space,
    ),
    (f"createpolicy.range[.<space:global>].<first:{_PRIORITY}>{_SECOND}.b64", _policy),
    (f"createpolicy.fractional.<first:{_PRIORITY}>{_SECOND}.b64", _policy),
    ("createpolicy.cvt.L2.b64", _policy),
    (
        "membar.proxy.<proxy:alias|async|async.global|async.shared::cta|async.shared::cluster>",
        emit_nothing,
    ),
    ("pmevent[.mask]", emit_nothing),
)
