"""What every process of the server does when it starts: settings, clock, log; and how it ends.

Exit codes: 0 asked to stop; 2 a setting is wrong (the supervisor gives up); 1 anything else (it starts again).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from fleet_core.clock import Clock, clock_from_environment, clock_from_spec
from fleet_core.errors import BadConfig, ForestallError
from fleet_server.settings import Settings, load_settings

log = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_BAD_CONFIG = 2


def clock_of(settings: Settings) -> Clock:
    """The domain clock: the settings', else the environment's, else the system's."""
    return clock_from_spec(settings.clock) if settings.clock else clock_from_environment()


def start_log(settings: Settings) -> None:
    """Log to standard error; whoever starts us collects it."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    for chatty in ("httpx", "aiosmtplib", "psycopg.pool", "procrastinate"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


def serve(config: Path, main: Callable[[Settings, Clock], Awaitable[None] | None]) -> int:
    """Run one process to its end; returns its exit code. Failures are one line in the log."""
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
    return 0


async def _finish(outcome: Awaitable[None]) -> None:
    await outcome
