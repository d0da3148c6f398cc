"""Does a machine run, rest, or has it failed? State assessment of an asset and its components (ISO 13374). Pure.

``assess_running`` makes of dated facts one state with its beginning, its reason and its evidence:

* *running*, *unknown* (nothing it sends tells)
* *resting*: it stands still as meant. It is in maintenance or being repaired, it stops at this time of day or week as
  it did before, or its vitals say rest and no component had been critical before.
* *stopped*: it stands although it is asked to run, or its shaft is blocked while current flows, or a component stands
  that never should while its machine runs.
* *failed*: a component's course ended at its critical level, and then it stood still, or fell silent without a
  farewell while other agents were heard.
* *silent*: nothing has been heard since; nothing is said of what it does.

False failures are worse than none. So a failure needs all of: the device had called the component critical when the
machine stopped; its indicator stood clear of healthy until then; the stop is not one that is meant; it has lasted.
Silence counts only for a component that was critical, after ``SILENCE_FAILS_AFTER``, when its agent said no farewell
and somebody else was heard since: an outage of a site's network or of our own broker fails nobody. A machine that was
at rest when it fell silent is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from fleet_core.assets import COMPONENT_TYPES
from fleet_server.health.standstill import Course, Stop, Tells, stops, tells

STANDS_AFTER = timedelta(minutes=30)
"""A machine that stood for less may only wait at a crossing or a charger."""
SILENCE_FAILS_AFTER = timedelta(hours=2)
"""A device that restarts, updates or changes its network is back sooner."""
LATE_NEWS = timedelta(hours=1)
"""A device says *critical* only when it is sure, so perhaps a little after the machine has stopped."""
EARLY_CALM = timedelta(minutes=30)
"""A device may have called a component calmer because it was about to stop."""
CLEAR_OF_HEALTHY = 1.3
"""How far, as a ratio to healthy, the indicator of a component that failed stood before it stopped, at least."""
SAME_TIME = timedelta(hours=2)
LONGER_THAN_BEFORE = 1.25
"""A stop that lasts a quarter longer than the longest one like it is no longer the usual one."""
DAYS_TO_TELL = timedelta(days=8)
"""Vitals of so long show what a machine does on this day of the week."""
LONGEST_WEEKEND = timedelta(hours=66)
"""From Friday evening to Monday noon: how long a stop that begins before a weekend may last until a week is known."""


class Running(StrEnum):
    """The running state of an asset or a component."""

    RUNNING = "running"
    RESTING = "resting"
    STOPPED = "stopped"
    FAILED = "failed"
    SILENT = "silent"
    UNKNOWN = "unknown"


STANDS = (Running.RESTING, Running.STOPPED, Running.FAILED)
"""States in which nothing is judged: what the vitals show is the standstill."""


class Why(StrEnum):
    """The reason of a state, for programs."""

    VITALS = "vitals"
    NO_VITALS = "no_vitals"
    MAINTENANCE = "maintenance"
    REPAIR = "repair"
    USUAL_STOP = "usual_stop"
    AT_REST = "at_rest"
    COMMANDED = "commanded"
    BLOCKED = "blocked"
    NEVER_STANDS = "never_stands"
    CRITICAL_THEN_STANDSTILL = "critical_then_standstill"
    CRITICAL_THEN_SILENCE = "critical_then_silence"
    FAREWELL = "farewell"
    NOTHING_HEARD = "nothing_heard"


@dataclass(frozen=True, slots=True)
class CriticalSpan:
    """A time for which the device called a component critical. ``until`` None: it does still."""

    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Part:
    """An installed component. ``indicator`` is the course its latest finding names, None when it has none."""

    slot: str
    component_type: str
    indicator: Course | None = None
    critical: tuple[CriticalSpan, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a machine at ``now`` (domain times).

    ``courses`` are its vitals that tell (``standstill.tells``). It is silent when ``last_seen_at`` is older than
    ``silent_after``. ``said_farewell``: its agent left deliberately. ``others_heard``: agents that could have been cut
    off with it were heard since it fell silent. ``until_maintained``: the end of a declared maintenance.
    """

    now: datetime
    parts: tuple[Part, ...]
    courses: tuple[Course, ...]
    last_seen_at: datetime | None
    silent_after: timedelta
    time_zone: str = "UTC"
    said_farewell: bool = False
    others_heard: bool = True
    maintained_until: datetime | None = None
    being_repaired: bool = False


