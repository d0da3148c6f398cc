"""Hostile and broken input against the whole running stack, beside a repair story that must not notice any of it.

The story's robot is served by an agent of its own. An intruder holds the certificate of another node and sends what
breaks a rule: each message is quarantined with its reason, counted, refused where it has a number, and its neighbours
are stored. The warehouse system loses an answer after booking. A third agent's disk runs full. At the end the ledger
adds up and the story ended as it should.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg.rows import dict_row
from support.intruder import Intruder, wait_until
from support.wire import FakeAgent
from support.world import open_folder

from demo.cast import ROBOT_17, SHIPPED_HISTORY, simulated_cast
from demo.pace import Followed, Pace
from demo.processes import Keeper, free_port
from demo.run import AHEAD_H, BEHIND_H, story_start
from demo.stack import Stack, scenario_text
from demo.stories import Stage, play_repair
from fleet_core.batches import FINDING
from fleet_core.sparkplug.payload import MAX_PAYLOAD_BYTES, decode_payload, encode_payload
from fleet_core.sparkplug.topics import MessageType, Topic
from fleet_server.settings import load_settings
from fleet_server.store.embedded import running_dsn

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NODE, SITE, ASSET = "agent-rtm-1", "nw-rotterdam", "robot-31"
SCALE = 3600.0
DISK_BYTES = 8 << 20


@dataclass
class World:
    """The running stack with its intruder, whose own good batches ``agent`` makes."""

    stack: Stack
    intruder: Intruder
    agent: FakeAgent
    story: Future[dict[str, Any]]

    @property
    def now(self) -> datetime:
        return self.stack.clock.now()

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """What the database holds."""
        dsn = running_dsn(self.stack.server_config.parent / "postgres")
        assert dsn
        with psycopg.connect(dsn, row_factory=dict_row) as conn:
            return conn.execute(query, values).fetchall()

    def metric(self, name: str, **labels: str) -> float:
        """A value of ingest's ``/metrics``; 0 while it was never counted."""
        port = load_settings(self.stack.server_config).ingest.metrics_port
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    def stored(self, number: int) -> None:
        """Wait until the server acknowledged the intruder's own batch."""
        wait_until(lambda: (self.agent.outbox_id, number) in self.intruder.stored, f"batch {number} to be stored")

    def agent_log(self, node_id: str) -> str:
        return self.stack.keeper.child(node_id).log_text()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_folder("bad-input") as folder, Keeper(folder / "log") as keeper, ThreadPoolExecutor(1) as pool:
        pace = Pace(folder / "story-time", story_start(), SCALE, AHEAD_H)
        stack = Stack(keeper, folder, pace.clock, seed=5)
        stack.start(scenario_text("world", "simulated"), [SHIPPED_HISTORY])
        stack.wms("wms", "POST", "/_faults", {"kind": "timeout_after_booking", "target": "book", "delay_s": 20})
        story = simulated_cast(stack).stories[0]
        stage = Stage(stack, pace.real_at)
        asset = ROBOT_17.plug_in(stack)
        intruding = Intruder(NODE, SITE, stack.broker.host, stack.broker.port_v5, enrolled(stack, NODE, SITE))
        with pace, Followed(stack, [ROBOT_17.asset_id], BEHIND_H) as followed, intruding as intruder:
            pace.follow(followed.at_work)
            stack.start_agent("agent-ams-1", "nw-amsterdam", asset)
            told = pool.submit(play_repair, stage, story)
            agent = FakeAgent(agent_id=NODE, site_id=SITE, asset_id=ASSET)
            for message in (agent.node_birth(), agent.device_birth()):
                intruder.send(*message)
            try:
                yield World(stack, intruder, agent, told)
            finally:
                stage.over.set()


def enrolled(stack: Stack, node_id: str, site_id: str) -> Path | None:
    """The bundle of a node, as a stolen device would hold it; None with a broker that asks nobody."""
    if not stack.broker.tls:
        return None
    bundle = stack.directory / "stolen" / f"{node_id}-{site_id}"
    stack._enrol(node_id, site_id, bundle)
    return bundle


# -- messages that break a rule

