"""The schema: which metrics an asset has and by which numbers (aliases) they travel.

A schema is identified by its content: the digest covers every metric and alias. A batch names its schema by digest, so
anybody who ever saw that schema can read the batch, in any order, after any configuration change. Aliases are
consecutive from ``first_alias`` on, in order of name. The agent gives every asset a range of its own, because Sparkplug
wants aliases unique in the node.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet_core.errors import BadInput
from fleet_core.telemetry import MetricSpec, parse_object

MAX_SCHEMA_METRICS = 1024
MAX_ALIAS = 1 << 31
MAX_SCHEMA_TEXT = 256 * 1024


@dataclass(frozen=True)
class Schema:
    """Metrics of one asset. Construct from metrics in any order; raises BadInput on doubles or too many."""

    metrics: tuple[MetricSpec, ...]
    first_alias: int = 1
    digest: str = field(init=False, compare=False)
    _by_name: dict[str, int] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.metrics, key=lambda metric: metric.name))
        by_name = {metric.name: self.first_alias + index for index, metric in enumerate(ordered)}
        if len(by_name) != len(ordered) or len(ordered) > MAX_SCHEMA_METRICS:
            raise BadInput("schema", f"{len(ordered)} metrics; at most {MAX_SCHEMA_METRICS}, each name once")
        if not 0 < self.first_alias < MAX_ALIAS:
            raise BadInput("schema", f"first alias {self.first_alias} is out of range")
        object.__setattr__(self, "metrics", ordered)
        object.__setattr__(self, "_by_name", by_name)
        object.__setattr__(self, "digest", hashlib.sha256(self.to_json().encode()).hexdigest())

    def alias(self, name: str) -> int:
        """The alias of a metric. Raises BadInput when the schema has no such metric."""
        try:
            return self._by_name[name]
        except KeyError:
            raise BadInput("unknown_metric", f"{name!r} is not in the schema") from None

    def spec(self, alias: int) -> MetricSpec:
        """The metric of an alias. Raises BadInput."""
        index = alias - self.first_alias
        if not 0 <= index < len(self.metrics):
            raise BadInput("unknown_alias", f"alias {alias} is not in the schema")
        return self.metrics[index]

    def name(self, alias: int) -> str:
        """The metric's name of an alias. Raises BadInput."""
        return self.spec(alias).name

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def to_json(self) -> str:
        """Canonical text; its SHA-256 is the digest."""
        rows = [[m.name, m.unit, m.component, float(m.period_s), m.kind] for m in self.metrics]
        return json.dumps({"first_alias": self.first_alias, "metrics": rows}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """The reverse of :meth:`to_json`, for hostile text. Raises BadInput."""
        record = parse_object(text, MAX_SCHEMA_TEXT)
        rows, first_alias = record.get("metrics"), record.get("first_alias")
        if not isinstance(rows, list) or isinstance(first_alias, bool) or not isinstance(first_alias, int):
            raise BadInput("schema", "expected metrics and first_alias")
        if len(rows) > MAX_SCHEMA_METRICS:
            raise BadInput("schema", f"{len(rows)} metrics, at most {MAX_SCHEMA_METRICS}")
        return cls(tuple(_spec(row) for row in rows), first_alias)


EMPTY_SCHEMA = Schema(())
"""The schema of batches that hold no samples, such as gaps of the node itself."""


def checked_spec(name: Any, unit: Any, component: Any, period_s: Any, kind: Any) -> MetricSpec:
    """A MetricSpec from hostile values. Raises BadInput."""
    if not all(isinstance(text, str) for text in (name, unit, component, kind)):
        raise BadInput("metric_spec", "name, unit, component and kind are texts")
    if isinstance(period_s, bool) or not isinstance(period_s, int | float) or not 0 <= period_s <= 1e9:
        raise BadInput("metric_spec", f"{name[:60]!r}: period out of range")
    return MetricSpec(name, unit, component, float(period_s), kind)


def _spec(row: Any) -> MetricSpec:
    if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != 5:
        raise BadInput("metric_spec", "expected name, unit, component, period, kind")
    return checked_spec(*row)
