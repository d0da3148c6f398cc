"""Source: a device that speaks the bridge's protocol on a serial port (docs/firmware-protocol.md).

Identity: ``device_id``, asset class and a configured model or serial come from the configuration; firmware, components
with their serial numbers and metrics come from the device. A configured metric replaces the device's metric of that
name; a configured component stands until the device reports its slot.

Time: device ticks become UTC through the link's map (timemap.py). The device's stored past comes first, marked
historical.

Losses: every loss is declared as a gap: frames that never came, records the device dropped, and the dark time of a
reboot or of a cut link where the device could not store. The source confirms records to the device after the sink took
them, so a device with memory sends again what the agent did not take. After a crash of the agent, the records it took
within the last second may come twice.

Failures: ``Retryable`` when the port is away or silent, ``BadConfig`` for settings, permissions, another protocol
version, or, with ``verify_serial``, a device that is not the configured one (a cable in the wrong port).
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace

from edge_agent.acquisition.api import AssetDescription, Sink, Source, SourceDeps
from firmware_bridge.link import DeviceLink, LinkSettings
from firmware_bridge.messages import Ack, Describe, Hello, Lost, MetricInfo, Samples, WaveformFragment
from firmware_bridge.session import Loss, Ready, Received
from firmware_bridge.timemap import TimeMap
from firmware_bridge.waveforms import WaveformAssembler
from fleet_core.errors import BadConfig
from fleet_core.telemetry import EARLIEST_US, LATEST_US, MetricSpec, Sample, Waveform, to_us

SAMPLE = """
type = "serial_frames"
port = "/dev/ttyUSB0"
baud = 115200
"""

FUTURE_TOLERANCE_US = 3_600_000_000
"""How far ahead of the host's clock a sample may lie, in domain time (a scaled clock magnifies latency)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Config:
    """``port``: device path. Times are real seconds. ``verify_serial``: refuse a device with another serial."""

    port: str
    baud: int = 115_200
    handshake_s: float = 10.0
    silence_s: float = 5.0
    queue_frames: int = 1024
    verify_serial: bool = False


def build(config: Config, deps: SourceDeps) -> Source:
    """The source for one port. Raises BadConfig."""
    link = LinkSettings(
        port=config.port,
        baud=config.baud,
        handshake_s=config.handshake_s,
        silence_s=config.silence_s,
        queue_frames=config.queue_frames,
    )
    return SerialFrames(link, deps, verify_serial=config.verify_serial)


