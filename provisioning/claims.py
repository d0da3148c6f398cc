"""Claims: secrets that a device shows once to get its identity. Random, single-use, short-lived, stored as a digest.

A claim binds a node to a group before the device is ever seen: the device does not name itself. The claim is spent and
the certificate signed in one transaction, so of many racing requests exactly one key wins. The *same* key may come back
with the same claim until the claim expires, and receives the same certificate: the first reply may have been lost.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509

from fleet_core.errors import BadInput
from fleet_core.faults import fault_point
from provisioning.authority import NODE, Authority, check_can_take, serial_text
from provisioning.broker_acl import Node
from provisioning.certificates import check_request, key_digest
from provisioning.names import check_group, check_name

DEFAULT_TTL = timedelta(hours=1)
MAX_TTL = timedelta(days=30)
MAX_CLAIM_CHARS = 128
_KEEP_EXPIRED_S = 90 * 86400.0
"""So long an expired claim is kept, so that a late use is refused as expired or used, not as unknown."""


@dataclass(frozen=True)
class Claim:
    """A new claim. ``secret`` is shown once and stored nowhere."""

    secret: str
    node: Node
    expires_at: datetime


@dataclass(frozen=True)
class Enrolment:
    """The result of a spent claim. ``repeated``: this same certificate had been issued before."""

    node: Node
    certificate: x509.Certificate
    repeated: bool


def issue_claim(authority: Authority, node_id: str, group_id: str, ttl: timedelta = DEFAULT_TTL) -> Claim:
    """A claim for one node. It withdraws any earlier unspent claim for the same node.

    Raises BadInput when a name is unfit or taken, or the time to live is not within (0, 30 days].
    """
    node = Node(check_name(node_id, "node"), check_group(group_id))
    if not timedelta(0) < ttl <= MAX_TTL:
        raise BadInput("bad_ttl", f"a claim may live for more than nothing and at most {MAX_TTL.days} days")
    secret = secrets.token_urlsafe(32)
    now = authority.clock.now()
    with authority.registry.transaction() as db:
        check_can_take(db, node_id, NODE, group_id)
        db.execute("DELETE FROM claim WHERE node_id = ? AND used_at IS NULL", (node_id,))
        db.execute("DELETE FROM claim WHERE expires_at < ?", (now.timestamp() - _KEEP_EXPIRED_S,))
        db.execute(
            "INSERT INTO claim (digest, node_id, group_id, created_at, expires_at) VALUES (?, ?, ?, ?, ?)",
            (claim_digest(secret), node_id, group_id, now.timestamp(), (now + ttl).timestamp()),
        )
    return Claim(secret, node, now + ttl)


def spend_claim(authority: Authority, secret: str, csr_der: bytes) -> Enrolment:
    """Exchange a claim and a certificate request for a certificate.

    Raises BadInput and counts the refusal as ``refused_REASON``: bad_csr, unknown_claim, claim_expired, claim_used (by
    another key), name_taken. Raises Retryable when the book is busy; the claim is then unspent.
    """
    try:
        enrolment = _spend(authority, secret, csr_der)
    except BadInput as refusal:
        authority.registry.count(f"refused_{refusal.reason}")
        raise
    authority.registry.count("repeated" if enrolment.repeated else "enrolled")
    fault_point("provisioning.enrolled")
    return enrolment


def claim_digest(secret: str) -> str:
    """SHA-256 of a claim, hexadecimal. A claim holds 256 random bits, so a slow hash would protect nothing more."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _spend(authority: Authority, secret: str, csr_der: bytes) -> Enrolment:
    if len(secret) > MAX_CLAIM_CHARS:
        raise BadInput("unknown_claim", "this claim was never issued, or was withdrawn")
    public_key = check_request(csr_der)
    digest, wanted_key = claim_digest(secret), key_digest(public_key)
    now = authority.clock.now()
    with authority.registry.transaction() as db:
        row = db.execute("SELECT * FROM claim WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            raise BadInput("unknown_claim", "this claim was never issued, or was withdrawn")
        node = Node(row["node_id"], row["group_id"])
        if row["used_at"] is not None and row["key_digest"] != wanted_key:
            raise BadInput("claim_used", f"this claim for {node.node_id} was spent with another key")
        if now >= datetime.fromtimestamp(row["expires_at"], UTC):
            raise BadInput("claim_expired", f"this claim for {node.node_id} has expired: ask for a new one")
        if row["used_at"] is not None:
            return Enrolment(node, _earlier_certificate(db, row["serial"]), repeated=True)
        certificate = authority.sign_node(db, node, public_key)
        db.execute(
            "UPDATE claim SET used_at = ?, key_digest = ?, serial = ? WHERE digest = ?",
            (now.timestamp(), wanted_key, serial_text(certificate), digest),
        )
    return Enrolment(node, certificate, repeated=False)


def _earlier_certificate(db: sqlite3.Connection, serial: str) -> x509.Certificate:
    row = db.execute("SELECT pem, revoked_at FROM certificate WHERE serial = ?", (serial,)).fetchone()
    if row["revoked_at"] is not None:
        raise BadInput("claim_used", "the certificate this claim earned has been revoked")
    return x509.load_pem_x509_certificate(row["pem"])
