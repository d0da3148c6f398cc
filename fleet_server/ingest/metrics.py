"""Metrics of the ingest process.

Invariant: received = stored + duplicate + quarantined + dropped + control, plus the messages that are parked or wait.
``control`` counts births that had to wait for the registration of their agent. ``dropped`` batches were never answered,
so their agents send them again.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

BATCHES = Counter(
    "forestall_ingest_batches_total",
    "Data messages by outcome",
    ["outcome"],  # received, stored, duplicate, quarantined, dropped, control
)
REASONS = Counter("forestall_ingest_quarantined_total", "Quarantined messages by reason", ["reason"])
CLASHES = Counter("forestall_ingest_digest_clashes_total", "Same batch key with another digest: a clone or corruption")
CONTROLS = Counter("forestall_ingest_control_total", "Births, deaths and held reports", ["kind"])
SAMPLES = Counter("forestall_ingest_samples_total", "Samples stored")
PARKED = Gauge("forestall_ingest_parked", "Messages parked until they can be read")
QUEUE = Gauge("forestall_ingest_queue", "Messages waiting for the writer")
REBIRTHS = Counter("forestall_ingest_rebirth_requests_total", "Rebirths asked for")
DATABASE_UP = Gauge("forestall_ingest_database_up", "1 while the database takes batches")
BROKER_UP = Gauge("forestall_ingest_broker_up", "1 while connected to the broker")
FAILURES = Counter("forestall_ingest_failures_total", "Failures of what is done in the background", ["task"])
STORE_SECONDS = Histogram(
    "forestall_ingest_store_seconds",
    "From the arrival of a message to its commit (real time)",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5, 20, 60),
)


def outcome(kind: str, count: int = 1) -> None:
    """Count data messages by their outcome ``kind``."""
    if count:
        BATCHES.labels(kind).inc(count)
