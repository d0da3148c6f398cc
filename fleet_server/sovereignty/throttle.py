"""Login throttling, in memory and bounded.

A failure counts for the login at the address, for the address, and for the login anywhere. After so many failures
(``FREE_TRIES`` and its siblings) a key has to wait, twice as long after each further failure, up to ``LONGEST_WAIT_S``.
So a stranger who guesses somebody's password locks out the stranger's own address; only many addresses that guess one
name slow that name down, and a device from which the person signed in before (``device``) is counted by itself alone.
A network of IPv6 (/64) is one address, because one host has all of it. A success clears the failures of the login at
that place, and so does an hour without a failure. Only a key that already waits is refused, so a person who mistyped
waits for seconds. When ``MAX_KEYS`` keys are remembered, the key that failed longest ago is forgotten. The clock is
real time and is passed in.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from fleet_core.clock import Clock

FREE_TRIES = 5
"""Of a login at one address, and of a known device."""
FREE_TRIES_ADDRESS = 30
FREE_TRIES_LOGIN = 100
"""Of a login from anywhere: far more than people who mistype, far fewer than a guesser needs."""
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 900.0
FORGET_AFTER_S = 3600.0
MAX_KEYS = 10_000
NETWORK_BITS_V6 = 64


class LoginThrottle:
    """Counts failed logins. ``device`` names a device that is known to the login, "" one that is not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, login: str, address: str, device: str = "") -> float:
        """Real seconds until this login may be tried from there; 0 when it may be tried now."""
        return max(self._wait_of(key, free) for key, free in _keys(login, address, device))

    def failed(self, login: str, address: str, device: str = "") -> None:
        """Count a failed attempt."""
        for key, _ in _keys(login, address, device):
            count, _ = self._recent(key)
            self._failures[key] = (count + 1, self._clock.monotonic_s())
            self._failures.move_to_end(key)
        while len(self._failures) > MAX_KEYS:
            self._failures.popitem(last=False)

    def succeeded(self, login: str, address: str, device: str = "") -> None:
        """Clear the failures of a login there, but not of the address: one good account must not free a guesser."""
        self._failures.pop(_keys(login, address, device)[0][0], None)

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


def _keys(login: str, address: str, device: str) -> list[tuple[str, int]]:
    """What an attempt counts for, with the free tries of each; its own place first."""
    login = login[:64]
    if device:
        return [(f"device:{device} {login}", FREE_TRIES)]
    place = _network(address)
    return [
        (f"place:{place} {login}", FREE_TRIES),
        (f"address:{place}", FREE_TRIES_ADDRESS),
        (f"login:{login}", FREE_TRIES_LOGIN),
    ]


def _network(address: str) -> str:
    """One text for all addresses of one host; what is no address (a socket file) stands for itself."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, NETWORK_BITS_V6), strict=False))
