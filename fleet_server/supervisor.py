"""``fleet-server run``: the database (when embedded), then ingest, worker, sequencer and web as separate processes.

The supervisor notices the death of the other processes: it looks at its children twenty times a second. A child that
has ended is logged with its exit code and started again. A process one of whose parts fails ends itself, so that the
supervisor sees it (``fleet_core/service.py``).

Invariants
* A child that dies is started again after a pause. The pause doubles up to ``BACKOFF_MOST_S`` while the child keeps
  dying, and is short again after the child has lived for ``STEADY_AFTER_S``. Exit code 2 is a wrong setting, which a
  new start cannot mend: everything is stopped and the supervisor ends with 2.
* No child outlives the supervisor, whatever kills it. On Linux the kernel sends the children SIGTERM, and the database
  SIGINT, when the supervisor dies; on every platform the children watch for its death themselves (``app.py``). Only the
  main thread forks, because the kernel watches the thread that forked.
* The children read the database's address from their environment (``FORESTALL_DSN``), never from their arguments,
  which every user of the machine can see.
* The loop and the signal handlers are blocking ones, not those of an event loop, which would fork from other threads.
  ``Outage`` and ``Backoff`` are those of ``fleet_core/service.py``.
* The status file (JSON, replaced atomically) names every process: ``{"pid", "state", "postgres", "children": {NAME:
  {"pid", "starts"}}}``. One that cannot be written is said once and holds up nothing.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from fleet_core.clock import CLOCK_VARIABLE, Clock
from fleet_core.errors import BadConfig, Retryable
from fleet_core.files import remove_left_behind, write_atomic
from fleet_core.service import EXIT_FAILED, Backoff, Outage
from fleet_server.app import EXIT_BAD_CONFIG, SUPERVISOR_VARIABLE
from fleet_server.settings import Settings
from fleet_server.store.embedded import EmbeddedPostgres
from fleet_server.store.migrate import migrate
from fleet_server.store.pool import DSN_VARIABLE, require_dsn

log = logging.getLogger(__name__)

CHILDREN = ("ingest", "worker", "sequencer", "web")
BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.2, 10.0
"""A child that died once is started again after 0.2 s; one that dies at every start costs one start in ten seconds."""
STEADY_AFTER_S = 30.0
"""Three times the longest pause: a child that lived for so long does not die of its start."""
STOP_TIMEOUT_S = 15.0
"""Bounds the stop of all children together; those that still live are killed then, which their rows survive."""
POLL_S = 0.05
"""Bounds how late the death of a child is noticed, and how late a signal is obeyed."""

# Runs between fork and the real program, instead of a preexec_fn, which is unsafe in a threaded parent.
_SHIM = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit("the supervisor died while this process was starting")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass
class _Child:
    name: str
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    started_s: float = 0.0
    backoff: Backoff = field(
        default_factory=lambda: Backoff(BACKOFF_FIRST_S, BACKOFF_MOST_S, settled_after_s=STEADY_AFTER_S)
    )
    due_s: float = field(default_factory=time.monotonic)


class Supervisor:
    """Starts the processes of one server and keeps them alive. Blocking; for the main thread only."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        config: Path,
        *,
        status_file: Path | None = None,
        names: tuple[str, ...] = CHILDREN,
    ) -> None:
        self._settings = settings
        self._config = config.resolve()
        self._status_file = status_file
        self._children = [_Child(name) for name in names]
        self._environment = {**os.environ, CLOCK_VARIABLE: clock.spec(), SUPERVISOR_VARIABLE: str(os.getpid())}
        self._embedded: EmbeddedPostgres | None = None
        self._stopping = False
        self._state = "starting"
        self._writing_status = Outage(
            log, "the status file is not written", "the status file is written again", errors=(OSError,)
        )

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT and return the exit code.

        Raises BadConfig when the settings cannot work, Retryable when the embedded database does not start.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        code = 0
        if self._status_file is not None:
            remove_left_behind(self._status_file.parent, self._status_file.name)
        try:
            self._write_status()
            self._start_database()
            self._state = "running"
            while not self._stopping and code == 0:
                code = self._look_after_children()
                self._look_after_database()
                time.sleep(POLL_S)
        finally:
            self._state = "stopping"
            with ExitStack() as stopping:  # each step is done whatever became of the one before; the last is first
                stopping.callback(self._stop_database)
                stopping.callback(self._stop_children)
                self._write_status()
            self._state = "stopped"
            self._write_status()
        return code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    # -- the database

    def _start_database(self) -> None:
        database = self._settings.database
        if not database.dsn and database.embedded_dir is not None:
            self._embedded = EmbeddedPostgres(database.embedded_dir, database.embedded_port)
            self._environment[DSN_VARIABLE] = self._embedded.start()
            log.info("the embedded PostgreSQL listens on 127.0.0.1:%d", self._embedded.port)
        dsn = self._environment.get(DSN_VARIABLE) or require_dsn(self._settings)
        backoff = Backoff(BACKOFF_FIRST_S, BACKOFF_MOST_S)
        away = Outage(log, "waiting for the database", "the database answers", errors=(Retryable,))
        while not self._stopping:
            try:
                applied = migrate(dsn)
            except away.errors as error:
                away.failed(error)
                time.sleep(backoff.pause_s())
            else:
                away.succeeded()
                log.info("the database is ready, %d migrations applied", len(applied))
                return

    def _look_after_database(self) -> None:
        if self._embedded is None or self._embedded.pid is not None or self._stopping:
            return
        log.error("the embedded PostgreSQL died; starting it again")
        self._embedded.stop()
        try:
            self._embedded.start()
        except Retryable as error:
            log.error("%s", error)
            time.sleep(1.0)
        else:
            log.warning("the embedded PostgreSQL is back")
        self._write_status()

    def _stop_database(self) -> None:
        if self._embedded is not None:
            self._embedded.stop()

    # -- the children

    def _look_after_children(self) -> int:
        now_s = time.monotonic()
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                if child.process.returncode == EXIT_BAD_CONFIG:
                    log.error("%s cannot start with these settings; stopping everything", child.name)
                    return EXIT_BAD_CONFIG
                self._bury(child, now_s)
            if child.process is None and now_s >= child.due_s:
                self._start(child)
        return 0

    def _bury(self, child: _Child, now_s: float) -> None:
        assert child.process is not None
        pause_s = child.backoff.pause_s(now_s - child.started_s)
        log.error("%s ended with %s; starting it again in %.1f s", child.name, child.process.returncode, pause_s)
        child.due_s = now_s + pause_s
        child.process = None
        self._write_status()

    def _start(self, child: _Child) -> None:
        program = [sys.executable, "-m", "fleet_server.cli", child.name, "--config", str(self._config)]
        child.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,  # Ctrl-C reaches the supervisor only, which stops its children in order
        )
        child.starts += 1
        child.started_s = time.monotonic()
        assert child.process.stdout is not None
        arguments = (child.name, child.process.stdout)
        threading.Thread(target=_relay, args=arguments, name=f"log-{child.name}", daemon=True).start()
        self._write_status()

    def _stop_children(self) -> None:
        """Send SIGTERM to every child, to web first so that no new request comes in, and SIGKILL after the timeout."""
        alive = [child.process for child in self._children if child.process is not None]
        for process in reversed(alive):
            process.terminate()
        until_s = time.monotonic() + STOP_TIMEOUT_S
        for process in alive:
            try:
                process.wait(max(0.1, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("process %d did not stop in %.0f s: killed", process.pid, STOP_TIMEOUT_S)
                process.kill()
                process.wait()

    def _write_status(self) -> None:
        if self._status_file is None:
            return
        children = {
            child.name: {"pid": child.process.pid if child.process else None, "starts": child.starts}
            for child in self._children
        }
        status = {"pid": os.getpid(), "state": self._state, "children": children}
        status["postgres"] = self._embedded.pid if self._embedded else None
        try:
            write_atomic(self._status_file, (json.dumps(status) + "\n").encode(), durable=False)
        except OSError as error:
            self._writing_status.failed(error)
        else:
            self._writing_status.succeeded()


def _relay(name: str, source: IO[bytes]) -> None:
    """Copy a child's output to ours until it ends, with the child's name before each line. Lines are bounded."""
    with source:
        while line := source.readline(64 * 1024):
            sys.stdout.buffer.write(f"{name:<9} | ".encode() + line.rstrip(b"\n") + b"\n")
            sys.stdout.buffer.flush()


def run(settings: Settings, clock: Clock, config: Path, status_file: Path | None) -> int:
    """Supervise and return the exit code. BadConfig and Retryable are told in one line and raise nothing."""
    try:
        return Supervisor(settings, clock, config, status_file=status_file).run()
    except BadConfig as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_CONFIG
    except Retryable as error:
        log.error("%s", error)
        return EXIT_FAILED
