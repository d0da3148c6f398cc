"""The data that travel from a device: samples, waveforms, detection states and findings, and their descriptions.

Times are integer microseconds since the Unix epoch (UTC), device time. Values are 64-bit floats; NaN and
infinities are legal and have quality BAD. Every ``from_json`` treats its input as hostile: it checks sizes and
ranges and raises :class:`~fleet_core.errors.BadInput`, never anything else.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from fleet_core.errors import BadInput

MAX_NAME = 128
MAX_FINDING_BYTES = 16 * 1024
MAX_CHANNELS = 64
MAX_SIGNATURE = 256
MAX_WAVEFORM_SAMPLES = 65_536
EARLIEST_US = 1_000_000_000_000_000  # 2001-09-09: nothing before it is a trusted clock
LATEST_US = 4_000_000_000_000_000  # 2096-10-02

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}\Z")
_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}\Z")


class Quality(StrEnum):
    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class DetectionState(StrEnum):
    """State of one component as the device sees it."""

    LEARNING = "learning"
    HEALTHY = "healthy"
    WATCH = "watch"
    DEGRADING = "degrading"
    CRITICAL = "critical"


class BatchClass(StrEnum):
    """The class of a batch's content. A batch holds one class only, so that a full outbox can evict whole batches by
    class.
    """

    FINDING = "finding"
    GAP = "gap"
    ROUTINE = "routine"
    WAVEFORM = "waveform"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One vital of an asset. ``component`` is the slot it belongs to ("" for the whole asset)."""

    name: str
    unit: str = "1"
    component: str = ""
    period_s: float = 0.0
    kind: str = "float"

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.component:
            check_name(self.component)
        if len(self.unit) > 32 or self.kind not in ("float", "waveform"):
            raise BadInput("metric_spec", f"{self.name}: unit or kind out of range")


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """An installed component as the device knows it. ``slot`` is unique in the asset; ``type`` as in assets.py."""

    slot: str
    type: str
    serial: str
    part_no: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one vital."""

    metric: str
    time_us: int
    value: float

    @property
    def quality(self) -> Quality:
        return Quality.GOOD if math.isfinite(self.value) else Quality.BAD


@dataclass(frozen=True, slots=True)
class Waveform:
    """A burst of equally spaced samples of one metric. ``values`` is an ``array('f')`` in ``unit``; ``time_us`` is the
    time of the first sample.
    """

    metric: str
    time_us: int
    sample_rate_hz: float
    values: array[float]
    unit: str = "[g]"


@dataclass(frozen=True, slots=True)
class StateChange:
    """A component's detection state changed (also sent once after a start, with ``previous`` equal)."""

    component: str
    state: DetectionState
    previous: DetectionState
    time_us: int
    score: float
    reason: str

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> StateChange:
        record = parse_object(text, 2048)
        return cls(
            component=check_name(record.get("component")),
            state=_member(DetectionState, record.get("state")),
            previous=_member(DetectionState, record.get("previous")),
            time_us=check_time_us(record.get("time_us")),
            score=_number(record.get("score"), 0.0, 1.0),
            reason=_text(record.get("reason"), 256),
        )


@dataclass(frozen=True, slots=True)
class ChannelEvidence:
    """The evidence of one channel. ``contribution`` is its share 0..1 of the deviation; the other numbers are in
    ``unit``.
    """

    metric: str
    unit: str
    contribution: float
    baseline_mean: float
    baseline_sigma: float
    observed: float


