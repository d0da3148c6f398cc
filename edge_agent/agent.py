"""The agent: sources, detection, outbox and uplink as one process.

    source -> AssetWorker (detection, collector) -> OutboxStore (disk) -> Uplink (MQTT)

Every part fails alone: a source is restarted with growing pauses, the uplink reconnects, a full disk is a declared
state. The agent ends with an error, for the system's service manager to restart it, when a part's own task ends
(``fleet_core/service.py``), or when no source is left and one of them needs a person. A source whose settings are
refused keeps the agent from starting.

At SIGTERM and SIGINT the sources stop, collected vitals are committed, and the uplink gets ``FAREWELL_S`` to publish
them and its NDEATH.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import json
import logging
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from edge_agent.acquisition.api import Source, SourceDeps
from edge_agent.asset import AssetWorker
from edge_agent.config import AgentConfig, AssetConfig
from edge_agent.detection.pipeline import build_detection
from edge_agent.host import boot_id, time_quality
from edge_agent.outbox import Outbox
from edge_agent.uplink.mqtt import Uplink
from edge_agent.uplink.session import BACKOFF_FIRST_S, BACKOFF_MOST_S, SETTLED_AFTER_S
from edge_agent.uplink.store import OutboxStore
from fleet_core import __version__
from fleet_core.births import DeviceBirth, HeldReport, NodeBirth
from fleet_core.clock import Clock
from fleet_core.errors import BadConfig, Retryable
from fleet_core.files import remove_left_behind, write_atomic
from fleet_core.plugins import load_plugin, parse_config
from fleet_core.schema import MAX_SCHEMA_METRICS
from fleet_core.service import (
    Backoff,
    Outage,
    end_tasks,
    every,
    in_one_line,
    keep_running,
    raise_failure,
    start,
    stop_on_signals,
    until_one_ends,
)

log = logging.getLogger(__name__)

STATUS_INTERVAL_S = 5.0
SCALED_SAVE_INTERVAL_S = 2.0
FAREWELL_S = 1.5

MakeSource = Callable[[AssetConfig, SourceDeps], Source]


class SourceTask:
    """Runs the source of one asset again and again. A failure is logged once, and so is the recovery."""

    def __init__(
        self, worker: AssetWorker, make: Callable[[], Source], rng: random.Random, first: Source | None = None
    ) -> None:
        """``make`` gives a new source for every try, except that ``first`` is used first. It raises BadConfig."""
        self.device_id = worker.device_id
        self.state = "starting"
        self.misconfigured = ""
        self._first = first
        self.failures = 0
        self._worker = worker
        self._make = make
        self._backoff = Backoff(BACKOFF_FIRST_S, BACKOFF_MOST_S, settled_after_s=SETTLED_AFTER_S, rng=rng)
        self._outage = Outage(
            log,
            f"source of {worker.device_id} fails, it is tried again",
            f"source of {worker.device_id} delivers again",
            known=(Retryable,),  # any other error is the plugin's fault, which must not spread
            begins_level=logging.WARNING,
            over_level=logging.INFO,
        )
        worker.on_delivery = self._outage.succeeded

    async def run(self) -> None:
        """Run until the source has no more to give, cannot work without a person, or is cancelled."""
        await keep_running(self._once, self._outage, self._backoff)

    async def _once(self) -> None:
        self.state = "running"
        try:
            source, self._first = self._first or self._make(), None
            await source.run(self._worker)
        except BadConfig as error:
            self.state = f"misconfigured: {error}"
            self.misconfigured = f"source of {self._worker.device_id}: {error}"
            log.error("source of %s: %s", self._worker.device_id, error)
        except Exception as error:
            self.failures += 1
            self.state = f"failing: {in_one_line(error)}"
            raise
        else:
            self.state = "finished"
            log.info("source of %s has no more to give", self._worker.device_id)


class Agent:
    """One agent: all assets of a configuration, their outbox and their uplink. :meth:`run` lasts until it is stopped.

    The agent locks its state folder. Raises BadConfig or OutboxUnavailable.
    """

    def __init__(
        self,
        config: AgentConfig,
        clock: Clock,
        rng: random.Random | None = None,
        make_source: MakeSource | None = None,
    ) -> None:
        make_source = make_source or build_source
        rng = rng or random.Random()
        self._config = config
        self._clock = clock
        self._boot_id = boot_id()
        self._writing_status = Outage(
            log,
            "status.json is not written",
            "status.json is written again",
            errors=(OSError,),
            begins_level=logging.WARNING,
            over_level=logging.INFO,
        )
        makes: list[Callable[[], Source]] = []
        for asset in config.assets:
            deps = SourceDeps(clock, asset.description, config.base_dir, random.Random(rng.getrandbits(64)))
            makes.append(functools.partial(make_source, asset, deps))
        firsts = list(map(_first_source, config.assets, makes))  # bad settings are refused before anything is opened
        self._lock = _lock(config.state_dir)
        for folder in (config.state_dir, config.state_dir / "detection"):
            remove_left_behind(folder)
        outbox = Outbox(config.state_dir / "outbox.sqlite", config.quota_mb << 20, clock, self._boot_id)
        self._store = OutboxStore(outbox, config.commit_interval_ms / 1000)
        identity = (config.group_id, config.node_id)
        self._uplink = Uplink(config.uplink, identity, self, self._store, clock, rng, config.state_dir)
        self._store.on_commit = self._uplink.wake
        self._workers: list[AssetWorker] = []
        self._sources: list[SourceTask] = []
        for index, asset in enumerate(config.assets):
            first_alias = 1 + index * MAX_SCHEMA_METRICS
            worker = AssetWorker(
                config=asset,
                first_alias=first_alias,
                store=self._store,
                clock=clock,
                state_dir=config.state_dir,
                build_detection=build_detection,
                on_change=self._uplink.rebirth,
            )
            self._workers.append(worker)
            self._sources.append(SourceTask(worker, makes[index], rng, firsts[index]))

    # -- what the uplink asks

    def node_birth(self, bd_seq: int, held: HeldReport) -> NodeBirth:
        return NodeBirth(bd_seq, self._boot_id, held, __version__, time_quality())

    def device_births(self) -> Sequence[DeviceBirth]:
        return [worker.birth() for worker in self._workers]

    # -- running

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Run until ``stop`` is set or a termination signal arrives.

        Raises the error that ended a part which should not end, BadConfig when no source is left and one of them needs
        a person, and after a stop the error of a part that failed while it was ended.
        """
        stop = stop or stop_on_signals()
        save_interval_s = SCALED_SAVE_INTERVAL_S if self._clock.scale > 1 else self._config.save_interval_s
        (outbox,) = start({"outbox": self._store.run()})
        sources = start({f"source of {source.device_id}": source.run() for source in self._sources})
        services = start({
            "uplink": self._uplink.run(),
            "flush": every(self._config.flush_interval_s, self._flush, wait_first=True),
            "status": every(STATUS_INTERVAL_S, self._write_status, wait_first=True),
            "save": every(save_interval_s, self._save, wait_first=True),
            "sources": self._while_alive(sources),
        })  # fmt: skip
        tasks = [outbox, *services, *sources]
        try:
            try:
                await until_one_ends([outbox, *services], stop)
            finally:
                await end_tasks(sources, raised=sys.exception())
                tasks.append(await self._last_flush(outbox))
                if stop.is_set():
                    await self._farewell()
        finally:
            raised = sys.exception()
            await end_tasks(services, raised=raised)
            await end_tasks([outbox], raised=raised)  # last: the others may still hand it drafts
            try:
                await self._save()
                await self._write_status()
            finally:
                try:
                    await self._store.close()
                finally:
                    self._lock.close()
        raise_failure(tasks)

    async def _while_alive(self, sources: Sequence[asyncio.Task[object]]) -> None:
        """Wait without end, also after the sources had no more to give. Raises BadConfig when all sources are gone and
        one of them was misconfigured.
        """
        await asyncio.gather(*sources)
        if reasons := [source.misconfigured for source in self._sources if source.misconfigured]:
            raise BadConfig("; ".join(reasons) + "; no source is left")
        await asyncio.Event().wait()

    async def _last_flush(self, outbox: asyncio.Task[object]) -> asyncio.Task[object]:
        """Commit the collected vitals while the outbox's task lives: after its end no commit would ever be answered.

        Returns the task of the flush, which has ended; its error is logged.
        """
        (flushing,) = start({"last flush": self._flush()})
        await asyncio.wait([flushing, outbox], return_when=asyncio.FIRST_COMPLETED)
        await end_tasks([flushing])
        return flushing

    async def _farewell(self) -> None:
        """Give the uplink ``FAREWELL_S`` to publish the batches that were committed last."""
        self._uplink.wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self._uplink.drained()

    async def _flush(self) -> None:
        await asyncio.gather(*(worker.flush() for worker in self._workers))

    async def _save(self) -> None:
        for worker in self._workers:
            worker.save()

    async def _write_status(self) -> None:
        status = {
            "time": self._clock.now().isoformat(),
            "version": __version__,
            "node_id": self._config.node_id,
            "boot_id": self._boot_id,
            "uplink": asdict(self._uplink.counters),
            "outbox": asdict(await self._store.call(Outbox.stats)) | {"disk_full": self._store.disk_full},
            "assets": dict(map(_asset_status, self._workers, self._sources)),
        }
        try:
            # Not durable: the file is of no use after a power cut, and syncing would cost two flushes every 5 s.
            write_atomic(self._config.state_dir / "status.json", json.dumps(status, indent=1).encode(), durable=False)
        except OSError as error:
            self._writing_status.failed(error)
        else:
            self._writing_status.succeeded()


