"""Keeping child processes: start, wait until ready, stop, kill, start again; leave nothing behind.

Used by the demo and by integration tests. Each child leads its own process group and writes to its own log.

Invariants
* A child never outlives its keeper, whatever happens to the keeper. The kernel kills each child when the
  keeper dies (``PR_SET_PDEATHSIG``, Linux), and a guardian process, which notices the keeper's end because a
  pipe closes, kills the children's whole groups: grandchildren too, and children that changed their user,
  which makes the kernel forget the first arrangement.
* The parent-death signal follows the *thread* that forked. One long-lived thread therefore does all forking.
* Stopping is SIGTERM to the leader, a grace period, then SIGKILL to whatever is left of the group.

Time here is real time: nothing in this module belongs to the story.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from fleet_core.errors import BadConfig, Permanent

log = logging.getLogger(__name__)

Probe = Callable[[], bool]
"""Asked repeatedly while a child starts; true once it serves. It should answer within about a second."""

Ready = Probe | re.Pattern[str] | str
"""A probe, or an expression searched for in what the child has logged since this start."""

LOG_ROTATE_BYTES = 16 * 1024 * 1024
_POLL_S = 0.05
_TAIL_BYTES = 4096

# Runs between fork and the real program, instead of a preexec_fn, which is unsafe in a threaded parent.
_SHIM = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit("the keeper died while this child was starting")
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")
"""

# Reads "+PGID" and "-PGID" lines; at end of file, which is the keeper's end, kills the groups still listed.
_GUARDIAN = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        continue
"""
_BARE_PYTHON = (sys.executable, "-I", "-S", "-c")


class StartFailed(Permanent):
    """A child ended, or did not become ready in time; the message carries the end of its log."""


@dataclass(frozen=True)
class ChildSpec:
    """All that is needed to start a child, and to start it again."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path | None
    log_file: Path
    ready: tuple[Probe | re.Pattern[str], ...]
    ready_timeout_s: float
    grace_s: float


