"""Measures the search for similar past courses over a million windows: recall, time and memory, and those of peers.

    make bench-prognosis
    make bench-prognosis ARGS="--windows 10000000 --peers none"
    make bench-prognosis ARGS="--windows 200000 --peers scan,hnswlib,usearch,pgvector"

Windows are signatures of simulated courses; queries are signatures of other units (benchmarks/prognosis/windows.py).
The true neighbours are found by comparing every window. docs/search.md explains each line. One thread searches. A peer
that cannot be installed is left out, with the reason on standard error. The exit code is 1 when our index misses a
floor (recall 0.95; 99 % of searches within 10 ms, for up to a million windows).
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.common import percentile, report
from benchmarks.edge.memory import NotMeasured, peak_rss_mb
from benchmarks.prognosis.engines import COLUMN, Engine, Hnswlib, Ours, Pairs, Scan, Usearch
from benchmarks.prognosis.pgvector_peer import Pgvector
from benchmarks.prognosis.truth import Truth
from benchmarks.prognosis.windows import Windows, batches, queries
from fleet_server.prognosis.signatures import BINS

K = 10
PEERS = ("scan", "float16", "hnswlib", "usearch", "pgvector")
FILTERS: tuple[tuple[str, ...], ...] = (
    ("asset_class", "component"),
    ("jurisdiction",),
    ("region",),
    ("asset_class", "component", "region", "jurisdiction"),
)
"""Filters that filtered queries use in turn; a query asks for the attribute values of its own unit."""
MAX_WINDOWS = 100_000_000
RECALL_FLOOR = 0.95
P99_FLOOR_MS = 10.0
FLOOR_WINDOWS = 1_000_000
WARM_UP = 20
ROUNDS = 3
"""Number of rounds; every query is run once in a round."""
BUDGET_S = 40.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one engine: milliseconds of one search on one thread, percentiles over the best rounds of the queries.

    ``p99_once_ms`` is over all rounds, where other work on the machine shows; ``cpu`` is processor time.
    """

    recall: float
    recall_filtered: float
    p50_ms: float
    p99_ms: float
    p99_filtered_ms: float
    p99_once_ms: float
    p99_cpu_ms: float | None
    p99_filtered_cpu_ms: float | None
    index_mb: float
    build_s: float


@dataclass(frozen=True, slots=True)
class Task:
    """``count`` windows of ``channels`` channels, and the questions."""

    count: int
    channels: int
    seed: int
    asked: Windows
    plain: Truth
    filtered: Truth

    @property
    def dims(self) -> int:
        return self.channels * BINS

    def windows(self) -> Iterable[Windows]:
        return batches(self.count, self.channels, self.seed)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench-prognosis ARGS=...", description=__doc__.split("\n\n")[0])
    parser.add_argument("--windows", type=int, default=1_000_000, help="how many windows are searched")
    parser.add_argument("--queries", type=int, default=1_000, help="questions without and with a filter, each")
    parser.add_argument(
        "--channels", default="1,3", help="indicators in a signature, of 6 numbers each: one run for each"
    )
    parser.add_argument(
        "--peers", default="scan,float16,hnswlib,usearch", help=f"of {', '.join(PEERS)}, for the first run; or none"
    )
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    peers = [] if arguments.peers == "none" else arguments.peers.split(",")
    widths = arguments.channels.split(",")
    if not (1 <= arguments.windows <= MAX_WINDOWS and 100 <= arguments.queries <= 100_000) or arguments.seed < 0:
        parser.error(f"--windows: 1..{MAX_WINDOWS}; --queries: 100..100000; --seed: 0 or more")
    if not set(peers) <= set(PEERS) or not all(width in "12345678" and len(width) == 1 for width in widths):
        parser.error(f"--peers: of {', '.join(PEERS)}, or none; --channels: 1 to 8, separated by commas")
    missed = False
    for number, width in enumerate(map(int, widths)):
        task = make_task(arguments.windows, width, arguments.seed, arguments.queries)
        missed |= compare(task, [] if number else peers, "" if width == 1 else f"_{task.dims}d")
    report("peak_rss_mb", peak_rss_mb(os.getpid()), "MB")
    return int(missed)


def make_task(count: int, channels: int, seed: int, questions: int) -> Task:
    """The questions of a run; their truth is found while the first engine is built."""
    asked = queries(questions, channels, seed + 1_000_003)
    filters = [filter_of(number, asked) for number in range(questions)]
    nothing: list[Pairs] = [{}] * questions
    return Task(count, channels, seed, asked, Truth(asked.vectors, nothing, K), Truth(asked.vectors, filters, K))


def filter_of(number: int, asked: Windows) -> Pairs:
    """The filter of a filtered question."""
    names = FILTERS[number % len(FILTERS)]
    return {name: int(asked.attributes[number, COLUMN[name]]) for name in names}


def compare(task: Task, peers: Sequence[str], suffix: str) -> bool:
    """Measure ours, then each peer; print the figures. True when one of ours misses a floor."""
    ours = measure(Ours(task.dims), task, task.plain.watched(task.filtered.watched(task.windows())))
    others: dict[str, Figures] = {}
    for name in peers:
        try:
            peer = make_peer(name, task)
            others[peer.name] = measure(peer, task)
        except (NotMeasured, ImportError) as error:
            print(f"{name}: {error}", file=sys.stderr)
    show(ours, others, suffix)
    slow = max(ours.p99_ms, ours.p99_filtered_ms) >= P99_FLOOR_MS and task.count <= FLOOR_WINDOWS
    return min(ours.recall, ours.recall_filtered) < RECALL_FLOOR or slow


