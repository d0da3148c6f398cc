"""Memory of a process as the kernel counts it. Standard library only, because peers run this in their environments.

PSS counts a page that n processes map as 1/n, RSS counts it as one. On a device the agent is the only Python program,
so its memory there lies between the two: PSS is too low for a process that shares libraries with others on this
machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class NotMeasured(Exception):
    """Why a figure could not be had; for people."""


@dataclass(frozen=True)
class Memory:
    """In MB of 2^20 bytes."""

    pss_mb: float
    rss_mb: float

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.pss_mb + other.pss_mb, self.rss_mb + other.rss_mb)


def process_memory(pid: int | str = "self") -> Memory:
    """Present memory of one process without its children. Raises NotMeasured when it is gone or may not be read."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError as error:
        raise NotMeasured(f"memory of process {pid}: {error.strerror}") from None
    return parse_rollup(text)


def peak_rss_mb(pid: int) -> float:
    """The largest resident memory that the process ever had. Raises NotMeasured."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError as error:
        raise NotMeasured(f"memory of process {pid}: {error.strerror}") from None
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    if not found:
        raise NotMeasured("this kernel does not tell the peak (no VmHWM line)")
    return found[0]


def parse_rollup(text: str) -> Memory:
    """The content of ``smaps_rollup``. Raises NotMeasured."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name in ("Pss", "Rss"):
            found[name] = int(rest.split()[0]) / 1024
    if len(found) != 2:
        raise NotMeasured("this kernel does not tell PSS (no Pss line in smaps_rollup)")
    return Memory(found["Pss"], found["Rss"])
