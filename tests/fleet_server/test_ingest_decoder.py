"""Judging messages: hostile bytes raise nothing, identities come from the directory alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.wire import FakeAgent

from fleet_core.sparkplug.topics import MessageType
from fleet_server.ingest.decoder import Agent, Asset, Control, Data, Directory, Message, Quarantined, Unreadable, decode

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def directory(agent: FakeAgent, *, with_schema: bool = True) -> Directory:
    known = Directory(
        agents={
            "agent-1": Agent("agent-1", "acme", "acme-berlin"),
            "agent-2": Agent("agent-2", "acme", "acme-berlin"),
            "foreign": Agent("foreign", "other", "acme-berlin", third_party=True),
        },
        assets={"robot-1": Asset("robot-1", "acme", "agent-1"), "robot-2": Asset("robot-2", "acme", "agent-2")},
    )
    if with_schema:
        for agent_id in ("agent-1", "agent-2"):
            known.schemas[agent_id, agent.asset_id, agent.schema.digest] = agent.schema
    return known


def judge(agent: FakeAgent, message: tuple[str, bytes], **options: bool) -> object:
    return decode(Message(*message, NOW), directory(agent), **options)


def test_a_readable_batch_carries_its_registered_owner() -> None:
    agent = FakeAgent()
    found = judge(agent, agent.samples(NOW))
    assert isinstance(found, Data)
    assert (found.agent.tenant_id, found.key) == ("acme", ("agent-1", agent.outbox_id, 1))


def test_an_unknown_schema_is_waited_for() -> None:
    agent = FakeAgent()
    found = decode(Message(*agent.samples(NOW), NOW), directory(agent, with_schema=False))
    assert isinstance(found, Unreadable)
    assert found.key == ("schema", "agent-1", "robot-1", agent.schema.digest)


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        (FakeAgent(agent_id="nobody"), "unknown_agent"),
        (FakeAgent(site_id="elsewhere"), "group_mismatch"),
        (FakeAgent(asset_id="robot-9"), "unknown_asset"),
        (FakeAgent(asset_id="robot-2"), "asset_mismatch"),
        (FakeAgent(agent_id="foreign"), "third_party"),
    ],
)
def test_wrong_identities_are_refused_once_the_directory_is_fresh(agent: FakeAgent, reason: str) -> None:
    found = judge(agent, agent.samples(NOW), identities_are_fresh=True)
    assert isinstance(found, Quarantined)
    assert found.reason == reason


@pytest.mark.parametrize("agent", [FakeAgent(agent_id="nobody"), FakeAgent(asset_id="robot-9")])
def test_an_unknown_identity_is_looked_for_first(agent: FakeAgent) -> None:
    found = judge(agent, agent.samples(NOW))
    assert isinstance(found, Unreadable)
    assert found.key[0] == "identity"


@pytest.mark.parametrize("at", [NOW + timedelta(days=3), NOW - timedelta(days=401)])
def test_unbelievable_times_are_refused_with_their_number(at: datetime) -> None:
    agent = FakeAgent()
    for message in (agent.samples(at), agent.finding(at)):
        found = judge(agent, message)
        assert isinstance(found, Quarantined)
        assert (found.reason, found.outbox_id) == ("time", agent.outbox_id)
    assert found.number == 2


def test_births_are_control_messages() -> None:
    agent = FakeAgent()
    assert isinstance(judge(agent, agent.node_birth()), Control)
    assert isinstance(judge(agent, agent.device_birth()), Control)


def test_commands_are_not_for_the_server() -> None:
    agent = FakeAgent()
    found = judge(agent, (agent.topic(MessageType.NCMD), agent.samples(NOW)[1]))
    assert isinstance(found, Quarantined)
    assert found.reason == "topic"


topics = st.sampled_from(
    [f"spBv1.0/acme-berlin/{kind}/agent-1" for kind in ("NBIRTH", "NDEATH", "NDATA", "NCMD")]
    + [f"spBv1.0/acme-berlin/{kind}/agent-1/robot-1" for kind in ("DBIRTH", "DDEATH", "DDATA")]
    + ["", "spBv1.0/x", "a/b/c/d"]
)


@given(topic=topics, payload=st.binary(max_size=200))
def test_no_bytes_bring_out_a_fault(topic: str, payload: bytes) -> None:
    judged = decode(Message(topic, payload, NOW), directory(FakeAgent()), identities_are_fresh=True)
    assert getattr(judged, "reason", "") != "internal"


@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_no_single_flipped_byte_brings_out_a_fault(position: int, value: int) -> None:
    agent = FakeAgent(outbox_id="00000000-0000-0000-0000-000000000001")
    topic, payload = agent.samples(NOW)
    broken = bytearray(payload)
    broken[position % len(broken)] = value
    judged = decode(Message(topic, bytes(broken), NOW), directory(agent), identities_are_fresh=True)
    assert getattr(judged, "reason", "") != "internal"