Make = Callable[[FakeAgent, datetime], tuple[str, bytes]]
"""(agent, now) -> (topic, payload)"""


def garbage(agent: FakeAgent, now: datetime) -> tuple[str, bytes]:
    return agent.topic(MessageType.DDATA, True), b"\xff\x00 not protobuf " * 20


def truncated(agent: FakeAgent, now: datetime) -> tuple[str, bytes]:
    topic, payload = copy.deepcopy(agent).samples(now)
    return topic, payload[:-7]


def oversized(agent: FakeAgent, now: datetime) -> tuple[str, bytes]:
    return agent.topic(MessageType.DDATA, True), bytes(MAX_PAYLOAD_BYTES + 1)


def from_1970(agent: FakeAgent, now: datetime) -> tuple[str, bytes]:
    return agent.samples(now - timedelta(days=500))


def unregistered_asset(agent: FakeAgent, now: datetime) -> tuple[str, bytes]:
    stray = copy.deepcopy(agent)
    stray.asset_id = "robot-999"
    return stray.samples(now)


def asset_of_another(agent: FakeAgent, now: datetime) -> tuple[str, bytes]:
    stray = copy.deepcopy(agent)
    stray.asset_id = ROBOT_17.asset_id
    return stray.samples(now)


def hostile_finding(change: Callable[[str], str]) -> Make:
    """A finding whose JSON text was changed on the way."""

    def make(agent: FakeAgent, now: datetime) -> tuple[str, bytes]:
        topic, payload = agent.finding(now)
        decoded = decode_payload(payload)
        metrics = [
            metric._replace(value=change(str(metric.value))) if metric.name == FINDING else metric
            for metric in decoded.metrics
        ]
        return topic, encode_payload(metrics, decoded.timestamp_ms, decoded.seq)

    return make


def with_field(name: str, literal: str) -> Make:
    return hostile_finding(lambda text: re.sub(rf'"{name}":[^,]+', f'"{name}":{literal}', text, count=1))


BROKEN = {
    "no protobuf": (garbage, "payload_encoding", False),
    "truncated": (truncated, "payload_encoding", False),
    "oversized": (oversized, "payload_size", False),
    "a time long gone": (from_1970, "time", True),
    "an unknown asset": (unregistered_asset, "unknown_asset", False),
    "another agent's asset": (asset_of_another, "asset_mismatch", False),
    "finding: nested too deep": (hostile_finding(lambda text: "[" * 7_000 + "]" * 7_000), "json", True),
    "finding: no object": (hostile_finding(lambda text: f"[{text}]"), "json", True),
    "finding: cut short": (hostile_finding(lambda text: text[:-9]), "json", True),
    "finding: too long": (hostile_finding(lambda text: text + " " * 60_000), "json_size", True),
    "finding: U+0000": (with_field("failure_mode", r'"a\\u0000b"'), "json_text", True),
    "finding: no number": (with_field("score", "NaN"), "number", True),
    "finding: endless number": (with_field("severity", "1e999"), "number", True),
    "finding: huge number": (with_field("onset_us", "9" * 4_000), "time", True),
    "finding: SQL for a name": (with_field("component", '"x\'; DROP TABLE fleet.asset; --"'), "name", True),
}  # fmt: skip
"""What is sent, the reason it is quarantined for, and whether it bears a number, and so is refused."""


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_a_rule_is_quarantined_and_its_neighbours_are_stored(world: World, name: str) -> None:
    make, reason, numbered = BROKEN[name]
    counted = world.metric("forestall_ingest_quarantined_total", reason=reason)
    world.intruder.send(*world.agent.samples(world.now))
    topic, payload = make(world.agent, world.now)
    number = world.agent.number
    world.intruder.send(topic, payload)
    world.intruder.send(*world.agent.samples(world.now))
    world.stored(world.agent.number)
    world.stored(number - 1 if numbered else number)
    row = "SELECT * FROM fleet.quarantine WHERE agent_id = %s AND reason = %s ORDER BY quarantine_id DESC LIMIT 1"
    wait_until(lambda: world.metric("forestall_ingest_quarantined_total", reason=reason) == counted + 1, "the count")
    kept = world.rows(row, NODE, reason)[0]
    assert kept["topic"] == topic and kept["detail"] and kept["payload_bytes"] == len(payload)
    assert payload.startswith(kept["payload"])
    assert kept["batch_no"] == (number if numbered else None)
    if numbered:
        key = (world.agent.outbox_id, number)
        wait_until(lambda: key in world.intruder.refused, "the refusal")
        assert world.intruder.refused[key] == reason and key not in world.intruder.stored


