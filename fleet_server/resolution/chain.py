"""Who is asked next: the lines of a question, one after the other, and who of a line can be reached now.

A tenant's policy names the lines (``escalation_chain``), any number of them: the owner of the case, the second line,
the last line, a role, or a person. Of each line the first is asked who is active, has an address on a channel that is
configured, was not found out of reach, and has room for another question in this shift. A line without such a person is
passed over, and said so. The last line has room for any question; when nobody of it can be reached, anybody of ours is
asked who can.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_server.notifiers.api import Notifier, Recipient
from fleet_server.resolution.policy import Policy
from fleet_server.resolution.records import CaseFile
from fleet_server.resolution.rows import Colleague, Person
from fleet_server.store.fetch import fetch_all
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")
DUE_H = 24.0
"""Hours (domain time) a line has to decide when the policy names none for the case's urgency."""
_ROLES: Mapping[str, tuple[str, ...]] = {
    "second_line": ("fleet_operator", "case_owner", "administrator"),
    "last_line": ("administrator", "fleet_operator", "case_owner"),
}
"""Line -> roles, the first preferred. The last line exists wherever anybody of ours is registered."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked. ``passed``: why others were not, for people."""

    person: Person
    level: int
    passed: tuple[str, ...] = ()


def reachable(person: Person, notifiers: Mapping[str, Notifier]) -> bool:
    """Whether a channel that is configured has an address of the person."""
    to = Recipient(person.person_id, person.name, person.email, person.webhook_url)
    return any(notifier.address(to) for notifier in notifiers.values())


def wait_h(policy: Policy, level: int, urgency: str, repeats: int) -> float:
    """Hours until whoever is asked at that level is asked again, or the next line is: at the last one it falls."""
    line = policy.escalation_chain[min(level, len(policy.escalation_chain) - 1)]
    hours = line.wait_h or policy.escalation_due_h.get(urgency, DUE_H)
    if not repeats:
        return hours
    shares = policy.repeat_shares
    return hours * shares[min(repeats, len(shares)) - 1]


async def whom(
    conn: Connection,
    notifiers: Mapping[str, Notifier],
    file: CaseFile,
    now: datetime,
    *,
    level: int = 0,
    unreached: Collection[str] = (),
    first: str = "",
) -> Asked | None:
    """Who is asked at that level or a later one. None: nobody at all can be reached.

    ``unreached``: people whom a message did not reach; ``first``: a person who is asked before all lines.
    """
    wanted = {
        "tenant_id": file.case.tenant_id,
        "people": [file.case.owner_id, first, file.policy.last_line, *_named(file.policy)],
        "shift_began": now - timedelta(hours=file.policy.shift_h),
    }
    colleagues = await fetch_all(conn, Colleague, _sql.colleagues, wanted)
    able = {one.person_id for one in colleagues if one.active and reachable(one.person, notifiers)} - set(unreached)
    return choose(file.policy, colleagues, able, file.case.owner_id, level, first)


def choose(
    policy: Policy, colleagues: Sequence[Colleague], able: Collection[str], owner: str, level: int, first: str = ""
) -> Asked | None:
    """The choice itself, pure: ``able`` are those who can be reached now."""
    passed: list[str] = []
    chain = policy.escalation_chain
    lines = [(level, [one for one in colleagues if one.person_id == first])] if first and level == 0 else []
    begin = min(level, len(chain) - 1)
    lines += [(at, line_of(policy, chain[at].to, colleagues, owner)) for at in range(begin, len(chain))]
    lines.append((len(chain) - 1, sorted(colleagues, key=lambda one: (one.tenant_bound, one.person_id))))
    for number, (at, people) in enumerate(lines):
        last = number >= len(lines) - 2
        for one in people:
            if one.person_id not in able:
                passed.append(f"{one.name} cannot be reached" if one.active else f"{one.name} is not here any more")
            elif one.open_questions >= policy.questions_per_shift and not last:
                passed.append(f"{one.name} has {one.open_questions} open questions of this shift")
            else:
                return Asked(one.person, at, tuple(dict.fromkeys(passed)))
    return None


def line_of(policy: Policy, line: str, colleagues: Sequence[Colleague], owner: str) -> list[Colleague]:
    """The people of a line, whom to ask first first."""
    if line == "owner":
        return [one for one in colleagues if one.person_id == owner]
    if line.startswith("person:"):
        return [one for one in colleagues if one.person_id == line.removeprefix("person:")]
    roles = _ROLES.get(line, (line,))
    people = [one for one in colleagues if one.active and one.role in roles and one.person_id != owner]
    people.sort(key=lambda one: (roles.index(one.role), one.person_id))
    if line == "last_line":
        people.sort(key=lambda one: one.person_id != policy.last_line)
    return people


def _named(policy: Policy) -> list[str]:
    return [line.to.removeprefix("person:") for line in policy.escalation_chain if line.to.startswith("person:")]
