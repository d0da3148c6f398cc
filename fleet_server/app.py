"""The start and the end of every process of the server: its settings, its clock, its log and its exit code.

Exit codes: 0 after a stop that was asked for; 2 when a setting is wrong, which the supervisor answers by stopping
everything; 1 after any other error, which the supervisor answers by starting the process again. The log has the reason:
one line for an error that Forestall foresaw, a traceback for any other.

A process that the supervisor started ends with the supervisor, on every platform and whatever it is doing: it sends
itself SIGTERM when the supervisor is gone, and SIGKILL ``ORPHAN_GRACE_S`` later.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg

from fleet_core.clock import Clock
from fleet_core.errors import BadConfig, ForestallError
from fleet_core.service import EXIT_FAILED, in_one_line
from fleet_server.settings import Settings, clock_of, load_settings
from fleet_server.store.failures import explained
from fleet_server.store.pool import MERELY_AWAY

log = logging.getLogger(__name__)

EXIT_BAD_CONFIG = 2
SUPERVISOR_VARIABLE = "FORESTALL_SUPERVISOR"
"""Holds the supervisor's process id in the environment of the processes it starts."""
ORPHAN_GRACE_S = 15.0
"""The time to stop in order that the supervisor gives too (``supervisor.STOP_TIMEOUT_S``)."""
ORPHAN_POLL_S = 0.5
"""Bounds how long a process goes on without its supervisor where the kernel does not tell it (Linux does)."""


def start_log(settings: Settings) -> None:
    """Log to standard error, which the supervisor or the service manager collects."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    for chatty in ("httpx", "aiosmtplib", "psycopg.pool", "procrastinate"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


def serve(config: Path, main: Callable[[Settings, Clock], Awaitable[None] | None]) -> int:
    """Run one process to its end and return its exit code. Raises no error: the log says why the process ended."""
    _end_with_supervisor()
    try:
        settings = load_settings(config)
        start_log(settings)
        outcome = main(settings, clock_of(settings))
        if outcome is not None:
            asyncio.run(_finish(outcome))
    except BadConfig as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_CONFIG
    except ForestallError as error:
        log.error("%s", error)
        return EXIT_FAILED
    except (*MERELY_AWAY, psycopg.errors.ReadOnlySqlTransaction) as error:
        log.error("%s", explained(error) if isinstance(error, psycopg.Error) else error)
        return EXIT_FAILED
    except Exception as error:
        log.critical("the process ends by an error nobody foresaw: %s", in_one_line(error), exc_info=error)
        return EXIT_FAILED
    return 0


async def _finish(outcome: Awaitable[None]) -> None:
    await outcome


def _end_with_supervisor() -> None:
    parent = os.environ.get(SUPERVISOR_VARIABLE, "")
    if parent.isdecimal():
        threading.Thread(target=_watch_parent, args=(int(parent),), name="supervisor-watch", daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(ORPHAN_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
