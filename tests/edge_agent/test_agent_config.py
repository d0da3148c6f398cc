"""agent.toml, the command line and the doctor: clear errors with a mend, never a traceback."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sqlite3
from dataclasses import replace
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from edge_agent import agent as agent_module
from edge_agent.acquisition.api import Sink
from edge_agent.agent import Agent, SourceTask, build_source
from edge_agent.asset import AssetWorker
from edge_agent.cli import main
from edge_agent.config import load_config, parse_config
from edge_agent.outbox import Outbox
from edge_agent.uplink.mqtt import Uplink
from edge_agent.uplink.store import OutboxStore
from fleet_core.assets import AssetClass
from fleet_core.clock import SimulatedClock
from fleet_core.errors import BadConfig, BadInput, Retryable
from fleet_core.telemetry import MetricSpec, Sample

GOOD = """
[agent]
node_id = "agent-ams1-0007"
group_id = "site-ams1"
state_dir = "state"
[uplink]
port = {port}
[outbox]
quota_mb = 8
[[asset]]
device_id = "robot-17"
class = "robot"
model = "AMR-200"
serial = "AMR200-0017"
firmware = "4.1.0"
  [[asset.component]]
  slot = "drive_bearing"
  type = "bearing"
  serial = "BRG-1"
  [asset.source]
  type = "serial_frames"
  port = "{device}"
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(GOOD.format(port=1883, device="/dev/null"))
    return path


