"""Many plays, in several processes with a database each."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import queue
from collections.abc import Iterator

from tests.simulation.cases.house import new_server, open_house
from tests.simulation.cases.kinds import Kind
from tests.simulation.cases.play import Outcome, play
from tests.support.world import open_folder


def outcomes(seeds: list[int], allowed: list[Kind], jobs: int) -> Iterator[Outcome]:
    """The outcomes as they come, of ``jobs`` processes with a database each."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[Outcome | None] = context.Queue()
    workers = [context.Process(target=_work, args=(seeds[n::jobs], allowed, results)) for n in range(jobs)]
    for worker in workers:
        worker.start()
    over = 0
    try:
        while over < jobs:
            try:
                outcome = results.get(timeout=1.0)
            except queue.Empty:
                if not any(worker.is_alive() for worker in workers):
                    raise RuntimeError("the plays ended before their time") from None
                continue
            if outcome is None:
                over += 1
            else:
                yield outcome
    finally:
        for worker in workers:
            worker.join()


def _work(seeds: list[int], allowed: list[Kind], results: multiprocessing.Queue[Outcome | None]) -> None:
    logging.disable(logging.ERROR)
    try:
        with open_folder("plays") as folder:
            server = new_server(folder / "pg")
            try:
                asyncio.run(_play_all(server.dsn, seeds, allowed, results))
            finally:
                server.stop()
    finally:
        results.put(None)


async def _play_all(
    dsn: str, seeds: list[int], allowed: list[Kind], results: multiprocessing.Queue[Outcome | None]
) -> None:
    async with open_house(dsn) as house:
        gc.disable()  # what a play leaves is collected after it
        for seed in seeds:
            results.put(await play(house, seed, allowed))
            gc.collect(1)