@dataclass(frozen=True, slots=True)
class RunningState:
    """A state, since when, and why; ``evidence`` are the facts it rests on, for people and for the audit."""

    state: Running
    since: datetime
    why: Why
    text: str
    evidence: dict[str, str] = field(default_factory=dict)

    @property
    def stands(self) -> bool:
        """Whether it stands still, for whatever reason."""
        return self.state in STANDS


@dataclass(frozen=True, slots=True)
class Assessed:
    """The state of the whole asset and, by slot, of its components."""

    asset: RunningState
    parts: dict[str, RunningState]


def assess_running(facts: Facts) -> Assessed:
    """Assess a machine. Never raises for poor data: they make it unknown."""
    silent_since = _silent_since(facts)
    stop = _stop(facts)
    if stop is not None and stop.length < STANDS_AFTER:
        stop = None
    if stop is not None and silent_since is None and facts.now - stop.last_at > facts.silent_after:
        stop = None  # what came since is on its way: a backlog is read to its end first
    meant = None if stop is None else _as_meant(facts, stop)
    parts = {part.slot: _part(facts, part, stop, meant, silent_since) for part in facts.parts}
    return Assessed(_whole(facts, parts, stop, meant, silent_since), parts)


def stands_now(facts: Facts) -> datetime | None:
    """Since when the vitals show standstill, however short, None when they do not; for whoever is about to judge."""
    stop = _stop(facts)
    return None if stop is None else stop.since


def _whole(
    facts: Facts,
    parts: dict[str, RunningState],
    stop: Stop | None,
    meant: RunningState | None,
    silent_since: datetime | None,
) -> RunningState:
    for state in (Running.FAILED, Running.STOPPED):
        found = [one for one in parts.values() if one.state is state]
        if found:
            return min(found, key=lambda one: one.since)
    if stop is not None and meant is None:
        meant = _unmeant(facts, stop)
    if silent_since is not None:
        return _silence(facts, silent_since)
    if meant is not None:
        return meant
    if facts.maintained_until is not None and facts.maintained_until > facts.now:
        return _maintenance(facts, facts.last_seen_at or facts.now)
    if facts.last_seen_at is None or not facts.courses:
        return RunningState(Running.UNKNOWN, facts.last_seen_at or facts.now, Why.NO_VITALS, "none of its vitals tells")
    return RunningState(Running.RUNNING, _ran_since(facts), Why.VITALS, "its vitals show it running")


def _part(
    facts: Facts, part: Part, stop: Stop | None, meant: RunningState | None, silent_since: datetime | None
) -> RunningState:
    own = stop
    if own is None and (own := _own_stop(facts, part)) is not None:
        meant = _as_meant(facts, own)
    if own is not None:
        critical = _critical_at(part, own.since)
        if meant is not None:
            return meant
        if critical is not None and _stood_clear(part, own.since):
            return _failed_standing(facts, part, own, critical)
        return _unmeant(facts, own, part)
    if silent_since is not None:
        critical = _critical_at(part, silent_since)
        lasted = facts.now - silent_since >= max(SILENCE_FAILS_AFTER, facts.silent_after)
        excused = facts.said_farewell or not facts.others_heard or facts.being_repaired or _maintained(facts)
        if critical is not None and lasted and not excused and _stood_clear(part, silent_since):
            text = f"its {_label(part)} was critical, then nothing was heard of the machine any more"
            evidence = {"critical_since": _iso(critical.since), "last_heard": _iso(silent_since)}
            return RunningState(Running.FAILED, silent_since, Why.CRITICAL_THEN_SILENCE, text, evidence)
        return _silence(facts, silent_since)
    if facts.last_seen_at is None:
        return RunningState(Running.UNKNOWN, facts.now, Why.NO_VITALS, "nothing was ever heard of it")
    return RunningState(Running.RUNNING, _ran_since(facts), Why.VITALS, "its vitals show it running")


def _failed_standing(facts: Facts, part: Part, stop: Stop, critical: CriticalSpan) -> RunningState:
    text = f"its {_label(part)} was critical, then it stood still"
    evidence = {"critical_since": _iso(critical.since), "stands_since": _iso(stop.since)}
    for name, course in (("blocked", _blocked(facts, stop)), ("commanded", _commanded(facts, stop))):
        if course is not None:
            evidence[name] = course.metric
    if part.indicator is not None and part.indicator.values:
        evidence["indicator"] = part.indicator.metric
    return RunningState(Running.FAILED, stop.since, Why.CRITICAL_THEN_STANDSTILL, text, evidence)