def test_a_good_file_is_read(config_file: Path) -> None:
    config = load_config(config_file)
    assert (config.node_id, config.quota_mb, config.commit_interval_ms) == ("agent-ams1-0007", 8, 50)
    assert (config.flush_interval_s, config.save_interval_s) == (5.0, 900.0)
    assert config.state_dir == config_file.parent / "state"
    (asset,) = config.assets
    assert asset.description.asset_class is AssetClass.ROBOT
    assert asset.description.components[0].serial == "BRG-1"
    assert (asset.source_type, asset.source) == ("serial_frames", {"port": "/dev/null"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[agent]", "[agent", "not TOML"),
        ('node_id = "agent-ams1-0007"', "", "identity"),
        ("quota_mb = 8", "quota_mb = 0", "quota_mb"),
        ("quota_mb = 8", "quota_mb = 8.5", "quota_mb must be a int"),
        ("quota_mb = 8", "quota = 8", "unknown setting quota"),
        ("quota_mb = 8", "flush_interval_s = 0", "flush_interval_s must be 0.05 to 3600.0, not 0"),
        ("quota_mb = 8", "flush_interval_s = nan", "flush_interval_s must be 0.05"),
        ("quota_mb = 8", "flush_interval_s = true", "flush_interval_s must be a"),
        ("quota_mb = 8", 'flush_interval_s = "5"', "flush_interval_s must be a float"),
        ('class = "robot"', 'class = "toaster"', "toaster"),
        ('device_id = "robot-17"', "", "device_id is missing"),
        ('type = "serial_frames"', "", "type is missing"),
        ('slot = "drive_bearing"', "slot = 5", "slot must be a str"),
        ("port = 1883", 'port = 1883\nca_file = "ca.crt"', "together"),
        ("port = 1883", 'bundle = "nowhere"', "nowhere"),
        ("port = 1883", 'host = "broker.example"', "plain MQTT to 'broker.example' is refused; enrol"),
        ("port = 1883", 'host = "127.0.0.1.example"', "plain MQTT"),
        ("port = 1883", 'host = "0.0.0.0"', "plain MQTT"),
    ],
)
def test_a_wrong_file_is_refused_with_the_setting(config_file: Path, old: str, new: str, message: str) -> None:
    config_file.write_text(config_file.read_text().replace(old, new, 1))
    with pytest.raises(BadConfig, match=message):
        load_config(config_file)


def test_a_whole_number_of_seconds_is_a_number(config_file: Path) -> None:
    config_file.write_text(config_file.read_text().replace("quota_mb = 8", "flush_interval_s = 1"))
    assert repr(load_config(config_file).flush_interval_s) == "1.0"


def test_assets_are_named_once() -> None:
    asset = {"device_id": "a", "class": "robot", "source": {"type": "replay"}}
    for assets in ([], [asset, asset]):
        record = {"agent": {"node_id": "n", "group_id": "g"}, "asset": [dict(item) for item in assets]}
        with pytest.raises(BadConfig, match="device_id once"):
            parse_config(record, Path())
    with pytest.raises(BadInput):
        parse_config({"agent": {"node_id": "n/../m", "group_id": "g"}}, Path())


def test_a_misspelt_source_setting_names_those_that_exist(config_file: Path) -> None:
    config_file.write_text(config_file.read_text().replace('port = "/dev/null"', 'prot = "/dev/null"'))
    (asset,) = load_config(config_file).assets
    with pytest.raises(BadConfig, match="there are: port"):
        build_source(asset, None)  # type: ignore[arg-type]  # never reached


def test_two_agents_do_not_share_a_state_folder(config_file: Path) -> None:
    config = load_config(config_file)
    first = Agent(config, SimulatedClock())
    with pytest.raises(BadConfig, match="another agent"):
        Agent(config, SimulatedClock())
    assert first.device_births()[0].device_id == "robot-17"
    first._lock.close()


def test_a_source_that_cannot_be_built_ends_the_run_at_its_start(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_file.write_text(config_file.read_text().replace('port = "/dev/null"', 'prot = "/dev/null"'))
    assert main(["run", "--config", str(config_file)]) == 2
    error = capsys.readouterr().err
    assert "source of robot-17" in error and "unknown setting 'prot'; there are: port" in error
    assert error.count("\n") == 1 and not (config_file.parent / "state").exists()


class Scripted:
    """A source that ends at once, as told; "works" goes on."""

    def __init__(self, end: str) -> None:
        self.end = end
        self.played = asyncio.Event()

    async def run(self, sink: Sink) -> None:
        self.played.set()
        if self.end == "misconfigured":
            raise BadConfig("no such machine")
        if self.end == "works":
            await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("ends", "lives"),
    [
        (("misconfigured",), False),
        (("misconfigured", "works"), True),
        (("misconfigured", "finished"), False),
        (("finished",), True),
    ],
)
async def test_the_agent_lives_while_a_source_does(config_file: Path, ends: tuple[str, ...], lives: bool) -> None:
    config = load_config(config_file)
    (asset,) = config.assets
    named = [replace(asset, description=replace(asset.description, device_id=f"robot-{n}")) for n in range(len(ends))]
    script = {each.description.device_id: Scripted(end) for each, end in zip(named, ends, strict=True)}
    agent = Agent(
        replace(config, assets=tuple(named)),
        SimulatedClock(),
        make_source=lambda one, _: script[one.description.device_id],
    )
    stop = asyncio.Event()
    running = asyncio.create_task(agent.run(stop))
    if not lives:
        with pytest.raises(BadConfig, match=r"source of robot-0: no such machine.*no source is left"):
            await asyncio.wait_for(running, 10)
        return
    async with asyncio.timeout(10):
        for source in script.values():
            await source.played.wait()
    for _ in range(100):  # turns of the loop: far more than the agent needs to notice that a source has ended
        await asyncio.sleep(0)
    assert not running.done()
    stop.set()
    await asyncio.wait_for(running, 10)


async def test_a_plugin_that_fails_to_build_is_tried_again(config_file: Path) -> None:
    tries = []

    def make(*_: object) -> Scripted:
        tries.append(1)
        if len(tries) < 3:
            raise ZeroDivisionError("a bug")
        return Scripted("works")

    stop = asyncio.Event()
    running = asyncio.create_task(Agent(load_config(config_file), SimulatedClock(), make_source=make).run(stop))
    async with asyncio.timeout(10):
        while len(tries) < 3:  # noqa: ASYNC110 - what is waited for is a plain list
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(running, 10)


@pytest.mark.parametrize("error", [AttributeError("window"), KeyError("lane")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("where", "name"),
    [
        (OutboxStore, "run"),
        (Uplink, "_connection"),
        (AssetWorker, "flush"),
        (AssetWorker, "save"),
        (Agent, "_write_status"),
        (Agent, "_while_alive"),
        (SourceTask, "run"),
    ],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
async def test_a_part_that_fails_as_nobody_foresaw_ends_the_agent(
    config_file: Path, where: type, name: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, times = getattr(where, name), 0

    async def broken(*arguments: object) -> object:
        nonlocal times
        times += 1
        if times == 1:
            raise error
        return await real(*arguments)  # the agent saves and writes its status once more on the way out

    def broken_at_once(*arguments: object) -> object:
        nonlocal times
        times += 1
        if times == 1:
            raise error
        return real(*arguments)

    monkeypatch.setattr(where, name, broken_at_once if name == "save" else broken)
    monkeypatch.setattr(agent_module, "STATUS_INTERVAL_S", 0.05)
    config = replace(load_config(config_file), flush_interval_s=0.05, save_interval_s=0.05)
    agent = Agent(config, SimulatedClock(), make_source=lambda _config, _deps: Scripted("works"))
    with pytest.raises(type(error)) as raised:
        await asyncio.wait_for(agent.run(asyncio.Event()), 20)
    assert raised.value is error


def test_an_error_nobody_foresaw_ends_the_program_with_its_traceback_in_the_log(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    error = AttributeError("no such lane")
    monkeypatch.setattr(Uplink, "run", AsyncMock(side_effect=error))
    assert main(["run", "--config", str(config_file)]) == 1
    (said,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert said.exc_info is not None and said.exc_info[1] is error
    assert said.getMessage() == "the agent ends by an error nobody foresaw: AttributeError: no such lane"


def test_an_error_that_was_foreseen_ends_the_program_with_one_line(
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Agent, "_while_alive", AsyncMock(side_effect=BadConfig("no source is left")))
    assert main(["run", "--config", str(config_file)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "edge-agent: no source is left"
    assert [record for record in caplog.records if record.levelno == logging.CRITICAL] == []


def test_an_outbox_that_cannot_be_opened_is_tried_again_by_the_service_manager(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = Retryable("the outbox cannot be opened: the disk is full")
    monkeypatch.setattr(Agent, "_while_alive", AsyncMock(side_effect=away))
    assert main(["run", "--config", str(config_file)]) == 1  # 2 would tell systemd to leave it down
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [str(away)]


async def test_a_source_that_fails_is_said_once_counted_and_tried_again(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Flaky:
        async def run(self, sink: Sink) -> None:
            tries.append(1)
            if len(tries) < 4:
                raise AttributeError("no such register")
            await sink.describe(replace(asset, metrics=(MetricSpec("a", "1"),)))
            await sink.samples([Sample("a", 1_790_000_000_000_000, 1.0)])
            delivered.set()
            await asyncio.sleep(60)

    tries: list[int] = []
    delivered, stop = asyncio.Event(), asyncio.Event()
    caplog.set_level("INFO")
    monkeypatch.setattr(agent_module, "BACKOFF_FIRST_S", 0.01)
    config = load_config(config_file)
    asset = config.assets[0].description
    agent = Agent(config, SimulatedClock(), make_source=lambda _config, _deps: Flaky())
    running = asyncio.create_task(agent.run(stop))
    await asyncio.wait_for(delivered.wait(), 10)
    stop.set()
    await asyncio.wait_for(running, 10)
    said = [record for record in caplog.records if record.getMessage().startswith(f"source of {asset.device_id}")]
    assert [record.getMessage().split(",")[0].split(" after")[0] for record in said] == [
        f"source of {asset.device_id} fails",
        f"source of {asset.device_id} delivers again",
    ]
    assert said[0].exc_info and "AttributeError: no such register" in said[0].getMessage()
    status = json.loads((config.state_dir / "status.json").read_text())
    assert status["assets"][asset.device_id]["failures"] == 3


@pytest.mark.parametrize(
    ("error", "level"),
    [(Retryable("the port is away"), logging.WARNING), (AttributeError("no such register"), logging.ERROR)],
    ids=lambda value: type(value).__name__,
)
async def test_an_error_nobody_foresaw_in_a_source_is_an_error_in_the_log_and_a_foreseen_one_a_warning(
    config_file: Path, error: Exception, level: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        async def run(self, sink: Sink) -> None:
            tries.append(1)
            if len(tries) == 3:
                stop.set()
            raise error

    tries: list[int] = []
    stop = asyncio.Event()
    monkeypatch.setattr(agent_module, "BACKOFF_FIRST_S", 0.01)
    agent = Agent(load_config(config_file), SimulatedClock(), make_source=lambda _config, _deps: Broken())
    await asyncio.wait_for(agent.run(stop), 10)
    (said,) = [record for record in caplog.records if record.getMessage().startswith("source of ")]
    assert (said.levelno, bool(said.exc_info)) == (level, level == logging.ERROR)


async def test_a_status_that_cannot_be_written_is_said_once_and_said_again_when_it_works(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(agent_module, "STATUS_INTERVAL_S", 0.01)
    config, stop = load_config(config_file), asyncio.Event()
    in_its_place = config.state_dir / "status.json"
    in_its_place.mkdir(parents=True)

    def said() -> list[tuple[str, str]]:
        records = [record for record in caplog.records if record.getMessage().startswith("status.json")]
        return [(record.levelname, record.getMessage().partition(" written")[0]) for record in records]

    agent = Agent(config, SimulatedClock(), make_source=lambda _config, _deps: Scripted("works"))
    running = asyncio.create_task(agent.run(stop))
    async with asyncio.timeout(10):
        while agent._writing_status.failures < 3:  # noqa: ASYNC110 - what is waited for is a plain count
            await asyncio.sleep(0.02)
        assert said() == [("WARNING", "status.json is not")]
        in_its_place.rmdir()
        while agent._writing_status.active:  # noqa: ASYNC110 - what is waited for is a plain state
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(running, 10)
    assert said() == [("WARNING", "status.json is not"), ("INFO", "status.json is")]
    assert json.loads(in_its_place.read_text())["node_id"] == config.node_id


@pytest.mark.parametrize("error", [AttributeError("window"), KeyError("lane")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("part", ["uplink", "last flush", "a source"])
async def test_a_part_that_fails_while_the_agent_leaves_is_raised(
    config_file: Path, part: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails_on_leaving(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise error

    async def fails(*_: object) -> None:
        raise error

    where, name, broken = {
        "uplink": (Uplink, "run", fails_on_leaving),
        "last flush": (AssetWorker, "flush", fails),
        "a source": (SourceTask, "run", fails_on_leaving),
    }[part]
    monkeypatch.setattr(where, name, broken)
    stop = asyncio.Event()
    agent = Agent(load_config(config_file), SimulatedClock(), make_source=lambda _config, _deps: Scripted("works"))
    running = asyncio.create_task(agent.run(stop))
    await asyncio.sleep(0.05)
    stop.set()
    with pytest.raises(type(error)) as raised:
        await asyncio.wait_for(running, 20)
    assert raised.value is error


async def test_an_outbox_that_fails_ends_the_agent(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Talker:
        async def run(self, sink: Sink) -> None:
            await sink.describe(replace(asset, metrics=(MetricSpec("a", "1"),)))
            await sink.samples([Sample("a", 1_790_000_000_000_000, 1.0)])
            await asyncio.sleep(60)

    config = load_config(config_file)
    asset = config.assets[0].description
    agent = Agent(config, SimulatedClock(), make_source=lambda _config, _deps: Talker())

    def broken(*_: object) -> None:
        raise sqlite3.DatabaseError("malformed")

    monkeypatch.setattr(Outbox, "append", broken)
    with pytest.raises(sqlite3.DatabaseError):
        await asyncio.wait_for(agent.run(asyncio.Event()), 10)


def test_the_command_line_explains_itself_in_one_line(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", str(config_file.parent / "none.toml")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("edge-agent: ")
    assert error.count("\n") == 1
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert main(["enrol", "--url", "http://x", "--claim", "c", "--fingerprint", "f", "--bundle", "b"]) == 2
    assert main(["enrol", "--url", "https://x", "--claim", "@none", "--fingerprint", "f", "--bundle", "b"]) == 2


def test_the_doctor_says_what_to_mend(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config_file.write_text(GOOD.format(port=listener.getsockname()[1], device="/dev/null"))
        assert main(["doctor", "--config", str(config_file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fit"] is True
    assert {"config", "clock", "state folder", "outbox", "broker"} <= {check["name"] for check in report["checks"]}
    config_file.write_text(GOOD.format(port=1, device="/dev/ttyNOPE"))
    assert main(["doctor", "--config", str(config_file)]) == 1
    text = capsys.readouterr().out
    assert "/dev/ttyNOPE is not there -> plug the device in" in text
    assert "fail  broker" in text
    config_file.write_text("nonsense")
    assert main(["doctor", "--config", str(config_file), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["fit"] is False


def test_the_doctor_sees_a_damaged_outbox(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config_file.parent / "state").mkdir()
    (config_file.parent / "state" / "outbox.sqlite").write_bytes(b"broken" * 1000)
    assert main(["doctor", "--config", str(config_file)]) == 1
    assert "fail  outbox" in capsys.readouterr().out
