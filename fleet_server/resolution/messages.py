"""What people are told, in plain words. Pure: (case file, names, plan) -> text, HTML, appointment.

An announcement says what was seen, that it was arranged automatically or who decided, when, whether that is before a
failure is expected, what it means for throughput and who answers for it. It asks for nothing. Every sentence is about
the moment ``now`` at which it is composed: messages are composed again when they are sent (``truth.py``).
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fleet_core.assets import COMPONENT_TYPES, failure_mode
from fleet_server.health.running import Running, RunningState
from fleet_server.labels import case_label
from fleet_server.notifiers.api import CalendarEntry
from fleet_server.resolution.plan import Window, needed
from fleet_server.resolution.questions import reason_label
from fleet_server.resolution.records import CaseFile
from fleet_server.resolution.states import CaseState, Control
from fleet_server.resolution.stored import table_of
from fleet_server.resolution.window_choice import zone_info


@dataclass(frozen=True, slots=True)
class Composed:
    """A message without recipient or channel."""

    purpose: str
    subject: str
    text: str
    html: str
    calendar: CalendarEntry | None = None
    data: dict[str, object] = field(default_factory=dict)


def component_label(file: CaseFile) -> str:
    kind = COMPONENT_TYPES.get(file.component.component_type)
    return kind.label.lower() if kind else file.case.slot


def announcement(
    file: CaseFile,
    owner_name: str,
    now: datetime,
    sequence: int = 0,
    decided_by: str = "",
    *,
    machine: RunningState | None = None,
    amends: bool | None = None,
    stays: bool = False,
) -> Composed:
    """What is arranged, as it is at ``now``: told first, or as an amendment of what was told (``amends``; by itself
    from ``sequence`` 1 on).

    ``machine`` is the running state of the asset; None: not known, and nothing is said of it. ``decided_by`` names the
    person without whose decision nothing would have been arranged, "" when it was automatic. The deadline and the
    window are named as ahead or past, as they are. ``stays``: the window is the one that was told of last, and somebody
    else comes. Raises PlanIncomplete when window, engineer or part is missing.
    """
    booking = file.plan.booking
    window, engineer = needed(booking.window, "window"), needed(booking.engineer, "engineer")
    part, cover = needed(booking.part, "part"), booking.entitlement
    when = span_text(window.start, window.end, window.time_zone)
    amended = sequence > 0 if amends is None else amends
    over = window.end <= now or file.case.state in (CaseState.VERIFYING, CaseState.CLOSED)
    moved = f"The repair of {file.asset.name} has been moved: it now takes place {when}."
    if stays:
        moved = f"The repair of {file.asset.name} takes place as announced, {when}; {engineer.name} comes for it now."
    paragraphs = [moved] if amended else []
    if not over:
        paragraphs += _machine(file, machine, now, first=not amended)
    if not amended or over:
        paragraphs.append(_arranged(file, when, decided_by, now))
    if not over:
        paragraphs += [*_lateness(file, window, machine, now), _throughput(window)]
        paid = f"under {(cover.reference if cover else '') or 'your approval'}"
        brings = f"{engineer.name} brings the part ({part.label}) and does the work {paid}."
        if file.plan.is_emergency:
            brings += f" The part is on site by {_long(part.arrives_at, window.time_zone)}."
        paragraphs.append(f"{brings} Nothing is needed from you; the appointment is attached for your calendar.")
    paragraphs.append(f"{owner_name} answers for this case ({file.name}).")
    verb = "by another engineer on" if amended and stays else "moved to" if amended else "arranged for"
    subject = f"{file.asset.name}: repair {verb} {short_time(window.start, window.time_zone)}"
    calendar = None
    if not over:
        calendar = CalendarEntry(
            uid=f"{file.case_id}@forestall",
            sequence=sequence,
            start=window.start,
            end=window.end,
            summary=f"Repair of {file.asset.name} ({component_label(file)})",
            location=file.site.name,
            description="\n\n".join(paragraphs),
            made_at=now,
        )
    data = {**_identity(file), "window": table_of(window), "engineer": engineer.name, "owner": owner_name}
    data |= {"decided_by": decided_by} if decided_by else {}
    return _composed("amendment" if amended else "announcement", subject, paragraphs, calendar, data)


def closing(file: CaseFile, owner_name: str, *, announced: bool = True) -> Composed:
    """The closing line: done, verified. ``announced`` False: what was to announce the repair never arrived."""
    told = "" if announced else " What was to announce it could not be delivered to you."
    text = (
        f"The repair of {file.asset.name} is done; its vitals since then confirm that it is sound.{told}"
        f" Case {file.name} is closed. {owner_name} remains your contact."
    )
    return _composed("closing", f"{file.asset.name}: repair done and verified", [text], None, _identity(file))


def failure(file: CaseFile, owner_name: str, now: datetime, purpose: str) -> Composed:
    """At once: the component is taken for failed, and what is arranged by now. ``purpose`` is ``alert`` to the owner,
    ``failure`` to the site's director."""
    paragraphs = [*_machine(file, None, now, first=False), _repair_stands(file, owner_name, now)]
    if purpose == "alert":
        paragraphs.append(
            f"Because {file.plan.emergency.failed_because}. The forecast ends with it; whether the component had failed"
            " is what the report of the work says."
        )
    paragraphs.append(f"{owner_name} answers for this case ({file.name}).")
    heard = "silent" if file.plan.emergency.fell_silent else "stands still"
    return _composed(purpose, f"{file.asset.name} {heard}: taken for failed", paragraphs, None, _identity(file))