@dataclass(frozen=True, slots=True)
class Finding:
    """A degradation that the device detected, with its evidence.

    ``finding_id`` is stable over revisions (1, 2, ...). ``signature`` is the fingerprint that the server compares with
    the fleet's history. ``indicator_*`` name the vital that follows the degradation best and its healthy level, so that
    the server can express the course of degradation as a ratio to the asset's own baseline.
    """

    finding_id: str
    revision: int
    component: str
    state: DetectionState
    score: float
    severity: float
    detected_us: int
    onset_us: int
    channels: tuple[ChannelEvidence, ...]
    signature: tuple[float, ...]
    detectors: Mapping[str, float]
    indicator_metric: str
    indicator_baseline: float
    indicator_sigma: float
    failure_mode: str = "unknown"
    mode_confidence: float = 0.0
    model_digest: str = ""
    waveform_us: tuple[int, ...] = ()
    trace_id: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        text = json.dumps(asdict(self), separators=(",", ":"))
        if len(text) > MAX_FINDING_BYTES:
            raise BadInput("finding_size", f"{len(text)} bytes, at most {MAX_FINDING_BYTES}")
        return text

    @classmethod
    def from_json(cls, text: str) -> Finding:
        record = parse_object(text, MAX_FINDING_BYTES)
        channels = _sequence(record.get("channels"), MAX_CHANNELS)
        detectors = record.get("detectors")
        extra = record.get("extra", {})
        if not isinstance(detectors, dict) or len(detectors) > 32 or not isinstance(extra, dict):
            raise BadInput("finding", "detectors or extra is not a small object")
        return cls(
            finding_id=_uuid(record.get("finding_id")),
            revision=int(_number(record.get("revision"), 1, 1_000_000)),
            component=check_name(record.get("component")),
            state=_member(DetectionState, record.get("state")),
            score=_number(record.get("score"), 0.0, 1.0),
            severity=_number(record.get("severity"), 0.0, 1.0),
            detected_us=check_time_us(record.get("detected_us")),
            onset_us=check_time_us(record.get("onset_us")),
            channels=tuple(_channel(item) for item in channels),
            signature=tuple(_finite(value) for value in _sequence(record.get("signature"), MAX_SIGNATURE)),
            detectors={check_name(name): _finite(score) for name, score in detectors.items()},
            indicator_metric=check_name(record.get("indicator_metric")),
            indicator_baseline=_finite(record.get("indicator_baseline")),
            indicator_sigma=_number(record.get("indicator_sigma"), 0.0, 1e300),
            failure_mode=_text(record.get("failure_mode"), 64),
            mode_confidence=_number(record.get("mode_confidence"), 0.0, 1.0),
            model_digest=_text(record.get("model_digest", ""), 128),
            waveform_us=tuple(check_time_us(value) for value in _sequence(record.get("waveform_us", []), 64)),
            trace_id=_text(record.get("trace_id", ""), 64),
            extra=extra,
        )


def to_us(moment: datetime) -> int:
    """A timezone-aware datetime as integer microseconds since the Unix epoch."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_us(time_us: int) -> datetime:
    """Integer microseconds since the Unix epoch as an aware UTC datetime."""
    seconds, micros = divmod(time_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def check_name(value: Any) -> str:
    """A metric, component or detector name: letters, digits, ``_ . -``, at most 128. Raises BadInput."""
    if not isinstance(value, str) or not _NAME.match(value):
        raise BadInput("name", f"{str(value)[:60]!r} is not a valid name")
    return value


def check_identity(value: Any) -> str:
    """A group, edge node, device or site id: letters, digits, ``_ . -``, at most 64. Raises BadInput."""
    if not isinstance(value, str) or not _IDENTITY.match(value):
        raise BadInput("identity", f"{str(value)[:60]!r} is not a valid id")
    return value


def check_time_us(value: Any) -> int:
    """A believable device time. Raises BadInput: 1970 and 2099 must never open a partition."""
    if isinstance(value, bool) or not isinstance(value, int) or not EARLIEST_US <= value <= LATEST_US:
        raise BadInput("time", f"{str(value)[:40]} is not a believable time in microseconds")
    return value


def parse_object(text: str, limit: int) -> dict[str, Any]:
    """Parse a bounded JSON object. Raises BadInput."""
    if len(text) > limit:
        raise BadInput("json_size", f"{len(text)} characters, at most {limit}")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        raise BadInput("json", "not valid JSON") from None
    if not isinstance(record, dict):
        raise BadInput("json", "not a JSON object")
    try:  # PostgreSQL's text holds neither U+0000 nor lone surrogates
        storable = b"\\u0000" not in json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        storable = False
    if not storable:
        raise BadInput("json_text", "a text in it holds U+0000 or a lone surrogate")
    return record


def _channel(item: Any) -> ChannelEvidence:
    if not isinstance(item, dict):
        raise BadInput("channel", "not an object")
    return ChannelEvidence(
        metric=check_name(item.get("metric")),
        unit=_text(item.get("unit"), 32),
        contribution=_number(item.get("contribution"), 0.0, 1.0),
        baseline_mean=_finite(item.get("baseline_mean")),
        baseline_sigma=_finite(item.get("baseline_sigma")),
        observed=_finite(item.get("observed")),
    )


def _finite(value: Any) -> float:
    return _number(value, -1e300, 1e300)


def _number(value: Any, low: float, high: float) -> float:
    # The range is checked before the conversion: an int too large for a float still compares correctly.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadInput("number", f"{str(value)[:40]} is not a number in {low}..{high}")
    return float(value)


def _text(value: Any, limit: int) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise BadInput("text", f"not a text of at most {limit} characters")
    return value


def _uuid(value: Any) -> str:
    text = _text(value, 36)
    if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text):
        raise BadInput("uuid", f"{text!r} is not a UUID")
    return text


def _sequence(value: Any, limit: int) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or len(value) > limit:
        raise BadInput("list", f"not a list of at most {limit} items")
    return value


def _member(kind: type[DetectionState], value: Any) -> DetectionState:
    try:
        return kind(value)
    except ValueError:
        raise BadInput("state", f"{str(value)[:40]!r} is not one of {', '.join(kind)}") from None
