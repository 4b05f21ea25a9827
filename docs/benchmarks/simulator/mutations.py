"""
Counts the mutations of the corpus's kernels that the simulator's checks find.

Run it as `python docs/benchmarks/simulator/mutations.py [kernel...]`. Each mutation drops or
changes one synchronisation of a correct kernel; `needed` are those that can change a result under
some legal schedule, as decided in test/runtime/simulator/mutations.py. It exits with 1 where
less than 95 % of these are found, or where a kernel as it is has a finding.
"""

import sys

from tilewright.test.runtime.simulator.cases import CASES
from tilewright.test.runtime.simulator.mutations import kinds, missed, mutations, needed

WANTED = 0.95


def main() -> int:
    """Prints one line for each kernel and the sums; returns the exit status."""
    names = sys.argv[1:] or [
        name for name, case in CASES.items() if mutations(case.text, case.entry)
    ]
    print(f"{'kernel':18}{'operations':>11}{'needed':>8}{'found':>7}  missed")
    all_needed = all_found = 0
    flagged: list[str] = []
    for name in names:
        case = CASES[name]
        every = mutations(case.text, case.entry)
        wanted, lost = needed(name, case), missed(name, case)
        flagged += [name] * bool(kinds(case, case.text))
        found = len(wanted) - len(lost)
        print(f"{name:18}{len(every):11}{len(wanted):8}{found:7}  {', '.join(lost)}", flush=True)
        all_needed += len(wanted)
        all_found += found
    share = all_found / max(all_needed, 1)
    print(f"found {all_found} of {all_needed} needed ({share:.1%}); wanted {WANTED:.0%}")
    print(f"findings in kernels as they are: {', '.join(flagged) or 'none'}")
    return int(share < WANTED or bool(flagged))


if __name__ == "__main__":
    sys.exit(main())
