"""``edge-agent maintenance``: declare that a machine is worked on, through a file in the agent's state folder.

The command replaces ``maintenance.json`` as a whole, under a lock. The running agent looks at the file with every
hand-over (one ``stat``) and reads it when it changed. A file that cannot be read is logged once and counted; the
earlier declarations then stay in force, and their windows expire by themselves. Times are domain time.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_agent.config import AgentConfig, load_config
from edge_agent.detection.input.maintenance import (
    MAX_FILE_BYTES,
    MAX_MINUTES,
    MAX_REASON,
    Declared,
    Window,
    from_text,
    to_text,
)
from edge_agent.files import read_bounded
from fleet_core.clock import Clock, clock_from_environment
from fleet_core.errors import BadConfig, BadInput
from fleet_core.files import write_atomic
from fleet_core.telemetry import check_name, from_us, to_us

log = logging.getLogger(__name__)

FILE = "maintenance.json"
MAX_STATUS_BYTES = 4 << 20
START, STOP, STATUS = "start", "stop", "status"


class DeclaredFile:
    """Follows the file for the running agent. ``unreadable`` counts the contents that could not be read."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE
        self.unreadable = 0
        self._seen: tuple[int, int, int] | None = None

    def news(self) -> Declared | None:
        """The declarations, if the file changed since the last call, else None."""
        try:
            found = self.path.stat()
            seen = (found.st_mtime_ns, found.st_ino, found.st_size)
        except FileNotFoundError:
            gone, self._seen = self._seen is not None, None
            return Declared() if gone else None
        except OSError as error:
            self._failed((0, 0, 0), error.strerror or str(error))
            return None
        if seen == self._seen:
            return None
        try:
            declared = read_declared(self.path)
        except (BadInput, OSError) as error:
            self._failed(seen, str(error))
            return None
        self._seen = seen
        return declared

    def _failed(self, seen: tuple[int, int, int], reason: str) -> None:
        if self._seen != seen:  # every unreadable content is logged once
            self.unreadable += 1
            log.error("%s: what was declared before stays in force: %s", self.path, reason)
        self._seen = seen