def runs_again(file: CaseFile, owner_name: str, since: datetime, now: datetime, purpose: str) -> Composed:
    """To those who were told that it had failed: it had only stopped."""
    text = (
        f"{file.asset.name} at {file.site.name} runs again since {_long(since, file.site.time_zone)}: it had only"
        " stopped. It is judged again by its vitals from now on."
    )
    paragraphs = [text, _repair_stands(file, owner_name, now), f"{owner_name} answers for this case ({file.name})."]
    data = {**_identity(file), "runs_since": since.isoformat()}
    return _composed(purpose, f"{file.asset.name} runs again", paragraphs, None, data)


def _machine(file: CaseFile, machine: RunningState | None, now: datetime, *, first: bool) -> list[str]:
    """What is true of the machine at ``now``; with ``first`` also what was seen of it."""
    zone, name, part = file.site.time_zone, file.asset.name, component_label(file)
    failed_at = file.plan.emergency.failed_at
    if failed_at is not None:
        seen = "has been silent since" if file.plan.emergency.fell_silent else "has stood still since"
        return [
            f"{name} at {file.site.name} {seen} {_long(failed_at, zone)}. Its {part} had been critical before and is"
            " taken for failed."
        ]
    state = machine.state if machine is not None else Running.UNKNOWN
    since = _long(machine.since, zone) if machine is not None else ""
    stands = {
        Running.RUNNING: "The machine still works normally." if first else "",
        Running.RESTING: f"The machine stands still at present, as meant (since {since}).",
        Running.STOPPED: f"The machine has stood still since {since} although it should run.",
        Running.FAILED: f"The machine has stood still since {since}; another of its components is taken for failed.",
        Running.SILENT: f"Nothing has been heard of the machine since {since}.",
    }.get(state, "")
    if first:
        mode = failure_mode(file.case.failure_mode).label.lower()
        seen = f"We have seen early signs of {mode} in the {part} of {name} at {file.site.name}."
        return [" ".join(filter(None, (seen, stands)))]
    return [stands] if stands else []


def _arranged(file: CaseFile, when: str, decided_by: str, now: datetime) -> str:
    """That the repair is arranged, takes place now, was to have been done, or is done."""
    how = f"after a decision by {decided_by}" if decided_by else "automatically"
    window = needed(file.plan.booking.window, "window")
    if file.case.state in (CaseState.VERIFYING, CaseState.CLOSED):
        return f"The repair of {file.asset.name}, arranged {how} and planned {when}, has been reported as done."
    if window.end <= now:
        return (
            f"The repair of {file.asset.name} was arranged {how} and was to take place {when}. Whether the work is done"
            " has not been reported yet."
        )
    if window.start <= now:
        return f"The repair has been arranged {how} and takes place now, {when}."
    deadline_at = file.case.deadline_at
    in_time = deadline_at is not None and window.end <= deadline_at and now < deadline_at
    arranged = f"The repair has been arranged {how} and takes place {when}"
    if not in_time or file.plan.is_emergency:
        return f"{arranged}."
    promise = "An optimised preventive maintenance is arranged, for continuous performance."
    return f"{arranged}, before a failure is expected. {promise}"


