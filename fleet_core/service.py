"""How a process lives and ends: its parts run side by side, and the first that ends takes the process with it.

A process is a handful of *parts*, coroutines that should run for ever. A part that ended unseen would leave a process
that looks alive and does nothing; so whatever a part raises, beyond the errors it expects, ends all other parts and is
raised to the program. The program logs the reason and exits with a code that is not zero, and its supervisor starts it
anew (``fleet_server/supervisor.py`` on the server, the system's service manager on a device).

    stop_on_signals    the one place where SIGTERM and SIGINT are caught
    run_until_stopped  all parts, until the stop is asked for or one of them ends
    run_together       parts that belong to one connection: when one ends, so do the others
    every              do something again and again
    keep_running       run something again, with pauses, whenever it fails
    Outage             an error that is expected for a while: logged once, its end once, counted in between
    Backoff            how long to pause before the next try
    end_tasks          cancel tasks until they have ended
    finish             let one step come to its end although its task is cancelled

Seconds are real seconds: these are latencies and retries, not domain time. Tests hand in ``sleep`` and ``now_s``.
A process that serves no event loop (the supervisor, a command) has a loop of its own and uses ``Outage`` and
``Backoff`` alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

log = logging.getLogger(__name__)

EXIT_FAILED = 1
"""The exit code of a process that ended by a failure; its supervisor starts it again."""
CANCEL_AGAIN_S = 2.0
"""Long enough for a part to say its farewell to a broker (bounded by 2 s), and to be asked again soon when it did not
hear."""
END_WITHIN_S = 30.0
"""A supervisor that asks for the end has lost patience long before; this bounds the end that nobody asked for."""

Parts = Mapping[str, Coroutine[Any, Any, object]]
"""The name of each part, for the log, and what runs."""
Errors = tuple[type[Exception], ...]
Sleep = Callable[[float], Awaitable[object]]
T = TypeVar("T")


class Ended(RuntimeError):
    """A part that should run for ever returned or was cancelled by itself."""


class Outage:
    """Something that is expected to fail for a while: a database, a broker or a disk that is away.

    The first failure is logged as ``begins``, the next success as ``over`` with the number of failures and the time
    between; both are silent while nothing changes. ``errors`` are the expected ones: ``every`` and ``keep_running``
    let anything else through. Errors in ``known`` (by default all of them) are logged in one line, the others with
    their traceback, because they say something about the program rather than about the world.

    ``on_failure`` is called at each failure, for a counter; ``on_state`` with True or False at each success or
    failure, for a gauge. Not safe for threads beyond what an attribute is.
    """

    def __init__(
        self,
        log: logging.Logger,
        begins: str,
        over: str,
        *,
        errors: Errors = (Exception,),
        known: Errors | None = None,
        begins_level: int = logging.ERROR,
        over_level: int = logging.WARNING,
        on_failure: Callable[[], object] | None = None,
        on_state: Callable[[bool], object] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.errors = errors
        self.failures = 0
        """Since the beginning of the present outage, or of the last one."""
        self._log = log
        self._begins, self._begins_level = begins, begins_level
        self._over, self._over_level = over, over_level
        self._known = errors if known is None else known
        self._on_failure = on_failure
        self._on_state = on_state
        self._now_s = now_s
        self._since_s: float | None = None

    @property
    def active(self) -> bool:
        """Whether the last try failed."""
        return self._since_s is not None

    def failed(self, error: BaseException) -> None:
        """A try failed: logged when it is the first."""
        if self._since_s is None:
            self._since_s, self.failures = self._now_s(), 0
            trace = None if isinstance(error, self._known) else error
            self._log.log(self._begins_level, "%s: %s", self._begins, in_one_line(error), exc_info=trace)
        self.failures += 1
        if self._on_failure is not None:
            self._on_failure()
        if self._on_state is not None:
            self._on_state(False)

    def succeeded(self) -> None:
        """A try succeeded: logged when it ends an outage."""
        if self._since_s is not None:
            lasted_s, self._since_s = self._now_s() - self._since_s, None
            self._log.log(self._over_level, "%s after %.1f s, %d failures", self._over, lasted_s, self.failures)
        if self._on_state is not None:
            self._on_state(True)


class Backoff:
    """Pauses that double from ``first_s`` to ``most_s`` with each failure, and start again after a try that lasted for
    ``settled_after_s``.

    With ``rng`` the pause is drawn evenly between nothing and that ceiling (full jitter), so that many clients of one
    server do not come back at the same moment. Without, it is the ceiling.
    """

    def __init__(
        self, first_s: float, most_s: float, *, settled_after_s: float = float("inf"), rng: random.Random | None = None
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._settled_after_s = settled_after_s
        self._rng = rng
        self._ceiling_s = first_s

    def pause_s(self, lasted_s: float = 0.0) -> float:
        """How long to wait after a try that lasted for ``lasted_s`` and then failed."""
        if lasted_s >= self._settled_after_s:
            self.reset()
        ceiling_s, self._ceiling_s = self._ceiling_s, min(self._most_s, self._ceiling_s * 2)
        return self._rng.uniform(0.0, ceiling_s) if self._rng else ceiling_s

    def reset(self) -> None:
        """A try succeeded: the next pause is the first one again."""
        self._ceiling_s = self._first_s


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Needs a running loop in the main thread; call it once for a process."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def start(parts: Parts) -> list[asyncio.Task[object]]:
    """Start every part as a task of its name. Whoever starts tasks ends them (``end_tasks``)."""
    return [asyncio.create_task(part, name=name) for name, part in parts.items()]


async def run_until_stopped(stop: asyncio.Event, parts: Parts) -> None:
    """Run the parts until ``stop`` is set or one of them ends; the others are ended then.

    Raises what a part raised, ``Ended`` when a part returned.
    """
    tasks = start(parts)
    try:
        await until_one_ends(tasks, stop)
    finally:
        await end_tasks(tasks)


async def run_together(parts: Parts) -> None:
    """Run the parts until the first ends, whatever way; the others are ended then. Raises what the first raised.

    Not a TaskGroup: that one leaves a mark of cancellation on its task (Python 3.11), and ``keep_running`` must be able
    to tell a lost connection from being told to leave.
    """
    tasks = start(parts)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        await end_tasks(tasks)


async def until_one_ends(tasks: Iterable[asyncio.Task[Any]], stop: asyncio.Event) -> None:
    """Wait until ``stop`` is set, or raise what ended one of the tasks (``Ended`` when it returned). Ends none."""
    tasks = list(tasks)
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    for task in tasks:
        if not task.done():
            continue
        error = None if task.cancelled() else task.exception()
        if error is None:
            raise Ended(f"{task.get_name()} ended by itself, nobody asked for it")
        error.add_note(f"this ended the part {task.get_name()!r}, and the process with it")
        raise error


async def once(part: Awaitable[object]) -> None:
    """A part that comes to an end: do it, then rest until cancelled. Raises what it raises."""
    await part
    await asyncio.Event().wait()


async def every(
    interval_s: float,
    act: Callable[[], Awaitable[object]],
    outage: Outage | None = None,
    *,
    wait_first: bool = False,
    sleep: Sleep = asyncio.sleep,
) -> NoReturn:
    """Do ``act``, wait ``interval_s``, and so on, until cancelled. Raises what ``act`` raises, but for the errors of
    ``outage``, after which it is simply done again."""
    if wait_first:
        await sleep(interval_s)
    while True:
        if outage is None:
            await act()
        else:
            try:
                await act()
            except outage.errors as error:
                outage.failed(error)
                _leave_if_cancelled()
            else:
                outage.succeeded()
        await sleep(interval_s)


async def keep_running(
    run: Callable[[], Awaitable[object]],
    outage: Outage,
    backoff: Backoff,
    *,
    sleep: Sleep = asyncio.sleep,
    now_s: Callable[[], float] = time.monotonic,
) -> None:
    """Run ``run`` again, after a pause, whenever it fails with one of the errors of ``outage``; returns when it
    returns. ``run`` says itself when it works again, by ``outage.succeeded()``. Raises any other error."""
    while True:
        started_s = now_s()
        try:
            await run()
        except outage.errors as error:
            outage.failed(error)
            _leave_if_cancelled()
        else:
            return
        await sleep(backoff.pause_s(now_s() - started_s))


async def end_tasks(
    tasks: Iterable[asyncio.Task[Any]], *, again_s: float = CANCEL_AGAIN_S, within_s: float = END_WITHIN_S
) -> None:
    """Cancel tasks until they have ended; what they raise meanwhile is logged, not raised.

    Once is not enough: a cancellation that meets a dying connection can come out of a library as that connection's
    error, which loops that outlive such errors take for one more of them. A task that has not ended after ``within_s``
    never will: the process is ended hard, because its supervisor can restart a process that is gone and cannot see
    one that hangs.
    """
    pending = {task for task in tasks if not task.done()}
    until_s = time.monotonic() + within_s
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=again_s)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.warning("%s failed while it was ended: %s", task.get_name(), in_one_line(error))
        if pending and time.monotonic() > until_s:
            _end_hard([task.get_name() for task in pending])
            return


async def finish(step: Coroutine[Any, Any, T]) -> T:
    """Let a short step come to its end although its task is cancelled meanwhile; the cancellation goes on after it.

    For a step that is better not left half done. It must be safe all the same to be cut short: by a second
    cancellation (``end_tasks``), and by the death of the process.
    """
    task = asyncio.create_task(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
    finally:
        task.cancel()


def in_one_line(error: BaseException) -> str:
    """An error for the log: its words, behind its type where the words of Python alone would not say what it is."""
    words, kind = " ".join(str(error).split()), type(error)
    if words and (kind.__module__ != "builtins" or isinstance(error, OSError)):
        return words
    return f"{kind.__name__}: {words}" if words else kind.__name__


def _leave_if_cancelled() -> None:
    """An expected error arrived together with a cancellation, which a library lost on the way: leave all the same."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _end_hard(names: list[str]) -> None:
    log.critical("these tasks do not end, the process is ended hard: %s", ", ".join(names))
    logging.shutdown()
    os._exit(EXIT_FAILED)
