"""How a process lives and ends: its parts run side by side, and the first that ends takes the process with it.

A process is a handful of *parts*, coroutines that should run for ever. A part that ended unseen would leave a process
that looks alive and does nothing. So an error of a part, beyond those it expects, ends all other parts and is raised to
the program. The program logs the reason and exits with a code that is not zero, and its supervisor starts it anew
(``fleet_server/supervisor.py`` on the server, the system's service manager on a device). One error ends a process; an
error of another part, before or after it, is logged with its traceback. A part that fails after a stop was asked for,
while it is ended, makes the exit code of the process the one of a failure too: its last save may not have been made.

    stop_on_signals    the one place where SIGTERM and SIGINT are caught
    run_until_stopped  all parts, until the stop is asked for or one of them ends
    run_together       parts that belong to one connection: when one ends, so do the others
    every              do something again and again
    keep_running       run something again, with pauses, whenever it fails
    Outage             an error that is expected for a while: logged once, its end once, counted in between
    Backoff            how long to pause before the next try
    end_tasks          cancel tasks until they have ended, and log their errors
    raise_failure      after the end: raise the error of a task that failed
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
import sys
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
    """A part that should run for ever returned, or was cancelled although nobody outside it asked for that."""


class Outage:
    """Something that is expected to fail for a while: a database, a broker or a disk that is away.

    The first failure is logged as ``begins``, the next success as ``over`` with the number of failures and the time
    between; further failures and further successes are silent. ``errors`` are the expected ones: ``every`` and
    ``keep_running`` let anything else through. Errors in ``known`` (by default all of ``errors``) are logged in one
    line at ``begins_level``; the others at ERROR at least and with their traceback, because they say something about
    the program rather than about the world. An exception group, which a plugin's task group may raise, is expected or
    known when every error in it is.

    ``on_failure`` is called at each failure, for a counter; ``on_state`` with True at each success and False at each
    failure, for a gauge. An outage belongs to one thread: its methods take no lock.
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
        """Failures since the beginning of the present outage; after its end, those of the last one."""
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

    def expects(self, error: Exception) -> bool:
        """Whether the error is one of ``errors``, or a group of nothing else."""
        return _all_are(error, self.errors)

    def failed(self, error: BaseException) -> None:
        """Count a failed try; the first one is logged."""
        if self._since_s is None:
            self._since_s, self.failures = self._now_s(), 0
            known = _all_are(error, self._known)
            level = self._begins_level if known else max(self._begins_level, logging.ERROR)
            trace = None if known else error
            self._log.log(level, "%s: %s", self._begins, in_one_line(error), exc_info=trace)
        self.failures += 1
        if self._on_failure is not None:
            self._on_failure()
        if self._on_state is not None:
            self._on_state(False)

    def succeeded(self) -> None:
        """End the outage, if there is one, and log that."""
        if self._since_s is not None:
            lasted_s, self._since_s = self._now_s() - self._since_s, None
            self._log.log(self._over_level, "%s after %.1f s, %d failures", self._over, lasted_s, self.failures)
        if self._on_state is not None:
            self._on_state(True)


