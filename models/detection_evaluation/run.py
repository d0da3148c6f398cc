"""The evaluation as a whole: tasks of the chosen corpora, judged in parallel processes, tables and pictures out.

One configuration for everything, all detectors causal. A series that cannot be judged is named in a table and does not
stop the rest; a missing package does (BadConfig).
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from fleet_core.errors import BadConfig
from models.detection_evaluation import fleet, nab_corpus, run_to_failure, skab
from models.detection_evaluation.baselines import optional
from models.detection_evaluation.report import Report, Table, file_name, plot_series, plot_summary
from models.detection_evaluation.skab import anomaly_windows
from models.detection_evaluation.tasks import OURS, Task, TaskResult, judge, slim

CORPORA = ("nab", "skab", "bearings", "fleet")
PACKAGES = ("scipy.stats", "sklearn.ensemble", "river.anomaly")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Progress = Callable[[int, int, str], None]
"""Called with tasks done, tasks in all, and the name of the one just done."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What to evaluate: ``data`` None leaves only the fleet; ``out`` None draws nothing."""

    data: Path | None = None
    only: tuple[str, ...] = CORPORA
    out: Path | None = None
    seed: int = 0
    months: int = 24
    jobs: int = 0
    baselines: bool = True

    def __post_init__(self) -> None:
        unknown = [name for name in self.only if name not in CORPORA]
        if unknown:
            raise BadConfig(f"--only {unknown[0]}: there are {', '.join(CORPORA)}")
        if not 0 <= self.months <= 100_000 or not 0 <= self.jobs <= 256 or self.seed < 0:
            raise BadConfig("--months must be 0..100000, --jobs 0..256 (0: all cores), --seed 0 or more")
        if self.data is not None and not self.data.is_dir():
            raise BadConfig(f"--data {self.data}: no such folder")


def evaluate(options: Options, progress: Progress) -> Report:
    """Judge everything chosen and tabulate it; with ``out`` also report.md, report.json and pictures.

    Raises BadConfig, and OSError when ``out`` cannot be written.
    """
    for package in PACKAGES if options.baselines else ():
        optional(package)
    if options.out is not None:
        optional("matplotlib.figure")
        options.out.mkdir(parents=True, exist_ok=True)
    tasks = _tasks(options)
    if not tasks:
        raise BadConfig("nothing to evaluate: name a folder of recordings with --data or FORESTALL_DATA, or --months")
    judged: list[TaskResult] = []
    for each in _judged(tasks, options):
        judged.append(each)
        progress(len(judged), len(tasks), each.task.name)
    order = {task: place for place, task in enumerate(tasks)}
    judged.sort(key=lambda each: order[each.task])
    report = tabulate(judged)
    if options.out is not None:
        _write(options.out, report)
    return report


def tabulate(judged: Sequence[TaskResult]) -> Report:
    """Tables and floors of what was judged."""
    modules = (nab_corpus, skab, run_to_failure, fleet)
    tables = [table for module in modules for table in module.tables(judged)]
    floors = [floor for module in modules for floor in module.floors(judged)]
    return Report([*tables, *_speed_and_refusals(judged)], floors)


def _tasks(options: Options) -> list[Task]:
    found: list[Task] = []
    if options.data is not None:
        for name, module in (("nab", nab_corpus), ("skab", skab), ("bearings", run_to_failure)):
            found.extend(module.tasks(options.data) if name in options.only else ())
    if "fleet" in options.only:
        found.extend(fleet.tasks(options.months, options.seed))
    return found if options.baselines else [dataclasses.replace(task, baselines=()) for task in found]


def _judged(tasks: Sequence[Task], options: Options) -> Iterator[TaskResult]:
    """The tasks as they are done. One job: in this process."""
    jobs = min(options.jobs or os.cpu_count() or 1, len(tasks))
    work = partial(judge_and_plot, out=options.out)
    if jobs == 1:
        yield from map(work, tasks)
        return
    for name in ONE_THREAD:  # the processes are the parallelism; they inherit this
        os.environ.setdefault(name, "1")
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(work, task) for task in tasks]):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def judge_and_plot(task: Task, out: Path | None) -> TaskResult:
    """Judge one task, draw it into the folder ``out``, drop what no table needs. Raises BadConfig, OSError."""
    judged = judge(task)
    if judged.recording is None:
        return judged
    if out is not None:
        windows = [*task.windows, *anomaly_windows(judged.recording)]
        plot_series(out / file_name(task.name), task.name, judged.recording, judged.verdicts, windows, OURS)
    return slim(judged, scores=task.corpus == "nab")


def _speed_and_refusals(judged: Sequence[TaskResult]) -> list[Table]:
    done = [each for each in judged if each.recording is not None]
    rows: list[tuple[object, ...]] = []
    for corpus in dict.fromkeys(each.task.corpus for each in done):
        members = [each for each in done if each.task.corpus == corpus]
        count = sum(len(each.verdicts[OURS].alarm) for each in members)
        seconds = sum(each.seconds for each in members)
        rows.append((corpus, len(members), count, round(seconds, 1), round(1e6 * seconds / max(1, count), 1)))
    found = [Table("Effort of the device's detection", ("corpus", "series", "rows", "CPU s", "us per row"), rows)]
    refused = [(each.task.name, each.refused) for each in judged if each.refused]
    return [*found, Table("Not judged", ("series", "reason"), refused)] if refused else found


def _write(out: Path, report: Report) -> None:
    tables = report.all_tables()
    text = "# Detection, evaluated\n\n" + "\n".join(table.as_markdown() for table in tables)
    (out / "report.md").write_text(text, encoding="utf-8")
    (out / "report.json").write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
    plot_summary(out / "summary.png", tables)
