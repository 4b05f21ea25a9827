"""
Plans of batches for persistent kernels: work items, their CTAs, and the merges of split tiles.

It needs NumPy alone, and never the device.
"""

from .cascade import CascadePlan, cascade_sizes, plan_cascade
from .cost import CostModel, fit_cost_model
from .limits import PlanLayout, PlanLimits, Workspace
from .planner import Planner, Step, Transfer, WorkPlan
from .prefixes import Prefixes, sharable_pages, shared_prefixes
from .tiles import OPEN_END, KvBounds, LinearBound, visible_rows

__all__ = (
    "OPEN_END",
    "CascadePlan",
    "CostModel",
    "KvBounds",
    "LinearBound",
    "PlanLayout",
    "PlanLimits",
    "Planner",
    "Prefixes",
    "Step",
    "Transfer",
    "WorkPlan",
    "Workspace",
    "fit_cost_model",
    "cascade_sizes",
    "plan_cascade",
    "sharable_pages",
    "shared_prefixes",
    "visible_rows",
)
