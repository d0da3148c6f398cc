"""The state machines of a case and of its acts: one table each, pure. A transition that is not listed raises.

A case is in one state of each of four machines at once:

* ``CaseState`` where the repair stands,
* ``Move``      whether the booked window stays or is to be moved before a nearer deadline,
* ``Undoing``   what of the booking is being released,
* ``Control``   who has the word: the machine, a person who is asked, or a person who took over.

``ActState`` is where one outward act stands. A held window when a case is given up: the end of the case makes ``steps``
release the acts that are held, last done first; each becomes ``released``, and the plan keeps the window as a record,
also when an undoing was under way as the case ended: that one is finished. When only the plan is given up (event
``give_up``), the same is released, and then the plan forgets what was booked.

``python -m fleet_server.resolution.states`` prints every machine as a Mermaid diagram for the docs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from fleet_core.errors import BadInput, Permanent


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


class Move(StrEnum):
    """Whether the window that is booked is to be moved."""

    STAYS = "stays"
    """Nothing is to be moved (or nothing is booked yet)."""
    LOOKING = "looking"
    """A window before the nearer deadline is looked for; the booked one stays until it is found."""
    MOVING = "moving"
    """It is booked; the engineer follows, then the old one is released."""
    PINNED = "pinned"
    """A person decided that the window stays, whatever the deadline does."""


class MoveEvent(StrEnum):
    DEADLINE_MOVED = "deadline_moved"
    BOOKED = "booked"
    NEXT_DROPPED = "next_dropped"
    AMENDED = "amended"
    STOPPED = "stopped"
    KEPT = "kept"
    NEW_PLAN = "new_plan"


class Undoing(StrEnum):
    """What of the booking is being released."""

    NOTHING = "nothing"
    WINDOW = "window"
    """One window for which no engineer is free: the earlier one of a move, else the plan's own."""
    EVERYTHING = "everything"
    """The plan was given up: part, window, work order and engineer."""


class UndoingEvent(StrEnum):
    NO_ENGINEER = "no_engineer"
    GIVE_UP = "give_up"
    RELEASED = "released"


class Control(StrEnum):
    """Who has the word."""

    AUTOMATIC = "automatic"
    ASKED = "asked"
    """A question to a person is open; nothing is planned until it is answered."""
    BY_HAND = "by_hand"
    """A person took over; nothing is planned any more, held things stay as they are."""


class ControlEvent(StrEnum):
    ASK = "ask"
    ANSWERED = "answered"
    """No question is open any more."""
    TAKE_OVER = "take_over"
    HAND_BACK = "hand_back"


class ActState(StrEnum):
    """Where one outward act stands. ``intended`` is committed before the other system is called."""

    INTENDED = "intended"
    HELD = "held"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    CONSUMED = "consumed"
    RELEASED = "released"
    UNWANTED = "unwanted"
    """The other system answered something else than was asked: what it may hold is being released there."""


class ActEvent(StrEnum):
    ACCEPT = "accept"
    REFUSE = "refuse"
    LOSE = "lose"
    ABSENT = "absent"
    CONSUME = "consume"
    RELEASE = "release"
    DIFFER = "differ"


class ForbiddenTransition(Permanent):
    """The state machine lists no such transition: what was asked does not fit where the thing stands."""


FINAL_CASE_STATES = frozenset({CaseState.CLOSED, CaseState.CANCELLED, CaseState.FALSE_ALARM})
LIVE_ACT_STATES = frozenset({ActState.INTENDED, ActState.UNKNOWN, ActState.HELD, ActState.UNWANTED})
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
    (ActState.INTENDED, ActEvent.DIFFER): ActState.UNWANTED,
    (ActState.UNKNOWN, ActEvent.ACCEPT): ActState.HELD,
    (ActState.UNKNOWN, ActEvent.REFUSE): ActState.REFUSED,
    (ActState.UNKNOWN, ActEvent.LOSE): ActState.UNKNOWN,
    (ActState.UNKNOWN, ActEvent.ABSENT): ActState.INTENDED,
    (ActState.UNKNOWN, ActEvent.RELEASE): ActState.RELEASED,
    (ActState.UNKNOWN, ActEvent.DIFFER): ActState.UNWANTED,
    (ActState.UNWANTED, ActEvent.RELEASE): ActState.RELEASED,
    (ActState.HELD, ActEvent.CONSUME): ActState.CONSUMED,
    (ActState.HELD, ActEvent.RELEASE): ActState.RELEASED,
}

