"""The names an identity may carry: they become certificate subjects, MQTT topic levels and lines of files.

One rule holds for all names, so that none can act as a wildcard, a path or a second line. Pure.
"""

from __future__ import annotations

import ipaddress
import re

from fleet_core.errors import BadInput

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # 64 is X.509's bound on a common name
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
RESERVED_GROUPS = frozenset({"STATE"})  # spBv1.0/STATE/... belongs to the Sparkplug hosts


def check_name(value: object, what: str) -> str:
    """Return ``value`` when it is a fit name, else raise BadInput("bad_name"); ``what`` goes into the message."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise BadInput(
            "bad_name",
            f"{what} {str(value)[:80]!r}: use 1 to 64 letters, digits, dots, dashes or underscores, "
            "beginning with a letter or digit",
        )
    return value


def check_group(value: object) -> str:
    """Like :func:`check_name` for a group (a site), which may not take a topic level the standard reserves."""
    group = check_name(value, "group")
    if group in RESERVED_GROUPS:
        raise BadInput("bad_name", f"group {group!r} is reserved by Sparkplug")
    return group


def check_host(value: object, what: str = "host") -> str:
    """Return ``value`` when it may be a host name or an address, else raise BadInput("bad_host")."""
    if isinstance(value, str) and (_HOST.fullmatch(value) or _is_address(value)):
        return value
    raise BadInput("bad_host", f"{what} {str(value)[:80]!r} is neither a host name nor an address")


def check_port(value: object, what: str = "port") -> int:
    """Return ``value`` when it is a TCP port, else raise BadInput("bad_port")."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 65536:
        raise BadInput("bad_port", f"{what} {str(value)[:80]!r} is not a TCP port")
    return value


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone index names a local interface