class Backoff:
    """Pauses between tries: they double from ``first_s`` to ``most_s`` with each failure, and are short again after a
    try that lasted for ``settled_after_s`` before it failed.

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
        """The pause in seconds after a try that lasted for ``lasted_s`` and then failed."""
        if lasted_s >= self._settled_after_s:
            self.reset()
        ceiling_s, self._ceiling_s = self._ceiling_s, min(self._most_s, self._ceiling_s * 2)
        return self._rng.uniform(0.0, ceiling_s) if self._rng else ceiling_s

    def reset(self) -> None:
        """Begin anew with ``first_s``, after a try that succeeded."""
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


async def run_until_stopped(
    stop: asyncio.Event, parts: Parts, *, farewell: Callable[[], Awaitable[object]] | None = None
) -> None:
    """Run the parts until ``stop`` is set or one of them ends; then do ``farewell`` and end all parts.

    Raises the error that ended the first part (``Ended`` when the part returned). After a stop, raises the error of a
    part that failed while it was ended. All parts have ended by then, and the errors of the other parts are logged.
    """
    tasks = start(parts)
    try:
        try:
            await until_one_ends(tasks, stop)
        finally:
            if farewell is not None:
                await farewell()
    finally:
        await end_tasks(tasks, raised=sys.exception())
    raise_failure(tasks)


async def run_together(parts: Parts) -> None:
    """Run the parts of one connection until the first of them ends, by returning or by an error; then end the others.

    Raises the error of the part that ended first, else that of a part that failed while it was ended: instead of the
    cancellation too, so that an error nobody expects still ends the process. A further error is logged, at DEBUG when
    it has the type of the first: both parts met the same lost connection.

    Not a TaskGroup: that one leaves a mark of cancellation on its task (Python 3.11), and ``keep_running`` must be able
    to tell a lost connection from being told to leave.
    """
    tasks, cancellation = start(parts), None
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError as cancelled:
        cancellation = cancelled
    tasks.sort(key=lambda task: not task.done())  # those that ended by themselves first
    cancelled_itself = cancellation is None and tasks[0].cancelled()
    await _end(tasks, CANCEL_AGAIN_S, END_WITHIN_S)
    failures = _failures(tasks, None)
    for task, error in failures[1:]:
        level = logging.DEBUG if type(error) is type(failures[0][1]) else logging.ERROR
        log.log(level, "%s failed as well: %s", task.get_name(), in_one_line(error), exc_info=error)
    if failures:
        raise failures[0][1]
    if cancellation is not None:
        raise cancellation
    if cancelled_itself:
        raise asyncio.CancelledError


async def until_one_ends(tasks: Iterable[asyncio.Task[Any]], stop: asyncio.Event) -> None:
    """Wait until ``stop`` is set or one of the tasks has ended, and leave the others running.

    Raises the error of the task that ended, ``Ended`` when it returned. Of two that ended in one turn of the loop the
    first of ``tasks`` is raised; the caller's ``end_tasks`` logs the other.
    """
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
    """Make a part of something that comes to an end: await it, then rest until cancelled. Raises its error."""
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
    """Do ``act``, wait ``interval_s``, and so on, until cancelled.

    After an error that ``outage`` expects ``act`` is done again, one interval later. Raises any other error of ``act``.
    """
    if wait_first:
        await sleep(interval_s)
    while True:
        if outage is None:
            await act()
        else:
            try:
                await _apart(act)
            except Exception as error:
                if not outage.expects(error):
                    raise
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
    """Run ``run`` again, after a pause of ``backoff``, whenever it fails with an error that ``outage`` expects.

    Returns when ``run`` returns. Raises any other error of ``run``. Only ``run`` knows when it works again, and calls
    ``outage.succeeded()`` then.
    """
    while True:
        started_s = now_s()
        try:
            await _apart(run)
        except Exception as error:
            if not outage.expects(error):
                raise
            outage.failed(error)
            _leave_if_cancelled()
        else:
            return
        await sleep(backoff.pause_s(now_s() - started_s))


async def end_tasks(
    tasks: Iterable[asyncio.Task[Any]],
    *,
    raised: BaseException | None = None,
    again_s: float = CANCEL_AGAIN_S,
    within_s: float = END_WITHIN_S,
) -> None:
    """Cancel tasks until they have ended, and log their errors with traceback: raises none of them.

    Errors from before the cancellation are logged too, so that none is lost; only ``raised`` is not, the error that the
    caller is about to raise. A caller for whom such an error is a failure calls ``raise_failure`` afterwards.

    One cancellation is not enough: when it meets a dying connection, a library can turn it into that connection's
    error, and a loop that outlives such errors goes on. A task that has not ended after ``within_s`` never will: the
    process is ended hard, because its supervisor can restart a process that is gone and cannot see one that hangs.
    """
    tasks = list(tasks)
    before = {task for task in tasks if task.done()}
    await _end(tasks, again_s, within_s)
    for task, error in _failures(tasks, raised):
        when = "" if task in before else " while it was ended"
        log.error("%s failed%s: %s", task.get_name(), when, in_one_line(error), exc_info=error)


def raise_failure(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Raise the error of the first of these tasks that failed. All of them must have ended."""
    for task, error in _failures(tasks, None):
        error.add_note(f"the part {task.get_name()!r} failed")
        raise error


async def finish(step: Coroutine[Any, Any, T]) -> T:
    """Let a short step come to its end although its task is cancelled meanwhile; the cancellation goes on after it.

    For a step that is better not left half done. The step must be safe all the same when it is cut short: by a second
    cancellation (``end_tasks``), or by the death of the process. Raises the error of the step. When the task was
    cancelled meanwhile, the cancellation is raised and the error of the step is logged.
    """
    task = asyncio.create_task(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_log_step)
        await asyncio.wait([task])
        raise
    finally:
        task.cancel()


def in_one_line(error: BaseException) -> str:
    """An error for the log: its words, and its type before them where Python's own words would not say what it is."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(in_one_line(part) for part in error.exceptions)
    words, kind = " ".join(str(error).split()), type(error)
    if words and (kind.__module__ != "builtins" or isinstance(error, OSError)):
        return words
    return f"{kind.__name__}: {words}" if words else kind.__name__


async def _apart(act: Callable[[], Awaitable[object]]) -> None:
    """Await ``act`` in a task of its own, which is cancelled with the present one.

    A task group that failed leaves a mark of cancellation on its task (Python 3.11). In a task of its own it cannot be
    mistaken for a cancellation of the loop.
    """

    async def acting() -> None:
        await act()

    present = asyncio.current_task()
    await asyncio.create_task(acting(), name=present.get_name() if present else None)


def _leave_if_cancelled() -> None:
    """Leave after an expected error when the task was cancelled too: a library turned the cancellation into it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _all_are(error: BaseException, kinds: Errors) -> bool:
    if isinstance(error, BaseExceptionGroup) and not isinstance(error, kinds):
        return all(_all_are(part, kinds) for part in error.exceptions)
    return isinstance(error, kinds)


def _failures(
    tasks: Iterable[asyncio.Task[Any]], raised: BaseException | None
) -> list[tuple[asyncio.Task[Any], BaseException]]:
    """Tasks that ended by an error, with the error, but for the one that is being raised."""
    ended = [task for task in tasks if task.done() and not task.cancelled()]
    return [(task, error) for task in ended if (error := task.exception()) is not None and error is not raised]


async def _end(tasks: Iterable[asyncio.Task[Any]], again_s: float, within_s: float) -> None:
    """Cancel tasks every ``again_s`` until they have ended; after ``within_s`` end the process hard."""
    pending = {task for task in tasks if not task.done()}
    until_s = time.monotonic() + within_s
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=again_s)
        if pending and time.monotonic() > until_s:
            _end_hard([task.get_name() for task in pending])
            return


def _log_step(task: asyncio.Task[Any]) -> None:
    """Log the error of a step whose task was cancelled while the step ran."""
    for _, error in _failures([task], None):
        log.error("a step failed while its task was cancelled: %s", in_one_line(error), exc_info=error)


def _end_hard(names: list[str]) -> None:
    log.critical("these tasks do not end, the process is ended hard: %s", ", ".join(names))
    logging.shutdown()
    os._exit(EXIT_FAILED)
