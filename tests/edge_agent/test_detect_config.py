"""Plugin settings from TOML tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from fleet_core.errors import BadConfig
from fleet_core.plugins import parse_config


@dataclass(frozen=True)
class Part:
    name: str
    unit: str = "1"


@dataclass(frozen=True)
class Config:
    port: str
    rate_hz: float = 1.0
    retries: int = 3
    quiet: bool = False
    parts: dict[str, Part] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    cut: float | int | str = 0

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise BadConfig("retries must not be negative")


def test_everything_has_its_type() -> None:
    table = {"port": "p", "rate_hz": 2, "parts": {"x": {"name": "n"}}, "tags": ["a"], "cut": 0.5}
    assert parse_config(Config, table, "here") == Config("p", 2.0, parts={"x": Part("n")}, tags=("a",), cut=0.5)
    assert isinstance(parse_config(Config, table, "here").rate_hz, float)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({}, "here: setting 'port' is missing"),
        ({"port": "p", "prot": 1}, "here: unknown setting 'prot'"),
        ({"port": 3}, r"here\.port: expected str, not 3"),
        ({"port": "p", "retries": True}, r"here\.retries: expected int"),
        ({"port": "p", "retries": 1.5}, r"here\.retries: expected int"),
        ({"port": "p", "quiet": 1}, r"here\.quiet: expected bool"),
        ({"port": "p", "parts": {"x": {}}}, r"here\.parts\.x: setting 'name' is missing"),
        ({"port": "p", "tags": ["a", 1]}, r"here\.tags\[1\]: expected str"),
        ({"port": "p", "cut": []}, r"here\.cut: expected float or int or str"),
        ({"port": "p", "retries": -1}, "here: retries must not be negative"),
        ("text", "here: expected a table"),
    ],
)
def test_what_is_wrong_is_named(table: Any, complaint: str) -> None:
    with pytest.raises(BadConfig, match=complaint):
        parse_config(Config, table, "here")
