"""Measures what the agent costs the device it runs on (memory, processor, writes, start), and what alternatives cost.

    make bench-edge
    make bench-edge ARGS="--window-s 60 --hours 24 --no-peers"

The benchmark runs real ``edge-agent run`` processes with eight channels against a real broker and a host that
acknowledges; our detection alone in a process of its own; and thingsboard-gateway (idle) and river (learning) in
environments made for them under ``var/``. Every BLAS has one thread. docs/footprint.md explains each line. A figure
that could not be measured is null, with the reason on standard error; the exit code is 1 when it is one of our own
figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.common import report
from benchmarks.edge.agent_rig import Rig, Scenario
from benchmarks.edge.choice import EVERYTHING, WITHOUT_RUNTIME, detectors
from benchmarks.edge.memory import Memory, NotMeasured, peak_rss_mb
from benchmarks.edge.peers import ROOT, Gateway, River, measure_gateway, measure_river
from benchmarks.edge.processes import SINGLE_THREADED, Rates, flushes_per_h, rates, tree_memory, usage
from demo.processes import Keeper, StartFailed
from fleet_core.clock import ScaledClock

OURS = ("benchmarks", "edge_agent", "fleet_core", "provisioning")
STARTS = 3
SETTLE_S = 6.0
STRACE_S = 20.0
HOUR_US = 3_600_000_000
GROWN_PERIOD_S = 60.0
GROWN_DAYS = 15
"""Days of the run: the healthy model is refined for the last time after fourteen days."""
GROWN_SCALE = 2160.0
"""Scale of simulated time: 24 hours pass in 40 s."""
STACK_TIMEOUT_S = 120.0
GATEWAY_IS = "thingsboard-gateway, idle"
RIVER_IS = "river HalfSpaceTrees, 8 channels"
T = TypeVar("T")


class Lines:
    """Prints figures and remembers whether one of our own is missing."""

    def __init__(self) -> None:
        self.incomplete = False

    def ours(self, name: str, value: float | None, unit: str, peer: str = "", peer_value: float | None = None) -> None:
        self.incomplete |= value is None
        report(name, value, unit, peer=peer, peer_value=peer_value)

    def attempt(self, what: str, measure: Callable[[], T]) -> T | None:
        """The result of ``measure``; None, with the reason on standard error, when it cannot be measured."""
        try:
            return measure()
        except (NotMeasured, StartFailed) as error:
            print(f"{what}: {error}", file=sys.stderr)
            return None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench-edge ARGS=...", description=__doc__.split("\n\n")[0])
    parser.add_argument("--window-s", type=float, default=60.0, help="how long the running agent is watched")
    parser.add_argument("--hours", type=float, default=24.0, help="simulated hours of the memory's course")
    parser.add_argument("--no-peers", action="store_true", help="leave thingsboard-gateway and river out")
    arguments = parser.parse_args(argv)
    lines = Lines()
    _compile()
    with tempfile.TemporaryDirectory(prefix="forestall-bench-", ignore_cleanup_errors=True) as text:
        folder = Path(text)
        folder.chmod(0o755)
        with Keeper(folder / "log") as keeper:
            gateway = river = None
            if not arguments.no_peers:
                gateway = lines.attempt("thingsboard-gateway", lambda: measure_gateway(keeper, folder / "gateway"))
                river = lines.attempt("river", measure_river)
                _peers(gateway, river)
            _detection(lines, river)
            rig = Rig(keeper, folder)
            lines.ours("agent_start_s", lines.attempt("agent_start_s", lambda: start_s(rig)), "s")
            _agents(lines, rig, arguments.window_s, gateway)
            old = lines.attempt("agent_pss_grown_mb", lambda: grown(rig, arguments.hours))
            lines.ours("agent_pss_grown_mb", old.first.pss_mb if old else None, "MB")
            lines.ours("agent_rss_grown_mb", old.first.rss_mb if old else None, "MB")
            lines.ours("agent_rss_peak_mb", old.peak_rss_mb if old else None, "MB")
            lines.ours("agent_pss_drift_mb", old.last.pss_mb - old.first.pss_mb if old else None, "MB")
            lines.ours("agent_rss_drift_mb", old.last.rss_mb - old.first.rss_mb if old else None, "MB")
    return int(lines.incomplete)


def _compile() -> None:
    """Bytecode for our own code, as an installation makes it: compiling at the start would cost time and memory."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", *OURS], cwd=ROOT, check=True)


