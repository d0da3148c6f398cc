"""A case's plan: what is booked for the repair, how it is being moved or undone, and what people decided. Pure.

The plan is stored as one flat JSON object in ``repair_case.plan``. ``read_plan`` is its only reader and ``write_plan``
its only writer; everything between them is these frozen dataclasses, changed by ``dataclasses.replace``. Reading is
strict: an unknown key or a value of the wrong type raises ``BadInput``. ``plan_of`` gives what can be read of such a
plan all the same, and the stored one whole beside it: nothing is planned by it before a person decided.

What the case is doing about its booking (``undoing`` here, ``move`` and ``control`` of ``case.Case``) are states of
the machines in ``states.py``; ``Case.after`` checks every event against them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Literal, TypeVar

from fleet_core.errors import BadInput, Permanent
from fleet_server.connectors.times import Instant
from fleet_server.resolution.states import Undoing
from fleet_server.resolution.stored import WRITTEN, json_text, read_stored, table_of

T = TypeVar("T")
MAX_REFUSED = 50
"""Refused windows, and pairs of window and engineer, that are remembered: the newest, since the oldest are past."""


class PlanIncomplete(Permanent):
    """A step needs a part of the plan that an earlier step should have made."""


@dataclass(frozen=True, slots=True)
class Cover:
    """What pays for the repair: a contract (``reference``), or a person's word (``kind`` "none", ``approved_by``)."""

    kind: str
    reference: str = ""
    valid_to: Instant | None = None
    terms: object = field(default_factory=dict)
    """What the contract says, any JSON value; nothing is decided by it."""
    approved_by: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """The reserved part: the offer that was chosen, and the ``reservation`` the parts system gave.

    ``price_eur`` in EUR, ``distance_km`` by air (None when the site's place is unknown), ``lead_time_h`` in hours.
    """

    part_no: str
    label: str
    centre_id: str
    centre_name: str
    on_hand: int
    price_eur: float
    distance_km: float | None
    lead_time_h: float
    arrives_at: Instant
    reservation: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """A window that would have done as well. ``load``: orders expected in it; ``load_rank`` 1 is the quietest."""

    start: Instant
    end: Instant
    load: float
    load_rank: int
    shift: str


@dataclass(frozen=True, slots=True)
class Window:
    """The chosen window, and its ``booking`` in the WMS once it is held.

    ``day_orders``: orders expected on its whole local day; ``of_windows``: how many would have done.
    """

    start: Instant
    end: Instant
    load: float
    load_rank: int
    shift: str
    time_zone: str
    day_orders: float
    of_windows: int
    before_deadline: bool
    choice: Literal["quietest", "quietest_soon", "first", "emergency"] = field(default="quietest", metadata=WRITTEN)
    """How it was chosen; windows that earlier versions wrote do not say, and were the quietest."""
    booking: str = ""


@dataclass(frozen=True, slots=True)
class PlannedEngineer:
    """Who does the work."""

    id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """The work order in the field service's system."""

    id: str
    number: str = ""


@dataclass(frozen=True, slots=True)
class Booking:
    """What the repair rests on, in the order in which it is made; None: not yet, or released."""

    entitlement: Cover | None = None
    part: Part | None = None
    window: Window | None = None
    engineer: PlannedEngineer | None = None
    work_order: PlannedOrder | None = None
    alternatives: tuple[Alternative, ...] = ()
    excluded: dict[str, int] = field(default_factory=dict)
    """Why other starts would not do -> how many."""
    announced: Window | None = None
    """The window the customer was told of last; it stays when the plan is given up, to take the appointment back."""
    planned_for: Instant | None = None
    """The deadline the window was chosen for."""


@dataclass(frozen=True, slots=True)
class Replanning:
    """The earlier window beside the booked one, and what need not be tried again."""

    next_window: Window | None = None
    next_engineer: PlannedEngineer | None = None
    refused_windows: tuple[Instant, ...] = ()
    """Starts that the WMS refused or for which no engineer was free."""
    refused_pairs: tuple[tuple[Instant, str], ...] = ()
    """A start and the engineer who was not to be had then."""
    refused_offers: tuple[tuple[str, str], ...] = ()
    """A centre and the part that it did not reserve as asked."""
    refused_orders: int = 0
    """How often in a row the work order was not written as asked."""
    gone_engineer: str = ""
    """Who was dispatched and has left: that dispatch is released, and another one comes."""

    def forgiven(self) -> Replanning:
        """Everything may be tried again."""
        return replace(
            self, refused_windows=(), refused_pairs=(), refused_offers=(), refused_orders=0, gone_engineer=""
        )


