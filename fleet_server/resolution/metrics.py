"""Prometheus metrics of the resolution worker."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

CASES = Counter("forestall_cases_total", "Cases by what happened to them", ["event"])
ACTS = Counter("forestall_acts_total", "Outward acts by kind and outcome", ["kind", "outcome"])
ESCALATIONS = Counter("forestall_escalations_total", "Hand-overs to people by reason", ["reason"])
FINDINGS = Counter("forestall_findings_judged_total", "Findings by what they led to", ["verdict"])
BROKEN = Counter("forestall_cases_mended_total", "Cases found waiting without owner, reason or time, by kind", ["kind"])
FAILURES = Counter("forestall_worker_failures_total", "Failures of a worker's task that is tried again", ["task"])
ANNOUNCED_S = Histogram(
    "forestall_finding_to_announcement_seconds",
    "Real seconds from storing the finding to the announcement's acceptance",
    buckets=(0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 600),
)
