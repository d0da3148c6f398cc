"""Names and the broker's rights: nothing an identity is called can widen what it may do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.errors import BadConfig, BadInput
from provisioning.broker_acl import BrokerSettings, Node, SecureFiles, Service, ServiceRole, render_acl, render_conf
from provisioning.names import check_group, check_host, check_name, check_port

HERE = Path("/srv/broker")
FILES = SecureFiles(HERE / "ca.crt", HERE / "b.crt", HERE / "b.key", HERE / "ca.crl", HERE / "acl")
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


def allows(acl: str, user: str, access: str, topic: str) -> bool:
    """What mosquitto would decide, for lists of the shape we render."""
    current = ""
    for line in acl.splitlines():
        word, _, rest = line.partition(" ")
        if word == "user":
            current = rest
        elif word == "topic" and current == user:
            granted, _, pattern = rest.partition(" ")
            if granted == access and matches(pattern.split("/"), topic.split("/")):
                return True
    return False


def matches(pattern: list[str], topic: list[str]) -> bool:
    if pattern and pattern[-1] == "#":
        return topic[: len(pattern) - 1] == pattern[:-1]
    return len(pattern) == len(topic) and all(p in ("+", t) for p, t in zip(pattern, topic, strict=True))


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "a#", "a b", "a\nuser x", "-a", "ä", "a" * 65, None, 7, "a\n"])
def test_unfit_names_are_refused(name: object) -> None:
    with pytest.raises(BadInput, match="bad_name"):
        check_name(name, "node")


def test_other_checks() -> None:
    assert check_name("agent-ams1-0007", "node") == "agent-ams1-0007"
    with pytest.raises(BadInput, match="reserved"):
        check_group("STATE")
    assert check_host("broker.example.org") == "broker.example.org"
    for host in ("", "a b", "a\n", "-x", 'x"', None):
        with pytest.raises(BadInput, match="bad_host"):
            check_host(host)
    for port in (0, 65536, True, "1", None):
        with pytest.raises(BadInput, match="bad_port"):
            check_port(port)


@given(st.lists(st.tuples(names, names), min_size=2, max_size=6, unique_by=lambda pair: pair[0]))
def test_nobody_writes_for_another(pairs: list[tuple[str, str]]) -> None:
    nodes = [Node(name, group) for name, group in pairs if group != "STATE"]
    acl = render_acl(nodes, [])
    for node in nodes:
        for other in nodes:
            for kind in ("NBIRTH", "NDATA", "NDEATH"):
                topic = f"spBv1.0/{other.group_id}/{kind}/{other.node_id}"
                assert allows(acl, node.node_id, "write", topic) == (node == other)
            assert allows(acl, node.node_id, "read", f"spBv1.0/{other.group_id}/NCMD/{other.node_id}") == (
                node == other
            )
            assert not allows(acl, node.node_id, "write", f"spBv1.0/{other.group_id}/NCMD/{other.node_id}")
            assert not allows(acl, node.node_id, "read", f"spBv1.0/{other.group_id}/NDATA/{other.node_id}")


def test_roles() -> None:
    acl = render_acl([], [Service("scada", ServiceRole.OBSERVER), Service("server", ServiceRole.SERVER)], "host-a")
    for name in ("scada", "server"):
        assert allows(acl, name, "read", "spBv1.0/g/DDATA/n/d")
        assert not allows(acl, name, "write", "spBv1.0/g/NDATA/n")
    assert allows(acl, "server", "write", "spBv1.0/g/NCMD/n")
    assert allows(acl, "server", "write", "spBv1.0/STATE/host-a")
    assert not allows(acl, "server", "write", "spBv1.0/STATE/host-b")
    assert not allows(acl, "scada", "write", "spBv1.0/g/NCMD/n")


def test_the_same_rights_give_the_same_bytes_and_names_are_unique() -> None:
    nodes = [Node("b", "g"), Node("a", "g")]
    assert render_acl(nodes, []) == render_acl(reversed(nodes), [])
    with pytest.raises(BadConfig, match="two identities"):
        render_acl([Node("a", "g")], [Service("a", ServiceRole.SERVER)])
    with pytest.raises(BadInput):
        render_acl([Node("a\nuser fleet-server", "g")], [])


def test_conf_with_and_without_tls() -> None:
    secure = render_conf(BrokerSettings(HERE, host="0.0.0.0", secure=FILES)).splitlines()
    for line in ("require_certificate true", "use_identity_as_username true", "allow_anonymous false",
                 "crlfile /srv/broker/ca.crl", "acl_file /srv/broker/acl", "max_queued_messages 100000"):  # fmt: skip
        assert line in secure
    assert "allow_anonymous true" in render_conf(BrokerSettings(HERE)).splitlines()
    with pytest.raises(BadConfig, match="only listen on loopback"):
        render_conf(BrokerSettings(HERE, host="0.0.0.0"))
    with pytest.raises(BadConfig, match="absolute path"):
        render_conf(BrokerSettings(Path("relative")))
    with pytest.raises(BadConfig, match="control characters"):
        render_conf(BrokerSettings(Path("/srv/x\nallow_anonymous true")))


def test_the_sample_in_deploy_is_what_the_code_renders() -> None:
    folder = Path("/etc/forestall/broker")
    files = SecureFiles(
        folder / "ca.crt", folder / "broker.crt", folder / "broker.key", folder / "ca.crl", folder / "acl"
    )
    settings = BrokerSettings(Path("/var/lib/mosquitto"), host="0.0.0.0", secure=files)
    deploy = Path(__file__).resolve().parents[2] / "deploy" / "broker"
    assert (deploy / "mosquitto.conf").read_text() == render_conf(settings)
    acl = render_acl([Node("agent-ams1-0007", "site-ams1")], [Service("fleet-server", ServiceRole.SERVER)])
    assert (deploy / "acl.sample").read_text() == acl
