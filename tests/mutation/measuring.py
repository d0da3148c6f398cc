"""One core's figures: its sampled mutants, how many its tests notice, which survive."""

from __future__ import annotations

import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from tests.mutation.cores import CORES, ROOT, equivalents, sources
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.runner import Outcome, outcomes, prepare

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


def measure(core: str, sample: int, seed: int, jobs: int, *, aloud: bool) -> Report:
    """Mutate one core; ``sample`` 0: every mutant; ``aloud``: each survivor is printed. Raises CannotMeasure."""
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
        if aloud and not outcome.killed:
            print(f"  survived {report.survived[-1]}", flush=True)
        if time.monotonic() - said_s >= PROGRESS_S:
            said_s = time.monotonic()
            print(f"  {core}: {report.mutants} of {len(chosen)}, {report.killed} killed", file=sys.stderr, flush=True)
    report.seconds = time.monotonic() - begun_s
    report.survived.sort()
    return report


def measure_apart(core: str, sample: int, seed: int, jobs: int, *, aloud: bool) -> Report:
    """``measure`` in a new process: what one core's tests have imported, no other core's mutants could replace."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, core, sample, seed, jobs, aloud=aloud).result()


def _words(mutant: Mutant) -> str:
    change = mutant.change if len(mutant.change) <= 200 else f"{mutant.change[:98]} ... {mutant.change[-98:]}"
    return f"{mutant.path.relative_to(ROOT)}:{mutant.line} {mutant.scope or 'module'}: {change}"
