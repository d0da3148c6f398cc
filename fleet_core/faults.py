"""Named fault points: the places where a test may kill, stall or fail a process exactly.

A fault point costs one dictionary look-up and does nothing unless the environment arms it::

    FORESTALL_FAULTS="outbox.after_commit=kill@3,notify.after_accept=kill"
    FORESTALL_FAULTS_DIR=/some/dir      (each armed fault then fires once across restarts)

``name=ACTION[@N]`` acts on the N-th passage (default the first). ACTION is ``kill`` (SIGKILL to this very
process: no handlers, no flushing), ``raise`` (Retryable) or ``sleep:SECONDS`` (real, blocking).
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from fleet_core.errors import BadConfig, Retryable

FAULTS_VARIABLE = "FORESTALL_FAULTS"
FAULTS_DIR_VARIABLE = "FORESTALL_FAULTS_DIR"


@dataclass
class _Armed:
    action: str
    at_passage: int
    passages: int = 0
    fired: bool = False


def _parse(text: str) -> dict[str, _Armed]:
    armed: dict[str, _Armed] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, separator, rest = item.partition("=")
        action, _, count = rest.partition("@")
        known = action in ("kill", "raise") or action.startswith("sleep:")
        if not separator or not known or (count and not count.isdigit()):
            raise BadConfig(f"{FAULTS_VARIABLE}: cannot read {item!r}; expected NAME=kill|raise|sleep:S[@N]")
        armed[name] = _Armed(action, int(count or 1))
    return armed


_armed = _parse(os.environ.get(FAULTS_VARIABLE, ""))


def fault_point(name: str) -> None:
    """Pass a named point of the code; acts only when a test armed it."""
    fault = _armed.get(name)
    if fault is None or fault.fired:
        return
    fault.passages += 1
    if fault.passages < fault.at_passage:
        return
    fault.fired = True
    if not _first_time_across_restarts(name):
        return
    if fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.action == "raise":
        raise Retryable(f"fault point {name} was armed to fail")
    else:
        time.sleep(float(fault.action.partition(":")[2]))


def _first_time_across_restarts(name: str) -> bool:
    directory = os.environ.get(FAULTS_DIR_VARIABLE)
    if not directory:
        return True
    try:
        (Path(directory) / f"{name}.fired").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