def _lateness(file: CaseFile, window: Window, machine: RunningState | None, now: datetime) -> list[str]:
    """That the repair comes after a failure may come, or since when one has been possible; nothing once it failed."""
    deadline_at = file.case.deadline_at
    if deadline_at is None or window.end <= deadline_at or file.plan.is_emergency:
        return []
    if deadline_at <= now:
        return [f"A failure has been possible since {_long(deadline_at, window.time_zone)}."]
    runs = machine is not None and machine.state is Running.RUNNING
    watched = " We keep watching the machine until then." if runs else ""
    return [
        f"This is later than we would like: a failure may come from {_long(deadline_at, window.time_zone)} on.{watched}"
    ]


def _repair_stands(file: CaseFile, owner_name: str, now: datetime) -> str:
    """What is arranged for its repair by now, in a sentence or two."""
    case, booking = file.case, file.plan.booking
    zone = file.site.time_zone
    if case.state is CaseState.IN_PROGRESS:
        return "It is being repaired now."
    if case.state is CaseState.COMMITTED and booking.window is not None and booking.window.end > now:
        text = (
            f"Its repair is arranged {span_text(booking.window.start, booking.window.end, booking.window.time_zone)}."
        )
        if booking.part is not None and booking.part.arrives_at > now:
            text += f" The part is on site by {_long(booking.part.arrives_at, zone)}."
        return text + (" An earlier time is being looked for." if case.being_moved else "")
    if case.control is Control.BY_HAND:
        return f"{owner_name} handles its repair by hand."
    if file.tenant.observe_only:
        return "Nothing is arranged automatically for this customer at present."
    if case.control is Control.ASKED:
        return f"Its repair waits for a decision of {owner_name}."
    if case.state is CaseState.OPEN:
        return "No repair is arranged yet."
    return "Its repair is being arranged; its time is told as soon as it is booked."


def withdrawal(
    file: CaseFile, owner_name: str, director_name: str, window: Window, now: datetime, sequence: int
) -> Composed:
    """Takes the appointment out of the calendar of somebody who is no longer the one to be told; the repair goes on."""
    when = span_text(window.start, window.end, window.time_zone)
    text = (
        f"The repair of {file.asset.name}, of which we told you for {when}, is no longer an appointment of yours:"
        f" {director_name} is told about it from now on, and the entry is taken out of your calendar."
        f" Nothing is needed from you. {owner_name} answers for this case ({file.name})."
    )
    calendar = CalendarEntry(
        uid=f"{file.case_id}@forestall",
        sequence=sequence,
        start=window.start,
        end=window.end,
        summary=f"Repair of {file.asset.name} ({component_label(file)})",
        location=file.site.name,
        description=text,
        made_at=now,
        cancelled=True,
    )
    data = {**_identity(file), "handed_to": director_name}
    subject = f"{file.asset.name}: the repair is no longer your appointment"
    return _composed("withdrawal", subject, [text], calendar, data)


def cancellation(file: CaseFile, owner_name: str, now: datetime, sequence: int) -> Composed:
    """Takes back what was announced; the appointment is cancelled."""
    window = needed(file.plan.booking.announced, "announced window")
    start, end = window.start, window.end
    text = (
        f"The repair of {file.asset.name} planned {span_text(start, end, window.time_zone)}"
        f" {'does' if now < start else 'did'} not take place: {file.plan.ended_because or 'it is no longer needed'}."
        f" {owner_name} answers for this case ({file.name})."
    )
    calendar = CalendarEntry(
        uid=f"{file.case_id}@forestall",
        sequence=sequence,
        start=start,
        end=end,
        summary=f"Repair of {file.asset.name} ({component_label(file)})",
        location=file.site.name,
        description=text,
        made_at=now,
        cancelled=True,
    )
    subject = f"{file.asset.name}: repair cancelled"
    return _composed("cancellation", subject, [text], calendar, _identity(file))


