"""The kernels beside attention as loop nests, by kind; each is specialised on numbers alone."""

from collections.abc import Callable, Mapping

from ...dialects.nest.program import Program
from .append import append
from .merge import merge_many, merge_pair, scale_lse
from .page_table import places
from .quest import choose, score, summarize
from .work_plan import cuts, items, queues

PROGRAMS: Mapping[str, Callable[..., Program]] = {
    "append": append,
    "append_places": places,
    "choose_pages": choose,
    "merge_many": merge_many,
    "merge_pair": merge_pair,
    "plan_cuts": cuts,
    "plan_items": items,
    "plan_queues": queues,
    "scale_lse": scale_lse,
    "score_pages": score,
    "summarize_pages": summarize,
}
