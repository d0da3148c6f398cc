"""A plugin's table becomes its dataclass, or one line that names the setting and what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from fleet_core.errors import BadConfig
from fleet_core.network import is_loopback
from fleet_core.plugins import parse_config


@dataclass(frozen=True)
class Config:
    secret_file: Path
    mode: Literal["calm", "loud"] = "calm"
    log_file: Path | None = None
    pause_s: float = 1.0

    def __post_init__(self) -> None:
        if self.pause_s <= 0:
            raise BadConfig("pause_s must be above 0")


def test_paths_and_choices_are_understood() -> None:
    parsed = parse_config(Config, {"secret_file": "/etc/secret", "mode": "loud", "pause_s": 2}, "part")
    assert parsed == Config(Path("/etc/secret"), "loud", None, 2.0)
    assert parse_config(Config, {"secret_file": "a", "log_file": "b"}, "part").log_file == Path("b")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "part: setting 'secret_file' is missing"),
        ({"secret_file": ""}, "part.secret_file: expected Path, not ''"),
        ({"secret_file": 5}, "part.secret_file: expected Path, not 5"),
        ({"secret_file": "a", "mode": "shy"}, "part.mode: expected 'calm' or 'loud', not 'shy'"),
        ({"secret_file": "a", "mode": ["calm"]}, "part.mode: expected 'calm' or 'loud'"),
        ({"secret_file": "a", "pause_s": 0}, "part: pause_s must be above 0"),
        ({"secret_file": "a", "paws_s": 0}, "part: unknown setting 'paws_s'; there are: secret_file, mode"),
        ([], "part: expected a table"),
    ],
)
def test_what_is_wrong_is_named(table: Any, said: str) -> None:
    with pytest.raises(BadConfig) as raised:
        parse_config(Config, table, "part")
    assert said in str(raised.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST."])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "10.0.0.7", "localhost.example", "127.0.0.1.example", "broker"])
def test_certainly_not_this_machine(host: str) -> None:
    assert not is_loopback(host)
