"""By when a repair must be over: the end of the time in which a part may arrive and a window may lie. Pure.

Usually that is the deadline of the prognosis. The policy's planning horizon bounds it, since load and engineers are
known for some time ahead only, and stands in for a deadline that is unknown. A person who accepts a late repair lifts
the deadline, not the horizon, and so does a component that has failed already.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from fleet_server.resolution.records import CaseFile


def latest_end(file: CaseFile, now: datetime) -> datetime:
    """The domain time after which no window may end.

    That is the deadline, or the policy's planning horizon where that is nearer or there is no deadline. Where a person
    accepted a late repair, or the component has failed, it is the horizon counted from the part's arrival.
    """
    horizon = timedelta(hours=file.policy.planning_horizon_h)
    if deadline_lifted(file):
        part = file.plan.booking.part
        return max(now, part.arrives_at if part else now) + horizon
    deadline_at = file.case.deadline_at
    return now + horizon if deadline_at is None else min(deadline_at, now + horizon)


def deadline_lifted(file: CaseFile) -> bool:
    """Whether no deadline counts: a person accepted lateness, or what it warned of has happened."""
    return late_accepted(file) or file.plan.is_emergency


def late_accepted(file: CaseFile) -> bool:
    """Whether a person accepted a part or a window after the deadline for this plan."""
    return bool(file.plan.decisions.accept_late)
