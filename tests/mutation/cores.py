"""Which cores are mutated, which tests must notice, and which changes nobody could notice.

The tests of a core are pure and quick: no server, no broker, no network. A mutant that none of them notices survives,
even if a story of minutes would have found it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CORES: dict[str, tuple[str, ...]] = {
    "edge_agent.detection.fusion": ("tests/edge_agent/test_detect_states.py",),
    "edge_agent.detection.judging.states": ("tests/edge_agent/test_detect_states.py",),
    "edge_agent.outbox": ("tests/edge_agent/test_agent_outbox_books.py", "tests/edge_agent/test_agent_outbox.py"),
    "edge_agent.uplink.session": ("tests/edge_agent/test_agent_session.py",),
    "firmware_bridge.session": (
        "tests/firmware_bridge/test_bridge_host.py",
        "tests/firmware_bridge/test_bridge_session.py",
    ),
    "fleet_core.batches": ("tests/fleet_core/test_wire_batches.py",),
    "fleet_core.sparkplug.payload": (
        "tests/fleet_core/test_wire_payload.py",
        "tests/fleet_core/test_wire_sparkplug.py",
    ),
    "fleet_server.audit.verify": ("tests/fleet_server/test_audit_verify.py",),
    "fleet_server.ingest.session": ("tests/fleet_server/test_ingest_session.py",),
    "fleet_server.resolution.window_choice": ("tests/fleet_server/test_resolution_window_choice.py",),
    "fleet_server.resolution.policy": ("tests/fleet_server/test_resolution_policy.py",),
    "fleet_server.resolution.case": ("tests/fleet_server/test_resolution_booking_states.py",),
    "fleet_server.resolution.plan": ("tests/fleet_server/test_resolution_plan.py",),
    "fleet_server.resolution.states": (
        "tests/fleet_server/test_resolution_booking_states.py",
        "tests/fleet_server/test_resolution_states.py",
    ),
    "fleet_server.resolution.steps": ("tests/fleet_server/test_resolution_steps.py",),
    "fleet_server.resolution.stored": ("tests/fleet_server/test_resolution_stored.py",),
}
"""Module, or package (then all of its modules), and the tests that must kill its mutants."""


@dataclass(frozen=True, slots=True)
class Equivalent:
    """Changes that no test can notice: where (class and function), which, and why not."""

    module: str
    scope: str
    changes: tuple[str, ...]
    reason: str


EQUIVALENTS: tuple[Equivalent, ...] = (
    Equivalent(
        "edge_agent.detection.fusion",
        "between",
        ("ratios.shape[1] <= AGREEING -> ratios.shape[1] < AGREEING",),
        "the three highest of three are all",
    ),
    Equivalent(
        "edge_agent.outbox.room",
        "Room.make",
        ("if self.used_bytes + size <= limit -> never",),
        "a short way: the loops below do nothing then either",
    ),
    Equivalent(
        "edge_agent.outbox.file",
        "check_outbox",
        ("True -> False in uri=True",),
        "many builds of SQLite read such names without being asked",
    ),
    Equivalent(
        "edge_agent.outbox.file",
        "check_outbox",
        ("0 -> -1 in db.execute('PRAGMA quick_check(1)').fetchone()[0]",),
        "the row has one column",
    ),
    Equivalent(
        "edge_agent.outbox.outbox",
        "Outbox.__init__",
        ("0 -> 1 in self._forgot_us = 0", "0 -> -1 in self._forgot_us = 0"),
        "any moment long ago does",
    ),
    Equivalent(
        "fleet_server.audit.verify",
        "_same",
        ("True -> False in strict=True",),
        "the lengths were compared before",
    ),
    Equivalent(
        "fleet_server.audit.verify",
        "verify",
        (
            "row 'root_hash': bytes(row['root_hash']) -> removed",
            "row 'signature': bytes(row['signature']) -> removed",
        ),
        "psycopg gives bytes already, and comparing and verifying take whatever is like them",
    ),
    Equivalent(
        "fleet_core.batches",
        "_Reader._take_waveform",
        ("DataType.UNKNOWN -> DataType.UUID",),
        "of a property that is missing only its value, none, is read",
    ),
    Equivalent(
        "fleet_server.resolution.window_choice",
        "_why_not",
        ("return '' -> return None",),
        "no reason is no reason",
    ),
    Equivalent(
        "firmware_bridge.session",
        "HostSession.__init__",
        (
            "self._expected: dict[Stream, int] = {} -> removed",
            "self._seen_ticks: dict[Stream, int] = {} -> removed",
        ),
        "the answer to START fills them before any data are taken",
    ),
    Equivalent(
        "firmware_bridge.session",
        "HostSession._on_control",
        ("True -> False in strict=True",),
        "the codec lets only as many numbers pass as there are streams",
    ),
    Equivalent(
        "firmware_bridge.session",
        "HostSession._on_started",
        ("True -> False in strict=True",),
        "the codec lets only as many numbers pass as there are streams",
    ),
    Equivalent(
        "fleet_core.sparkplug.payload",
        "_read_value",
        ("_D.UNKNOWN -> _D.UUID",),
        "a short way for nearly all samples; the readers give the same",
    ),
    Equivalent(
        "fleet_core.sparkplug.payload",
        "_read_metric",
        ("_bounded(name, MAX_NAME_CHARS) if name else '' -> _bounded(name, MAX_NAME_CHARS)",),
        "a short way for metrics without a name, which is within every bound",
    ),
    Equivalent(
        "fleet_core.sparkplug.payload",
        "_parse",
        (
            "len(payload) > 2 * MAX_METRICS and len(payload_pb2.Envelope.FromString(payload).metrics) > MAX_METRICS"
            " -> len(payload_pb2.Envelope.FromString(payload).metrics) > MAX_METRICS",
        ),
        "the first condition only saves the time of counting where there cannot be too many",
    ),
    Equivalent(
        "fleet_server.resolution.policy",
        "judge",
        ("0.0 -> -1.0 in watched_h", "0.0 -> 1.0 in watched_h"),
        "all waiting times are longer than an hour, unless a tenant wants none",
    ),
    Equivalent(
        "fleet_core.sparkplug.payload",
        "encode_payload",
        ("True -> False in deterministic=True",),
        "it orders maps, of which the messages have none",
    ),
    Equivalent(
        "fleet_core.sparkplug.payload",
        "mark_historical",
        ("True -> False in deterministic=True",),
        "it orders maps, of which the messages have none",
    ),
    Equivalent(
        "fleet_server.ingest.session",
        "ParkingLot.__init__",
        ("0 -> 1 in self._next = 0", "0 -> -1 in self._next = 0"),
        "only that numbers differ counts: the order is that of insertion",
    ),
    Equivalent(
        "fleet_server.ingest.session",
        "ParkingLot.park",
        ("1 -> 2 in self._next += 1", "self._next += 1 -> self._next -= 1"),
        "only that numbers differ counts: the order is that of insertion",
    ),
    Equivalent(
        "edge_agent.uplink.session",
        "SendWindow.due",
        ("1 -> 0 in max(1, int(self.window))",),
        "a window is never below one",
    ),
    Equivalent(
        "edge_agent.uplink.session",
        "Lane",
        ("0 -> -1 in URGENT = 0", "2 -> 3 in BACKFILL = 2"),
        "only the order of lanes counts",
    ),
    Equivalent(
        "fleet_server.resolution.case",
        "Case.after",
        ("self.answered or self.states -> self.answered",),
        "the states were set as the case was made; the other is there for the type checker",
    ),
    Equivalent(
        "fleet_server.resolution.plan",
        "_can_be_read",
        ("return False -> return None",),
        "either keeps an entry out",
    ),
    Equivalent(
        "fleet_server.resolution.stored",
        "",
        ("'written' -> 'written~' in {'written': True}", "True -> False in {'written': True}"),
        "a mark that is only compared with itself",
    ),
    Equivalent(
        "fleet_server.resolution.stored",
        "_without_nulls",
        (
            "dataclasses.is_dataclass(wanted) and isinstance(wanted, type) -> dataclasses.is_dataclass(wanted)",
            "isinstance(wanted, type) -> wanted",
        ),
        "what is declared is a type, never an instance; it is asked for the type checker",
    ),
    Equivalent(
        "fleet_server.resolution.stored",
        "_unknown",
        ("True -> False in strict=True",),
        "what was read from a list is as long as the list",
    ),
    Equivalent(
        "fleet_server.resolution.stored",
        "_unknown",
        ("return '' -> return None",),
        "no path is no path",
    ),
)


def equivalents() -> set[tuple[str, str, str]]:
    """Module, scope and change of every listed equivalent."""
    return {(each.module, each.scope, change) for each in EQUIVALENTS for change in each.changes}


def sources(core: str) -> Iterator[tuple[str, Path]]:
    """The modules of a core with their files. Raises KeyError for what is no core."""
    CORES[core]
    path = ROOT.joinpath(*core.split("."))
    if not path.is_dir():
        yield core, path.with_suffix(".py")
        return
    for file in sorted(path.glob("*.py")):
        yield (core if file.stem == "__init__" else f"{core}.{file.stem}"), file
