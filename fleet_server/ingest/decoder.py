"""Decodes one MQTT message and checks it against the directory of registered agents. Pure.

Tenant and site come from the directory, never from the payload. The result is one of

* ``Data``         a readable batch of a registered agent,
* ``Control``      a birth, a death or a held report,
* ``Unreadable``   a message that has to wait, because its schema or its identity is not known yet; ``key`` names it,
* ``Quarantined``  a message that breaks a rule: it is stored in quarantine with the reason. If its batch number was
                   read, the agent is answered *Refused* and deletes the batch. The number is read last, once agent,
                   site and asset are known. Without it nothing is answered: if the message was a batch, the agent
                   sends it again, and at last declares it undeliverable.

Failure behaviour: :func:`decode` raises nothing, whatever topic and payload hold.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet_core import WIRE_VERSION
from fleet_core.batches import Batch, Header, batch_digest, batch_header, decode_batch
from fleet_core.births import DeviceBirth, HeldReport, NodeBirth, decode_device_birth, decode_held, decode_node_birth
from fleet_core.errors import BadInput
from fleet_core.schema import EMPTY_SCHEMA, Schema
from fleet_core.sparkplug.payload import Payload, decode_payload
from fleet_core.sparkplug.session import decode_death
from fleet_core.sparkplug.topics import MessageType, Topic, parse_topic
from fleet_core.telemetry import MetricSpec, to_us

log = logging.getLogger(__name__)
OLDEST = timedelta(days=400)
"""Bounds the days in the past for which partitions are made: a month more than the year that is kept by default."""
NEWEST = timedelta(days=2)
"""Bounds the days in the future: a wrong time zone is a day at most, and a clock that is wrong by more is refused."""
BUGS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Errors of our own code that one message brings out: it is quarantined as "internal", and its neighbours go on."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A registered edge node; ``site_id`` is its Sparkplug group."""

    agent_id: str
    tenant_id: str
    site_id: str
    third_party: bool = False

    @property
    def node(self) -> tuple[str, str]:
        return self.site_id, self.agent_id


@dataclass(frozen=True, slots=True)
class Asset:
    asset_id: str
    tenant_id: str
    agent_id: str


@dataclass
class Directory:
    """The registered agents and assets and their schemas, as last read from the database."""

    agents: dict[str, Agent] = field(default_factory=dict)
    assets: dict[str, Asset] = field(default_factory=dict)
    schemas: dict[tuple[str, str, str], Schema] = field(default_factory=dict)
    """(agent, device, digest) -> schema"""

    def schema(self, agent_id: str, device_id: str, digest: str) -> Schema | None:
        if digest == EMPTY_SCHEMA.digest:
            return EMPTY_SCHEMA
        return self.schemas.get((agent_id, device_id, digest))


@dataclass(frozen=True, slots=True)
class Message:
    """An MQTT message as it arrived; ``received_at`` is domain time."""

    topic: str
    payload: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Data:
    message: Message
    agent: Agent
    batch: Batch
    digest: bytes
    schema: Schema

    @property
    def key(self) -> tuple[str, str, int]:
        return self.agent.agent_id, self.batch.outbox_id, self.batch.number

    def spec(self, metric: str) -> MetricSpec:
        """The specification of a metric in the batch's own schema."""
        return self.schema.spec(self.schema.alias(metric))


@dataclass(frozen=True, slots=True)
class Death:
    """An NDEATH (``device_id`` "") or DDEATH (then ``bd_seq`` is None)."""

    bd_seq: int | None
    device_id: str = ""


@dataclass(frozen=True, slots=True)
class Control:
    message: Message
    agent: Agent
    content: NodeBirth | DeviceBirth | HeldReport | Death


@dataclass(frozen=True, slots=True)
class Unreadable:
    """``key`` is ("schema", agent, device, digest) or ("identity", agent or asset)."""

    message: Message
    key: tuple[str, ...]
    agent: Agent | None


@dataclass(frozen=True, slots=True)
class Quarantined:
    message: Message
    reason: str
    detail: str
    agent: Agent | None = None
    outbox_id: str | None = None
    number: int | None = None


Decoded = Data | Control | Unreadable | Quarantined


