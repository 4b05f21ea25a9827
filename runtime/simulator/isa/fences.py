"""
Fences (PTX ISA, "membar", "fence").

Execution is sequentially consistent; fences matter to the race checks: what another CTA or the
async proxy may see.
"""

from typing import TYPE_CHECKING

from ..ptx.syntax import Instruction
from .forms import Fields, Table
from .memory import emit_nothing

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..compiler.program import Site
    from ..machine import Group


def fence_proxy(group: "Group", site: "Site") -> None:
    """Runs fence.proxy.async."""
    if group.machine.clocks is not None:
        group.machine.clocks.fence_proxy(group.lanes())


def fence_device(group: "Group", site: "Site") -> None:
    """Runs a fence at a scope that reaches other clusters."""
    races = group.machine.launch.races
    if races is not None:
        races.fence(group.machine, group.lanes())


def fence_within(group: "Group", site: "Site") -> None:
    """Runs a fence at a scope within the cluster."""
    if group.machine.clocks is not None:
        group.machine.clocks.fence(group.lanes())


def _proxy(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits fence.proxy.async of shared memory."""
    b.operands(0)
    b.call(fence_proxy, b.site(), [])


def _within(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits a fence at CTA or cluster scope."""
    b.operands(0)
    b.call(fence_within, b.site(), [])


def _device(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits a fence at gpu or system scope."""
    b.operands(0)
    b.call(fence_device, b.site(), [])


_KIND = "[.<kind:sc|acq_rel|acquire|release>]"
FORMS: Table = (
    ("membar.<level:gl|sys>", _device),
    ("membar.cta", _within),
    (f"fence{_KIND}.<scope:gpu|sys>", _device),
    (f"fence{_KIND}.<scope:cta|cluster>", _within),
    ("fence.proxy.async[.<space:shared::cta|shared::cluster>]", _proxy),
    ("fence.proxy.<proxy:alias|async.global>", emit_nothing),
    ("fence.mbarrier_init.release.cluster", _within),
    (
        "fence.<order:acquire|release>.sync_restrict::shared::<to:cta|cluster>.cluster",
        emit_nothing,
    ),
    (
        "fence.proxy.async::generic.<order:acquire|release>"
        ".sync_restrict::shared::<to:cta|cluster>.cluster",
        emit_nothing,
    ),
)