def start_s(rig: Rig, starts: int = STARTS) -> float:
    """Median time from the start of the process to the first sample read, in an empty folder. Raises NotMeasured."""
    taken_s = []
    for number in range(starts):
        agent = rig.start_agent(f"start-{number}", Scenario(history_rows=0))
        taken_s.append(agent.start_s())
        agent.stop()
    return statistics.median(taken_s)


@dataclass(frozen=True, slots=True)
class Steady:
    """An agent that reads one sample a second and has finished learning.

    ``flushes_per_h`` is None when flushes could not be watched. ``saved_kb_per_h`` is the volume of the detection's
    snapshots, which are too rare to be seen in ``rates``.
    """

    memory: Memory
    rates: Rates
    saved_kb_per_h: float
    flushes_per_h: float | None


def steady(rig: Rig, window_s: float, lines: Lines) -> Steady:
    """Watch a plain agent (no LiteRT) for a while. Raises NotMeasured."""
    agent = rig.start_agent("plain", Scenario(detectors=detectors(WITHOUT_RUNTIME)))
    agent.wait_steady()
    time.sleep(SETTLE_S)
    before = usage(agent.pid)
    time.sleep(window_s)
    seen = rates(before, usage(agent.pid))
    used = tree_memory(agent.pid)
    trace = agent.folder / "flushes.trace"
    flushes = lines.attempt("flash_flushes_per_h", lambda: flushes_per_h(agent.pid, min(STRACE_S, window_s), trace))
    agent.stop()  # saves
    return Steady(used, seen, agent.saved_kb_per_h(), flushes)


def litert_memory(rig: Rig) -> Memory:
    """The same agent with the LiteRT runtime in it, which is checked. Raises NotMeasured."""
    agent = rig.start_agent("litert", Scenario(detectors=detectors(EVERYTHING)))
    agent.wait_steady()
    time.sleep(SETTLE_S)
    if not any(name in Path(f"/proc/{agent.pid}/maps").read_text() for name in ("litert", "tflite")):
        raise NotMeasured("the agent runs, but has not loaded the LiteRT runtime")
    used = tree_memory(agent.pid)
    agent.stop()
    return used


@dataclass(frozen=True, slots=True)
class Grown:
    """Memory of an agent that has finished all learning, and some simulated hours later; and its peak."""

    first: Memory
    last: Memory
    peak_rss_mb: float


def grown(rig: Rig, hours: float) -> Grown:
    """Fifteen days of minutes with the default settings, then ``hours`` more. Raises NotMeasured."""
    clock = ScaledClock.starting_now(GROWN_SCALE)
    past = round(GROWN_DAYS * 86_400 / GROWN_PERIOD_S)
    agent = rig.start_agent("grown", Scenario(GROWN_PERIOD_S, past, {}, detectors(WITHOUT_RUNTIME)), clock)
    started_us = agent.wait_steady()
    first = tree_memory(agent.pid)
    end_us = started_us + round(hours * HOUR_US)
    agent.wait_for(f"{hours:g} simulated hours", lambda: agent.has_reached(end_us), 2 * hours * 3600 / GROWN_SCALE + 15)
    found = Grown(first, tree_memory(agent.pid), peak_rss_mb(agent.pid))
    agent.stop()
    return found


