"""The certificate authority of one fleet: it issues and revokes certificates, and keeps a book of them.

The authority is a folder::

    authority/
      ca.key            root key, mode 0600, encrypted when FORESTALL_CA_PASSPHRASE is set
      ca.crt            root certificate; its SHA-256 fingerprint is what devices are told to pin
      authority.sqlite  identities, certificates, claims, counters (registry.py)
      issued/NAME/      key and certificate of services and servers; a node's key never comes here

Invariants: a name belongs to one identity for ever; a node has at most one valid certificate; every certificate that
was handed out is in the book. Time is real time (certificates.py says why).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from fleet_core.clock import Clock
from fleet_core.errors import BadConfig, BadInput
from fleet_core.files import remove_left_behind, write_atomic
from provisioning import certificates as x
from provisioning.broker_acl import Node, Service, ServiceRole
from provisioning.files import PRIVATE_MODE, PUBLIC_MODE
from provisioning.names import check_host, check_name
from provisioning.registry import Registry, add_to_counter

PASSPHRASE_VARIABLE = "FORESTALL_CA_PASSPHRASE"
SERVER, SERVICE, NODE = "server", "service", "node"


@dataclass(frozen=True)
class Issued:
    """The files of a service or server, in PEM; the key file has mode 0600."""

    name: str
    ca_file: Path
    cert_file: Path
    key_file: Path


@dataclass(frozen=True)
class Identity:
    """One line of ``fleet-provision list``."""

    name: str
    kind: str
    group_id: str
    role: str
    serial: str
    not_after: datetime
    revoked_at: datetime | None


class Authority:
    """Issues and withdraws identities. Safe from several threads and processes: the book serialises them."""

    def __init__(self, directory: Path, clock: Clock, passphrase: bytes | None = None) -> None:
        """Open an existing authority. Raises BadConfig when it is absent, exposed, or cannot be unlocked."""
        self.directory = directory.absolute()
        self.clock = clock
        key_file, self.ca_file = self.directory / "ca.key", self.directory / "ca.crt"
        if not key_file.exists():
            raise BadConfig(f"no authority in {directory}: make one with 'fleet-provision init --dir {directory}'")
        if key_file.stat().st_mode & 0o077:
            raise BadConfig(f"{key_file} can be read by others: chmod 600 {key_file}")
        remove_left_behind(self.directory)  # an init that was killed may have left a copy of the key
        self.ca_key = x.key_from_pem(key_file.read_bytes(), passphrase)
        self.ca = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        self.registry = Registry(self.directory / "authority.sqlite")

    @classmethod
    def create(
        cls, directory: Path, clock: Clock, name: str = "Forestall fleet authority", passphrase: bytes | None = None
    ) -> Authority:
        """Make a new authority. Raises BadConfig when the folder holds one already, or the name is unfit."""
        if not 0 < len(name) <= 64 or not name.isprintable():
            raise BadConfig(f"the authority's name {name[:80]!r} must be 1 to 64 printable characters")
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (directory / "ca.key").exists():
            raise BadConfig(f"{directory} already holds an authority; a second one would orphan its devices")
        (directory / "authority.sqlite").unlink(missing_ok=True)  # left by an init that died before it wrote the key
        Registry.create(directory / "authority.sqlite")
        key = x.new_key()
        certificate = x.make_authority(key, name, clock.now())
        write_atomic(directory / "ca.crt", x.to_pem(certificate), mode=PUBLIC_MODE)
        # The key is written last, because it marks completion: without it there is no authority.
        write_atomic(directory / "ca.key", x.key_to_pem(key, passphrase), mode=PRIVATE_MODE)
        return cls(directory, clock, passphrase)

    @property
    def ca_fingerprint(self) -> str:
        """SHA-256 of the root certificate, hexadecimal."""
        return x.fingerprint(self.ca)

    def issue_server(self, name: str, hosts: Sequence[str]) -> Issued:
        """A new key and certificate for a TLS server that answers to ``hosts`` (names and addresses).

        An earlier certificate of the same name stays valid. Raises BadConfig without hosts, BadInput for an unfit name.
        """
        if not hosts:
            raise BadConfig("a server certificate needs at least one --host or --dns")
        checked = [check_host(host) for host in hosts]
        return self._issue_with_key(name, SERVER, x.Usage.SERVER, hosts=checked)

    def issue_service(self, name: str, role: ServiceRole = ServiceRole.SERVER) -> Issued:
        """A new key and client certificate for a program of Forestall that uses the broker.

        An earlier certificate of the same name stays valid. Raises BadInput for an unfit name.
        """
        return self._issue_with_key(name, SERVICE, x.Usage.CLIENT, role=role.value)

    def sign_node(self, db: sqlite3.Connection, node: Node, public_key: object) -> x509.Certificate:
        """A certificate for a node's own key, within a transaction; the node's earlier certificates are revoked.

        Raises BadInput("name_taken") when the name belongs to another kind of identity, or to a node of another
        group that has not been revoked.
        """
        self._register(db, node.node_id, NODE, group_id=node.group_id)
        certificate = x.make_leaf(
            self.ca_key, self.ca, public_key, node.node_id, x.Usage.CLIENT, self.clock.now(), unit=node.group_id
        )
        self._record(db, node.node_id, certificate)
        return certificate

    def revoke(self, name: str) -> int:
        """Revoke an identity with all its certificates and open claims. Returns the number of certificates revoked.

        The broker learns of it when its files are published again. Raises BadInput("unknown_identity").
        """
        now_s = self.clock.now().timestamp()
        with self.registry.transaction() as db:
            row = db.execute("SELECT name FROM identity WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise BadInput("unknown_identity", f"{name!r} was never issued anything")
            db.execute("UPDATE identity SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL", (now_s, row["name"]))
            db.execute("DELETE FROM claim WHERE node_id = ? COLLATE NOCASE AND used_at IS NULL", (row["name"],))
            return _revoke_certificates(db, row["name"], now_s)

    def revocation_list(self) -> bytes:
        """A new revocation list, in PEM, with the next list number."""
        with self.registry.transaction() as db:
            number = add_to_counter(db, "crl_number")
        return x.to_pem(x.make_revocation_list(self.ca_key, self.ca, self.revoked(), number, self.clock.now()))

    def rights(self) -> tuple[list[Node], list[Service]]:
        """The nodes and services that may use the broker now, as ``broker_acl.render_acl`` takes them."""
        with self.registry.transaction() as db:
            rows = db.execute("SELECT * FROM identity WHERE revoked_at IS NULL").fetchall()
        nodes = [Node(row["name"], row["group_id"]) for row in rows if row["kind"] == NODE]
        services = [Service(row["name"], ServiceRole(row["role"])) for row in rows if row["kind"] == SERVICE]
        return nodes, services

    def revoked(self) -> list[x.Revoked]:
        """The revoked certificates. Expired ones are left out: TLS refuses them anyway."""
        with self.registry.transaction() as db:
            rows = db.execute(
                "SELECT serial, revoked_at FROM certificate WHERE revoked_at IS NOT NULL AND not_after > ?",
                (self.clock.now().timestamp(),),
            ).fetchall()
        return [x.Revoked(int(row["serial"], 16), _utc(row["revoked_at"])) for row in rows]

    def identities(self) -> list[Identity]:
        """Every identity with its newest certificate, by name."""
        with self.registry.transaction() as db:
            rows = db.execute(
                "SELECT i.*, c.serial, c.not_after, MAX(c.rowid) FROM identity i JOIN certificate c USING (name)"
                " GROUP BY i.name ORDER BY i.name"  # bare columns are those of the row with the maximum (SQLite)
            ).fetchall()
        return [
            Identity(
                row["name"], row["kind"], row["group_id"], row["role"], row["serial"], _utc(row["not_after"]),
                _utc(row["revoked_at"]) if row["revoked_at"] is not None else None,
            )
            for row in rows
        ]  # fmt: skip

    def _issue_with_key(
        self, name: str, kind: str, usage: x.Usage, *, role: str = "", hosts: Sequence[str] = ()
    ) -> Issued:
        check_name(name, "name")
        folder = self.directory / "issued" / name
        issued = Issued(name, self.ca_file, folder / "tls.crt", folder / "tls.key")
        key = x.new_key()
        certificate = x.make_leaf(self.ca_key, self.ca, key.public_key(), name, usage, self.clock.now(), hosts=hosts)
        with self.registry.transaction() as db:
            self._register(db, name, kind, role=role)
            # The earlier certificate is not revoked: the running program uses it until it restarts.
            self._record(db, name, certificate, supersede=False)
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            remove_left_behind(folder)
            write_atomic(issued.key_file, x.key_to_pem(key), mode=PRIVATE_MODE)
            write_atomic(issued.cert_file, x.to_pem(certificate), mode=PUBLIC_MODE)
        return issued

    def _register(self, db: sqlite3.Connection, name: str, kind: str, *, group_id: str = "", role: str = "") -> None:
        check_can_take(db, name, kind, group_id)
        db.execute(
            "INSERT INTO identity (name, kind, group_id, role, created_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET group_id = excluded.group_id, role = excluded.role, revoked_at = NULL",
            (name, kind, group_id, role, self.clock.now().timestamp()),
        )

    def _record(
        self, db: sqlite3.Connection, name: str, certificate: x509.Certificate, *, supersede: bool = True
    ) -> None:
        if supersede:
            _revoke_certificates(db, name, self.clock.now().timestamp())
        db.execute(
            "INSERT INTO certificate (serial, name, fingerprint, not_before, not_after, pem) VALUES (?, ?, ?, ?, ?, ?)",
            (
                serial_text(certificate),
                name,
                x.fingerprint(certificate),
                certificate.not_valid_before_utc.timestamp(),
                certificate.not_valid_after_utc.timestamp(),
                x.to_pem(certificate),
            ),
        )


def check_can_take(db: sqlite3.Connection, name: str, kind: str, group_id: str) -> None:
    """Raise BadInput("name_taken") unless ``name`` is free, or is this very identity, or a revoked one of its kind."""
    row = db.execute("SELECT name, kind, group_id, revoked_at FROM identity WHERE name = ?", (name,)).fetchone()
    if row is None:
        return
    if row["kind"] != kind or row["name"] != name:
        raise BadInput("name_taken", f"{row['name']!r} is already a {row['kind']}")
    if row["group_id"] != group_id and row["revoked_at"] is None:
        raise BadInput("name_taken", f"{name!r} is enrolled in group {row['group_id']!r}: revoke it there first")


def serial_text(certificate: x509.Certificate) -> str:
    """The serial number as the book writes it: lower-case hexadecimal."""
    return f"{certificate.serial_number:x}"


def _revoke_certificates(db: sqlite3.Connection, name: str, now_s: float) -> int:
    return db.execute(
        "UPDATE certificate SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL", (now_s, name)
    ).rowcount


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
