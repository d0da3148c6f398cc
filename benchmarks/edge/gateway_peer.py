"""thingsboard-gateway as it is, in its own environment, kept on this machine.

``TB_GW_CONFIG_DIR`` names its configuration. It looks for updates over the network when it starts; here every
connection off loopback is refused before it leaves, and the gateway goes on without.
"""

from __future__ import annotations

import importlib
import ipaddress
import socket
import sys
from typing import Any

_connect = socket.socket.connect
_resolve = socket.getaddrinfo


def main() -> int:
    socket.socket.connect = _connect_here  # type: ignore[method-assign,assignment]  # the guard this file is for
    socket.getaddrinfo = _resolve_here
    importlib.import_module("thingsboard_gateway.tb_gateway").daemon()
    return 0


def is_here(host: object) -> bool:
    """Whether a host, as given to a connection or a look-up, is this machine."""
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


def _connect_here(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6) and not is_here(address[0]):
        raise ConnectionRefusedError(f"only this machine may be reached, not {address[0]}")
    _connect(self, address)


def _resolve_here(host: Any, *rest: Any, **named: Any) -> Any:
    if not is_here(host):
        raise socket.gaierror(socket.EAI_NONAME, "only this machine's names are looked up")
    return _resolve(host, *rest, **named)


if __name__ == "__main__":
    sys.exit(main())