MOVE_TRANSITIONS: Mapping[tuple[Move, MoveEvent], Move] = {
    (Move.STAYS, MoveEvent.DEADLINE_MOVED): Move.LOOKING,
    (Move.LOOKING, MoveEvent.BOOKED): Move.MOVING,
    (Move.MOVING, MoveEvent.AMENDED): Move.STAYS,
    (Move.MOVING, MoveEvent.NEXT_DROPPED): Move.LOOKING,
    (Move.LOOKING, MoveEvent.STOPPED): Move.STAYS,
    (Move.MOVING, MoveEvent.STOPPED): Move.STAYS,
    (Move.STAYS, MoveEvent.KEPT): Move.PINNED,
    (Move.LOOKING, MoveEvent.KEPT): Move.PINNED,
    (Move.MOVING, MoveEvent.KEPT): Move.PINNED,
    (Move.STAYS, MoveEvent.NEW_PLAN): Move.STAYS,
    (Move.LOOKING, MoveEvent.NEW_PLAN): Move.STAYS,
    (Move.MOVING, MoveEvent.NEW_PLAN): Move.STAYS,
    (Move.PINNED, MoveEvent.NEW_PLAN): Move.STAYS,
    # A person may decide while an answer is on its way: what comes then changes nothing.
    (Move.STAYS, MoveEvent.BOOKED): Move.STAYS,
    (Move.STAYS, MoveEvent.NEXT_DROPPED): Move.STAYS,
    (Move.STAYS, MoveEvent.STOPPED): Move.STAYS,
    (Move.PINNED, MoveEvent.BOOKED): Move.PINNED,
    (Move.PINNED, MoveEvent.NEXT_DROPPED): Move.PINNED,
    (Move.PINNED, MoveEvent.STOPPED): Move.PINNED,
    (Move.PINNED, MoveEvent.KEPT): Move.PINNED,
}

UNDOING_TRANSITIONS: Mapping[tuple[Undoing, UndoingEvent], Undoing] = {
    (Undoing.NOTHING, UndoingEvent.NO_ENGINEER): Undoing.WINDOW,
    (Undoing.NOTHING, UndoingEvent.GIVE_UP): Undoing.EVERYTHING,
    (Undoing.WINDOW, UndoingEvent.RELEASED): Undoing.NOTHING,
    (Undoing.WINDOW, UndoingEvent.GIVE_UP): Undoing.EVERYTHING,
    (Undoing.EVERYTHING, UndoingEvent.RELEASED): Undoing.NOTHING,
    (Undoing.EVERYTHING, UndoingEvent.GIVE_UP): Undoing.EVERYTHING,
    (Undoing.EVERYTHING, UndoingEvent.NO_ENGINEER): Undoing.EVERYTHING,
}

CONTROL_TRANSITIONS: Mapping[tuple[Control, ControlEvent], Control] = {
    (Control.AUTOMATIC, ControlEvent.ASK): Control.ASKED,
    (Control.ASKED, ControlEvent.ASK): Control.ASKED,
    (Control.ASKED, ControlEvent.ANSWERED): Control.AUTOMATIC,
    (Control.AUTOMATIC, ControlEvent.ANSWERED): Control.AUTOMATIC,
    (Control.AUTOMATIC, ControlEvent.TAKE_OVER): Control.BY_HAND,
    (Control.ASKED, ControlEvent.TAKE_OVER): Control.BY_HAND,
    (Control.BY_HAND, ControlEvent.ASK): Control.BY_HAND,
    (Control.BY_HAND, ControlEvent.ANSWERED): Control.BY_HAND,
    (Control.BY_HAND, ControlEvent.TAKE_OVER): Control.BY_HAND,
    (Control.BY_HAND, ControlEvent.HAND_BACK): Control.AUTOMATIC,
    (Control.AUTOMATIC, ControlEvent.HAND_BACK): Control.AUTOMATIC,
    (Control.ASKED, ControlEvent.HAND_BACK): Control.ASKED,
}

_S = TypeVar("_S", bound=StrEnum)
_E = TypeVar("_E", bound=StrEnum)


def read_state(states: type[_S], word: str) -> _S:
    """The state a word of the database names. Raises BadInput."""
    try:
        return states(word)
    except ValueError:
        raise BadInput("state", f"{word!r} is none of {', '.join(states)}") from None


def next_case_state(state: CaseState, event: CaseEvent) -> CaseState:
    """The state after ``event``. Raises ForbiddenTransition."""
    return _next(CASE_TRANSITIONS, state, event, "a case")


def next_move(state: Move, event: MoveEvent) -> Move:
    """The state after ``event``. Raises ForbiddenTransition."""
    return _next(MOVE_TRANSITIONS, state, event, "a move")


def next_undoing(state: Undoing, event: UndoingEvent) -> Undoing:
    """The state after ``event``. Raises ForbiddenTransition."""
    return _next(UNDOING_TRANSITIONS, state, event, "an undoing")


def next_control(state: Control, event: ControlEvent) -> Control:
    """The state after ``event``. Raises ForbiddenTransition."""
    return _next(CONTROL_TRANSITIONS, state, event, "a control")


def next_act_state(state: ActState, event: ActEvent) -> ActState:
    """The state after ``event``. Raises ForbiddenTransition."""
    return _next(ACT_TRANSITIONS, state, event, "an act")


def drawings() -> dict[str, str]:
    """Every machine by its heading, drawn."""
    return {
        "Case": mermaid(CASE_TRANSITIONS),
        "Move": mermaid(MOVE_TRANSITIONS),
        "Undoing": mermaid(UNDOING_TRANSITIONS),
        "Control": mermaid(CONTROL_TRANSITIONS),
        "Act": mermaid(ACT_TRANSITIONS),
    }


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
    for heading, drawing in drawings().items():
        sys.stdout.write(f"## {heading}\n```mermaid\n{drawing}```\n")
