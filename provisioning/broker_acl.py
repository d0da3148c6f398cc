"""Who may say what on the broker: mosquitto's configuration and its access list. Pure: text out, nothing written.

A client's name is its certificate's common name (``use_identity_as_username``), so rights follow the identity
the authority issued, never what the client claims.

* A node writes only its own births, deaths and data under its own group, and reads only its own commands and
  the hosts' STATE. It can neither command nor impersonate another node, nor read another node's vitals.
* The server reads everything under ``spBv1.0`` and writes commands and its own STATE.
* An observer (a SCADA host, a dashboard) reads everything and writes nothing.
* Everything unlisted is denied.

A revoked node loses its lines in the access list, which ends the rights of an open session at the broker's next SIGHUP;
the revocation list makes the broker refuse the node's next handshake.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fleet_core.errors import BadConfig
from provisioning.names import check_group, check_host, check_name, check_port

NAMESPACE = "spBv1.0"
DEFAULT_HOST_ID = "forestall"
MAX_PACKET_BYTES = 2 * 1024 * 1024
"""Largest message the broker passes on: 32 batches of the default size, far above any single one."""


class ServiceRole(StrEnum):
    """The broker rights of a service's identity."""

    SERVER = "server"
    OBSERVER = "observer"


@dataclass(frozen=True, order=True)
class Node:
    """An enrolled edge node: its certificate's common name and the one group it may speak in."""

    node_id: str
    group_id: str


@dataclass(frozen=True, order=True)
class Service:
    """A client of the broker that is not a node."""

    name: str
    role: ServiceRole


@dataclass(frozen=True)
class SecureFiles:
    """The listener's own certificate and key, and the files it checks clients and their rights against."""

    ca_file: Path
    cert_file: Path
    key_file: Path
    crl_file: Path
    acl_file: Path


@dataclass(frozen=True)
class BrokerSettings:
    """One listener. Without ``secure`` it must be a loopback address, and every client may do everything."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8883
    secure: SecureFiles | None = None
    run_as: str | None = None
    pid_file: Path | None = None
    max_packet_bytes: int = MAX_PACKET_BYTES
    max_queued_messages: int = 100_000
    max_queued_bytes: int = 256 * 1024 * 1024
    autosave_s: int = 30


def render_acl(nodes: Iterable[Node], services: Iterable[Service], host_id: str = DEFAULT_HOST_ID) -> str:
    """The access list, sorted, so that the same rights give the same bytes.

    Raises BadInput for an unfit name, and for a name held twice: rights are looked up by name alone.
    """
    check_name(host_id, "host id")
    sections: dict[str, list[str]] = {}
    for service in sorted(services):
        _add(sections, service.name, _service_rights(service, host_id))
    for node in sorted(nodes):
        _add(sections, node.node_id, _node_rights(node))
    blocks = ["\n".join((f"user {name}", *rights)) for name, rights in sections.items()]
    return (
        "\n\n".join(["# Rendered by fleet-provision; edits are overwritten. What is not listed is denied.", *blocks])
        + "\n"
    )


def render_conf(settings: BrokerSettings) -> str:
    """mosquitto.conf for one listener. Raises BadConfig when it would serve other machines without TLS."""
    host = check_host(settings.host)
    if settings.secure is None and host not in ("127.0.0.1", "::1", "localhost"):
        raise BadConfig(f"a broker without TLS may only listen on loopback, not on {host}")
    lines = [
        "# Rendered by fleet-provision; edits are overwritten.",
        "per_listener_settings false",
        f"listener {check_port(settings.port)} {host}",
        *_secure_lines(settings.secure),
        f"allow_anonymous {'false' if settings.secure else 'true'}",
        "",
        "# Nothing is ever trusted to stay in the broker (storage is acknowledged end to end), but a burst",
        "# should not have to be sent twice: the default queue of 1000 messages is far too short.",
        f"max_queued_messages {settings.max_queued_messages}",
        f"max_queued_bytes {settings.max_queued_bytes}",
        "max_inflight_messages 1000",
        f"max_packet_size {settings.max_packet_bytes}",
        "persistent_client_expiration 7d",
        "max_keepalive 300",
        "set_tcp_nodelay true",
        "",
        "persistence true",
        f"persistence_location {_path(settings.data_dir)}/",
        f"autosave_interval {settings.autosave_s}",
        "",
        *([f"user {check_name(settings.run_as, 'user')}"] if settings.run_as else []),
        *([f"pid_file {_path(settings.pid_file)}"] if settings.pid_file else []),
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type information",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        "connection_messages true",
    ]
    return "\n".join(lines) + "\n"


def _add(sections: dict[str, list[str]], name: str, rights: list[str]) -> None:
    if name in sections:
        raise BadConfig(f"two identities are named {name!r}")
    sections[name] = rights


def _node_rights(node: Node) -> list[str]:
    name, group = check_name(node.node_id, "node"), check_group(node.group_id)
    base = f"{NAMESPACE}/{group}"
    own = [f"topic write {base}/{kind}/{name}" for kind in ("NBIRTH", "NDEATH", "NDATA")]
    devices = [f"topic write {base}/{kind}/{name}/+" for kind in ("DBIRTH", "DDEATH", "DDATA")]
    return [
        *own,
        *devices,
        f"topic read {base}/NCMD/{name}",
        f"topic read {base}/DCMD/{name}/+",
        f"topic read {NAMESPACE}/STATE/+",
    ]


def _service_rights(service: Service, host_id: str) -> list[str]:
    check_name(service.name, "service")
    rights = [f"topic read {NAMESPACE}/#"]
    if service.role is ServiceRole.SERVER:
        rights += [
            f"topic write {NAMESPACE}/+/NCMD/+",
            f"topic write {NAMESPACE}/+/DCMD/+/+",
            f"topic write {NAMESPACE}/STATE/{host_id}",
        ]
    return rights


def _secure_lines(files: SecureFiles | None) -> list[str]:
    if files is None:
        return []
    return [
        f"cafile {_path(files.ca_file)}",
        f"certfile {_path(files.cert_file)}",
        f"keyfile {_path(files.key_file)}",
        f"crlfile {_path(files.crl_file)}",
        f"acl_file {_path(files.acl_file)}",
        "require_certificate true",
        "use_identity_as_username true",
        "tls_version tlsv1.2",  # the lowest accepted
    ]


def _path(path: Path) -> str:
    text = str(path)
    if not path.is_absolute() or any(ord(character) < 32 for character in text):
        raise BadConfig(f"the broker needs an absolute path without control characters, not {text!r}")
    return text
