"""How an attention kernel's batches are planned: by what its work items are, and with maxima."""

from functools import partial

from .attention_cascade import plan_shared
from .attention_in_place import Hints, PlacedPlanner
from .attention_plan import Int32Array, PlanArrays
from .attention_planner import BatchLimits, BatchPlanner, FixedPlanner, Sharing, checked_limits
from .attention_tile_lists import derived_mask, plan_tile_lists
from .block_mask import MaskProgram
from .contract import AttentionContract
from .errors import ArgumentError
from .page_table import PageTable


class WorkPlanner:
    """Plans batches for one kernel; `mask` is the program of its mask, where it has one."""

    def __init__(self, section: AttentionContract, mask: MaskProgram | None) -> None:
        self.section, self.mask = section, mask
        self._planner = BatchPlanner(section)

    def check(self, hints: Hints) -> None:
        """Raises ArgumentError for what the kernel's work has no use for."""
        for work, name in (("tile_lists", "block_mask"), ("cascade", "prefixes")):
            given = getattr(hints, name)
            if given is not None and self.section.work != work:
                expected = f"None for a kernel of work '{self.section.work}', or one of '{work}'"
                raise ArgumentError(name, expected, type(given).__name__)

    def plan(
        self,
        qo_indptr: Int32Array,
        table: PageTable,
        hints: Hints,
        sharing: Sharing,
        levels: int | None = None,
    ) -> PlanArrays:
        """
        Returns the plan of a batch whose tables were checked; raises ArgumentError.

        With `levels` prefixes are shared in no more of them.
        """
        if self.section.work == "tile_lists":
            mask = hints.block_mask
            if mask is None and self.mask is not None:
                given = (self.section, qo_indptr, table, hints.mask_parameters)
                mask = derived_mask(self.mask, *given)
            return plan_tile_lists(self._planner, qo_indptr, table, sharing, mask)
        if self.section.work == "cascade":
            prefixes = hints.prefixes
            return plan_shared(self._planner, qo_indptr, table, sharing, prefixes, levels)
        return self._planner.plan(qo_indptr, table, sharing)

    def in_place(self, limits: BatchLimits, sharing: Sharing) -> FixedPlanner | PlacedPlanner:
        """Returns a planner of batches within declared maxima; raises ArgumentError."""
        limits = checked_limits(limits)
        if self.section.work == "ranges" and "table_of_heads" not in self.section.kv:
            return FixedPlanner(self.section, limits, sharing)
        planned = partial(self.plan, sharing=sharing, levels=limits.prefix_levels)
        return PlacedPlanner(self.section, limits, sharing, planned)
