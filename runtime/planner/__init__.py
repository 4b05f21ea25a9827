"""
Plans of batches for persistent kernels: work items, their CTAs, and the merges of split tiles.

It needs NumPy alone, and never the device.
"""

from .cost import CostModel, fit_cost_model
from .limits import PlanLayout, PlanLimits, Workspace
from .planner import Planner, Step, Transfer, WorkPlan
from .tiles import OPEN_END, KvBounds, LinearBound

__all__ = (
    "OPEN_END",
    "CostModel",
    "KvBounds",
    "LinearBound",
    "PlanLayout",
    "PlanLimits",
    "Planner",
    "Step",
    "Transfer",
    "WorkPlan",
    "Workspace",
    "fit_cost_model",
)