def _peers(gateway: Gateway | None, river: River | None) -> None:
    """Print the peers' own figures; a missing one does not fail the benchmark."""
    report("gateway_pss_mb", gateway.memory.pss_mb if gateway else None, "MB", peer=GATEWAY_IS)
    report("gateway_rss_mb", gateway.memory.rss_mb if gateway else None, "MB", peer=GATEWAY_IS)
    report("river_pss_mb", river.memory.pss_mb if river else None, "MB", peer=RIVER_IS)
    report("river_rss_mb", river.memory.rss_mb if river else None, "MB", peer=RIVER_IS)
    report("river_sample_us", river.sample_us if river else None, "us", peer=RIVER_IS)
    for name, version in (
        ("thingsboard-gateway", gateway.version if gateway else None),
        ("river", river.version if river else None),
    ):
        if version:
            print(f"compared with {name} {version}", file=sys.stderr)


def _detection(lines: Lines, river: River | None) -> None:
    """Our detection alone; against river, which scores and learns the same samples."""
    figures, with_litert = (_stack_figures(lines, which) for which in (WITHOUT_RUNTIME, EVERYTHING))
    memory = figures.get("memory") or {}
    peer_memory, peer_us = (river.memory, river.sample_us) if river else (None, None)
    pss, rss = (memory.get("pss_mb"), memory.get("rss_mb"))
    lines.ours("detection_pss_mb", pss, "MB", RIVER_IS, peer_memory.pss_mb if peer_memory else None)
    lines.ours("detection_rss_mb", rss, "MB", RIVER_IS, peer_memory.rss_mb if peer_memory else None)
    for name in ("sample_us", "sample_1hz_us", "sample_block64_us"):
        lines.ours(name, figures.get(name), "us", RIVER_IS, peer_us)
        lines.ours(name.replace("_us", "_litert_us"), with_litert.get(name), "us", RIVER_IS, peer_us)
    lines.ours("int8_window_us", with_litert.get("int8_window_us"), "us")
    lines.ours("waveform_ms", figures.get("waveform_ms"), "ms")


def _stack_figures(lines: Lines, which: str) -> dict[str, Any]:
    """Figures by name; those that are missing are told on standard error."""
    found = lines.attempt(f"detection, {which}", lambda: _run_stack(which)) or {"figures": {}, "missing": {}}
    for name, reason in found["missing"].items():
        print(f"{name}: {reason}", file=sys.stderr)
    figures: dict[str, Any] = found["figures"]
    return figures


def _run_stack(which: str) -> dict[str, Any]:
    argv = [sys.executable, "-m", "benchmarks.edge.stack", which]
    environment = {**os.environ, **SINGLE_THREADED}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=STACK_TIMEOUT_S, cwd=ROOT, env=environment)
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"it took more than {STACK_TIMEOUT_S:g} s") from None
    if done.returncode:
        raise NotMeasured(done.stderr.strip()[-400:])
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _agents(lines: Lines, rig: Rig, window_s: float, gateway: Gateway | None) -> None:
    """The running agent, at work; against the gateway, idle."""
    peer = gateway.memory if gateway else None
    plain = lines.attempt("agent_pss_mb", lambda: steady(rig, window_s, lines))
    litert = lines.attempt("agent_pss_litert_mb", lambda: litert_memory(rig))
    for suffix, used in (("", plain.memory if plain else None), ("_litert", litert)):
        pss, rss = (used.pss_mb, used.rss_mb) if used else (None, None)
        lines.ours(f"agent_pss{suffix}_mb", pss, "MB", GATEWAY_IS, peer.pss_mb if peer else None)
        lines.ours(f"agent_rss{suffix}_mb", rss, "MB", GATEWAY_IS, peer.rss_mb if peer else None)
    seen = plain.rates if plain else None
    lines.ours("agent_cpu_percent", seen.cpu_percent if seen else None, "%")
    lines.ours("flash_writes_per_h", seen.writes_per_h if seen else None, "1/h")
    lines.ours("flash_kb_per_h", seen.written_kb_per_h + plain.saved_kb_per_h if seen and plain else None, "KiB/h")
    lines.ours("flash_saved_kb_per_h", plain.saved_kb_per_h if plain else None, "KiB/h")
    report("flash_flushes_per_h", plain.flushes_per_h if plain else None, "1/h")


if __name__ == "__main__":
    sys.exit(main())
