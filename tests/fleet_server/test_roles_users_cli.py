"""``fleet-server user``: accounts are made, listed and disabled; mistakes are one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet_core.errors import BadInput
from fleet_server.sovereignty.users_cli import users_app

pytestmark = pytest.mark.integration


@pytest.fixture
def config(fresh_database: str, tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(f"[database]\ndsn = {json.dumps(fresh_database)}\n")
    return path


def test_an_account_is_made_listed_and_disabled(config: Path) -> None:
    runner = CliRunner()
    made = runner.invoke(users_app, ["add", "anna", "--role", "engineer", "--one-time", "--json", "-c", str(config)])
    assert made.exit_code == 0, made.output
    assert len(json.loads(made.output)["password"]) >= 16
    listed = json.loads(runner.invoke(users_app, ["list", "--json", "-c", str(config)]).output)
    assert [(row["user_id"], row["role"], row["one_time"]) for row in listed] == [("anna", "engineer", True)]
    assert runner.invoke(users_app, ["disable", "anna", "-c", str(config)]).exit_code == 0
    listed = json.loads(runner.invoke(users_app, ["list", "--json", "-c", str(config)]).output)
    assert listed[0]["active"] is False


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "boss", "--role", "director"],
        ["add", "bad login", "--role", "engineer"],
        ["add", "boss", "--role", "director", "--tenant", "nobody"],
        ["disable", "nobody"],
    ],
)
def test_a_mistake_is_refused_with_its_reason(config: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(users_app, [*arguments, "-c", str(config)])
    assert isinstance(result.exception, BadInput)
