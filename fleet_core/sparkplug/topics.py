"""Sparkplug B topics: text <-> :class:`Topic`.

Identities are held to letters, digits, ``_ . -`` and 64 characters, stricter than the standard, because they become
directory names, metric labels and broker rights. Failure: BadInput for any other text.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fleet_core.errors import BadInput
from fleet_core.telemetry import check_identity

NAMESPACE = "spBv1.0"
MAX_TOPIC_CHARS = 256


class MessageType(StrEnum):
    NBIRTH = "NBIRTH"
    NDEATH = "NDEATH"
    NDATA = "NDATA"
    NCMD = "NCMD"
    DBIRTH = "DBIRTH"
    DDEATH = "DDEATH"
    DDATA = "DDATA"
    DCMD = "DCMD"


_OF_DEVICE = frozenset((MessageType.DBIRTH, MessageType.DDEATH, MessageType.DDATA, MessageType.DCMD))


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. ``device_id`` is "" for node messages; ``str()`` gives the topic's text."""

    group_id: str
    message_type: MessageType
    node_id: str
    device_id: str = ""

    def __post_init__(self) -> None:
        check_identity(self.group_id)
        check_identity(self.node_id)
        if (self.message_type in _OF_DEVICE) != bool(self.device_id):
            raise BadInput("topic", f"{self.message_type} with device {self.device_id!r}")
        if self.device_id:
            check_identity(self.device_id)

    def __str__(self) -> str:
        tail = f"/{self.device_id}" if self.device_id else ""
        return f"{NAMESPACE}/{self.group_id}/{self.message_type}/{self.node_id}{tail}"


def parse_topic(text: str) -> Topic:
    """Parse a topic of this namespace (STATE excepted, see :func:`state_topic`). Raises BadInput."""
    if len(text) > MAX_TOPIC_CHARS:
        raise BadInput("topic", f"{len(text)} characters, at most {MAX_TOPIC_CHARS}")
    parts = text.split("/")
    if len(parts) not in (4, 5) or parts[0] != NAMESPACE:
        raise BadInput("topic", f"{text[:80]!r} is not {NAMESPACE}/GROUP/TYPE/NODE[/DEVICE]")
    try:
        message_type = MessageType(parts[2])
    except ValueError:
        raise BadInput("topic", f"{parts[2][:20]!r} is not a Sparkplug message type") from None
    if len(parts) == 5 and not parts[4]:
        raise BadInput("topic", "empty device id")
    return Topic(parts[1], message_type, parts[3], parts[4] if len(parts) == 5 else "")


def data_topic(group_id: str, node_id: str, device_id: str = "") -> Topic:
    """The topic of a batch: NDATA for the node, DDATA for a device."""
    return Topic(group_id, MessageType.DDATA if device_id else MessageType.NDATA, node_id, device_id)


def state_topic(host_id: str) -> str:
    """The topic on which a Sparkplug host says, retained, whether it is online. Raises BadInput."""
    return f"{NAMESPACE}/STATE/{check_identity(host_id)}"


def subscription(message_type: MessageType, group_id: str = "+", node_id: str = "+") -> str:
    """A filter for one message type, over all groups and nodes unless named."""
    tail = "/+" if message_type in _OF_DEVICE else ""
    return f"{NAMESPACE}/{group_id}/{message_type}/{node_id}{tail}"
