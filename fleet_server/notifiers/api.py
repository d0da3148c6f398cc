"""Notifiers: a notifier brings messages to people over one channel.

A notifier makes one attempt and says what became of it: it returns the provider's reference, or raises Retryable
(certainly not accepted), OutcomeUnknown (perhaps accepted) or Permanent. The runner is responsible for retries. A
message has a stable identity (``key``), by which the receiver recognises a repeat after an unknown outcome as the same
message.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol

from fleet_core.errors import Retryable

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Recipient:
    """A person and the addresses by channel; an empty text means that the channel does not reach the person."""

    person_id: str
    name: str
    email: str = ""
    webhook_url: str = ""


@dataclass(frozen=True, slots=True)
class CalendarEntry:
    """An appointment: ``uid`` stays the same, ``sequence`` grows with every change; times are UTC."""

    uid: str
    sequence: int
    start: datetime
    end: datetime
    summary: str
    location: str
    description: str
    made_at: datetime
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """A message; ``reply_to_key`` is the key of the message that began the thread, ``data`` is for programs."""

    key: str
    purpose: str
    to_name: str
    to_address: str
    subject: str
    text: str
    html: str
    reply_to_key: str = ""
    calendar: CalendarEntry | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        if self.calendar is not None:
            times = {name: getattr(self.calendar, name).isoformat() for name in ("start", "end", "made_at")}
            record["calendar"] = {**record["calendar"], **times}
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Message:
        entry = record.get("calendar")
        if entry:
            times = {name: datetime.fromisoformat(entry[name]) for name in ("start", "end", "made_at")}
            entry = CalendarEntry(**{**entry, **times})
        return cls(**{**record, "calendar": entry or None})


class NotYet(Retryable):
    """The receiving server asks to come again (greylisting, a full mailbox): tried for a day before a question."""


class Notifier(Protocol):
    def address(self, person: Recipient) -> str:
        """The address of a person on this channel; an empty text when the channel does not reach the person."""

    async def send(self, message: Message) -> str:
        """The provider's reference once it accepted. Raises Retryable, OutcomeUnknown or Permanent."""

    async def lookup(self, key: str) -> bool | None:
        """Whether a message was accepted; None where the provider cannot tell."""

    async def close(self) -> None:
        """Give up connections."""


def one_line(text: str, limit: int = 200) -> str:
    """A text that is safe in a header: one line, no control characters, bounded."""
    return _CONTROL.sub(" ", text).strip()[:limit]
