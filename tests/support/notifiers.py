"""What a notifier's test offers the conformance suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fleet_server.notifiers.api import Notifier


@dataclass
class Rig:
    """A notifier that reaches somebody, one that reaches nobody, and the identities of what arrived, in order."""

    notifier: Notifier
    silent: Notifier
    address: str
    nowhere: str
    arrived: Callable[[], list[str]]
