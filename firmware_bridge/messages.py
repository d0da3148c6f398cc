"""What device and host say to each other: the vocabulary, without its encoding (see codec.py). Pure.

Time is the device's own: ``ticks`` since its boot, ``tick_hz`` of them a second (see timemap.py). Stored
(historical) records may lie before the boot and then have negative ticks. The tables are in
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
MAX_FRAGMENT_SAMPLES = 1920
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
    """What the host may ask for. ``argument`` is 0 unless stated."""

    HELLO = 1
    DESCRIBE = 2
    START = 3
    """Send what is stored, then go live. Whatever was not confirmed counts as stored."""
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
    """Who the device is. ``components``: what is installed, with serial numbers."""

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
    """Rows of values: ``rows[i] = (ticks, values)``, one value per id in ``ids``. NaN is legal (a bad sensor)."""

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
    """The device's own declaration: its store overflowed and ``count`` records of this span are gone."""

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
    """Answer to a command. ``next_sequences``: of samples, waveform, history; what comes after it is new.

    ``since_ticks``: of the oldest stored record, or of now when nothing is stored.
    """

    command_id: int
    status: AckStatus
    next_sequences: tuple[int, ...]
    since_ticks: int


@dataclass(frozen=True, slots=True)
class TimeRequest:
    """Asked every second. ``confirmed``: all frames of the data streams before these numbers are in safe hands."""

    id: int
    confirmed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TimeReply:
    """``next_sequences`` tells the host of frames lost at the very end of a stream."""

    id: int
    ticks: int
    next_sequences: tuple[int, ...]


Message = Hello | Describe | Samples | WaveformFragment | Lost | Command | Ack | TimeRequest | TimeReply