def build_source(config: AssetConfig, deps: SourceDeps) -> Source:
    """The source an asset's configuration names. Raises BadConfig."""
    plugin = load_plugin("edge_agent.acquisition", config.source_type)
    settings = parse_config(plugin.Config, config.source, f"[asset.source] of type {config.source_type}")
    source: Source = plugin.build(settings, deps)
    return source


def _first_source(config: AssetConfig, make: Callable[[], Source]) -> Source | None:
    """The source for the first try, or None when building it failed in a way that only another try can judge.

    Raises BadConfig.
    """
    try:
        return make()
    except BadConfig as error:
        raise BadConfig(f"source of {config.description.device_id}: {error}") from None
    except Exception as error:  # noqa: BLE001 - a plugin's fault must not spread: its task meets it again and logs it
        log.debug("source of %s was not built: %s", config.description.device_id, error)
        return None


def run_agent(config: AgentConfig, clock: Clock) -> None:
    """Run an agent until a termination signal. Raises BadConfig or OutboxUnavailable."""

    async def main() -> None:
        await Agent(config, clock).run()

    asyncio.run(main())


def _asset_status(worker: AssetWorker, source: SourceTask) -> tuple[str, dict[str, Any]]:
    detection = worker.detection
    return worker.device_id, {
        "source": source.state,
        "failures": source.failures,
        "last_sample_us": worker.last_sample_us,
        "rejected": dict(worker.rejected),
        "counters": dict(worker.counters),
        "passed_over": dict(detection.counts) if detection else {},
        "components": [asdict(view) for view in detection.views()] if detection else [],
    }


def _lock(state_dir: Path) -> IO[str]:
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        file = (state_dir / "lock").open("w")
    except OSError as error:
        raise BadConfig(f"state_dir {state_dir} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if isinstance(error, BlockingIOError):
            raise BadConfig(f"another agent uses {state_dir}: stop it or give this one its own state_dir") from None
        raise BadConfig(f"state_dir {state_dir} cannot be used: {error.strerror}") from None
    return file
