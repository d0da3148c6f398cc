"""Declared maintenance: what is done to a machine on purpose is neither judged nor learnt. Pure.

A window covers a component, or the whole asset, from its start to its end in domain time. Rows inside it are passed
over as if nothing had been read: state, baseline and evidence stand where they stood. Windows always end: one that
nobody closes expires. A relearn asks, once, for a component to forget what it learnt, after a repair.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleet_core.errors import BadInput
from fleet_core.telemetry import check_identity, check_name, check_time_us

VERSION = 1
MAX_WINDOWS = 64
MAX_RELEARNS = 64
MAX_MINUTES = 7 * 24 * 60
MAX_WINDOW_US = MAX_MINUTES * 60_000_000
MAX_REASON = 200
MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Window:
    """``start_us`` <= time < ``end_us``; ``device_id`` and ``component`` are "" for all of them."""

    start_us: int
    end_us: int
    device_id: str = ""
    component: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Relearn:
    """A component is to learn anew, asked for at ``at_us``."""

    at_us: int
    device_id: str = ""
    component: str = ""


@dataclass(frozen=True, slots=True)
class Declared:
    """All that is declared."""

    windows: tuple[Window, ...] = ()
    relearns: tuple[Relearn, ...] = ()

    def for_device(self, device_id: str) -> Declared:
        """What concerns one asset."""
        return Declared(
            tuple(each for each in self.windows if each.device_id in ("", device_id)),
            tuple(each for each in self.relearns if each.device_id in ("", device_id)),
        )

    def started(self, window: Window) -> Declared:
        """With one window more. Raises BadInput when there are too many."""
        if len(self.windows) >= MAX_WINDOWS:
            raise BadInput("maintenance", f"{MAX_WINDOWS} windows are declared already")
        return Declared((*self.windows, window), self.relearns)

    def stopped(self, now_us: int, device_id: str, component: str, relearn: bool) -> tuple[Declared, int]:
        """With the windows of this device and component ("" for any) ended now; and how many were open."""
        ended = [
            Window(each.start_us, now_us, each.device_id, each.component, each.reason)
            if _meant(each, device_id, component) and each.start_us < now_us < each.end_us
            else each
            for each in self.windows
        ]
        count = sum(old is not new for old, new in zip(self.windows, ended, strict=True))
        relearns = self.relearns
        if relearn:
            relearns = (*relearns, Relearn(now_us, device_id, component))[-MAX_RELEARNS:]
        return Declared(tuple(ended), relearns), count

    def without_past(self, now_us: int) -> Declared:
        """Without what lies further back than any late sample could."""
        least_us = now_us - MAX_WINDOW_US
        return Declared(
            tuple(each for each in self.windows if each.end_us > least_us),
            tuple(each for each in self.relearns if each.at_us > least_us),
        )


def _meant(window: Window, device_id: str, component: str) -> bool:
    return device_id in ("", window.device_id) and component in ("", window.component)


def covered(windows: Iterable[Window], component: str, times_us: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which times (n,) fall into maintenance of a component."""
    result = np.zeros(len(times_us), dtype=bool)
    for window in windows:
        if window.component in ("", component):
            result |= (times_us >= window.start_us) & (times_us < window.end_us)
    return result


def to_text(declared: Declared) -> str:
    """As the file's text."""
    return json.dumps({"version": VERSION, **asdict(declared)}, indent=1) + "\n"


def from_text(text: str) -> Declared:
    """What a file declares. Raises BadInput, whatever the text."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        raise BadInput("maintenance", "not JSON") from None
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise BadInput("maintenance", f"not a declaration of version {VERSION}")
    windows = _rows(record.get("windows"), MAX_WINDOWS)
    relearns = _rows(record.get("relearns"), MAX_RELEARNS)
    return Declared(tuple(map(_window, windows)), tuple(map(_relearn, relearns)))


def _rows(value: Any, most: int) -> Sequence[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > most or not all(isinstance(each, dict) for each in value):
        raise BadInput("maintenance", f"expected a list of at most {most} objects")
    return value


def _window(row: dict[str, Any]) -> Window:
    start_us, end_us = check_time_us(row.get("start_us")), check_time_us(row.get("end_us"))
    if not start_us <= end_us <= start_us + MAX_WINDOW_US:
        raise BadInput("maintenance", f"a window lasts 0 to {MAX_MINUTES} minutes")
    reason = row.get("reason", "")
    if not isinstance(reason, str) or len(reason) > MAX_REASON or not (reason.isprintable()):
        raise BadInput("maintenance", f"a reason is a printable text of at most {MAX_REASON} characters")
    return Window(start_us, end_us, *_whom(row), reason)


def _relearn(row: dict[str, Any]) -> Relearn:
    return Relearn(check_time_us(row.get("at_us")), *_whom(row))


def _whom(row: dict[str, Any]) -> tuple[str, str]:
    device_id, component = row.get("device_id", ""), row.get("component", "")
    return device_id and check_identity(device_id), component and check_name(component)