@dataclass(frozen=True, slots=True)
class Retrying:
    """Steps that only read another system and so have no act: failed attempts of the present one, when to go on."""

    tries: dict[str, int] = field(default_factory=dict)
    not_before: Instant | None = None


@dataclass(frozen=True, slots=True)
class Decisions:
    """What people decided, each as who did (``user:LOGIN``); "" while nobody has."""

    acted_on_by: str = ""
    """Have the repair arranged although the evidence alone would not."""
    watching: str = ""
    """Arrange nothing, and ask no more, until the evidence changes."""
    approved_by: str = ""
    cost_approved_by: str = ""
    without_cover: str = ""
    accept_late: str = ""
    keep_plan: str = ""
    """The window stays although it ends after the deadline."""
    manual: str = ""
    """Who handles the case by hand."""
    closed_by: str = ""
    tell_again: str = ""
    """Tell the customer, composed anew, what was refused; "" again once that was done."""

    @property
    def made_it_possible(self) -> str:
        """Who let the plan go on where it would have stopped; "" when it was arranged automatically."""
        asked = (self.accept_late, self.cost_approved_by, self.approved_by, self.without_cover, self.acted_on_by)
        return next(filter(None, asked), "")


@dataclass(frozen=True, slots=True)
class Emergency:
    """The component is taken for failed: since when, and by which evidence; None while it is not.

    The repair then goes the emergency way: the part that arrives first, the earliest window whatever its load.
    """

    failed_at: Instant | None = None
    failed_because: str = ""
    fell_silent: bool = False
    """It was not seen to stand: nothing was heard of it any more."""
    alerts: int = 0
    """How often people were told at once: that it failed, and that it runs again. It numbers their messages."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a case remembers of its repair."""

    booking: Booking = Booking()
    replanning: Replanning = Replanning()
    retrying: Retrying = Retrying()
    decisions: Decisions = Decisions()
    undoing: Undoing = Undoing.NOTHING
    verify_extended: bool = False
    """The verification was given a second period since there were too few vitals."""
    ended_because: str = ""
    unread: object = None
    """The stored plan as it was, when not all of it could be read; it is kept for people."""
    unread_because: str = ""
    """Why, until a person had the repair planned again; nothing is planned while it stands."""
    emergency: Emergency = Emergency()

    @property
    def is_emergency(self) -> bool:
        """Whether the component is taken for failed, so that the repair goes the emergency way."""
        return self.emergency.failed_at is not None

    def fresh(self) -> Plan:
        """What a new plan begins with: nothing is refused, and nobody has accepted, approved or pinned anything yet.

        What is booked stays in it until it is released (``undoing``).
        """
        return replace(
            self,
            booking=replace(self.booking, planned_for=None),
            replanning=self.replanning.forgiven(),
            retrying=Retrying(),
            decisions=replace(self.decisions, approved_by="", cost_approved_by="", accept_late="", keep_plan=""),
            verify_extended=False,
            unread_because="",
        )

    def unbooked(self) -> Plan:
        """Nothing that binds another system is left; cover, announcement and decisions stay."""
        booking = replace(self.booking, part=None, window=None, engineer=None, work_order=None)
        return replace(self, booking=booking).unmoved()

    def without_window(self) -> Plan:
        """The chosen window, and who would come, are forgotten: another is looked for."""
        return replace(self, booking=replace(self.booking, window=None, engineer=None))

    def unmoved(self) -> Plan:
        """The earlier window, and who would come, are forgotten; the booked one stands."""
        return replace(self, replanning=replace(self.replanning, next_window=None, next_engineer=None))

    def refusing(self, start: datetime) -> Plan:
        """The window that begins then is not tried again."""
        refused = (*self.replanning.refused_windows, start)[-MAX_REFUSED:]
        return replace(self, replanning=replace(self.replanning, refused_windows=refused))

    def refusing_pair(self, start: datetime, engineer_id: str) -> Plan:
        """The engineer is not tried again for the window that begins then."""
        refused = (*self.replanning.refused_pairs, (start, engineer_id))[-MAX_REFUSED:]
        return replace(self, replanning=replace(self.replanning, refused_pairs=refused))

    def refusing_offer(self, centre_id: str, part_no: str) -> Plan:
        """The part is not tried again in that centre."""
        refused = (*self.replanning.refused_offers, (centre_id, part_no))[-MAX_REFUSED:]
        return replace(self, replanning=replace(self.replanning, refused_offers=refused))

    def refusing_order(self) -> Plan:
        """The work order was refused once more."""
        refused = self.replanning.refused_orders + 1
        return replace(self, replanning=replace(self.replanning, refused_orders=refused))

    def forgiven(self) -> Plan:
        """Everything that was refused may be tried again."""
        return replace(self, replanning=self.replanning.forgiven())


