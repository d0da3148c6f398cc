"""What the customer has been told of a repair, and what he is still to be told. Pure: (case, acts) -> acts or words.

Somebody is told of a repair once a channel accepted the announcement. What was never announced is neither amended, nor
closed, nor cancelled towards him: an announcement that was refused, or withdrawn before it was sent, told nobody. One
whose answer was lost counts as told, since it may have arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fleet_server.resolution.case import Case
from fleet_server.resolution.rows import Act
from fleet_server.resolution.states import FINAL_CASE_STATES, ActState, CaseState

APPOINTMENT = ("announcement", "amendment")
"""Purposes of messages that tell of the appointment."""
ESCALATION = "escalation"
HAND_OVER = "hand_over"
ALERT = "alert"
TO_US = frozenset({ESCALATION, HAND_OVER, ALERT})
"""Purposes of messages to those who answer for a case; all others go to the customer."""
PENDING = (ActState.INTENDED, ActState.UNKNOWN)
_OVER = FINAL_CASE_STATES | {CaseState.VERIFYING}
"""States in which an appointment lies behind: nobody is told of it any more."""
_STANDING = (ActState.INTENDED, ActState.UNKNOWN, ActState.HELD)


def channel_of(act: Act) -> str:
    """Which channel a message goes by."""
    return str(act.request.get("channel", ""))


def to_customer(acts: Iterable[Act]) -> list[Act]:
    """The messages to the customer, in order."""
    return [act for act in acts if act.kind == "message" and act.purpose not in TO_US]


def announced(acts: Iterable[Act]) -> list[Act]:
    """The announcement and its amendments as far as they were accepted, or may have been."""
    return [act for act in _appointments(acts) if act.state in (ActState.HELD, ActState.UNKNOWN)]


def standing(acts: Iterable[Act], channel: str) -> list[Act]:
    """What a channel told, or is about to tell, of the appointment."""
    return [act for act in _appointments(acts) if act.state in _STANDING and channel_of(act) == channel]


def thread_of(acts: Iterable[Act]) -> Mapping[str, str]:
    """Channel -> key of the message that began the customer's thread there."""
    keys: dict[str, str] = {}
    for act in _appointments(acts):
        if act.state in _STANDING:
            keys.setdefault(channel_of(act), act.idempotency_key)
    return keys


def outdated(case: Case, acts: Iterable[Act]) -> Act | None:
    """A pending message about an appointment that lies behind or was called off: it is not to be sent any more."""
    if case.state not in _OVER:
        return None
    return next((act for act in _appointments(acts) if act.state in PENDING), None)


def refused(case: Case, acts: Sequence[Act]) -> tuple[str, ...]:
    """The channels by which the customer is still to be told what was refused there last; () when nothing is owed."""
    if case.state in (CaseState.COMMITTED, CaseState.IN_PROGRESS):
        about = _appointments(acts)
    elif case.state in FINAL_CASE_STATES and announced(acts):
        about = [act for act in to_customer(acts) if act.purpose not in APPOINTMENT]
    else:
        return ()
    newest = {channel_of(act): act for act in about}
    return tuple(channel for channel, act in newest.items() if act.state is ActState.REFUSED)


def undelivered(case: Case, acts: Sequence[Act]) -> bool:
    """Whether a message to the customer is still on its way, or was refused and is still to be told."""
    over = APPOINTMENT if case.state in _OVER else ()
    return bool(refused(case, acts)) or any(
        act.state in PENDING and act.purpose not in over for act in to_customer(acts)
    )


def _appointments(acts: Iterable[Act]) -> list[Act]:
    return [act for act in acts if act.kind == "message" and act.purpose in APPOINTMENT]
