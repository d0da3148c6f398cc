"""The cost of a running process: memory with that of its children, processor, writes, disk flushes. Linux only."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.edge.memory import Memory, NotMeasured, process_memory

HOUR_S = 3600.0
SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""For the agent and its peers: a BLAS that starts a thread for each core costs memory and divides processor time."""
_FLUSHES = ("fsync(", "fdatasync(", "sync_file_range(")


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources that a process has used from its start to the monotonic second ``at_s``.

    ``writes`` are write calls to files and pipes, but not to sockets. ``write_bytes`` are the bytes that the kernel
    sent to the disk for them: whole pages, without the journal of the file system.
    """

    at_s: float
    cpu_s: float
    writes: int
    write_bytes: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Between two usages: share of one core, and writes by the hour."""

    cpu_percent: float
    writes_per_h: float
    written_kb_per_h: float


def tree_memory(pid: int) -> Memory:
    """Present memory of a process and all its children. Raises NotMeasured when one of them is gone."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error as error:
        raise NotMeasured(f"process {pid}: {error}") from None
    return sum((process_memory(child.pid) for child in children), process_memory(pid))


def usage(pid: int) -> Usage:
    """Resources that a process without its children has used up to now. Raises NotMeasured when it is gone."""
    try:
        process = psutil.Process(pid)
        times, counters = process.cpu_times(), process.io_counters()
    except psutil.Error as error:
        raise NotMeasured(f"process {pid}: {error}") from None
    return Usage(time.monotonic(), times.user + times.system, counters.write_count, counters.write_bytes)


def rates(before: Usage, after: Usage) -> Rates:
    """Rates between two usages of one process. Raises NotMeasured when no time has passed between them."""
    span_s = after.at_s - before.at_s
    if span_s <= 0:
        raise NotMeasured("two readings at the same moment")
    per_h = HOUR_S / span_s
    written = (after.write_bytes - before.write_bytes) / 1024
    return Rates(
        100 * (after.cpu_s - before.cpu_s) / span_s, (after.writes - before.writes) * per_h, written * per_h
    )  # fmt: skip


def flushes_per_h(pid: int, span_s: float, trace_file: Path) -> float:
    """How often the process waits for the disk (fsync and its like), by watching its system calls for a while.

    Raises NotMeasured without strace or without the right to watch.
    """
    program = shutil.which("strace")
    if program is None:
        raise NotMeasured("strace is not installed: apt-get install strace")
    calls = "trace=fsync,fdatasync,sync_file_range"
    watching = subprocess.Popen(
        [program, "-f", "-q", "-e", calls, "-o", str(trace_file), "-p", str(pid)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, problem = watching.communicate(timeout=span_s)
    except subprocess.TimeoutExpired:
        watching.terminate()
        watching.communicate()
        return count_flushes(trace_file.read_text().splitlines()) * HOUR_S / span_s
    raise NotMeasured(f"strace ended: {problem.strip()[:200]}")


def count_flushes(trace: Sequence[str]) -> int:
    """Calls begun in a trace; a call cut in two by another thread's is counted at its first half."""
    return sum("resumed>" not in line and any(call in line for call in _FLUSHES) for line in trace)
