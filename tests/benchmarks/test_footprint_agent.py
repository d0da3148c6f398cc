"""The benchmark's agents run: a real process, broker and host, watched for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import bench_edge
from benchmarks.edge.agent_rig import Rig, Scenario, first_sample_us
from benchmarks.edge.choice import WITHOUT_RUNTIME, detectors
from benchmarks.edge.memory import NotMeasured
from benchmarks.edge.processes import rates, tree_memory, usage
from demo.processes import Keeper

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Keeper(tmp_path / "log") as keeper:
        yield Rig(keeper, tmp_path)


def test_an_agent_starts_learns_delivers_and_is_measured(rig: Rig) -> None:
    agent = rig.start_agent("plain", Scenario(detectors=detectors(WITHOUT_RUNTIME)))
    before_us = agent.wait_steady()
    before = usage(agent.pid)
    agent.wait_for("newer sample", lambda: agent.has_reached(before_us + 1_000_000))
    seen = rates(before, usage(agent.pid))
    assert seen.cpu_percent > 0
    assert seen.writes_per_h > 0
    assert tree_memory(agent.pid).pss_mb > 10
    status = agent.status()
    assert status is not None
    assert status["uplink"]["stored"] > 0
    agent.stop()
    assert agent.saved_kb_per_h() > 0
    with pytest.raises(NotMeasured, match="the agent ended"):
        agent.wait_for("sample", lambda: None)


def test_the_first_sample_is_found_in_the_outbox(rig: Rig, tmp_path: Path) -> None:
    assert first_sample_us(tmp_path) is None
    assert 0 < bench_edge.start_s(rig, starts=1) < 60