@dataclass
class Child:
    """A started child. ``returncode`` is None while it runs, negative when a signal ended it."""

    spec: ChildSpec
    process: subprocess.Popen[bytes]
    log_start: int
    stopping: bool = field(default=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.poll()

    @property
    def running(self) -> bool:
        return self.returncode is None

    def log_text(self) -> str:
        """The log of this run of the child so far."""
        with self.spec.log_file.open("rb") as file:
            file.seek(self.log_start)
            return file.read().decode("utf-8", "replace")


class Keeper:
    """Starts children by name and answers for them. Safe to call from several threads; calls block.

    Use it as a context manager: leaving it stops every child, last started first.
    """

    def __init__(self, log_dir: Path, *, grace_s: float = 10.0) -> None:
        self.log_dir = log_dir
        self._grace_s = grace_s
        self._children: dict[str, Child] = {}
        self._lock = threading.RLock()
        self._requests: queue.SimpleQueue[tuple[Callable[[], Child], Future[Child]] | None] = queue.SimpleQueue()
        self._closed = False
        log_dir.mkdir(parents=True, exist_ok=True)
        self._guardian = subprocess.Popen(
            [*_BARE_PYTHON, _GUARDIAN], stdin=subprocess.PIPE, start_new_session=True, cwd="/"
        )
        threading.Thread(target=self._fork_on_request, name="keeper-fork", daemon=True).start()
        atexit.register(self.close)

    def start(
        self,
        name: str,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log_file: Path | None = None,
        ready: Ready | Sequence[Ready] = (),
        ready_timeout_s: float = 30.0,
        grace_s: float | None = None,
    ) -> Child:
        """Start a child and wait until it is ready.

        ``env`` is added to this process's environment. The child is ready when every ``ready`` condition
        holds; without any, at once. The log defaults to ``LOG_DIR/NAME.log``, is appended to, and is rotated at
        a start when it has grown past 16 MiB.

        Raises BadConfig when the name is in use by a running child or the keeper is closed, and StartFailed
        (nothing is left running) when the child ends or is not ready within ``ready_timeout_s`` seconds.
        """
        conditions = [ready] if isinstance(ready, str) or not isinstance(ready, Sequence) else ready
        spec = ChildSpec(
            name=name,
            argv=tuple(os.fspath(part) for part in argv),
            env=dict(env or {}),
            cwd=cwd,
            log_file=log_file or self.log_dir / f"{name}.log",
            ready=tuple(re.compile(condition) if isinstance(condition, str) else condition for condition in conditions),
            ready_timeout_s=ready_timeout_s,
            grace_s=self._grace_s if grace_s is None else grace_s,
        )
        return self._start(spec)

    def child(self, name: str) -> Child:
        """The child last started under ``name``, running or not. Raises BadConfig for an unknown name."""
        with self._lock:
            try:
                return self._children[name]
            except KeyError:
                raise BadConfig(f"no process named {name!r}; known: {', '.join(self._children) or 'none'}") from None

    def names(self) -> list[str]:
        """Names in the order of first start."""
        with self._lock:
            return list(self._children)

    def crashed(self) -> dict[str, int]:
        """Children that ended though nobody stopped them: name -> return code."""
        with self._lock:
            ended = {name: child.returncode for name, child in self._children.items() if not child.stopping}
        return {name: code for name, code in ended.items() if code is not None}

    def stop(self, name: str) -> int:
        """SIGTERM, wait the grace period, SIGKILL the rest of the group. Returns the child's return code."""
        child = self.child(name)
        child.stopping = True
        if child.running:
            child.process.terminate()
            try:
                child.process.wait(child.spec.grace_s)
            except subprocess.TimeoutExpired:
                log.warning("%s ignored SIGTERM for %.1f s: killed", name, child.spec.grace_s)
        return self._bury(child)

    def kill9(self, name: str) -> int:
        """SIGKILL the child's whole group at once, as a crash would. Returns its return code."""
        child = self.child(name)
        child.stopping = True
        return self._bury(child)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the child itself, not to its group; a child that has ended is left alone."""
        self.child(name).process.send_signal(number)

    def restart(self, name: str) -> Child:
        """Stop the child if it runs, and start it again as it was started. Raises like :meth:`start`."""
        self.stop(name)
        return self._start(self.child(name).spec)

    def stop_all(self) -> None:
        """Stop every running child, last started first."""
        for name in reversed(self.names()):
            self.stop(name)

    def close(self) -> None:
        """Stop everything, for good. Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.stop_all()
        self._requests.put(None)
        if self._guardian.stdin:
            with contextlib.suppress(BrokenPipeError):  # the guardian was killed: nothing is left for it to do
                self._guardian.stdin.close()
        self._guardian.wait()
        atexit.unregister(self.close)

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, spec: ChildSpec) -> Child:
        with self._lock:
            if self._closed:
                raise BadConfig(f"cannot start {spec.name}: the keeper is closed")
            known = self._children.get(spec.name)
            if known is not None and known.running:
                raise BadConfig(f"a process named {spec.name!r} is already running (pid {known.pid})")
            if known is not None:
                self._bury(known)  # it may have crashed and left grandchildren
            answer: Future[Child] = Future()
            self._requests.put((lambda: _fork(spec), answer))
            child = answer.result()
            self._children[spec.name] = child
            self._tell_guardian("+", child.pid)
        self._await_ready(child)
        log.debug("%s is ready (pid %d)", spec.name, child.pid)
        return child

    def _await_ready(self, child: Child) -> None:
        spec = child.spec
        until_s = time.monotonic() + spec.ready_timeout_s
        while not (_is_ready(child) and child.running):
            if not child.running:
                problem = f"ended with {child.returncode} while starting"
            elif time.monotonic() > until_s:
                problem = f"was not ready after {spec.ready_timeout_s:g} s"
            else:
                time.sleep(_POLL_S)
                continue
            child.stopping = True
            self._bury(child)
            tail = child.log_text()[-_TAIL_BYTES:].strip()
            raise StartFailed(f"{spec.name} {problem}; log {spec.log_file}:\n{tail or '(empty)'}")

    def _bury(self, child: Child) -> int:
        # Before the leader is reaped its pid, and so the group's, cannot be given to somebody else; afterwards
        # the kernel keeps a group's number taken while it has members. Hence: kill the group, then reap.
        if child.process.returncode is None or _group_exists(child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        code = child.process.wait()
        self._tell_guardian("-", child.pid)
        return code

    def _tell_guardian(self, sign: str, group: int) -> None:
        if self._guardian.stdin is None or self._guardian.stdin.closed:
            return
        with self._lock:
            try:
                self._guardian.stdin.write(f"{sign}{group}\n".encode())
                self._guardian.stdin.flush()
            except BrokenPipeError:
                log.warning("the guardian process is gone: grandchildren may outlive a killed keeper")
                self._guardian.stdin = None

    def _fork_on_request(self) -> None:
        while (request := self._requests.get()) is not None:
            fork, answer = request
            try:
                answer.set_result(fork())
            except OSError as error:
                answer.set_exception(StartFailed(f"cannot start: {error}"))


def _fork(spec: ChildSpec) -> Child:
    spec.log_file.parent.mkdir(parents=True, exist_ok=True)
    if spec.log_file.exists() and spec.log_file.stat().st_size > LOG_ROTATE_BYTES:
        spec.log_file.replace(spec.log_file.with_suffix(spec.log_file.suffix + ".1"))
    with spec.log_file.open("ab") as out:
        log_start = out.tell()
        process = subprocess.Popen(
            [*_BARE_PYTHON, _SHIM, str(os.getpid()), *spec.argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **spec.env},
            cwd=spec.cwd,
            start_new_session=True,  # own group, and Ctrl-C reaches only the keeper, which then stops in order
        )
    return Child(spec, process, log_start)


def _is_ready(child: Child) -> bool:
    def holds(condition: Probe | re.Pattern[str]) -> bool:
        return bool(condition.search(child.log_text())) if isinstance(condition, re.Pattern) else condition()

    return all(holds(condition) for condition in child.spec.ready)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Distinct TCP ports that were free a moment ago.

    Another process can take one before it is used; whoever starts a server should notice and ask again.
    """
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server((host, 0))) for _ in range(count)]
        return [int(server.getsockname()[1]) for server in sockets]


def free_port(host: str = "127.0.0.1") -> int:
    """One TCP port that was free a moment ago; see :func:`free_ports`."""
    return free_ports(1, host)[0]


def tcp_ready(host: str, port: int) -> Probe:
    """A probe that is true once something accepts connections there."""

    def probe() -> bool:
        try:
            socket.create_connection((host, port), timeout=1.0).close()
        except OSError:
            return False
        return True

    return probe


def http_ready(url: str) -> Probe:
    """A probe that is true once ``url`` answers with a status below 500."""

    def probe() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=1.0):
                return True
        except urllib.error.HTTPError as error:
            return error.code < 500
        except OSError:
            return False

    return probe