def read_declared(path: Path) -> Declared:
    """The declarations in the file; none when there is no file. Raises BadInput, OSError."""
    if not path.exists():
        return Declared()
    content = read_bounded(path, MAX_FILE_BYTES)
    if content is None:
        raise BadInput("maintenance", f"larger than {MAX_FILE_BYTES} bytes")
    return from_text(content.decode("utf-8", "replace"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``edge-agent maintenance``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    start = actions.add_parser(START, help="from now on neither judge nor learn, until stopped or the time is over")
    stop = actions.add_parser(STOP, help="judge again")
    status = actions.add_parser(STATUS, help="what is declared")
    for command in (start, stop, status):
        command.add_argument("--config", required=True, type=Path, metavar="FILE", help="agent.toml")
        command.add_argument("--json", action="store_true", help="print one JSON document")
    for command in (start, stop):
        command.add_argument("--asset", default="", metavar="ID", help="one asset by its device_id (else all)")
        command.add_argument("--component", default="", metavar="NAME", help="one component (else all)")
    start.add_argument("--minutes", required=True, type=float, metavar="N", help=f"at most so long, 1 to {MAX_MINUTES}")
    start.add_argument("--reason", default="", metavar="TEXT", help="what is done, for the record")
    stop.add_argument("--relearn", action="store_true", help="forget the baseline: after a repair or a changed use")


def main_maintenance(args: argparse.Namespace, clock: Clock | None = None) -> int:
    """Run the command. Raises BadConfig or BadInput."""
    config = load_config(args.config)
    at_us = to_us((clock or clock_from_environment()).now())
    path = config.state_dir / FILE
    try:
        if args.action == START:
            said = _start(args, config, path, at_us)
        elif args.action == STOP:
            said = _stop(args, config, path, at_us)
        else:
            said = ""
        declared = read_declared(path)
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    if args.json:
        print(json.dumps(_status(declared, at_us), indent=1))
    else:
        print(said or _in_words(declared, at_us))
    return 0


def _start(args: argparse.Namespace, config: AgentConfig, path: Path, at_us: int) -> str:
    if not 1 <= args.minutes <= MAX_MINUTES:
        raise BadConfig(f"--minutes must be 1 to {MAX_MINUTES}")
    if len(args.reason) > MAX_REASON or not args.reason.isprintable():
        raise BadConfig(f"--reason must be printable, at most {MAX_REASON} characters")
    _check_whom(args, config)
    window = Window(at_us, at_us + int(args.minutes * 60e6), args.asset, args.component, args.reason)
    with _changing(path):
        _write(path, read_declared(path).without_past(at_us).started(window))
    return f"maintenance of {_whom(window)} until {_time(window.end_us)} at most; end it with  maintenance stop"


def _stop(args: argparse.Namespace, config: AgentConfig, path: Path, at_us: int) -> str:
    _check_whom(args, config)
    with _changing(path):
        before = read_declared(path).without_past(at_us)
        declared, ended = before.stopped(at_us, args.asset, args.component, args.relearn)
        if not ended and not args.relearn:
            raise BadConfig("no such maintenance is declared now; see  maintenance status")
        _write(path, declared)
    return f"{ended} window(s) ended; judged again" + (" after learning anew" if args.relearn else "")


def _check_whom(args: argparse.Namespace, config: AgentConfig) -> None:
    """Refuse an unknown asset or component: a misspelt name would protect nothing."""
    assets = {asset.description.device_id: asset.description for asset in config.assets}
    if args.asset and args.asset not in assets:
        raise BadConfig(f"--asset {args.asset!r} is not in the configuration; there are: {', '.join(assets)}")
    if not args.component:
        return
    known = {
        component.slot
        for device_id, asset in assets.items()
        for component in asset.components
        if args.asset in ("", device_id)
    } | _reported(config.state_dir, args.asset)
    if known and check_name(args.component) not in known:
        raise BadConfig(f"--component {args.component!r} is not known; there are: {', '.join(sorted(known))}")


def _reported(state_dir: Path, device_id: str) -> set[str]:
    """The components that the running agent judges, as its ``status.json`` says."""
    content = read_bounded(state_dir / "status.json", MAX_STATUS_BYTES)
    try:
        assets = json.loads(content or b"{}").get("assets", {})
        return {
            str(view["component"])
            for name, asset in assets.items()
            if device_id in ("", name)
            for view in asset["components"]
        }
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        log.debug("status.json says nothing of components: %s", error)
        return set()


def _write(path: Path, declared: Declared) -> None:
    text = to_text(declared)
    if len(text.encode()) > MAX_FILE_BYTES:
        raise BadConfig(f"{path} would be larger than {MAX_FILE_BYTES} bytes: use shorter reasons")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.encode())


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """A lock, so that two commands at once change the file one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _status(declared: Declared, at_us: int) -> dict[str, Any]:
    return {
        "time": _time(at_us),
        "open": [
            {
                "asset": window.device_id,
                "component": window.component,
                "start": _time(window.start_us),
                "end": _time(window.end_us),
                "minutes_left": round((window.end_us - at_us) / 60e6, 1),
                "reason": window.reason,
            }
            for window in declared.windows
            if window.start_us <= at_us < window.end_us
        ],
        "relearns": [
            {"asset": relearn.device_id, "component": relearn.component, "at": _time(relearn.at_us)}
            for relearn in declared.relearns
        ],
    }


def _in_words(declared: Declared, at_us: int) -> str:
    lines = [
        f"{_whom(window)}: until {_time(window.end_us)} at most" + (f", {window.reason}" if window.reason else "")
        for window in declared.windows
        if window.start_us <= at_us < window.end_us
    ]
    return "\n".join(lines) or "no maintenance is declared"


def _whom(window: Window) -> str:
    component = window.component or "every component"
    return f"{component} of {window.device_id or 'every asset'}"


def _time(time_us: int) -> str:
    return from_us(time_us).isoformat(timespec="seconds")
