"""A repair case as a row, and how its states follow from it and change. Pure.

A case is in one state of each of four machines at once (``states.py``): where the repair stands (``state``), whether
its window is to be moved (``move``), what of the booking is being released (``plan.undoing``) and who has the word
(``control``). ``after`` applies an event of any of them; an event that the tables do not list raises. The case keeps
what the tables answered, and ``require_answered`` compares it with what its row says: a state that changed without an
event, or an event whose mark was forgotten, is not written (``records.change_case``).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from fleet_core.errors import Permanent
from fleet_server.labels import case_label
from fleet_server.resolution.plan import Plan, plan_of
from fleet_server.resolution.states import (
    CaseEvent,
    CaseState,
    Control,
    ControlEvent,
    Move,
    MoveEvent,
    Undoing,
    UndoingEvent,
    next_case_state,
    next_control,
    next_move,
    next_undoing,
    read_state,
)

Event = CaseEvent | MoveEvent | UndoingEvent | ControlEvent


class StatesDiffer(Permanent):
    """A case's row says other states than the tables answered to its events: a fault of ours, nothing is written."""


@dataclass(frozen=True, slots=True)
class States:
    """Where a case stands in each of the four machines."""

    state: CaseState
    move: Move
    undoing: Undoing
    control: Control


@dataclass(slots=True)
class Case:
    """A row of ``repair_case``, its plan read. Times are domain time; changed by ``after`` and ``dataclasses.replace``.

    ``outcome`` is what the engineer found, as JSON. ``escalated``: a question to a person is open. ``replanning``: a
    window before the new deadline is looked for or being moved to.
    """

    case_id: uuid.UUID
    tenant_id: str
    site_id: str
    asset_id: str
    slot: str
    number: int
    state: CaseState
    failure_mode: str
    owner_id: str
    impact: str
    urgency: str
    finding_id: uuid.UUID
    prognosis_id: uuid.UUID | None
    deadline_at: datetime | None
    component_serial: str
    part_no: str
    opened_at: datetime
    closed_at: datetime | None
    escalated: bool
    replanning: bool
    waits_for: str
    plan: Plan
    outcome: Mapping[str, object] | None
    trace_id: str
    next_at: datetime | None
    version: int
    answered: States | None = field(default=None, repr=False, compare=False)
    """The states as they were read, and then as the tables answered to each event."""

    def __post_init__(self) -> None:
        """The database gives text and JSON; they become the state and the plan. Raises BadInput for another state.

        A plan that cannot be read does not hold up the case: ``plan.unread`` keeps it (``plan_of``).
        """
        self.state = read_state(CaseState, self.state)
        self.plan = plan_of(self.plan)
        if self.answered is None:
            self.answered = self.states

    @property
    def name(self) -> str:
        """How people call the case."""
        return case_label(self.number)

    @property
    def move(self) -> Move:
        """Whether the booked window is to be moved before a nearer deadline."""
        if self.plan.decisions.keep_plan:
            return Move.PINNED
        if not self.replanning:
            return Move.STAYS
        return Move.LOOKING if self.plan.replanning.next_window is None else Move.MOVING

    @property
    def control(self) -> Control:
        """Who has the word. A case that is handled by hand stays so, whatever else is asked about it."""
        if self.plan.decisions.manual:
            return Control.BY_HAND
        return Control.ASKED if self.escalated else Control.AUTOMATIC

    @property
    def being_planned(self) -> bool:
        """Whether a repair is being arranged, or waits for an answer to be: nothing stands yet, nobody took over."""
        return self.state in (CaseState.CONFIRMED, CaseState.PLANNING) and self.control is not Control.BY_HAND

    @property
    def being_moved(self) -> bool:
        """Whether the booked window is being moved, or waits for an answer to be. It stands until then."""
        return self.state is CaseState.COMMITTED and self.move in (Move.LOOKING, Move.MOVING)

    @property
    def states(self) -> States:
        """The states as the row tells them."""
        return States(self.state, self.move, self.plan.undoing, self.control)

    def require_answered(self) -> None:
        """Raises StatesDiffer unless the row tells the states that the tables answered."""
        if self.states != self.answered:
            raise StatesDiffer(f"case {self.name} would be {self.states}, its events lead to {self.answered}")

    @property
    def completed_at(self) -> datetime | None:
        """When the engineer reported the work as done; None while he has not, or when it cannot be read."""
        told = (self.outcome or {}).get("completed_at")
        try:
            moment = datetime.fromisoformat(told) if isinstance(told, str) else None
        except ValueError:
            return None
        return moment if moment is not None and moment.tzinfo is not None else None

    @property
    def part_used(self) -> bool:
        """Whether the engineer built the part in; True as long as he has not said otherwise."""
        return (self.outcome or {}).get("replaced") is not False

    def after(self, *events: Event) -> Case:
        """The case after these events, one after the other. Raises ForbiddenTransition.

        What belongs to an event (the window that was found, the name of who decided) the caller sets with ``replace``
        before the case is written: a move is MOVING once ``next_window`` stands, PINNED once ``keep_plan`` does, and
        control is BY_HAND once ``manual`` does. ``Plan.fresh`` and ``Plan.unmoved`` take such marks back.
        """
        case, now = self, self.answered or self.states
        for event in events:
            if isinstance(event, CaseEvent):
                now = replace(now, state=next_case_state(now.state, event))
                case = replace(case, state=now.state)
            elif isinstance(event, UndoingEvent):
                now = replace(now, undoing=next_undoing(now.undoing, event))
                case = replace(case, plan=replace(case.plan, undoing=now.undoing))
            elif isinstance(event, MoveEvent):
                now = replace(now, move=next_move(now.move, event))
                case = replace(case, replanning=now.move in (Move.LOOKING, Move.MOVING))
            else:
                now = replace(now, control=next_control(now.control, event))
                asked = {ControlEvent.ASK: True, ControlEvent.ANSWERED: False}.get(event, case.escalated)
                case = replace(case, escalated=asked)
        return replace(case, answered=now)
