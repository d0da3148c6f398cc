"""Every command of ``fleet-server`` that reads the settings takes them from -c, --config or FORESTALL_CONFIG."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fleet_server import cli

WITHOUT = {"init", "registry sample"}


def apps() -> dict[str, typer.Typer]:
    found = {name: getattr(importlib.import_module(module), app) for name, (module, app, _) in cli.ELSEWHERE.items()}
    return {"": cli.app, **found}


def leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
    for key, one in (inner or {}).items():
        yield from leaves(one, f"{name} {key}".strip())


COMMANDS = dict(leaf for name, app in apps().items() for leaf in leaves(typer.main.get_command(app), name))


def test_commands_are_found() -> None:
    assert {"worker", "ledger", "case list", "case show", "history import", "user add", *WITHOUT} <= set(COMMANDS)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - WITHOUT))
def test_the_settings_are_named_in_one_way(name: str) -> None:
    (option,) = (option for option in COMMANDS[name].params if option.name == "config")
    assert (set(option.opts), option.envvar) == ({"--config", "-c"}, "FORESTALL_CONFIG")


@pytest.mark.parametrize("name", ["case", "history"])
def test_the_variable_is_honoured(name: str, tmp_path: Path) -> None:
    missing = tmp_path / "elsewhere.toml"
    done = CliRunner().invoke(apps()[name], ["list"], env={"FORESTALL_CONFIG": str(missing)})
    assert done.exit_code == 2
    assert f"{missing}: no such file" in done.output
