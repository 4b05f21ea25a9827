"""All that a program has to fulfil, whoever wrote it."""

from collections.abc import Sequence

from .coverage import check_producers, check_regions
from .inside import check_inside
from .program import Program
from .sites import Site, sites_of
from .threads import check_threads
from .visits import check_visits
from .wellformed import check_well_formed, has_blocks


def verify_program(program: Program) -> None:
    """
    Raises ProgramError at the first thing that is wrong with a program.

    Names are unique and visible, accesses fit their buffers and don't leave them for all values of
    the symbols, bound loops make kernels; bindings visit each point of a block, once where twice
    would be wrong; regions cover what blocks touch, and what is read of the program's own buffers
    was written before.
    """
    check_well_formed(program)
    check_threads(program)
    check_inside(program)
    if has_blocks(program):
        sites = sites_of(program)
        _check_blocks(program, sites)
        check_producers(program, sites)


def _check_blocks(program: Program, sites: Sequence[Site]) -> None:
    for place, site in enumerate(sites):
        check_visits(program, site, sites[:place])
        check_regions(program, site)
        _check_blocks(program, site.inner)
