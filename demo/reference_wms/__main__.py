"""``python -m demo.reference_wms --db FILE``: serve on loopback; prints one JSON line when ready."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import sys
from pathlib import Path

import uvicorn

from demo.reference_wms.app import create_app
from demo.reference_wms.curve import Curve, read_recording
from demo.reference_wms.faults import FLAKY, Faults
from demo.reference_wms.store import BookingStore
from fleet_core.clock import clock_from_environment


class _Server(uvicorn.Server):
    """Says where it listens, once it does."""

    def __init__(self, config: uvicorn.Config, ready: dict[str, object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stdout.write(json.dumps(self._ready) + "\n")
        sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="reference_wms", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--db", type=Path, required=True, help="SQLite file of the bookings")
    parser.add_argument("--token-file", type=Path, help="bearer token; written with a new one when missing")
    parser.add_argument("--time-zone", default="UTC", help="IANA name; of the shifts and the daily rhythm")
    parser.add_argument("--seed", type=int, default=1, help="of the load curve")
    parser.add_argument("--recorded", action="store_true", help="use the recorded demand in FORESTALL_DATA")
    parser.add_argument("--flaky", type=int, metavar="SEED", help="fail now and then, reproducibly")
    arguments = parser.parse_args(argv)

    faults = Faults(FLAKY, arguments.flaky) if arguments.flaky is not None else Faults()
    recorded: list[float] = []
    if arguments.recorded:
        folder = os.environ.get("FORESTALL_DATA")
        if not folder:
            parser.error("--recorded needs the variable FORESTALL_DATA to name the folder of recorded data")
        recorded = read_recording(Path(folder) / "volume" / "hourly_demand.csv")
    curve = Curve(arguments.seed, arguments.time_zone, recorded)
    store = BookingStore(arguments.db)
    token = _token(arguments.token_file) if arguments.token_file else ""
    app = create_app(store, curve, faults, clock_from_environment(), token)
    listener = socket.create_server(("127.0.0.1", arguments.port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else an answer's body waits 40 ms for the caller
    port = listener.getsockname()[1]
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    ready: dict[str, object] = {"ready": True, "url": f"http://127.0.0.1:{port}", "port": port}
    try:
        _Server(config, ready).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises it again after its orderly end
        pass
    finally:
        store.close()
    return 0


def _token(path: Path) -> str:
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text(encoding="utf-8").strip()


if __name__ == "__main__":
    sys.exit(main())
