"""The command line: quick help, first files, one clear line for a mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fleet_server.audit.checkpoint import load_key
from fleet_server.settings import load_settings


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "fleet_server.cli", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def test_help_names_every_command_without_importing_them() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in (
        "run",
        "ingest",
        "worker",
        "sequencer",
        "web",
        "ledger",
        "audit",
        "registry",
        "case",
        "history",
        "user",
    ):
        assert name in done.stdout


def test_first_files_are_private_usable_and_never_overwritten(tmp_path: Path) -> None:
    directory = tmp_path / "server"
    assert run("init", "--dir", str(directory)).returncode == 0
    settings = load_settings(directory / "server.toml")
    load_key(settings.audit.signing_key_file)
    assert (directory / "audit.key").stat().st_mode & 0o077 == 0
    again = run("init", "--dir", str(directory))
    assert again.returncode == 2
    assert "is there already" in again.stderr


@pytest.mark.parametrize("command", ["ledger", "ingest", "sequencer", "run"])
def test_a_missing_settings_file_is_one_line(command: str, tmp_path: Path) -> None:
    done = run(command, "--config", str(tmp_path / "none.toml"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "fleet-server init" in done.stderr


def test_the_sample_registry_is_printed() -> None:
    assert "[[asset.component]]" in run("registry", "sample").stdout
