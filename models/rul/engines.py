"""Independent tasks, run one after another, in processes of this machine, or by Ray on a cluster.

The three give the same results in the order of the tasks: a task carries its own seed and shares nothing. A task that
fails ends the run with its error. Ray is an optional extra; on a cluster the workers need this package and the data
under the same path.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

from fleet_core.errors import BadConfig
from models.detection_evaluation.run import ONE_THREAD

Task = TypeVar("Task")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]

ENGINES = ("serial", "processes", "ray")


def run_tasks(
    tasks: Sequence[Task],
    work: Callable[[Task], Result],
    engine: str = "serial",
    *,
    workers: int = 0,
    progress: Progress = lambda done, total: None,
) -> list[Result]:
    """``work`` of each task, in order; ``progress(done, total)`` after each. ``workers`` 0: one per core.

    ``work`` is a function of a module (it is sent by name). Ray uses the cluster it finds itself connected to, or
    starts ``workers`` local ones and ends them.

    Raises:
        BadConfig: unknown engine, or Ray is not installed. Whatever ``work`` raises.
    """
    run = {"serial": _serial, "processes": _processes, "ray": _ray}.get(engine)
    if run is None:
        raise BadConfig(f"--engine {engine}: there are {', '.join(ENGINES)}")
    found: dict[int, Result] = {}
    for place, result in run(tasks, work, workers or os.cpu_count() or 1):
        found[place] = result
        progress(len(found), len(tasks))
    return [found[place] for place in range(len(tasks))]


def _serial(tasks: Sequence[Any], work: Callable[[Any], Any], workers: int) -> Iterator[tuple[int, Any]]:
    for place, task in enumerate(tasks):
        yield place, work(task)


def _processes(tasks: Sequence[Any], work: Callable[[Any], Any], workers: int) -> Iterator[tuple[int, Any]]:
    if not tasks:
        return
    for name in ONE_THREAD:  # the processes are the parallelism; they inherit this
        os.environ.setdefault(name, "1")
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(work, task): place for place, task in enumerate(tasks)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _ray(tasks: Sequence[Any], work: Callable[[Any], Any], workers: int) -> Iterator[tuple[int, Any]]:
    if importlib.util.find_spec("ray") is None:
        raise BadConfig("--engine ray: Ray is not installed; pip install 'forestall[ray]', or --engine processes")
    import ray  # heavy, optional

    ours = not ray.is_initialized()
    if ours:
        environment = {"env_vars": dict.fromkeys(ONE_THREAD, "1")}
        local = None if os.environ.get("RAY_ADDRESS") else workers
        try:
            ray.init(num_cpus=local, include_dashboard=False, log_to_driver=False, runtime_env=environment)
        except Exception as error:  # Ray raises bare ones; it gives its processes 30 s to start
            raise BadConfig(f"Ray does not start: {error} Is the machine busy? Or take --engine processes") from error
    try:
        remote: Any = ray.remote(lambda task: work(task))  # Ray takes no built-in function as it is
        waiting = {remote.remote(task): place for place, task in enumerate(tasks)}
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(done[0]), ray.get(done[0])
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # the task's own error, as from the other engines
    finally:
        if ours:
            ray.shutdown()
