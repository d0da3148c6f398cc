"""Faults of the reference WMS: what it does wrong, to whom and how often. Pure but for the seeded random generator."""

from __future__ import annotations

import random
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class FaultKind(StrEnum):
    REFUSE = "refuse"
    DELAY = "delay"
    TIMEOUT_AFTER_BOOKING = "timeout_after_booking"
    """The booking is made, then the answer never comes."""
    ERROR_500 = "error_500"
    REJECT = "reject"
    """Answers 201 with the state ``rejected``: nothing is booked."""
    PEND = "pend"
    """Answers 201 with the state ``pending``: the equipment is kept until somebody decides, which nobody does."""
    ODD_STATE = "odd_state"
    """Books, and calls the state by a word that no document lists."""
    MOVE = "move"
    """Books, ``shift_h`` hours later than was asked."""
    SHORTEN = "shorten"
    """Books the first half of what was asked."""
    OTHER_EQUIPMENT = "other_equipment"
    """Books another machine."""
    NO_REFERENCE = "no_reference"
    """Books, and answers without saying under which id."""
    KEEP = "keep"
    """A cancellation is answered with 200 and the booking, which stands."""


BENDS = frozenset(
    {
        FaultKind.REJECT,
        FaultKind.PEND,
        FaultKind.ODD_STATE,
        FaultKind.MOVE,
        FaultKind.SHORTEN,
        FaultKind.OTHER_EQUIPMENT,
        FaultKind.NO_REFERENCE,
        FaultKind.KEEP,
    }
)
"""Faults that are answered as a success, of something else than was asked."""


class Fault(BaseModel):
    """One armed fault. ``target`` is an operation (load, book, lookup, cancel) or "any"; ``count`` passages at most."""

    model_config = ConfigDict(extra="forbid")

    kind: FaultKind
    target: str = "book"
    count: int = Field(default=1, ge=0, le=1_000_000)
    rate: float = Field(default=1.0, ge=0.0, le=1.0)
    delay_s: float = Field(default=30.0, ge=0.0, le=600.0)
    shift_h: float = Field(default=3.0, ge=-168.0, le=168.0)
    """By how much ``move`` moves."""


FLAKY = (
    Fault(kind=FaultKind.ERROR_500, target="any", count=1_000_000, rate=0.05),
    Fault(kind=FaultKind.DELAY, target="any", count=1_000_000, rate=0.1, delay_s=0.15),
    Fault(kind=FaultKind.TIMEOUT_AFTER_BOOKING, target="book", count=1_000_000, rate=0.1, delay_s=30.0),
)
"""The faults of a bad day, for ``--flaky SEED``."""


class Faults:
    """The armed faults, in the order they were armed."""

    def __init__(self, armed: tuple[Fault, ...] = (), seed: int = 0) -> None:
        self._armed = [fault.model_copy() for fault in armed]
        self._random = random.Random(seed)
        self.fired: dict[str, int] = {}

    def arm(self, fault: Fault) -> None:
        self._armed.append(fault)

    def clear(self) -> None:
        self._armed.clear()

    def draw(self, operation: str) -> Fault | None:
        """The fault this call meets, if any; it is used up once."""
        for fault in self._armed:
            if fault.count > 0 and fault.target in (operation, "any") and self._random.random() < fault.rate:
                fault.count -= 1
                self.fired[fault.kind] = self.fired.get(fault.kind, 0) + 1
                return fault
        return None
