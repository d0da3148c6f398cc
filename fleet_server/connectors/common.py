"""What every connector shares: what it is built from, and the one answer that is not an error of transport.

A connector's method either returns, or raises one of

* ``Refused``         the other system understood and said no; asking again unchanged is pointless,
* ``Retryable``       not now, and certainly nothing happened,
* ``OutcomeUnknown``  it may have happened: the caller looks it up by key before it tries again,
* ``Permanent``       the connector or what it was given is wrong.

Every act takes an idempotency key: the same key twice is one act. ``release`` of a key that was never seen succeeds.
The runner, not the connector, owns retries, back-off and escalation.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleet_core.clock import Clock
from fleet_core.errors import Permanent
from fleet_server.store.pool import Pool


class Refused(Permanent):
    """The other system said no. ``reason`` is a short stable code."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ConnectorDeps:
    """What a connector may use. ``pool`` acts as forestall_worker; ``timeout_s`` is real time, per call."""

    pool: Pool
    clock: Clock
    timeout_s: float = 5.0