def test_numbers_that_are_none_are_kept_as_bad_and_shown(world: World) -> None:
    world.intruder.send(*world.agent.samples(world.now, (1.0, float("nan"), float("inf"), 2.0)))
    world.stored(world.agent.number)
    key = (NODE, world.agent.outbox_id, world.agent.number)
    where = "WHERE agent_id = %s AND outbox_id = %s AND batch_no = %s"
    kept = world.rows(f"SELECT n, bad, v_min, v_max, v_sum FROM fleet.samples {where}", *key)
    assert kept == [{"n": 4, "bad": 2, "v_min": 1.0, "v_max": 2.0, "v_sum": 3.0}] * 2
    with world.stack.console("engineer") as console:
        assert console.asset(ASSET)["asset_id"] == ASSET
        assert console._get(f"/api/assets/{ASSET}/vitals", metric="vibration")


def test_the_same_number_with_other_content_is_an_alarm(world: World) -> None:
    clone = copy.deepcopy(world.agent)
    world.intruder.send(*world.agent.samples(world.now, (1.0, 2.0, 3.0)))
    world.stored(world.agent.number)
    before = world.metric("forestall_ingest_digest_clashes_total")
    world.intruder.send(*clone.samples(world.now, (9.0, 9.0, 9.0)))
    key = (world.agent.outbox_id, world.agent.number)
    wait_until(lambda: key in world.intruder.refused, "the refusal")
    assert world.intruder.refused[key] == "digest_clash"
    assert world.metric("forestall_ingest_digest_clashes_total") == before + 1
    where = "WHERE agent_id = %s AND outbox_id = %s AND batch_no = %s"
    kept = world.rows(f"SELECT v_max FROM fleet.samples {where}", NODE, *key)
    assert [row["v_max"] for row in kept] == [3.0, 3.0]  # the first one stands
    assert world.rows(f"SELECT reason FROM fleet.quarantine {where}", NODE, *key) == [{"reason": "digest_clash"}]


@pytest.mark.parametrize(
    ("node_id", "site_id", "reason"),
    [("agent-ghost", SITE, "unknown_agent"), ("agent-ams-host", SITE, "group_mismatch")],
)
def test_who_is_not_registered_there_is_heard_by_nobody(world: World, node_id: str, site_id: str, reason: str) -> None:
    broker = world.stack.broker
    stranger = FakeAgent(agent_id=node_id, site_id=site_id, asset_id="robot-31")
    counted = world.metric("forestall_ingest_quarantined_total", reason=reason)
    with Intruder(node_id, site_id, broker.host, broker.port_v5, enrolled(world.stack, node_id, site_id)) as intruder:
        for message in (stranger.node_birth(), stranger.samples(world.now)):
            intruder.send(*message)
        wait_until(lambda: world.metric("forestall_ingest_quarantined_total", reason=reason) >= counted + 2, reason)
        assert not intruder.stored
    rows = world.rows("SELECT tenant_id FROM fleet.quarantine WHERE reason = %s", reason)
    assert len(rows) == 2


def test_the_broker_lets_nobody_speak_for_another_node(world: World) -> None:
    if not world.stack.broker.checks_rights:
        pytest.skip("needs mosquitto: this broker checks no rights")
    seen = world.rows("SELECT count(*) AS n FROM fleet.quarantine")[0]["n"]
    _, payload = copy.deepcopy(world.agent).samples(world.now)
    forged = Topic("nw-amsterdam", MessageType.DDATA, "agent-ams-1", ROBOT_17.asset_id)
    assert world.intruder.verdict(str(forged), payload) == 135
    assert world.intruder.verdict(str(Topic(SITE, MessageType.NCMD, NODE)), payload) == 135
    assert world.intruder.verdict("spBv1.0/STATE/forestall", b'{"online":false,"timestamp":1}') == 135
    world.intruder.send(*world.agent.samples(world.now))
    world.stored(world.agent.number)
    assert world.rows("SELECT count(*) AS n FROM fleet.quarantine")[0]["n"] == seen


