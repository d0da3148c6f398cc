"""What people are told, in plain words. Pure: (case file, names, plan) -> text, HTML, appointment.

An announcement says what was seen, that it was arranged automatically or who decided, when, whether that is before a
failure is expected, what it means for throughput and who answers for it. It asks for nothing.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fleet_core.assets import COMPONENT_TYPES, failure_mode
from fleet_server.notifiers.api import CalendarEntry
from fleet_server.resolution.plan import Window, needed
from fleet_server.resolution.records import CaseFile
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


def announcement(file: CaseFile, owner_name: str, now: datetime, sequence: int = 0, decided_by: str = "") -> Composed:
    """The one announcement (``sequence`` 0), or an amendment of it when the plan changed.

    ``decided_by`` names the person without whose decision nothing would have been arranged, "" when it was automatic.
    Raises PlanIncomplete when window, engineer or part is missing.
    """
    booking = file.plan.booking
    window, engineer = needed(booking.window, "window"), needed(booking.engineer, "engineer")
    part, cover = needed(booking.part, "part"), booking.entitlement
    start, end = window.start, window.end
    when = span_text(start, end, window.time_zone)
    amended = sequence > 0
    first = (
        f"The repair of {file.asset.name} has been moved: it now takes place {when}."
        if amended
        else f"We have seen early signs of {failure_mode(file.case.failure_mode).label.lower()} in the"
        f" {component_label(file)} of {file.asset.name} at {file.site.name}. The machine still works normally."
    )
    paragraphs = [first]
    deadline_at = file.case.deadline_at
    in_time = deadline_at is not None and end <= deadline_at
    if not amended:
        how = f"after a decision by {decided_by}" if decided_by else "automatically"
        promise = ", before a failure is expected" if in_time else ""
        paragraphs.append(f"The repair has been arranged {how} and takes place {when}{promise}.")
    if deadline_at is not None and not in_time:
        paragraphs.append(
            f"We are sorry that this is later than we would like: a failure may come from"
            f" {_long(deadline_at, window.time_zone)} on. We keep watching the machine until then."
        )
    paragraphs += [
        _throughput(window),
        f"{engineer.name} brings the part ({part.label}) and does the work"
        f" under {(cover.reference if cover else '') or 'your approval'}."
        " Nothing is needed from you; the appointment is attached for your calendar.",
        f"{owner_name} answers for this case ({file.name}).",
    ]
    verb = "moved" if amended else "arranged"
    subject = f"{file.asset.name}: repair {verb} for {short_time(start, window.time_zone)}"
    calendar = CalendarEntry(
        uid=f"{file.case_id}@forestall",
        sequence=sequence,
        start=start,
        end=end,
        summary=f"Repair of {file.asset.name} ({component_label(file)})",
        location=file.site.name,
        description="\n\n".join(paragraphs),
        made_at=now,
    )
    data = {**_identity(file), "window": table_of(window), "engineer": engineer.name, "owner": owner_name}
    return _composed("amendment" if amended else "announcement", subject, paragraphs, calendar, data)


def closing(file: CaseFile, owner_name: str) -> Composed:
    """The closing line: done, verified."""
    text = (
        f"The repair of {file.asset.name} is done; its vitals since then confirm that it is sound."
        f" Case {file.name} is closed. {owner_name} remains your contact."
    )
    return _composed("closing", f"{file.asset.name}: repair done and verified", [text], None, _identity(file))


def cancellation(file: CaseFile, owner_name: str, now: datetime, sequence: int) -> Composed:
    """Takes back what was announced; the appointment is cancelled."""
    window = needed(file.plan.booking.announced, "announced window")
    start, end = window.start, window.end
    text = (
        f"The repair of {file.asset.name} planned for {span_text(start, end, window.time_zone)} does not take"
        f" place: {file.plan.ended_because or 'it is no longer needed'}."
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


def escalation(file: CaseFile, summary: str, due_at: datetime, options: Sequence[Mapping[str, str]]) -> Composed:
    """To the named person who must decide."""
    zone = file.site.time_zone
    paragraphs = [
        f"Case {file.name}, {file.asset.name} ({component_label(file)}) at {file.site.name}, needs your decision.",
        summary,
        "You can: " + "; ".join(f"{option['label']} ({option['effect']})" for option in options) + ".",
        f"Please decide by {_long(due_at, zone)}; afterwards it goes to the second line.",
    ]
    data = {**_identity(file), "summary": summary, "due_at": due_at.isoformat(), "options": [dict(o) for o in options]}
    return _composed("escalation", f"Decision needed: {file.asset.name} ({file.name})", paragraphs, None, data)


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
