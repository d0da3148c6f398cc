"""The ground that all connectors share: their dependencies, and the errors by which they say what became of a call.

A method of a connector returns, or raises one of

* ``Refused``         the other system understood the call and refused; the same call again is pointless,
* ``Retryable``       certainly nothing happened, and a later call may succeed,
* ``OutcomeUnknown``  the act may have happened: the caller looks it up by its key before it tries again,
* ``Permanent``       the connector, or its arguments, are wrong.

Every act takes an idempotency key: two calls with the same key are one act. ``release`` of an unknown key succeeds. The
runner, not the connector, is responsible for retries, back-off and escalation.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleet_core.clock import Clock
from fleet_core.errors import Permanent
from fleet_server.store.pool import Pool


class Refused(Permanent):
    """The other system refused; ``reason`` is a short stable code."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ConnectorDeps:
    """The dependencies of a connector; ``pool`` acts as forestall_worker, ``timeout_s`` is real seconds for a call."""

    pool: Pool
    clock: Clock
    timeout_s: float = 5.0