def test_a_message_beyond_the_brokers_bound_costs_only_its_senders_connection(world: World) -> None:
    if not world.stack.broker.checks_rights:
        pytest.skip("needs mosquitto: this broker has no bound")
    before, lost = world.agent_log("agent-ams-1").count("no uplink"), world.intruder.disconnects
    world.intruder._client.publish(world.agent.topic(MessageType.DDATA, True), bytes(3 << 20))
    wait_until(lambda: world.intruder.disconnects > lost, "the broker to cut the connection")
    world.intruder.await_connected()
    world.intruder.send(*world.agent.samples(world.now))
    world.stored(world.agent.number)
    assert world.agent_log("agent-ams-1").count("no uplink") == before


# -- a full disk


@pytest.fixture
def small_disk(world: World) -> Iterator[Path]:
    """The state folder of an agent yet to be started, on a file system of a few megabytes."""
    folder = world.stack.directory / "agents" / "agent-lej-1" / "state"
    folder.mkdir(parents=True)
    options = f"size={DISK_BYTES}"
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here (needs root): {error}")
    try:
        yield folder
    finally:
        if "agent-lej-1" in world.stack.keeper.names():
            world.stack.keeper.stop("agent-lej-1")
        subprocess.run(["umount", folder], check=True)


def test_an_agent_with_a_full_disk_says_so_goes_on_and_declares_the_gap(world: World, small_disk: Path) -> None:
    assets = (
        '[[asset]]\ndevice_id = "robot-44"\nclass = "robot"\nmodel = "AMR-200"\nserial = "AMR200-0044"\n'
        '[asset.source]\ntype = "synthetic"\nchannels = 8\nperiod_s = 300.0\nseed = 3\n'
    )
    world.stack.start_agent("agent-lej-1", "nw-leipzig", assets)
    wait_until(lambda: world.rows("SELECT 1 FROM fleet.batch_key WHERE agent_id = 'agent-lej-1' LIMIT 1"), "vitals")
    full_from = world.now
    fill(small_disk)
    wait_until(lambda: "samples are lost and declared as gaps" in world.agent_log("agent-lej-1"), "the disk to be full")
    lasted = world.now + timedelta(hours=6)
    wait_until(lambda: world.now > lasted, "some hours of loss")
    assert world.stack.keeper.child("agent-lej-1").running
    (small_disk / "ballast").unlink()
    wait_until(lambda: "the disk takes batches again" in world.agent_log("agent-lej-1"), "the disk to be used", 60)
    recovered_at = world.now
    gaps = "SELECT first_batch, device_id, t0, t1 FROM fleet.ledger_gap WHERE agent_id = %s AND reason = 'disk_full'"
    wait_until(lambda: world.rows(gaps, "agent-lej-1"), "the declared gap")
    wait_until(
        lambda: world.rows("SELECT 1 FROM fleet.samples WHERE agent_id = 'agent-lej-1' AND t0 > %s", recovered_at),
        "vitals after the recovery",
    )
    found = world.rows(gaps, "agent-lej-1")
    assert {row["device_id"] for row in found} == {"robot-44"} and {row["first_batch"] for row in found} == {0}
    slack = timedelta(hours=1)  # what one flush collects
    assert min(row["t0"] for row in found) > full_from - slack  # no more is declared than was lost
    assert max(row["t1"] for row in found) > lasted - slack
    assert world.agent_log("agent-lej-1").count("declared as gaps") == 1  # said once
    assert_nothing_between_stored_and_declared(world, found)