def escalation(
    file: CaseFile, summary: str, due_at: datetime, options: Sequence[Mapping[str, str]], reason: str
) -> Composed:
    """To the named person who must decide. The subject says which asset, what about (``reason``) and until when."""
    zone = file.site.time_zone
    paragraphs = [
        f"Case {file.name}, {file.asset.name} ({component_label(file)}) at {file.site.name}, needs your decision.",
        summary,
        *_history(file),
        "You can: " + "; ".join(f"{option['label']} ({option['effect']})" for option in options) + ".",
        f"Please decide by {_long(due_at, zone)}; afterwards the next line is asked.",
    ]
    data = {**_identity(file), "summary": summary, "due_at": due_at.isoformat(), "options": [dict(o) for o in options]}
    about = reason_label(reason)
    subject = f"{file.asset.name}: {about[0].lower()}{about[1:]}; decide by {short_time(due_at, zone)} ({file.name})"
    return _composed("escalation", subject, paragraphs, None, data)


def hand_over(file: CaseFile, before: str, owner_name: str) -> Composed:
    """To whoever answers for a case from now on: where it stands, what it waits for, what is asked."""
    case = file.case
    paragraphs = [
        f"You answer for case {file.name} now, in the place of {before}: {file.asset.name} ({component_label(file)}) at"
        f" {file.site.name}.",
        f"It is {case.state.replace('_', ' ')}" + (f" and waits for {case.waits_for}." if case.waits_for else "."),
        *(f"Open question: {question.summary}" for question in file.questions),
        *_history(file),
    ]
    subject = f"Yours now: {file.asset.name} ({file.name})"
    return _composed("hand_over", subject, paragraphs, None, _identity(file))


def _history(file: CaseFile) -> list[str]:
    """The ended case of the same trouble, if there is one."""
    before = file.follows
    if before is None:
        return []
    ended = f" on {short_time(before.closed_at, file.site.time_zone)}" if before.closed_at else ""
    because = f": {before.ended_because}" if before.ended_because else ""
    as_what = before.state.replace("_", " ")
    return [f"It follows case {case_label(before.number)}, which ended{ended} as {as_what}{because}."]


def span_text(start: datetime, end: datetime, time_zone: str) -> str:
    """``on Tuesday 24 November 2026, 02:00-04:00 (Europe/Berlin; 01:00-03:00 UTC)``."""
    zone = zone_info(time_zone)
    local_start, local_end = start.astimezone(zone), end.astimezone(zone)
    day = f"{local_start:%A} {local_start.day} {local_start:%B %Y}"
    utc = f"{start.astimezone(UTC):%H:%M}-{end.astimezone(UTC):%H:%M} UTC"
    return f"on {day}, {local_start:%H:%M}-{local_end:%H:%M} ({time_zone}; {utc})"


def _throughput(window: Window) -> str:
    rank = "" if window.load_rank == 1 else f" (rank {window.load_rank})"
    share = ""
    if window.day_orders:
        share = f", {100 * window.load / window.day_orders:.1f} % of that day's"
    choice = {
        "first": "the first that is possible",
        "emergency": "the earliest that is possible",
        "quietest_soon": f"the quietest of the first that are possible{rank}",
    }.get(window.choice, f"the quietest that fits{rank}")
    return (
        f"Effect on throughput: the window is {choice};"
        f" about {window.load:.0f} orders{share} are expected in it for the whole site."
    )


def _identity(file: CaseFile) -> dict[str, object]:
    return {
        "case_id": str(file.case_id),
        "case": file.name,
        "asset_id": file.asset.asset_id,
        "asset": file.asset.name,
        "site_id": file.site.site_id,
        "failure_mode": file.case.failure_mode,
    }


def _composed(
    purpose: str, subject: str, paragraphs: list[str], calendar: CalendarEntry | None, data: dict[str, object]
) -> Composed:
    body = "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs)
    page = f'<!doctype html><html lang="en"><body>{body}</body></html>'
    return Composed(purpose, subject, "\n\n".join(paragraphs) + "\n", page, calendar, data)


def short_time(instant: datetime, time_zone: str) -> str:
    """``Tue 24 Nov, 02:00`` in that zone."""
    local = instant.astimezone(zone_info(time_zone))
    return f"{local:%a} {local.day} {local:%b}, {local:%H:%M}"


def _long(instant: datetime, time_zone: str) -> str:
    local = instant.astimezone(zone_info(time_zone))
    return f"{local:%A} {local.day} {local:%B %Y}, {local:%H:%M} ({time_zone}; {instant.astimezone(UTC):%H:%M} UTC)"
