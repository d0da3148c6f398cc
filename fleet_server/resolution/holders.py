"""Who holds the appointment of a case, and is told of its changes and its end, whoever is the director by now. Pure.

A person holds it, channel by channel, from the announcement on until it is taken back (``withdrawal``,
``cancellation``). A message that was refused, or withdrawn before it was sent, told nobody; one whose answer was lost
may have. All messages of a case with the appointment share one count of revisions, the SEQUENCE of its calendar entry:
every change has a number above all before, whoever gets it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet_server.resolution.requests import MessageRequest, read_request
from fleet_server.resolution.rows import Act
from fleet_server.resolution.states import ActState
from fleet_server.resolution.telling import APPOINTMENT, channel_of

TAKING = ("withdrawal", "cancellation")
"""Purposes of messages that take the appointment out of a calendar."""
_GOT = (ActState.HELD, ActState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Holder:
    """``threads``: channel -> key of the message that began the person's thread there; ``told`` the newest message
    with the appointment."""

    person_id: str
    threads: Mapping[str, str]
    told: Act


def holders_of(acts: Sequence[Act]) -> tuple[Holder, ...]:
    """Whoever has the appointment, in the order they were told. Raises BadInput for an unreadable message."""
    threads: dict[str, dict[str, str]] = {}
    told: dict[str, Act] = {}
    for act in acts:
        if act.kind != "message" or act.purpose not in (*APPOINTMENT, *TAKING):
            continue
        person_id, channel = read_request(act, MessageRequest).to, channel_of(act)
        if act.purpose in TAKING and act.state in (*_GOT, ActState.INTENDED):
            threads.get(person_id, {}).pop(channel, None)
        elif act.purpose in APPOINTMENT and act.state in _GOT:
            threads.setdefault(person_id, {}).setdefault(channel, act.idempotency_key)
            told[person_id] = act
    return tuple(Holder(one, began, told[one]) for one, began in threads.items() if began)


def next_revision(acts: Sequence[Act]) -> int:
    """The SEQUENCE of the next message with the appointment; 0 while nobody was told of it."""
    about = [act for act in acts if act.kind == "message" and act.purpose in (*APPOINTMENT, *TAKING)]
    if not any(act.state in _GOT for act in about):
        return 0
    return 1 + max(act.sequence for act in about)