def make_peer(name: str, task: Task) -> Engine:
    """A peer by its name. Raises NotMeasured or ImportError when it is not available."""
    if name == "scan":
        return Scan(task.dims)
    if name == "float16":
        return Ours(task.dims, name)
    if name == "hnswlib":
        return Hnswlib(task.dims, task.count)
    return Usearch(task.dims) if name == "usearch" else Pgvector(task.dims)


def measure(engine: Engine, task: Task, windows: Iterable[Windows] | None = None) -> Figures:
    """Build an engine (from ``windows``, else the task's) and put every question to it."""
    print(f"{engine.name}: {task.count} windows of {task.dims} numbers ...", file=sys.stderr)
    try:
        started_s = time.perf_counter()
        drawn_s = [0.0]
        engine.build(_timed(windows or task.windows(), drawn_s))
        build_s = time.perf_counter() - started_s - drawn_s[0]
        gc.collect()
        for vector in task.asked.vectors[:WARM_UP]:
            engine.nearest(vector, K, {})
        plain, filtered = _ask(engine, task.plain), _ask(engine, task.filtered)
        return Figures(
            recall=task.plain.recall(plain.answers),
            recall_filtered=task.filtered.recall(filtered.answers),
            p50_ms=plain.best_ms(0.5),
            p99_ms=plain.best_ms(0.99),
            p99_filtered_ms=filtered.best_ms(0.99),
            p99_once_ms=percentile(plain.taken_ms.ravel().tolist(), 0.99),
            p99_cpu_ms=percentile(plain.cpu_ms, 0.99) if engine.in_process else None,
            p99_filtered_cpu_ms=percentile(filtered.cpu_ms, 0.99) if engine.in_process else None,
            index_mb=engine.index_mb,
            build_s=build_s,
        )
    finally:
        engine.close()


def _timed(windows: Iterable[Windows], drawn_s: list[float]) -> Iterable[Windows]:
    """The windows; the seconds that drawing them takes are added to ``drawn_s``."""
    started_s = time.perf_counter()
    for batch in windows:
        drawn_s[0] += time.perf_counter() - started_s
        yield batch
        started_s = time.perf_counter()


@dataclass(frozen=True, slots=True)
class Asked:
    """Answers to the questions, real milliseconds (rounds, questions) and the processor's in the last round."""

    answers: list[list[int]]
    taken_ms: npt.NDArray[np.float64]
    cpu_ms: list[float]

    def best_ms(self, share: float) -> float:
        """Percentile over the questions of each one's best round."""
        return percentile(self.taken_ms.min(axis=0).tolist(), share)


def _ask(engine: Engine, truth: Truth) -> Asked:
    """All questions, in rounds; an engine that is slow answers those it can within BUDGET_S, once."""
    rounds_ms: list[list[float]] = []
    count, spent_ms = len(truth.vectors), 0.0
    while not rounds_ms or (len(rounds_ms) < ROUNDS and spent_ms / len(rounds_ms) < BUDGET_S * 1e3 / ROUNDS):
        answers, taken_ms, cpu_ms = [], [], []
        for vector, where in zip(truth.vectors[:count], truth.filters[:count], strict=True):
            cpu_s, started_s = time.thread_time(), time.perf_counter()
            answers.append(engine.nearest(vector, K, where))
            taken_ms.append((time.perf_counter() - started_s) * 1e3)
            cpu_ms.append((time.thread_time() - cpu_s) * 1e3)
            spent_ms += taken_ms[-1]
            if not rounds_ms and spent_ms > BUDGET_S * 1e3:
                break
        rounds_ms.append(taken_ms)
        count = len(answers)
    return Asked(answers, np.array(rounds_ms), cpu_ms)


def show(ours: Figures, others: dict[str, Figures], suffix: str) -> None:
    """Print our figures against each peer (once without a peer when there is none), then the peers' own figures."""
    lines = (
        (f"recall_at_{K}", "share", "recall"),
        (f"recall_at_{K}_filtered", "share", "recall_filtered"),
        ("search_p50_ms", "ms", "p50_ms"),
        ("search_p99_ms", "ms", "p99_ms"),
        ("search_p99_filtered_ms", "ms", "p99_filtered_ms"),
        ("search_p99_once_ms", "ms", "p99_once_ms"),
        ("search_p99_cpu_ms", "ms", "p99_cpu_ms"),
        ("search_p99_filtered_cpu_ms", "ms", "p99_filtered_cpu_ms"),
        ("index_mb", "MB", "index_mb"),
        ("index_build_s", "s", "build_s"),
    )
    for name, unit, attribute in lines:
        value = getattr(ours, attribute)
        for peer, figures in others.items() if others else (("", None),):
            report(name + suffix, value, unit, peer=peer, peer_value=getattr(figures, attribute, None))
    for peer, figures in others.items():
        for name, unit, attribute in lines:
            report(f"{peer.replace(' ', '_')}_{name}{suffix}", getattr(figures, attribute), unit, peer=peer)


if __name__ == "__main__":
    sys.exit(main())
