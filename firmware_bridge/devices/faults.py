"""Faults of a serial line and its device, at seeded rates. Pure: the shell asks, this module decides.

* drop: a frame vanishes. * garble: one of its bytes changes. * stall: the device says nothing for a while (real
seconds), frames wait. * brownout: it reboots: new boot id, ticks from zero, memory lost.

``lost`` counts what never reached the line whole, by stream: the truth a test compares declarations with.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, fields

from firmware_bridge.frames import Stream
from fleet_core.errors import BadConfig


@dataclass(frozen=True, slots=True)
class FaultRates:
    """The probability of every kind of fault, for one sent frame; a stall lasts ``stall_s`` real seconds."""

    drop: float = 0.0
    garble: float = 0.0
    stall: float = 0.0
    brownout: float = 0.0
    stall_s: float = 2.0

    def __post_init__(self) -> None:
        rates = (self.drop, self.garble, self.stall, self.brownout)
        if not all(0 <= rate <= 1 for rate in rates) or not 0 <= self.stall_s <= 3600:
            raise BadConfig("faults: rates must lie in 0..1 and stall_s in 0..3600")

    @classmethod
    def parse(cls, text: str) -> FaultRates:
        """The rates in a text such as ``drop=0.01,garble=0.02``. Raises BadConfig."""
        known = [item.name for item in fields(cls)]
        values: dict[str, float] = {}
        for part in filter(None, (item.strip() for item in text.split(","))):
            name, _, number = part.partition("=")
            try:
                values[name] = float(number)
            except ValueError:
                name = ""
            if name not in known:
                raise BadConfig(f"fault {part!r}: expected NAME=NUMBER with NAME one of {', '.join(known)}")
        return cls(**values)


class FaultyLine:
    """Decides the fate of every frame."""

    def __init__(self, rates: FaultRates, rng: random.Random) -> None:
        self.lost: Counter[Stream] = Counter()
        self.brownouts = 0
        self._rates = rates
        self._rng = rng
        self._silent_until_s = 0.0

    def stalled(self, now_s: float) -> bool:
        return now_s < self._silent_until_s

    def brownout(self) -> bool:
        """Whether the device loses power now. The shell asks once before every frame."""
        due = self._rng.random() < self._rates.brownout
        self.brownouts += due
        return due

    def pass_on(self, stream: Stream, data: bytes, now_s: float) -> bytes:
        """The bytes of a frame that reach the line: all of them, a damaged copy, or none."""
        if self._rng.random() < self._rates.stall:
            self._silent_until_s = now_s + self._rates.stall_s
        if self._rng.random() < self._rates.drop:
            self.lost[stream] += 1
            return b""
        if self._rng.random() < self._rates.garble:
            self.lost[stream] += 1
            damaged = bytearray(data)
            damaged[self._rng.randrange(len(data))] ^= self._rng.randint(1, 255)
            return bytes(damaged)
        return data