def assert_nothing_between_stored_and_declared(world: World, gaps: list[dict[str, Any]]) -> None:
    """Every sample the source made is stored or lies within a declared gap: each channel has one every 5 minutes."""
    spans = world.rows(
        "SELECT times_us FROM fleet.samples JOIN fleet.series USING (series_id)"
        " WHERE agent_id = 'agent-lej-1' AND metric = 'synthetic_0'"
    )
    times = sorted(time_us for row in spans for time_us in row["times_us"])
    period_us = 300_000_000
    for before, after in itertools.pairwise(times):
        if after - before > period_us * 1.5:
            missing = range(before + period_us, after - period_us // 2, period_us)
            covered = [any(us(gap["t0"]) <= time_us <= us(gap["t1"]) for gap in gaps) for time_us in missing]
            assert all(covered), f"{covered.count(False)} of {len(covered)} samples are neither stored nor declared"


def us(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def fill(folder: Path) -> None:
    """Take what is left of a file system, to the last block."""
    with (folder / "ballast").open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            os.fsync(ballast.fileno())


# -- a database that refuses


def server_command(world: World, *arguments: str) -> list[str]:
    """``fleet-server ARGUMENTS`` with settings whose database is not there."""
    config = world.stack.directory / "dead" / "server.toml"
    config.parent.mkdir(exist_ok=True)
    dsn = f"postgresql://forestall:geheim@127.0.0.1:{free_port()}/forestall"
    config.write_text(f'[database]\ndsn = "{dsn}"\n', encoding="utf-8")
    return [sys.executable, "-m", "fleet_server.cli", *arguments, "--config", str(config)]


@pytest.mark.parametrize("command", [("db", "status"), ("db", "migrate"), ("ledger",), ("user", "list")])
def test_a_command_without_its_database_says_so_in_one_line(world: World, command: tuple[str, ...]) -> None:
    done = subprocess.run(server_command(world, *command), capture_output=True, text=True, timeout=30)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: no connection to PostgreSQL at 127.0.0.1:")
    assert "mend database.dsn" in lines[0] and "geheim" not in lines[0] + done.stdout


def test_a_server_whose_database_is_away_waits_for_it(world: World) -> None:
    keeper = world.stack.keeper
    child = keeper.start("waiting-server", server_command(world, "run"), ready="waiting for the database")
    wait_until(lambda: "waiting for the database" in child.log_text(), "the line")
    assert child.running
    assert child.log_text().count("waiting for the database") == 1 and "Traceback" not in child.log_text()
    assert "geheim" not in child.log_text()
    assert keeper.stop("waiting-server") == 0


# -- what all that did to the rest (these come last)


def test_the_story_beside_it_was_told_to_its_end_with_one_booking(world: World) -> None:
    result = world.story.result(timeout=180)
    assert result["ok"], result
    assert result["notifications"] == 1
    stats = world.stack.wms("wms", "GET", "/_stats")
    assert stats["faults_fired"] == {"timeout_after_booking": 1}
    assert stats["calls"]["book"] == 1 and stats["calls"]["lookup"] >= 1  # asked after, not repeated
    assert stats["bookings"] == {"booked": 1}


@pytest.mark.last
def test_the_ledger_still_adds_up(world: World) -> None:
    world.intruder.send(*world.agent.node_birth())
    world.stack.keeper.stop("agent-ams-1")

    def settled() -> bool:
        found = json.loads(world.stack.fleet_server("ledger", "--json"))
        return bool(found["held"] == 0 and found["in_grace"] == 0)

    wait_until(settled, "the ledger to settle", 30)
    ledger = json.loads(world.stack.fleet_server("ledger", "--verify", "--deep", "--json"))
    assert ledger["unexplained"] == 0 and ledger["faults"] == []
    assert ledger["quarantined"] >= sum(numbered for _, _, numbered in BROKEN.values())
    counted = {name: world.metric("forestall_ingest_batches_total", outcome=name) for name in OUTCOMES}
    parked = world.metric("forestall_ingest_parked")
    assert counted["received"] == sum(counted.values()) - counted["received"] + parked, counted
    audit = json.loads(world.stack.fleet_server("audit", "verify", "--json"))
    assert audit["verified"]


OUTCOMES = ("received", "stored", "duplicate", "quarantined", "dropped", "control")