def needed(value: T | None, what: str) -> T:
    """A part of the plan that must be there by now. Raises PlanIncomplete."""
    if value is None:
        raise PlanIncomplete(f"the plan has no {what}")
    return value


def read_plan(stored: object) -> Plan:
    """The plan of a case from the JSON object in its row. Raises BadInput for anything that is not understood."""
    if isinstance(stored, Plan):
        return stored
    if not isinstance(stored, Mapping):
        raise BadInput("plan", f"an object is expected, not {type(stored).__name__}")
    unknown = sorted(str(name) for name in stored if name not in _KEYS)
    if unknown:
        raise BadInput("plan", f"unknown key {unknown[0]!r}")
    own = _group(stored, _Own)
    return Plan(
        booking=_group(stored, Booking),
        replanning=_group(stored, Replanning),
        retrying=_group(stored, Retrying),
        decisions=_group(stored, Decisions),
        emergency=_group(stored, Emergency),
        undoing=Undoing.EVERYTHING if own.unwind else Undoing.WINDOW if own.drop_window else Undoing.NOTHING,
        verify_extended=own.verify_extended,
        ended_because=own.ended_because,
        unread=own.unread,
        unread_because=own.unread_because,
    )


def plan_of(stored: object) -> Plan:
    """The plan of a case, whatever is stored: of a plan that ``read_plan`` refuses, the entries that can be read."""
    try:
        return read_plan(stored)
    except BadInput as error:
        entries = stored.items() if isinstance(stored, Mapping) else ()
        readable = {name: value for name, value in entries if _can_be_read(name, value)}
        return replace(read_plan(readable), unread=stored, unread_because=str(error))


def write_plan(plan: Plan) -> dict[str, object]:
    """The JSON object of a plan: one flat table of what differs from an empty plan.

    It is read again before it is returned: raises BadInput for a plan that ``read_plan`` would refuse.
    """
    own = _Own(
        unwind=plan.undoing is Undoing.EVERYTHING,
        drop_window=plan.undoing is Undoing.WINDOW,
        verify_extended=plan.verify_extended,
        ended_because=plan.ended_because,
        unread=plan.unread,
        unread_because=plan.unread_because,
    )
    groups = (plan.booking, plan.replanning, plan.retrying, plan.decisions, plan.emergency, own)
    table = {name: value for group in groups for name, value in table_of(group).items()}
    written: dict[str, object] = json.loads(json_text(table, "plan"))
    read_plan(written)
    return written


@dataclass(frozen=True, slots=True)
class _Own:
    """The stored fields that belong to no group. ``unwind``: everything is being released; ``drop_window``: one
    window is. Where both are set the first holds, since it releases the window too."""

    unwind: bool = False
    drop_window: bool = False
    verify_extended: bool = False
    ended_because: str = ""
    unread: object = None
    unread_because: str = ""


_GROUPS: tuple[type, ...] = (Booking, Replanning, Retrying, Decisions, Emergency, _Own)
_NAMES = {group: frozenset(one.name for one in fields(group)) for group in _GROUPS}
_KEYS = frozenset().union(*_NAMES.values())


def _can_be_read(name: str, value: object) -> bool:
    try:
        read_plan({name: value})
    except BadInput:
        return False
    return True


def _group(stored: Mapping[str, object], group: type[T]) -> T:
    return read_stored({name: value for name, value in stored.items() if name in _NAMES[group]}, group, "plan")
