"""What the world does wrong, and how often in one play: every kind has a name, and a seed draws its own mixture."""

from __future__ import annotations

import random
from collections.abc import Collection
from enum import StrEnum


class Kind(StrEnum):
    """A kind of misbehaviour of a receiving system or of people, or something that happens to the server."""

    WMS_REFUSES = "wms_refuses"
    WMS_AWAY = "wms_away"
    WMS_DOES_AND_TIMES_OUT = "wms_does_and_times_out"
    WMS_TIMES_OUT = "wms_times_out"
    WMS_MOVES = "wms_moves"
    """The answer, and the booking, is three hours later than was asked for."""
    WMS_REJECTS = "wms_rejects"
    """It answers with a booking that is not held."""
    WMS_PENDING = "wms_pending"
    """It answers with a booking that is not held yet, and holds it half an hour later."""
    WMS_LATE = "wms_late"
    """The answer never comes, and the booking is made an hour later, unless it was released meanwhile."""
    WMS_RELEASES_LATE = "wms_releases_late"
    """A release is done, and its answer never comes."""
    WMS_CANCELS = "wms_cancels"
    """A booking that was held is cancelled there, hours later."""
    WMS_MOVES_LATER = "wms_moves_later"
    WMS_LOSES = "wms_loses"
    """A booking is forgotten, with its key."""
    PARTS_REFUSE = "parts_refuse"
    PARTS_AWAY = "parts_away"
    PARTS_DO_AND_TIME_OUT = "parts_do_and_time_out"
    PARTS_OTHER = "parts_other"
    """The piece that is reserved is another one than was asked for."""
    PARTS_LATER = "parts_later"
    """The piece will arrive two days later than was offered."""
    FIELD_REFUSES = "field_refuses"
    FIELD_AWAY = "field_away"
    FIELD_DOES_AND_TIMES_OUT = "field_does_and_times_out"
    FIELD_OTHER_TIME = "field_other_time"
    """The answer names another time than was asked for."""
    MAIL_AWAY = "mail_away"
    MAIL_ACCEPTS_AND_TIMES_OUT = "mail_accepts_and_times_out"
    MAIL_BOUNCES = "mail_bounces"
    """An address is refused for some hours, until somebody mends it."""
    PEOPLE_LATE = "people_late"
    PEOPLE_SILENT = "people_silent"
    PEOPLE_TWICE = "people_twice"
    PEOPLE_MIS_CLICK = "people_mis_click"
    OWNER_LEAVES = "owner_leaves"
    ENGINEER_LEAVES = "engineer_leaves"
    DIRECTOR_CHANGES = "director_changes"
    OPERATOR_CANCELS = "operator_cancels"
    OBSERVE_ONLY = "observe_only"
    WORK_NEVER_REPORTED = "work_never_reported"
    WORK_REPORTED_TWICE = "work_reported_twice"
    NOT_REPLACED = "not_replaced"
    DEADLINE_NEARER = "deadline_nearer"
    PROGNOSIS_ABSTAINS = "prognosis_abstains"
    MEANWHILE = "meanwhile"
    """While a call to another system is under way, another case goes on or a person acts."""
    KILLED = "killed"
    """The server ends in the middle of whatever it does, and starts anew."""
    RESTORED = "restored"
    """The database is put back to how it was an hour ago; the receiving systems are not."""


class Mixture:
    """Which kinds strike in one play, and how often; nothing strikes any more once it was healed."""

    def __init__(self, rng: random.Random, allowed: Collection[Kind]) -> None:
        self._rng = rng
        self.rates: dict[Kind, float] = {}
        for kind in sorted(allowed):
            chosen, rate = rng.random() < 0.35, rng.choice((0.1, 0.25, 0.5))
            if chosen:
                self.rates[kind] = rate
        self.healed = False

    def strikes(self, kind: Kind) -> bool:
        """Whether this kind strikes now. Draws only where it can, so that a kind left out changes nothing else."""
        rate = self.rates.get(kind)
        return rate is not None and not self.healed and self._rng.random() < rate

    def first(self, *kinds: Kind) -> Kind | None:
        """The first of these kinds that strikes."""
        return next((kind for kind in kinds if self.strikes(kind)), None)


LEFT_OUT = {
    Kind.WMS_CANCELS: "what is held is not looked up again",
    Kind.WMS_MOVES_LATER: "the same",
    Kind.WMS_LOSES: "the same",
    Kind.DIRECTOR_CHANGES: "a director who left and one who came may both get an announcement",
    Kind.RESTORED: "a case of the lost hour is opened again under another identity",
}
"""Kinds that do not strike in CI, each with what the engine does not do yet."""
