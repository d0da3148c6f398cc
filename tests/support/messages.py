"""A message as the worker hands it to a notifier."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fleet_core.clock import SimulatedClock
from fleet_server.notifiers.api import CalendarEntry, Message

NOW = SimulatedClock().now()
ENTRY = CalendarEntry("c-1@forestall", 3, NOW, NOW + timedelta(hours=2), "Repair", "Hamburg", "text", NOW)


def message(**changes: Any) -> Message:
    """An announcement with an appointment; ``changes`` are fields of ``Message``."""
    values: dict[str, Any] = {
        "key": "c-1:message:announcement:email:0", "purpose": "announcement", "to_name": "Anna Öhm",
        "to_address": "anna@people.example", "subject": "Repair arranged", "text": "text\n", "html": "<p>t</p>",
        "calendar": ENTRY, "data": {"case_id": "c-1"},
    }  # fmt: skip
    return Message(**{**values, **changes})
