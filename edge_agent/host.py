"""Facts of the host: its boot id, and whether its clock is synchronised."""

from __future__ import annotations

import ctypes
import logging
import uuid
from pathlib import Path

from fleet_core.batches import check_uuid
from fleet_core.errors import BadInput

log = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


def boot_id() -> str:
    """The running kernel's boot id; where the kernel has none, an id of this process."""
    try:
        return check_uuid(_BOOT_ID.read_text().strip())
    except (OSError, BadInput) as error:
        log.debug("no kernel boot id (%s): this process counts as a boot", error)
        return str(uuid.uuid4())


def time_quality() -> str:
    """The kernel's own judgement of its clock: "synchronised", "unsynchronised" or "unknown"."""
    timex = (ctypes.c_byte * 512)()  # larger than struct timex on any platform; all zero: read only
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    except (OSError, AttributeError):
        return "unknown"
    if state < 0:
        return "unknown"
    return "unsynchronised" if state == _TIME_ERROR else "synchronised"
