"""The rule for connections over HTTP, webhooks included: they are encrypted unless they stay on this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

from fleet_core.errors import BadConfig
from fleet_core.network import is_loopback


def require_tls_off_loopback(url: str, setting: str) -> None:
    """Accept https anywhere and http on loopback only. Raises BadConfig naming the setting and the mend."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port  # reading it raises for an impossible port, here and not at the first call
    except ValueError as error:
        raise BadConfig(f"{setting}: {url!r} is not a URL: {error}") from None
    if parts.username or parts.password:
        raise BadConfig(f"{setting}: no user name or password in the URL; name a token file instead")
    if parts.scheme == "https" and host:
        return
    if parts.scheme == "http" and is_loopback(host):
        return
    if parts.scheme == "http":
        raise BadConfig(f"{setting}: plain HTTP to {host!r} is refused; use https (http only on loopback)")
    raise BadConfig(f"{setting}: {url!r} is not an http or https URL")
