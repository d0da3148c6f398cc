"""Answers of the proofs: the conservation ledger and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from fleet_server.api.models.base import Answer, customer, operational, personal, public


class LedgerCounts(Answer):
    """Each batch number of an outbox is exactly one of these; ``unexplained`` above zero is an alarm."""

    batches: int = operational()
    stored: int = operational()
    quarantined: int = operational()
    gaps: int = operational()
    held: int = operational()
    in_grace: int = operational()
    unexplained: int = operational()


class LedgerLine(LedgerCounts):
    """One outbox of one agent. ``silent_since``: it holds batches and has not reported for too long."""

    agent_id: str = operational()
    outbox_id: str = operational()
    silent_since: datetime | None = operational()


class Ledger(Answer):
    totals: LedgerCounts = operational()
    agents: list[LedgerLine] = operational()


class AuditEntry(Answer):
    """One decision. ``seq`` None: not yet given its place in the tree."""

    entry_id: UUID = public()
    at: datetime = operational()
    actor: str = personal()
    action: str = operational()
    subject: str = operational()
    body: dict[str, Any] = customer()
    trace_id: str = operational()
    seq: int | None = public()
    leaf_hash: str | None = public()


class AuditEntries(Answer):
    total: int = operational()
    items: list[AuditEntry] = operational()


class AuditStatus(Answer):
    """Where the log stands; ``root_hash`` is what the newest checkpoint signs."""

    entries: int = operational()
    pending: int = operational()
    tree_size: int | None = public()
    root_hash: str | None = public()
    signed_at: datetime | None = public()
    key_id: str | None = public()