def _unmeant(facts: Facts, stop: Stop, part: Part | None = None) -> RunningState:
    """It stands, no component had been critical, and nobody declared it: asked to run, or at rest?"""
    if (course := _commanded(facts, stop)) is not None:
        text = f"it stands still although {course.metric} asks it to run"
        return RunningState(Running.STOPPED, stop.since, Why.COMMANDED, text, {"commanded": course.metric})
    if (course := _blocked(facts, stop)) is not None:
        text = f"it stands still while {course.metric} flows: something that should turn is blocked"
        return RunningState(Running.STOPPED, stop.since, Why.BLOCKED, text, {"blocked": course.metric})
    if part is not None and not _may_stand(part) and _stop(facts) is None:
        text = f"its {_label(part)} stands still while the machine runs"
        return RunningState(Running.STOPPED, stop.since, Why.NEVER_STANDS, text)
    return RunningState(Running.RESTING, stop.since, Why.AT_REST, "it stands still, as its vitals say without a fault")


def _as_meant(facts: Facts, stop: Stop) -> RunningState | None:
    """The standstill as somebody or its own habit means it; None when nothing says so, or something denies it."""
    if _maintained(facts):
        return _maintenance(facts, stop.since)
    if facts.being_repaired:
        return RunningState(Running.RESTING, stop.since, Why.REPAIR, "it is being repaired")
    if _commanded(facts, stop) is not None or _blocked(facts, stop) is not None:
        return None
    expected = _usual_until(facts, stop)
    if expected is not None and facts.now <= expected:
        text = "it stands still as it does at this time"
        return RunningState(Running.RESTING, stop.since, Why.USUAL_STOP, text, {"usual_until": _iso(expected)})
    return None


def _usual_until(facts: Facts, stop: Stop) -> datetime | None:
    """Until when a stop that began then lasts as a rule; None when the machine is not known to stop at that time.

    Stops that began at about that time of another day are like it; those on the same weekday count alone where there
    are any. Before a weekend that the vitals do not reach back to it may last ``LONGEST_WEEKEND``.
    """
    zone = ZoneInfo(facts.time_zone)
    mover = _longest_known(
        [course for course in facts.courses if tells(course.metric, course.unit) is not Tells.COMMAND]
    )
    if mover is None:
        return None
    begins = stop.since.astimezone(zone)
    earlier = [
        one for one in stops(mover) if one.until is not None and one.until < stop.since and one.length >= STANDS_AFTER
    ]
    alike = [one for one in earlier if _apart(one.since.astimezone(zone), begins) <= SAME_TIME]
    if len(alike) < 2:
        return None
    same_day = [one for one in alike if one.since.astimezone(zone).weekday() == begins.weekday()]
    longest = max(one.length for one in same_day or alike)
    if not same_day and begins.weekday() in (4, 5) and stop.since - mover.times[0] < DAYS_TO_TELL:
        longest = max(longest, LONGEST_WEEKEND)
    return stop.since + longest * LONGER_THAN_BEFORE + STANDS_AFTER


def _stop(facts: Facts) -> Stop | None:
    """The present standstill of a machine from all its vitals that show motion or load; None while any of them moves.

    Efforts are left out where a motion is told: current may flow in a machine that stands. A load alone is not enough.
    What must never stand (a fan) has its own standstill and says nothing of the machine's.
    """
    never = {part.slot for part in facts.parts if not _may_stand(part)}
    shown = [course for course in facts.courses if course.values and (not course.slot or course.slot not in never)]
    motions = [course for course in shown if tells(course.metric, course.unit) is Tells.MOTION]
    loads = [course for course in shown if tells(course.metric, course.unit) is Tells.LOAD]
    efforts = [course for course in shown if tells(course.metric, course.unit) is Tells.EFFORT]
    witnesses = motions + loads if motions else efforts + loads if efforts else []
    present = [_present(course) for course in witnesses]
    known = [one for one, course in zip(present, witnesses, strict=True) if one is not None or _moves(course)]
    if not known or any(one is None for one in known):
        return None
    lasting = [one for one in known if one is not None]
    return max(lasting, key=lambda one: one.since)


