"""``make mutate``: how many small faults in a core do its tests notice?

Prints the survivors, each with its place and change, and the share killed; ends with 1 below ``--floor``, 2 when
nothing could be measured. The sample depends on ``--seed`` alone.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from tests.mutation.cores import CORES, ROOT, equivalents, sources
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.runner import CannotMeasure, Outcome, outcomes, prepare

PROGRESS_S = 10.0


@dataclass
class Report:
    """One core's figures. ``possible`` mutants there are, of which some were sampled."""

    module: str
    seed: int
    possible: int
    equivalent: int
    mutants: int = 0
    killed: int = 0
    broken: int = 0
    hung: int = 0
    seconds: float = 0.0
    survived: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.killed / self.mutants if self.mutants else 1.0

    def count(self, outcome: Outcome) -> None:
        self.mutants += 1
        self.killed += outcome.killed
        self.broken += outcome.how == "broken"
        self.hung += outcome.how == "hung"
        if not outcome.killed:
            self.survived.append(_words(outcome.mutant))

    def line(self) -> str:
        return (
            f"{self.module}: {self.mutants} mutants of {self.possible} (seed {self.seed}), {self.killed} killed "
            f"({self.broken} at import, {self.hung} by the time limit), {len(self.survived)} survived, "
            f"{self.equivalent} equivalent ones listed and left out: {self.share:.1%} in {self.seconds:.0f} s"
        )


def measure(core: str, sample: int, seed: int, jobs: int, survivor: Callable[[str], object]) -> Report:
    """Mutate one core; ``survivor`` is called with each one found. ``sample`` 0: every mutant. Raises CannotMeasure."""
    files = list(sources(core))
    known = equivalents()
    every = [mutant for module, path in files for mutant in mutants_of(module, path)]
    telling = [mutant for mutant in every if (mutant.module, mutant.scope, mutant.change) not in known]
    chosen = random.Random(seed).sample(telling, min(sample, len(telling))) if sample else telling
    report = Report(core, seed, len(telling), len(every) - len(telling))
    begun_s = said_s = time.monotonic()
    clean = prepare([module for module, _ in files], CORES[core])
    for outcome in outcomes(chosen, CORES[core], clean, jobs):
        report.count(outcome)
        if not outcome.killed:
            survivor(report.survived[-1])
        if time.monotonic() - said_s >= PROGRESS_S:
            said_s = time.monotonic()
            print(f"  {core}: {report.mutants} of {len(chosen)}, {report.killed} killed", file=sys.stderr, flush=True)
    report.seconds = time.monotonic() - begun_s
    report.survived.sort()
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__)
    parser.add_argument(
        "--module", action="append", choices=sorted(CORES), help="a core; again for more (default: all)"
    )
    parser.add_argument("--sample", type=int, default=150, help="how many mutants of a core, 0 for all")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time")
    parser.add_argument("--floor", type=float, default=0.9, help="the share to be killed")
    parser.add_argument("--json", action="store_true", help="one JSON line for each core")
    options = parser.parse_args()
    survivor = str if options.json else lambda words: print(f"  survived {words}", flush=True)
    below = False
    for core in options.module or CORES:
        try:
            report = measure(core, options.sample, options.seed, options.jobs, survivor)
        except CannotMeasure as error:
            print(f"{core}: {error}", file=sys.stderr)
            return 2
        below |= report.share < options.floor
        if options.json:
            print(json.dumps({**asdict(report), "share": round(report.share, 4)}), flush=True)
        else:
            print(report.line(), flush=True)
    return int(below)


def _words(mutant: Mutant) -> str:
    change = mutant.change if len(mutant.change) <= 200 else f"{mutant.change[:98]} ... {mutant.change[-98:]}"
    return f"{mutant.path.relative_to(ROOT)}:{mutant.line} {mutant.scope or 'module'}: {change}"


if __name__ == "__main__":
    sys.exit(main())
