"""The cast: the devices and agents of every scenario, and the stories they play in.

Devices wear out by themselves; nothing here touches the server. The devices differ from the shipped library in seeds
and in physics: the library's histories come from ``models/simulation.py``, the devices from
``firmware_bridge/devices/drive_model.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from demo.stack import Stack, scenario_text
from demo.stories import HandOver, Repair
from fleet_core.clock import Clock

ARTIFACTS = Path(__file__).parents[1] / "models" / "artifacts"
SHIPPED_HISTORY = ARTIFACTS / "bearing_history.csv.gz"
DRIVE_PRIOR = ARTIFACTS / "priors" / "drive.json"
STORY_LIMIT_H = 170.0
SLOT = "drive_bearing"
HISTORY_H = 30.0
LONG_AFTER_THE_DEMO_H = 5000.0
WEAR_BEGINS_HOUR_UTC = 1
RECORDED_WEAR_ROW = 550
RECORDED_WEAR_HOUR_UTC = 18
"""Scenarios fix the hour of the day at which wear shows, so that a story goes the same way however long the start took:
in the early evening, with a quiet night ahead. The recorded bearing shows it about 72 h before it failed."""
RECORDED_ROWS_PER_H = 6


@dataclass(frozen=True)
class Cast:
    """A scenario ready to be played."""

    registry: str
    histories: Sequence[Path]
    stories: Sequence[Repair | HandOver]
    start: Callable[[], None]
    stop: Callable[[], None]
    after_stories: Callable[[], None]
    swaps: Mapping[str, Callable[[str], None]]
    """By asset: fits a new part of that serial number into the device."""


@dataclass(frozen=True)
class _Drive:
    """A robot with a simulated drive. Wear begins ``healthy_h`` after the start and ends ``seize_h`` later."""

    asset_id: str
    model: str
    serial: str
    bearing: str
    part_no: str
    seed_offset: int
    later_h: float
    seize_h: float

    def plug_in(self, stack: Stack) -> str:
        """Start the device with a stored past; returns its ``[[asset]]`` table."""
        healthy_h = hours_until(stack.clock, WEAR_BEGINS_HOUR_UTC, at_least_h=2.0) + self.later_h
        return self._power_on(stack, self.bearing, healthy_h, HISTORY_H)

    def _power_on(self, stack: Stack, bearing: str, healthy_h: float, history_h: float) -> str:
        port = stack.start_drive(
            self._process, stack.seed * 100 + self.seed_offset, bearing, self.serial, self.model,
            healthy_h=healthy_h, seize_after_h=self.seize_h, history_h=history_h,
            motor_serial=self.bearing.replace("BRG", "MOT"),
        )  # fmt: skip
        return (
            f'[[asset]]\ndevice_id = "{self.asset_id}"\nclass = "robot"\nmodel = "{self.model}"\n'
            f'serial = "{self.serial}"\n'
            f'[[asset.component]]\nslot = "drive_bearing"\ntype = "bearing"\npart_no = "{self.part_no}"\n'
            f"[asset.detection]\nprior = {json.dumps(str(DRIVE_PRIOR))}\n"
            f'[asset.source]\ntype = "serial_frames"\nport = "{port}"\n\n'
        )

    def swap(self, stack: Stack, new_bearing: str) -> None:
        """Do the engineer's work: power off, fit the new bearing, power on."""
        stack.keeper.stop(self._process)
        self._power_on(stack, new_bearing, LONG_AFTER_THE_DEMO_H, 0.0)

    @property
    def _process(self) -> str:
        return f"device-{self.asset_id}"


ROBOT_17 = _Drive("robot-17", "AMR-200", "AMR200-0017", "BRG-0017", "P-6205", 17, 0.0, 66.0)
ROBOT_18 = _Drive("robot-18", "AMR-300", "AMR300-0018", "BRG-0018", "P-6308", 18, 2.0, 60.0)
ROBOT_31 = _Drive("robot-31", "AMR-200", "AMR200-0031", "BRG-0031", "P-6205", 31, 4.0, 62.0)
# Robot 44 is a day late: the deadline of its question has not passed when a visitor decides it minutes later.
ROBOT_44 = _Drive("robot-44", "AMR-200", "AMR200-0044", "BRG-0044", "P-6205", 44, 30.0, 58.0)

HAND_OVERS = (
    HandOver("no-part-in-time", "robot-18", SLOT, "no_part_in_time", STORY_LIMIT_H),
    HandOver("no-window-in-time", "robot-31", SLOT, "no_window_in_time", STORY_LIMIT_H),
    HandOver("connector-down", "robot-44", SLOT, "connector_down", STORY_LIMIT_H),
)
HOST = """[[asset]]
device_id = "this-machine"
class = "server"
model = "host"
serial = "HOST-0001"
[[asset.component]]
slot = "host"
type = "host"
serial = "HOST-0001"
[asset.source]
type = "linux_host"
period_s = 600.0

"""


def simulated_cast(stack: Stack) -> Cast:
    """Story 1 with a simulated drive."""
    new_bearing = "BRG-0017-B"
    story = Repair(
        "robot-drive", ROBOT_17.asset_id, SLOT, "bearing_seizure", new_bearing,
        lambda: ROBOT_17.swap(stack, new_bearing), STORY_LIMIT_H,
    )  # fmt: skip
    swaps = {ROBOT_17.asset_id: partial(ROBOT_17.swap, stack)}
    return _cast(stack, "simulated", [SHIPPED_HISTORY], story, lambda: ROBOT_17.plug_in(stack), swaps)


