"""The state machines of a case and of its acts: two tables, pure. A transition that is not listed raises.

Escalated and replanning are flags of a case, not states: a case that waits for a person is still where it was.
``python -m fleet_server.resolution.states`` prints both as Mermaid diagrams for the docs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from fleet_core.errors import Permanent


class CaseState(StrEnum):
    """Where the repair of one failing component stands."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    PLANNING = "planning"
    COMMITTED = "committed"
    IN_PROGRESS = "in_progress"
    VERIFYING = "verifying"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    FALSE_ALARM = "false_alarm"


class CaseEvent(StrEnum):
    CONFIRM = "confirm"
    PLAN = "plan"
    COMMIT = "commit"
    REPLAN = "replan"
    START = "start"
    COMPLETE = "complete"
    VERIFY = "verify"
    REOPEN = "reopen"
    CANCEL = "cancel"
    REJECT = "reject"


class ActState(StrEnum):
    """Where one outward act stands. ``intended`` is committed before the other system is called."""

    INTENDED = "intended"
    HELD = "held"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    CONSUMED = "consumed"
    RELEASED = "released"


class ActEvent(StrEnum):
    ACCEPT = "accept"
    REFUSE = "refuse"
    LOSE = "lose"
    ABSENT = "absent"
    CONSUME = "consume"
    RELEASE = "release"


class ForbiddenTransition(Permanent):
    """The state machine lists no such transition: what was asked does not fit where the thing stands."""


FINAL_CASE_STATES = frozenset({CaseState.CLOSED, CaseState.CANCELLED, CaseState.FALSE_ALARM})
LIVE_ACT_STATES = frozenset({ActState.INTENDED, ActState.UNKNOWN, ActState.HELD})
"""An act in one of these may bind the other system; in any other state it no longer does."""

_RUNNING = tuple(state for state in CaseState if state not in FINAL_CASE_STATES)

CASE_TRANSITIONS: Mapping[tuple[CaseState, CaseEvent], CaseState] = {
    (CaseState.OPEN, CaseEvent.CONFIRM): CaseState.CONFIRMED,
    (CaseState.CONFIRMED, CaseEvent.PLAN): CaseState.PLANNING,
    (CaseState.PLANNING, CaseEvent.COMMIT): CaseState.COMMITTED,
    (CaseState.COMMITTED, CaseEvent.REPLAN): CaseState.PLANNING,
    (CaseState.COMMITTED, CaseEvent.START): CaseState.IN_PROGRESS,
    (CaseState.IN_PROGRESS, CaseEvent.COMPLETE): CaseState.VERIFYING,
    (CaseState.IN_PROGRESS, CaseEvent.REPLAN): CaseState.PLANNING,
    (CaseState.VERIFYING, CaseEvent.VERIFY): CaseState.CLOSED,
    (CaseState.VERIFYING, CaseEvent.REOPEN): CaseState.CONFIRMED,
    **{(state, CaseEvent.CANCEL): CaseState.CANCELLED for state in _RUNNING},
    **{(state, CaseEvent.REJECT): CaseState.FALSE_ALARM for state in _RUNNING},
}

ACT_TRANSITIONS: Mapping[tuple[ActState, ActEvent], ActState] = {
    (ActState.INTENDED, ActEvent.ACCEPT): ActState.HELD,
    (ActState.INTENDED, ActEvent.REFUSE): ActState.REFUSED,
    (ActState.INTENDED, ActEvent.LOSE): ActState.UNKNOWN,
    (ActState.INTENDED, ActEvent.RELEASE): ActState.RELEASED,
    (ActState.UNKNOWN, ActEvent.ACCEPT): ActState.HELD,
    (ActState.UNKNOWN, ActEvent.REFUSE): ActState.REFUSED,
    (ActState.UNKNOWN, ActEvent.LOSE): ActState.UNKNOWN,
    (ActState.UNKNOWN, ActEvent.ABSENT): ActState.INTENDED,
    (ActState.UNKNOWN, ActEvent.RELEASE): ActState.RELEASED,
    (ActState.HELD, ActEvent.CONSUME): ActState.CONSUMED,
    (ActState.HELD, ActEvent.RELEASE): ActState.RELEASED,
}

_S = TypeVar("_S", bound=StrEnum)
_E = TypeVar("_E", bound=StrEnum)


def next_case_state(state: CaseState, event: CaseEvent) -> CaseState:
    """The state after ``event``. Raises ForbiddenTransition."""
    return _next(CASE_TRANSITIONS, state, event, "a case")


def next_act_state(state: ActState, event: ActEvent) -> ActState:
    """The state after ``event``. Raises ForbiddenTransition."""
    return _next(ACT_TRANSITIONS, state, event, "an act")


def mermaid(table: Mapping[tuple[_S, _E], _S]) -> str:
    """A state machine's table as a Mermaid state diagram; the first source state is the initial one."""
    sources = {state for state, _ in table}
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(table))[0]}"]
    lines += [f"    {state} --> {after}: {event}" for (state, event), after in table.items()]
    ends = dict.fromkeys(after for after in table.values() if after not in sources)
    lines += [f"    {state} --> [*]" for state in ends]
    return "\n".join(lines) + "\n"


def _next(table: Mapping[tuple[_S, _E], _S], state: _S, event: _E, noun: str) -> _S:
    try:
        return table[(state, event)]
    except KeyError:
        raise ForbiddenTransition(f"{noun} that is {state} cannot {event}") from None


if __name__ == "__main__":
    sys.stdout.write(f"## Case\n```mermaid\n{mermaid(CASE_TRANSITIONS)}```\n")
    sys.stdout.write(f"## Act\n```mermaid\n{mermaid(ACT_TRANSITIONS)}```\n")
