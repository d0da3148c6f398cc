"""The messages that device and host exchange, without their encoding (see codec.py). Pure.

Times are the device's own: ``ticks`` since its boot, ``tick_hz`` of them a second (timemap.py maps them to UTC).
Stored (historical) records may be older than the boot and then have negative ticks. The tables of messages are in
docs/firmware-protocol.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from fleet_core.telemetry import ComponentSpec

PROTOCOL_VERSION = 1
MAX_TEXT = 64
MAX_COMPONENTS = 32
MAX_METRICS = 64
MAX_ROWS = 64
MAX_FRAGMENT_SAMPLES = 1920  # of 2 bytes: 3840, which leave room for the other fields in a frame's 4096
MAX_TICKS = 1 << 62
MAX_U32 = (1 << 32) - 1
STREAM_COUNT = 3


class Kind(IntEnum):
    HELLO = 1
    DESCRIBE = 2
    SAMPLES = 3
    WAVEFORM = 4
    LOST = 5
    COMMAND = 6
    ACK = 7
    TIME_REQUEST = 8
    TIME_REPLY = 9


class CommandKind(IntEnum):
    """Commands of the host. ``argument`` is 0 unless stated."""

    HELLO = 1
    DESCRIBE = 2
    START = 3
    """Send the stored records, then go live. A record that was sent and not confirmed counts as stored."""
    STOP = 4
    SET_PERIOD = 5
    """``argument``: sampling period of the metrics in milliseconds."""
    IDENTIFY = 6
    """Blink, beep: ``argument`` seconds."""
    SNAPSHOT = 7
    """Take a waveform now."""


class AckStatus(IntEnum):
    OK = 0
    UNSUPPORTED = 1
    REFUSED = 2


@dataclass(frozen=True, slots=True)
class Hello:
    """The device's identity. ``components`` are the installed components with their serial numbers."""

    model: str
    serial: str
    firmware: str
    boot: int
    components: tuple[ComponentSpec, ...] = ()
    tick_hz: int = 1_000_000
    version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """One metric, or one waveform channel when ``sample_rate_hz`` is positive. ``unit`` is a UCUM code."""

    id: int
    name: str
    unit: str
    slot: str = ""
    period_ms: int = 0
    sample_rate_hz: float = 0.0

    @property
    def is_waveform(self) -> bool:
        return self.sample_rate_hz > 0


@dataclass(frozen=True, slots=True)
class Describe:
    metrics: tuple[MetricInfo, ...]


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows of values: ``rows[i] = (ticks, values)`` with one value for every id in ``ids``. NaN marks a bad sensor."""

    ids: tuple[int, ...]
    rows: tuple[tuple[int, tuple[float, ...]], ...]
    historical: bool = False


@dataclass(frozen=True, slots=True)
class WaveformFragment:
    """Samples ``offset`` to ``offset + len(data) / 2`` of ``total``; value = int16 (little-endian) * ``scale``."""

    id: int
    number: int
    ticks: int
    offset: int
    total: int
    sample_rate_hz: float
    scale: float
    data: bytes
    historical: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """The device declares that its store overflowed and that ``count`` records of this span of ticks are gone."""

    count: int
    from_ticks: int
    to_ticks: int


@dataclass(frozen=True, slots=True)
class Command:
    id: int
    kind: CommandKind
    argument: int = 0


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to a command. ``next_sequences`` are the next numbers of the streams samples, waveform and history:
    frames from them on are new.

    ``since_ticks`` are the ticks of the oldest stored record, or of now when nothing is stored.
    """

    command_id: int
    status: AckStatus
    next_sequences: tuple[int, ...]
    since_ticks: int


@dataclass(frozen=True, slots=True)
class TimeRequest:
    """The host's heartbeat, every second. The host has stored all frames of the data streams before the numbers in
    ``confirmed``.
    """

    id: int
    confirmed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TimeReply:
    """The device's time. ``next_sequences`` shows the host which frames were lost at the very end of a stream."""

    id: int
    ticks: int
    next_sequences: tuple[int, ...]


Message = Hello | Describe | Samples | WaveformFragment | Lost | Command | Ack | TimeRequest | TimeReply