def recorded_cast(stack: Stack, data: Path) -> Cast:
    """Story 1 with the recorded bearing. Its own test is never in the library that it is compared with."""
    data = data.absolute()
    new_bearing = "IMS2-B1-B"
    story = Repair(
        "robot-drive", "rig-2", "bearing_1", "bearing_seizure", new_bearing,
        lambda: _swap_recorded(stack, data, new_bearing), STORY_LIMIT_H,
    )  # fmt: skip
    histories = [SHIPPED_HISTORY, data / "ims" / "1st_test.csv", *sorted((data / "femto" / "features").glob("*.csv"))]
    swaps = {"rig-2": partial(_swap_recorded, stack, data)}

    def played() -> str:
        return _recorded(stack, data, "IMS2-B1", _cut_row(stack.clock))

    return _cast(stack, "recorded", histories, story, played, swaps)


def _cast(
    stack: Stack,
    scenario: str,
    histories: Sequence[Path],
    story: Repair,
    played: Callable[[], str],
    swaps: Mapping[str, Callable[[str], None]],
) -> Cast:
    """The story's asset and robot 18 share an agent; the other robots and this machine have their own."""

    def start() -> None:
        # The customers' side of the hand-overs: a machine is lent elsewhere, a warehouse system is broken.
        stack.take_equipment("rtm-2", "AMR-31", 14, "Lent to the Antwerp site")
        broken = {"kind": "error_500", "target": "any", "count": 1_000_000}
        stack.wms("wms-leipzig", "POST", "/_faults", broken)
        groups = [
            ("agent-ams-1", "nw-amsterdam", lambda: played() + ROBOT_18.plug_in(stack)),
            ("agent-rtm-1", "nw-rotterdam", lambda: ROBOT_31.plug_in(stack)),
            ("agent-lej-1", "nw-leipzig", lambda: ROBOT_44.plug_in(stack)),
            ("agent-ams-host", "nw-amsterdam", lambda: HOST),
        ]
        with ThreadPoolExecutor(2) as pool:
            for one in [pool.submit(_start_agent, stack, *group) for group in groups]:
                one.result()

    def stop() -> None:
        for name in stack.keeper.names():
            if name.startswith("device-"):
                stack.keeper.stop(name)
        for name in stack.keeper.names():
            if name.startswith("agent-"):
                stack.keeper.stop(name)

    def after_stories() -> None:
        stack.wms("wms-leipzig", "DELETE", "/_faults")  # repaired: choosing "try again" now succeeds

    others = {robot.asset_id: partial(robot.swap, stack) for robot in (ROBOT_18, ROBOT_31, ROBOT_44)}
    return Cast(
        scenario_text("world", scenario), histories, [story, *HAND_OVERS], start, stop, after_stories,
        {**others, **swaps},
    )  # fmt: skip


def _start_agent(stack: Stack, node_id: str, site_id: str, assets: Callable[[], str]) -> None:
    stack.start_agent(node_id, site_id, assets())


def hours_until(clock: Clock, hour_utc: int, at_least_h: float) -> float:
    """Story hours until the clock next shows that hour, no sooner than ``at_least_h``."""
    earliest = clock.now() + timedelta(hours=at_least_h)
    then = earliest.replace(hour=hour_utc, minute=0, second=0, microsecond=0)
    if then < earliest:
        then += timedelta(days=1)
    return (then - clock.now()) / timedelta(hours=1)


def _cut_row(clock: Clock) -> int:
    """The row that must fall at this moment for the recorded wear to show at ``RECORDED_WEAR_HOUR_UTC``."""
    ahead_h = hours_until(clock, RECORDED_WEAR_HOUR_UTC, at_least_h=8.0)
    return RECORDED_WEAR_ROW - round(ahead_h * RECORDED_ROWS_PER_H)


def _recorded(stack: Stack, data: Path, bearing_1: str, cut_row: int) -> str:
    """The rig's ``[[asset]]`` table. The cut falls at this moment, also for an agent that is started again."""
    serials = [bearing_1, "IMS2-B2", "IMS2-B3", "IMS2-B4"]
    components = "".join(
        f'[[asset.component]]\nslot = "bearing_{n}"\ntype = "bearing"\nserial = "{serial}"\npart_no = "P-6205"\n'
        for n, serial in enumerate(serials, 1)
    )
    columns = "".join(
        f'[asset.source.columns."Bearing {n}"]\nmetric = "bearing_{n}_vibration_g"\nunit = "[g]"\n'
        f'component = "bearing_{n}"\n'
        for n in range(1, 5)
    )
    return (
        '[[asset]]\ndevice_id = "rig-2"\nclass = "robot"\nmodel = "IMS rig"\nserial = "IMS-TEST-2"\n'
        f"{components}"
        f'[asset.source]\ntype = "replay"\npath = "{data / "ims" / "2nd_test.csv"}"\nhistory_until = {cut_row}\n'
        f'cut_at = "{stack.clock.now().isoformat()}"\n'
        f"{columns}\n"
    )


def _swap_recorded(stack: Stack, data: Path, new_bearing: str) -> None:
    """A new bearing in the same rig: the recording's healthy first days, played from now on."""
    node_id = "agent-ams-1"
    stack.keeper.stop(node_id)
    config = stack.directory / "agents" / node_id / "agent.toml"
    _, separator, robot_18 = config.read_text(encoding="utf-8").partition('[[asset]]\ndevice_id = "robot-18"')
    stack.start_agent(node_id, "nw-amsterdam", _recorded(stack, data, new_bearing, 0) + separator + robot_18)