class SerialFrames:
    """The source. It remembers over lost links what it handed over last, so that all dark time is declared."""

    def __init__(self, link: LinkSettings, deps: SourceDeps, *, verify_serial: bool = False) -> None:
        self.statistics: dict[str, int] = {}  # counters of the present link, and refusals since the start
        self._settings = link
        self._deps = deps
        self._verify_serial = verify_serial
        self._described: AssetDescription | None = None
        self._metrics: dict[int, MetricInfo] = {}
        self._time_map = TimeMap(1)
        self._assembler = WaveformAssembler()
        self._last_sample_us = 0
        self._resuming = ""
        self._counters: Counter[str] = Counter()

    async def run(self, sink: Sink) -> None:
        """Read the device until cancelled. Raises Retryable and BadConfig as the module's docstring says."""
        async with DeviceLink(self._settings, self._deps.clock) as link:
            self._described = None
            self._resuming = "link lost"
            boot = None
            while True:
                event = await link.receive()
                match event:
                    case Ready():
                        if boot not in (None, event.hello.boot):
                            self._resuming = "device rebooted"
                        boot = event.hello.boot
                        await self._ready(event, sink)
                    case Loss():
                        await self._loss(event, sink)
                    case Received():
                        await self._received(event, sink)
                        link.confirm(event)
                self.statistics = link.statistics() | self._counters

    async def _ready(self, event: Ready, sink: Sink) -> None:
        asset = self._deps.asset
        if asset.serial and asset.serial != event.hello.serial:
            text = f"{self._settings.port}: device {event.hello.serial!r}, configured is {asset.serial!r}"
            if self._verify_serial:
                raise BadConfig(f"{text}; mend the port or the serial of {asset.device_id}")
            if self._described is None:
                log.warning("%s; the configured one is kept", text)
        self._time_map = event.time_map
        self._metrics = {metric.id: metric for metric in event.describe.metrics}
        self._assembler = WaveformAssembler()
        description = described(asset, event.hello, event.describe)
        if description != self._described:
            self._described = description
            await sink.describe(description)

    async def _loss(self, loss: Loss, sink: Sink) -> None:
        since_us, until_us = self._time_map.to_us(loss.since_ticks), self._time_map.to_us(loss.until_ticks)
        reason = f"{loss.frames} {loss.stream.name.lower()} frames lost on the line"
        await self._gap(sink, since_us, until_us, reason)

    async def _received(self, event: Received, sink: Sink) -> None:
        match event.message:
            case Samples() as message:
                await self._samples(message, sink)
            case WaveformFragment() as part:
                await self._waveform(part, sink)
            case Lost() as lost:
                since_us, until_us = self._time_map.to_us(lost.from_ticks), self._time_map.to_us(lost.to_ticks)
                await self._gap(sink, since_us, until_us, f"the device's store overflowed: {lost.count} records")
            case Ack() as ack:
                log.debug("command %d: %s", ack.command_id, ack.status.name)

    async def _samples(self, message: Samples, sink: Sink) -> None:
        names = [self._name(number) for number in message.ids]
        rows = [(self._time_map.to_us(ticks), values) for ticks, values in message.rows]
        believed = [row for row in rows if self._believable(row[0])]
        if len(believed) < len(rows):
            await self._gap(sink, self._last_sample_us, self._now_us(), "the device's time is not believable")
        if not believed:
            return
        await self._resume(believed[0][0], sink)
        self._last_sample_us = max(self._last_sample_us, *(time_us for time_us, _ in believed))
        self._counters["undescribed_values"] += names.count("") * len(believed)
        batch = [
            Sample(name, time_us, value)
            for time_us, values in believed
            for name, value in zip(names, values, strict=True)
            if name
        ]
        if batch:
            await sink.samples(batch, historical=message.historical)

    async def _waveform(self, part: WaveformFragment, sink: Sink) -> None:
        spoilt = self._assembler.incomplete
        values = self._assembler.feed(part)
        self._counters["waveforms_incomplete"] += self._assembler.incomplete - spoilt
        info = self._metrics.get(part.id)
        if values is None or info is None:
            return
        time_us = self._time_map.to_us(part.ticks)
        if self._believable(time_us):
            waveform = Waveform(info.name, time_us, part.sample_rate_hz, values, info.unit)
            await sink.waveform(waveform, historical=part.historical)

    async def _resume(self, time_us: int, sink: Sink) -> None:
        """Declare the dark time before the first sample after a cut or a reboot, if a reading is missing in it."""
        if not self._resuming:
            return
        reason, self._resuming = self._resuming, ""
        period_us = 1000 * max((m.period_ms for m in self._metrics.values() if not m.is_waveform), default=0)
        if self._last_sample_us and time_us - self._last_sample_us > 1.5 * period_us:
            await self._gap(sink, self._last_sample_us, time_us, reason)

    async def _gap(self, sink: Sink, start_us: int, end_us: int, reason: str) -> None:
        """Declare a gap, cut to believable times and never empty."""
        start_us = min(max(start_us, EARLIEST_US), LATEST_US - 1)
        await sink.gap(start_us, min(max(end_us, start_us + 1), LATEST_US), reason)

    def _believable(self, time_us: int) -> bool:
        believable = EARLIEST_US <= time_us <= min(LATEST_US, self._now_us() + FUTURE_TOLERANCE_US)
        self._counters["time_rejected"] += not believable
        return believable

    def _name(self, number: int) -> str:
        """The metric's name, or "" for an id that was never described: its values are no vitals."""
        info = self._metrics.get(number)
        return info.name if info is not None and not info.is_waveform else ""

    def _now_us(self) -> int:
        return to_us(self._deps.clock.now())


def described(asset: AssetDescription, hello: Hello, describe: Describe) -> AssetDescription:
    """The asset's description: the configuration's part and the device's, merged as the module's docstring says."""
    configured = {metric.name: metric for metric in asset.metrics}
    slots = {component.slot: component for component in (*asset.components, *hello.components)}
    return replace(
        asset,
        model=asset.model or hello.model,
        serial=asset.serial or hello.serial,
        firmware=hello.firmware or asset.firmware,
        metrics=tuple(configured.get(metric.name) or _spec(metric) for metric in describe.metrics),
        components=tuple(slots.values()),
    )


def _spec(metric: MetricInfo) -> MetricSpec:
    kind = "waveform" if metric.is_waveform else "float"
    return MetricSpec(metric.name, metric.unit, metric.slot, metric.period_ms / 1000, kind)
