"""Login throttling, in memory and bounded.

A key is a login name or an address. After ``FREE_TRIES`` failures a key has to wait, twice as long after each further
failure, up to ``LONGEST_WAIT_S``. A success clears the failures of the login, and so does an hour without a failure.
Only a key that already waits is refused, so a person who mistyped waits for seconds. When ``MAX_KEYS`` keys are
remembered, the key that failed longest ago is forgotten. The clock is real time and is passed in.
"""

from __future__ import annotations

from collections import OrderedDict

from fleet_core.clock import Clock

FREE_TRIES = 5
FREE_TRIES_ADDRESS = 30
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 900.0
FORGET_AFTER_S = 3600.0
MAX_KEYS = 10_000


class LoginThrottle:
    """Counts failed logins by login name and by address."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, login: str, address: str) -> float:
        """Real seconds until this login may be tried from this address; 0 when it may be tried now."""
        return max(self._wait_of(f"login:{login}", FREE_TRIES), self._wait_of(f"address:{address}", FREE_TRIES_ADDRESS))

    def failed(self, login: str, address: str) -> None:
        """Count a failed attempt."""
        for key in (f"login:{login}", f"address:{address}"):
            count, _ = self._recent(key)
            self._failures[key] = (count + 1, self._clock.monotonic_s())
            self._failures.move_to_end(key)
        while len(self._failures) > MAX_KEYS:
            self._failures.popitem(last=False)

    def succeeded(self, login: str) -> None:
        """Clear the failures of a login, but not of its address: one good account must not free a guesser."""
        self._failures.pop(f"login:{login}", None)

    def _recent(self, key: str) -> tuple[int, float]:
        count, at_s = self._failures.get(key, (0, 0.0))
        if count and self._clock.monotonic_s() - at_s > FORGET_AFTER_S:
            del self._failures[key]
            return 0, 0.0
        return count, at_s

    def _wait_of(self, key: str, free_tries: int) -> float:
        count, at_s = self._recent(key)
        if count < free_tries:
            return 0.0
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(count - free_tries, 20), LONGEST_WAIT_S)
        return max(0.0, at_s + wait_s - self._clock.monotonic_s())
