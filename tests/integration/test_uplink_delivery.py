"""The agent against real brokers: whatever is killed, every batch arrives and is kept exactly once by its key."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from array import array
from datetime import UTC, datetime
from pathlib import Path

import pytest
from uplink_rig import BROKERS, Broker, agent_process, collecting, make_agent, stopped, until

from edge_agent.drafts import Draft
from fleet_core.batches import Schema, WaveformFragment
from fleet_core.births import DeviceBirth, NodeBirth
from fleet_core.telemetry import BatchClass, MetricSpec, to_us

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest, tmp_path: Path):
    with Broker(request.param, tmp_path) as broker:
        yield broker


@pytest.fixture
def best_broker(tmp_path: Path):
    with Broker(BROKERS[-1], tmp_path) as broker:
        yield broker


async def test_births_then_batches_then_death(broker: Broker, tmp_path: Path) -> None:
    async with collecting(broker.port) as collector:
        agent, _ = make_agent(tmp_path, broker.port, 100.0, 50)
        stop = asyncio.Event()
        running = asyncio.create_task(agent.run(stop))
        await until(lambda: len(collector.values()) == 50)
        stop.set()
        await running
        await until(lambda: collector.received["NDEATH"] > 0)
    assert collector.values() == [float(n) for n in range(50)]
    assert isinstance(collector.births[0], NodeBirth)
    device = next(b for b in reversed(collector.births) if isinstance(b, DeviceBirth))
    assert {"count", "vibration"} <= {metric.name for metric in device.schema.metrics}
    assert device.components[0].serial == "BRG-1"
    collector.assert_chain()
    status = json.loads((tmp_path / "state" / "status.json").read_text())
    assert status["assets"]["robot-17"]["source"] == "running"
    assert status["outbox"]["next_number"] == max(number for _, number in collector.batches) + 1


async def test_a_killed_broker_loses_nothing(broker: Broker, tmp_path: Path) -> None:
    async with collecting(broker.port) as collector:
        agent, source = make_agent(tmp_path, broker.port, 100.0, 300)
        stop = asyncio.Event()
        running = asyncio.create_task(agent.run(stop))
        await until(lambda: len(collector.values()) > 60)
        broker.kill()
        counted = len(source.handed)
        await until(lambda: len(source.handed) >= counted + 100)  # while nobody is there
        broker.start()
        await until(lambda: len(collector.values()) == 300, 60)
        stop.set()
        await running
    assert collector.values() == [float(n) for n in range(300)]
    collector.assert_chain()


async def test_a_deaf_server_is_sent_everything_again(broker: Broker, tmp_path: Path) -> None:
    async with collecting(broker.port, deaf=True, refuse={3}) as collector:
        agent, _ = make_agent(tmp_path, broker.port, 50.0, 100)
        stop = asyncio.Event()
        running = asyncio.create_task(agent.run(stop))
        await until(lambda: collector.received["unheard"] > 6)
        collector.deaf = False
        await until(lambda: len(collector.values()) >= 85, 60)
        await until(lambda: not agent._uplink._window.in_flight, 30)
        stop.set()
        await running
    assert 3 not in {number for _, number in collector.batches}  # refused: terminal
    collector.assert_chain()
    with sqlite3.connect(tmp_path / "state" / "outbox.sqlite") as db:
        assert db.execute("SELECT COUNT(*) FROM batches WHERE status = 0").fetchone() == (0,)


@pytest.mark.parametrize("point", ["outbox.before_commit", "outbox.after_commit", "uplink.after_publish"])
async def test_a_killed_agent_continues_its_chain(point: str, best_broker: Broker, tmp_path: Path) -> None:
    async with collecting(best_broker.port) as collector:
        with agent_process(tmp_path, best_broker.port, 100.0, 10_000, f"{point}=kill@3") as first:
            await until(lambda: first.poll() is not None, 30)
        assert first.returncode == -9
        with sqlite3.connect(f"file:{tmp_path}/state/outbox.sqlite?mode=ro", uri=True) as db:
            committed = {number for (number,) in db.execute("SELECT number FROM batches")}
        killed_us = to_us(datetime.now(UTC))  # the first may have delivered the same values
        with agent_process(tmp_path, best_broker.port, 100.0, 40) as second:
            await until(lambda: collector.values(killed_us) == [float(n) for n in range(40)], 30)
            await until(lambda: committed <= {number for _, number in collector.batches}, 30)
            assert await stopped(second) == 0
    collector.assert_chain()
    assert len({outbox for outbox, _ in collector.batches}) == 1


async def test_latency_and_rate_are_what_we_promise(best_broker: Broker, tmp_path: Path) -> None:
    async with collecting(best_broker.port) as collector:
        agent, source = make_agent(tmp_path, best_broker.port, 50.0, 100)
        stop = asyncio.Event()
        running = asyncio.create_task(agent.run(stop))
        await until(lambda: len(collector.values()) == 100)
        stop.set()
        await running
        delays_s = sorted(
            collector.arrived_s[key] - source.handed[int(value)]
            for key, batch in collector.batches.items()
            for column in batch.columns
            if column.metric == "count"
            for value in column.values
        )
        print(f"hand-over to collector: median {delays_s[50] * 1e3:.0f} ms, worst {delays_s[-1] * 1e3:.0f} ms")
        assert delays_s[50] < 0.6


async def test_a_broker_that_cuts_at_large_messages_does_not_stop_the_rest(tmp_path: Path) -> None:
    with Broker("iotcore", tmp_path) as broker:  # its bound is 20 KiB a message
        async with collecting(broker.port) as collector:
            agent, _ = make_agent(tmp_path, broker.port, 20.0, 40)
            values = array("f", [0.5] * 10_000)
            schema = Schema((MetricSpec("vibration", "[g]", "", 0.0, "waveform"),))
            large = Draft(
                *(BatchClass.WAVEFORM, "robot-17", schema),
                waveform=WaveformFragment("vibration", 1_790_000_000_000_000, 25600.0, "[g]", 0, 1, values),
            )
            assert agent._store.outbox.append([large])[0].number == 1
            stop = asyncio.Event()
            running = asyncio.create_task(agent.run(stop))
            await until(lambda: len(collector.values()) == 40, 60)
            assert agent._uplink.counters.suspects == 1
            assert [number for _, number in collector.batches if number == 1] == []
            stop.set()
            await running
            with sqlite3.connect(tmp_path / "state" / "outbox.sqlite") as db:
                assert db.execute("SELECT number FROM batches WHERE status = 0").fetchall() == [(1,)]  # held, not lost