def decode(message: Message, directory: Directory, *, identities_are_fresh: bool = False) -> Decoded:
    """Decode one message; never raises.

    With ``identities_are_fresh`` the directory was read just now, so an unknown identity is refused instead of waiting
    for its registration.
    """
    agent: Agent | None = None
    header: Header | None = None
    try:
        topic = parse_topic(message.topic)
        agent = directory.agents.get(topic.node_id)
        if agent is None:
            if not identities_are_fresh:
                return Unreadable(message, ("identity", topic.node_id), None)
            raise BadInput("unknown_agent", f"{topic.node_id} is not registered")
        if agent.site_id != topic.group_id:
            raise BadInput("group_mismatch", f"{topic.node_id} is registered at another site than {topic.group_id}")
        if agent.third_party:
            raise BadInput("third_party", "sequence-ordered intake of third-party nodes is not enabled")
        if topic.message_type is MessageType.NDEATH:
            return Control(message, agent, Death(decode_death(message.payload)))
        if topic.device_id:
            waiting = _check_asset(message, topic, agent, directory, identities_are_fresh)
            if waiting is not None:
                return waiting
        if topic.message_type is MessageType.DDEATH:
            return Control(message, agent, Death(None, topic.device_id))
        payload = decode_payload(message.payload)
        control = _control(topic, payload)
        if control is not None:
            return Control(message, agent, control)
        header = batch_header(payload)
        schema = directory.schema(agent.agent_id, topic.device_id, header.schema_digest)
        if schema is None:
            return Unreadable(message, ("schema", agent.agent_id, topic.device_id, header.schema_digest), agent)
        batch = decode_batch(payload, schema, topic.device_id)
        check_times(batch, message.received_at)
        _check_scope(batch)
        return Data(message, agent, batch, batch_digest(batch), schema)
    except BadInput as error:
        return _quarantined(message, error.reason, error, agent, header)
    except BUGS as error:
        log.exception("a message on %s could not be decoded", message.topic[:256])
        return _quarantined(message, "internal", error, agent, header)


def _quarantined(
    message: Message, reason: str, error: Exception, agent: Agent | None, header: Header | None
) -> Quarantined:
    known = (header.outbox_id, header.number) if header is not None else (None, None)
    return Quarantined(message, reason, str(error)[:500], agent, *known)


def check_times(batch: Batch, now: datetime) -> None:
    """Raises BadInput ``time`` for a batch with an implausible time, because its time decides which partition is
    made."""
    first_us, last_us = to_us(now - OLDEST), to_us(now + NEWEST)
    times = [(min(column.times_us), max(column.times_us)) for column in batch.columns]
    if batch.waveform is not None:
        times.append((batch.waveform.time_us, batch.waveform.time_us))
    times += [(finding.onset_us, finding.detected_us) for finding in batch.findings]
    times += [(state.time_us, state.time_us) for state in batch.states]
    for low, high in times:
        if low < first_us or high > last_us:
            raise BadInput("time", f"{low}..{high} us is not within {OLDEST.days} days before and {NEWEST.days} after")


def _check_scope(batch: Batch) -> None:
    if not batch.device_id and not batch.gaps:
        raise BadInput("no_device", "samples and findings belong to an asset; they came on the node's topic")


def _check_asset(
    message: Message, topic: Topic, agent: Agent, directory: Directory, identities_are_fresh: bool
) -> Unreadable | None:
    asset = directory.assets.get(topic.device_id)
    if (asset is None or asset.agent_id != agent.agent_id) and not identities_are_fresh:
        return Unreadable(message, ("identity", topic.device_id), agent)
    if asset is None:
        raise BadInput("unknown_asset", f"{topic.device_id} is not registered")
    if asset.agent_id != agent.agent_id or asset.tenant_id != agent.tenant_id:
        raise BadInput("asset_mismatch", f"{topic.device_id} is registered under another agent")
    return None


def _control(topic: Topic, payload: Payload) -> NodeBirth | DeviceBirth | HeldReport | None:
    if topic.message_type is MessageType.NBIRTH:
        birth = decode_node_birth(payload)
        if birth.wire_version > WIRE_VERSION:
            raise BadInput("wire_version", f"wire version {birth.wire_version}, this server reads {WIRE_VERSION}")
        return birth
    if topic.message_type is MessageType.DBIRTH:
        return decode_device_birth(payload, topic.device_id)
    if topic.message_type is MessageType.NDATA:
        return decode_held(payload)
    if topic.message_type is not MessageType.DDATA:
        raise BadInput("topic", f"{topic.message_type} is not for a server")
    return None
