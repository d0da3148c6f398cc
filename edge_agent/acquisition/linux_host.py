"""The vitals of the Linux machine the agent runs on: processor, memory, disks, network, temperatures, fans.

A vital that this machine cannot give is logged once and left out. Rates are per real second, whatever the domain clock
does, because the kernel counts in real time. The values of a sensor that disappears later are missing, not zero.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from edge_agent.acquisition.api import Sink, SourceDeps
from fleet_core.assets import HOST
from fleet_core.errors import BadConfig, Retryable
from fleet_core.telemetry import ComponentSpec, MetricSpec, Sample, to_us

SAMPLE = """\
period_s = 10.0
disks = ["/"]
component = "host"
"""

THERMAL_ZONES = Path("/sys/class/thermal")
MAX_SENSORS = 24
MAX_DISKS = 8

log = logging.getLogger(__name__)

Reading = dict[str, tuple[float, str]]
"""Vital's name -> (value, UCUM unit)."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings. ``period_s`` domain seconds lie between readings, ``disks`` are the mount points whose fill is read,
    ``component`` is the slot the vitals belong to.
    """

    period_s: float = 10.0
    disks: tuple[str, ...] = ("/",)
    component: str = "host"

    def __post_init__(self) -> None:
        if not self.period_s > 0 or len(self.disks) > MAX_DISKS:
            raise BadConfig(f"period_s must be above 0 and disks at most {MAX_DISKS}")


LOAD_VITALS = frozenset({
    "cpu_percent", "load_1m", "disk_read_by_s", "disk_write_by_s", "network_received_by_s", "network_sent_by_s",
})  # fmt: skip
"""Vitals of the machine's load: the operating regime of the whole asset, never a fault themselves."""


class LinuxHost:
    """See the module."""

    def __init__(self, config: Config, deps: SourceDeps) -> None:
        self._config = config
        self._deps = deps
        self._counters: dict[str, float] = {}
        self._counted_s = 0.0

    async def run(self, sink: Sink) -> None:
        clock = self._deps.clock
        self._rates()  # the first call only notes the counters that the next one subtracts
        psutil.cpu_percent(None)
        first = await asyncio.to_thread(self._read)
        missing = [what for what in ("temperature_", "fan_") if not any(name.startswith(what) for name in first)]
        if missing:
            log.info("linux_host: this machine shows no %s", " and no ".join(what.rstrip("_") for what in missing))
        slot = self._config.component
        metrics = tuple(
            MetricSpec(name, unit, "" if name in LOAD_VITALS else slot, self._config.period_s)
            for name, (_, unit) in first.items()
        )
        components = self._deps.asset.components
        if slot and all(component.slot != slot for component in components):
            components = (*components, ComponentSpec(slot, HOST, self._deps.asset.serial))
        await sink.describe(dataclasses.replace(self._deps.asset, metrics=metrics, components=components))
        while True:
            await clock.sleep(self._config.period_s)
            reading = await asyncio.to_thread(self._read)
            time_us = to_us(clock.now())
            await sink.samples([Sample(name, time_us, reading.get(name, (math.nan, ""))[0]) for name in first])

    def _read(self) -> Reading:
        try:
            memory, load_1m = psutil.virtual_memory(), psutil.getloadavg()[0]
            reading: Reading = {
                "cpu_percent": (psutil.cpu_percent(None), "%"),
                "load_1m": (load_1m, "1"),
                "memory_used_percent": (memory.percent, "%"),
                "swap_used_percent": (psutil.swap_memory().percent, "%"),
            }
        except OSError as error:
            raise Retryable(f"linux_host: the kernel's counters cannot be read: {error}") from error
        for mount in self._config.disks:
            try:
                fill = psutil.disk_usage(mount).percent
            except OSError:  # an unmounted disk is one missing vital; the other disks are read all the same
                continue
            reading[f"disk_used_percent{_suffix(mount)}"] = (fill, "%")
        return reading | self._rates() | read_sensors()

    def _rates(self) -> Reading:
        """Bytes per real second since the last call; nothing at the first one."""
        disk, network, now_s = psutil.disk_io_counters(), psutil.net_io_counters(), time.monotonic()
        counters: dict[str, float] = {}
        if disk is not None:
            counters |= {"disk_read_by_s": disk.read_bytes, "disk_write_by_s": disk.write_bytes}
        if network is not None:
            counters |= {"network_received_by_s": network.bytes_recv, "network_sent_by_s": network.bytes_sent}
        elapsed_s = max(1e-3, now_s - self._counted_s)
        rates: Reading = {
            name: (max(0.0, value - self._counters[name]) / elapsed_s, "By/s")
            for name, value in counters.items()
            if name in self._counters
        }
        self._counters, self._counted_s = counters, now_s
        return rates


def build(config: Config, deps: SourceDeps) -> LinuxHost:
    return LinuxHost(config, deps)


def read_sensors(thermal_zones: Path = THERMAL_ZONES) -> Reading:
    """Temperatures [Cel] and fans [/min]; thermal zones from sysfs where psutil knows no sensor."""
    reading: Reading = {}
    for chip, sensors in psutil.sensors_temperatures().items():
        for index, sensor in enumerate(sensors):
            if sensor.current is not None and len(reading) < MAX_SENSORS:
                reading[f"temperature{_suffix(chip)}{_suffix(sensor.label or str(index))}"] = (sensor.current, "Cel")
    if not reading:
        for zone in sorted(thermal_zones.glob("thermal_zone*/temp"))[:MAX_SENSORS]:
            try:
                milli = float(zone.read_text().strip())
            except (OSError, ValueError):  # the zone of a sleeping device answers with an error: missing, not zero
                continue
            reading[f"temperature{_suffix(zone.parent.name)}"] = (milli / 1000, "Cel")
    for chip, fans in psutil.sensors_fans().items():
        for index, fan in enumerate(fans[:8]):
            reading[f"fan{_suffix(chip)}{_suffix(fan.label or str(index))}"] = (float(fan.current), "/min")
    return reading


def _suffix(text: str) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()[:40]
    return f"_{cleaned}" if cleaned else "_root"