def _own_stop(facts: Facts, part: Part) -> Stop | None:
    """The standstill of a component that must never stand while its machine runs (a fan, a pump), by its own motion."""
    course = part.indicator
    if course is None or _may_stand(part) or tells(course.metric, course.unit) is not Tells.MOTION:
        return None
    stop = _present(course)
    return stop if stop is not None and stop.length >= STANDS_AFTER else None


def _present(course: Course) -> Stop | None:
    found = stops(course)
    return found[-1] if found and found[-1].until is None else None


def _moves(course: Course) -> bool:
    """Whether the vital ever shows anything: one that is nothing all the while says nothing."""
    return any(abs(value) > 0 for value in course.values)


def _commanded(facts: Facts, stop: Stop) -> Course | None:
    return _goes_on(facts, stop, Tells.COMMAND)


def _blocked(facts: Facts, stop: Stop) -> Course | None:
    """An effort that goes on although the motion has ended, where a speed or flow says that it has."""
    return _goes_on(facts, stop, Tells.EFFORT) if _tells_motion(facts) else None


def _tells_motion(facts: Facts) -> bool:
    return any(tells(course.metric, course.unit) is Tells.MOTION for course in facts.courses)


def _goes_on(facts: Facts, stop: Stop, kind: Tells) -> Course | None:
    """A vital of that kind that was heard during the stop and does not stand."""
    for course in facts.courses:
        heard = bool(course.times) and course.times[-1] > stop.since + STANDS_AFTER / 2
        if tells(course.metric, course.unit) is kind and heard and _present(course) is None and _moves(course):
            return course
    return None


def _critical_at(part: Part, moment: datetime) -> CriticalSpan | None:
    """The time for which the component was critical as its machine stopped or was last heard."""
    return next(
        (
            span
            for span in reversed(part.critical)
            if span.since <= moment + LATE_NEWS and (span.until is None or span.until >= moment - EARLY_CALM)
        ),
        None,
    )


def _stood_clear(part: Part, moment: datetime) -> bool:
    """Whether the indicator stood clear of its healthy level just before, above or below; true where that level is not
    known."""
    course = part.indicator
    if course is None or not course.healthy:
        return True
    before = [value for at, value in zip(course.times, course.values, strict=True) if at < moment][-5:]
    if len(before) < 2:
        return not before
    middle, healthy = abs(sorted(before)[len(before) // 2]), abs(course.healthy)
    return middle >= CLEAR_OF_HEALTHY * healthy or middle * CLEAR_OF_HEALTHY <= healthy


def _silent_since(facts: Facts) -> datetime | None:
    if facts.last_seen_at is None or facts.now - facts.last_seen_at <= facts.silent_after:
        return None
    return facts.last_seen_at


def _silence(facts: Facts, since: datetime) -> RunningState:
    if facts.said_farewell:
        return RunningState(Running.SILENT, since, Why.FAREWELL, "its agent was shut down; nothing is heard since")
    return RunningState(Running.SILENT, since, Why.NOTHING_HEARD, "nothing has been heard of it since")


def _maintained(facts: Facts) -> bool:
    return facts.maintained_until is not None and facts.maintained_until > facts.now


def _maintenance(facts: Facts, since: datetime) -> RunningState:
    return RunningState(Running.RESTING, since, Why.MAINTENANCE, "it is in maintenance")


def _ran_since(facts: Facts) -> datetime:
    """When the latest stop ended, or the vitals begin."""
    ends = [one.until for course in facts.courses for one in stops(course)[-1:] if one.until is not None]
    begins = [course.times[0] for course in facts.courses if course.times]
    return max(ends) if ends else min(begins, default=facts.last_seen_at or facts.now)


def _longest_known(courses: Sequence[Course]) -> Course | None:
    moving = [course for course in courses if course.times and _moves(course)]
    return min(moving, key=lambda course: (course.times[0], course.metric)) if moving else None


def _apart(one: datetime, other: datetime) -> timedelta:
    """The distance of two times of day."""
    day = timedelta(days=1)
    off = timedelta(hours=one.hour - other.hour, minutes=one.minute - other.minute) % day
    return min(off, day - off)


def _may_stand(part: Part) -> bool:
    kind = COMPONENT_TYPES.get(part.component_type)
    return kind is None or kind.may_stand_still


def _label(part: Part) -> str:
    kind = COMPONENT_TYPES.get(part.component_type)
    return kind.label.lower() if kind else part.slot.replace("_", " ")


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
