"""No command prints a traceback for a state of the world: one line with the mend, and exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

NO_SERVER = '[database]\ndsn = "host=127.0.0.1 port=1 user=x password=secret dbname=y"\n'
CASES = {
    "db migrate, no database": ("fleet_server.cli", "db migrate -c {good}"),
    "db status, no database": ("fleet_server.cli", "db status -c {good}"),
    "ledger, no database": ("fleet_server.cli", "ledger -c {good}"),
    "case list, no database": ("fleet_server.cli", "case list -c {good}"),
    "user list, no database": ("fleet_server.cli", "user list -c {good}"),
    "history list, no database": ("fleet_server.cli", "history list -c {good}"),
    "registry import, no file": ("fleet_server.cli", "registry import {folder}/none.toml -c {good}"),
    "audit verify, broken settings": ("fleet_server.cli", "audit verify -c {broken}"),
    "demand, no database": ("fleet_server.cli", "demand -c {good}"),
    "init where a file is": ("fleet_server.cli", "init --dir {good}"),
    "agent, broken settings": ("edge_agent.cli", "doctor --config {broken}"),
    "agent, no settings": ("edge_agent.cli", "run --config {folder}/none.toml"),
    "authority, none there": ("provisioning.cli", "server-cert broker --dns x --dir {folder}/none"),
    "models, no folder": ("models.cli", "rul train {folder}/none"),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_state_of_the_world_is_told_in_few_words(case: str, tmp_path: Path) -> None:
    module, line = CASES[case]
    (tmp_path / "good.toml").write_text(NO_SERVER)
    (tmp_path / "broken.toml").write_text("[[[\n")
    places = {"good": tmp_path / "good.toml", "broken": tmp_path / "broken.toml", "folder": tmp_path}
    argv = [sys.executable, "-m", module, *line.format(**places).split()]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    said = done.stdout + done.stderr
    assert done.returncode not in (0, -11), said
    assert "Traceback" not in said and "secret" not in said and said.strip(), said
