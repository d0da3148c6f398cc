"""The footprint benchmark's own arithmetic: what it reads, counts and prints."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_edge
from benchmarks.common import report
from benchmarks.edge import agent_rig, gateway_peer, peers, processes
from benchmarks.edge.choice import EVERYTHING, LITERT_DETECTOR, WITHOUT_RUNTIME, detectors
from benchmarks.edge.host import Answers
from benchmarks.edge.memory import Memory, NotMeasured, parse_rollup, peak_rss_mb, process_memory
from edge_agent.config import load_config
from edge_agent.drafts import Collector
from edge_agent.outbox import Outbox
from fleet_core.clock import SimulatedClock
from fleet_core.commands import decode_command
from fleet_core.schema import Schema
from fleet_core.sparkplug.payload import encode_payload, with_seq
from fleet_core.telemetry import BatchClass, MetricSpec, Sample, to_us

STATUS: dict[str, Any] = {
    "outbox": {"held": 0},
    "assets": {"bench-asset": {"last_sample_us": 7_000_000, "components": [{"state": "healthy"}], "source": "running",
                               "counters": {}}},
}  # fmt: skip


def test_a_rollup_is_read_in_megabytes() -> None:
    text = "5500-7fff ---p 00000000 00:00 0 [rollup]\nRss:  2048 kB\nPss:  1024 kB\nPss_Dirty:  116 kB\n"
    assert parse_rollup(text) == Memory(pss_mb=1.0, rss_mb=2.0)


def test_a_kernel_without_pss_is_told() -> None:
    with pytest.raises(NotMeasured, match="does not tell PSS"):
        parse_rollup("Rss: 2048 kB\n")


def test_the_peak_is_at_least_what_there_is() -> None:
    assert peak_rss_mb(os.getpid()) >= process_memory().rss_mb - 1


def test_memory_of_a_process_that_is_gone_is_told() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for measure in (process_memory, peak_rss_mb, processes.tree_memory, processes.usage):
        with pytest.raises(NotMeasured):
            measure(gone.pid)


def test_a_tree_weighs_more_than_its_root() -> None:
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert processes.tree_memory(os.getpid()).rss_mb > process_memory().rss_mb
    finally:
        child.communicate(b"\n")


def test_rates_are_by_the_hour_and_of_one_core() -> None:
    before = processes.Usage(at_s=100.0, cpu_s=5.0, writes=10, write_bytes=4096)
    after = processes.Usage(at_s=136.0, cpu_s=5.9, writes=20, write_bytes=4096 + 1024 * 50)
    assert processes.rates(before, after) == processes.Rates(
        cpu_percent=pytest.approx(2.5), writes_per_h=pytest.approx(1000), written_kb_per_h=pytest.approx(5000)
    )
    with pytest.raises(NotMeasured):
        processes.rates(before, before)


def test_a_flush_that_another_thread_interrupts_counts_once() -> None:
    trace = [
        "71 fdatasync(7) = 0",
        "71 fsync(7 <unfinished ...>",
        "72 fdatasync(9) = 0",
        "71 <... fsync resumed>) = 0",
        "71 +++ exited with 0 +++",
    ]
    assert processes.count_flushes(trace) == 3


def test_flushes_need_strace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes.shutil, "which", lambda name: None)
    with pytest.raises(NotMeasured, match="apt-get install strace"):
        processes.flushes_per_h(os.getpid(), 0.1, tmp_path / "trace")


def test_the_agents_file_is_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    scenario = agent_rig.Scenario(2.0, 900, {"least_tick_s": 2.0}, {"ewma": {"fast": 0.3, "slow": 0.1}, "level": {}})
    path.write_text(agent_rig.agent_toml("plain", 1883, scenario))
    config = load_config(path)
    assert config.assets[0].source == {
        "channels": 8, "period_s": 2.0, "seed": 7, "component": "unit", "history_h": 0.5
    }  # fmt: skip
    assert config.assets[0].detection["least_tick_s"] == 2.0
    assert config.assets[0].detection["detectors"] == {"ewma": {"fast": 0.3, "slow": 0.1}, "level": {}}


def test_the_plain_agent_runs_without_litert() -> None:
    assert detectors(EVERYTHING).keys() - detectors(WITHOUT_RUNTIME).keys() == {LITERT_DETECTOR}


def test_the_agent_has_the_environment_of_its_unit() -> None:
    unit = "[Service]\nEnvironmentFile=/etc/x\nEnvironment=A=1 B=x=2\n# Environment=C=3\nEnvironment=D=\n"
    assert agent_rig.unit_environment(unit) == {"A": "1", "B": "x=2", "D": ""}
    assert agent_rig.unit_environment(agent_rig.UNIT.read_text())["OPENBLAS_NUM_THREADS"] == "1"


def test_what_measures_maps_nothing_the_agent_maps() -> None:
    """PSS shares a page among all who map it."""
    code = "import sys, benchmarks.bench_edge, benchmarks.edge.host; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=bench_edge.ROOT).returncode == 0


@pytest.mark.parametrize(
    ("change", "steady"),
    [
        ({}, True),
        ({"outbox": {"held": 400}}, False),
        ({"assets": {"bench-asset": STATUS["assets"]["bench-asset"] | {"last_sample_us": 5_000_000}}}, False),
        ({"assets": {"bench-asset": STATUS["assets"]["bench-asset"] | {"components": []}}}, False),
        ({"assets": {"bench-asset": STATUS["assets"]["bench-asset"] | {"components": [{"state": "learning"}]}}}, False),
    ],
)
def test_an_agent_is_steady_once_it_has_learnt_and_delivered(change: dict[str, Any], steady: bool) -> None:
    assert agent_rig.steady_since_us({**STATUS, **change}, 6_000_000) == (7_000_000 if steady else None)
    assert agent_rig.steady_since_us(None, 6_000_000) is None


def test_an_agent_whose_detection_fails_is_not_waited_for() -> None:
    asset = STATUS["assets"]["bench-asset"] | {"counters": {"detection_errors": 3}}
    with pytest.raises(NotMeasured, match="detection fails"):
        agent_rig.steady_since_us({**STATUS, "assets": {"bench-asset": asset}}, 6_000_000)


def test_the_host_acknowledges_what_it_understands(recorded_batch: tuple[str, bytes]) -> None:
    answers = Answers()
    answers.take(*recorded_batch)
    answers.take("spBv1.0/bench/DDATA/agent/asset", b"\xff\xff")
    answers.take("elsewhere", recorded_batch[1])
    [(topic, payload)] = answers.book.drain()
    assert topic == "spBv1.0/bench/NCMD/agent"
    assert decode_command(payload).stored == ((1, 1),)
    assert answers.unreadable == 2


@pytest.fixture
def recorded_batch(tmp_path: Path) -> tuple[str, bytes]:
    """A batch as an agent publishes it: (topic, payload)."""
    clock = SimulatedClock()
    collector = Collector("asset", Schema((MetricSpec("vital", "1"),), 1))
    collector.add([Sample("vital", to_us(clock.now()), 1.0)], False)
    outbox = Outbox(tmp_path / "outbox.sqlite", 1 << 20, clock, str(uuid.uuid4()))
    outbox.append(collector.take())
    [leased] = outbox.lease(0, 100, [BatchClass.ROUTINE], 1)
    outbox.close()
    return "spBv1.0/bench/DDATA/agent/asset", with_seq(leased.body, 0)


def test_a_held_report_needs_no_answer() -> None:
    answers = Answers()
    answers.take("spBv1.0/bench/NDATA/agent", encode_payload([], 0, 0))
    assert answers.book.drain() == []


def test_a_figure_that_is_missing_is_null() -> None:
    out = io.StringIO()
    report("agent_pss_mb", None, "MB", peer="a peer", peer_value=60.0, stream=out)
    assert json.loads(out.getvalue()) == {
        "name": "agent_pss_mb", "value": None, "unit": "MB", "peer": "a peer", "ratio": None
    }  # fmt: skip


def test_a_missing_figure_of_ours_is_remembered_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> float:
        raise NotMeasured("no such thing")

    lines = bench_edge.Lines()
    lines.ours("first", 1.0, "MB")
    assert not lines.incomplete
    lines.ours("second", lines.attempt("second", fail), "MB")
    assert lines.incomplete
    assert capsys.readouterr().err == "second: no such thing\n"


def test_peers_figures_stand_without_the_peers(capsys: pytest.CaptureFixture[str]) -> None:
    bench_edge._peers(None, None)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["name"] for line in printed} >= {"gateway_pss_mb", "river_pss_mb", "river_sample_us"}
    assert {line["value"] for line in printed} == {None}


def test_a_peer_that_cannot_be_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "some lines\nno matching distribution")
    monkeypatch.setattr(peers.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(NotMeasured, match="river cannot be installed: no matching distribution"):
        peers.environment("river", "river<0", tmp_path)
    assert not (tmp_path / "river" / "installed.txt").exists()


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[Any]] = []

    def run(command: list[Any], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        (tmp_path / "river").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(peers.subprocess, "run", run)
    for _ in range(2):
        assert peers.environment("river", "river", tmp_path) == tmp_path / "river" / "bin" / "python"
    assert len(commands) == 2  # made and filled
    peers.environment("river", "river>1", tmp_path)
    assert len(commands) == 4  # another version, another environment


def test_the_gateways_files_name_loopback_and_read_nothing() -> None:
    files = {name: json.loads(content) for name, content in peers.gateway_files(1884).items()}
    assert files["tb_gateway.json"]["thingsboard"]["host"] == "127.0.0.1"
    assert files["tb_gateway.json"]["connectors"] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", b"127.0.0.1", None, ""])
def test_loopback_is_here(host: object) -> None:
    assert gateway_peer.is_here(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "updates.example", b"192.0.2.1", "2001:db8::1"])
def test_elsewhere_is_refused(host: object) -> None:
    assert not gateway_peer.is_here(host)
    with socket.socket() as connection, pytest.raises(ConnectionRefusedError, match="only this machine"):
        gateway_peer._connect_here(connection, (host, 443))
    with pytest.raises(socket.gaierror):
        gateway_peer._resolve_here(host, 443)
